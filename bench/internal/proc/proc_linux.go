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

// tick is the unit of times in /proc, which is this one on every architecture that Go knows.
const tick = time.Second / 100

// Of returns the usage of a process.
func Of(pid int) (Usage, error) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat") //nolint:gosec // G304: of a process, by its number
	if err != nil {
		return Usage{}, err
	}
	// The second field is a name that may hold anything; the others are counted from its end (proc_pid_stat(5)).
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const user, system, resident = 14 - 3, 15 - 3, 24 - 3
	var numbers [resident + 1]int64
	for _, i := range []int{user, system, resident} {
		if i >= len(fields) {
			return Usage{}, fmt.Errorf("%s/stat has %d fields", dir, len(fields))
		}
		if numbers[i], err = strconv.ParseInt(string(fields[i]), 10, 64); err != nil {
			return Usage{}, err
		}
	}
	open, err := os.ReadDir(dir + "/fd")
	return Usage{
		CPU:    time.Duration(numbers[user]+numbers[system]) * tick,
		Memory: numbers[resident] * int64(os.Getpagesize()),
		Files:  len(open),
	}, err
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

// Start starts a process on one processor. A process has the processors of the thread that started it, so that no
// thread of it ever runs elsewhere.
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

// FileSystem returns what a directory is on.
func FileSystem(dir string) string {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return "unknown"
	}
	names := map[int64]string{
		unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
		unix.TMPFS_MAGIC: "tmpfs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs", unix.NFS_SUPER_MAGIC: "nfs",
	}
	if name := names[int64(fs.Type)]; name != "" { //nolint:unconvert // its type is another on other architectures
		return name
	}
	return fmt.Sprintf("file system %#x", fs.Type)
}
