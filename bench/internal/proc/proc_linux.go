package proc

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of times in /proc, on every architecture that Go supports.
const tick = time.Second / 100

// Of returns the usage of a process.
func Of(pid int) (Usage, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	// The second field is a name that may contain spaces, so the others are counted from its end (proc_pid_stat(5)).
	const user, system = 14 - 3, 15 - 3
	times, err := numbers(dir+"/stat", ")", user, system)
	if err != nil {
		return Usage{}, err
	}
	const resident, shared = 2 - 1, 3 - 1 // proc_pid_statm(5)
	pages, err := numbers(dir+"/statm", "", resident, shared)
	if err != nil {
		return Usage{}, err
	}
	size := int64(os.Getpagesize())
	open, err := os.ReadDir(dir + "/fd")
	return Usage{
		CPU:    time.Duration(times[0]+times[1]) * tick,
		Memory: pages[0] * size,
		Own:    (pages[0] - pages[1]) * size,
		Files:  len(open),
	}, err
}

// numbers returns two fields of a file. They are counted from 0, after the last occurrence of a text.
func numbers(file, behind string, first, second int) (found [2]int64, err error) {
	text, err := os.ReadFile(file) //nolint:gosec // G304: of a process, by its number
	if err != nil {
		return found, err
	}
	if behind != "" {
		text = text[bytes.LastIndex(text, []byte(behind))+len(behind):]
	}
	fields := bytes.Fields(text)
	for i, at := range []int{first, second} {
		if at >= len(fields) {
			return found, fmt.Errorf("%s has %d fields", file, len(fields))
		}
		if found[i], err = strconv.ParseInt(string(fields[at]), 10, 64); err != nil {
			return found, err
		}
	}
	return found, nil
}

// Cores returns the processors that this process may run on.
func Cores() []int {
	var allowed unix.CPUSet
	if unix.SchedGetaffinity(0, &allowed) != nil {
		return nil
	}
	var cores []int
	for core := range len(allowed) * strconv.IntSize {
		if allowed.IsSet(core) {
			cores = append(cores, core)
		}
	}
	return cores
}

// Start starts a process on one processor. A process inherits the processors of the thread that starts it, so none of its threads
// runs elsewhere.
func Start(cmd *exec.Cmd, core int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	one.Set(core)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return err
	}
	err := cmd.Start()
	if restored := unix.SchedSetaffinity(0, &before); err == nil {
		err = restored
	}
	return err
}

// FileSystem returns the name of the file system of a directory.
func FileSystem(dir string) string {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return "unknown"
	}
	names := map[int64]string{
		unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
		unix.TMPFS_MAGIC: "tmpfs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs", unix.NFS_SUPER_MAGIC: "nfs",
	}
	if name := names[int64(fs.Type)]; name != "" { //nolint:unconvert // its type depends on the architecture
		return name
	}
	return fmt.Sprintf("file system %#x", fs.Type)
}
