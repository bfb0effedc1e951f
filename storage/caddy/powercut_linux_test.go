package caddystore

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

const (
	envPowerCuts = "CADDY_OAUTH_TEST_POWERCUTS"
	envPowerUser = "CADDY_OAUTH_TEST_POWER_USER" // the directory in which a child process writes until the power is cut
)

// The test shuts a file system down under load, without writing its journal or its memory, as a power cut does, and mounts it again.
// Every record must have the value last confirmed, or one that was being written. It needs root, mkfs.ext4 and mkfs.xfs (Debian:
// e2fsprogs, xfsprogs), loop devices, and a few seconds for each power cut:
//
//	CADDY_OAUTH_TEST_POWERCUTS=50 go test ./storage/caddy -run TestPowerIsCut -v -timeout 30m
func TestPowerIsCut(t *testing.T) {
	times, err := strconv.Atoi(os.Getenv(envPowerCuts))
	if err != nil {
		t.Skipf("set %s to the number of power cuts", envPowerCuts)
	}
	for _, kind := range []string{"ext4", "xfs"} {
		t.Run(kind, func(t *testing.T) {
			records, writes := 0, 0
			for range times {
				r, w := cutPower(t, kind)
				records, writes = records+r, writes+w
			}
			t.Logf("%d power cuts; checked %d records that were written %d times", times, records, writes)
		})
	}
}

// cutPower returns how many records it checked, and how often they had been written.
func cutPower(t *testing.T, kind string) (records, writes int) {
	t.Helper()
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	defer func() { _ = os.Remove(image) }() // now, because the test makes many
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 400<<20)); err != nil {
		t.Fatal(err)
	}
	command(t, "mkfs."+kind, "-q", image)
	command(t, "mount", "-o", "loop", image, dir)
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // in case of a failure
	reported := writeUntilCut(t, dir)
	command(t, "umount", dir)
	command(t, "mount", "-o", "loop", image, dir)
	store, err := openFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	for id, s := range reported {
		value, err := store.Get(t.Context(), powerKey(id))
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			t.Errorf("%s: %v", id, err)
			continue
		}
		found := false
		for n := s.written; n <= s.begun; n++ {
			found = found || bytes.Equal(value, powerValue(n))
		}
		if !found {
			t.Errorf("%s: the value %.20q of %d bytes is not of number %d to %d", id, value, len(value), s.written, s.begun)
		}
		writes += s.written
	}
	command(t, "umount", dir)
	return len(reported), writes
}

// progress has the last value of a record that was confirmed before the power cut, and the last one begun.
type progress struct{ written, begun int }

// writeUntilCut lets a process write in a file system, cuts the power, and returns the progress of each record.
func writeUntilCut(t *testing.T, dir string) map[string]progress {
	t.Helper()
	user := exec.CommandContext(t.Context(), os.Args[0])
	user.Env = append(os.Environ(), envPowerUser+"="+dir)
	user.Stderr = t.Output()
	out, err := user.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := user.Start(); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	reported, off := map[string]progress{}, false
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var what, id string
			var n int
			if _, err := fmt.Sscan(lines.Text(), &what, &id, &n); err != nil {
				t.Error(err)
			}
			mu.Lock()
			s := reported[id]
			switch {
			case what == "begins":
				s.begun = n
			case !off: // XFS still confirms syncs of folders after the cut
				s.written = n
			}
			reported[id] = s
			mu.Unlock()
		}
	}()
	time.Sleep(200*time.Millisecond + rand.N(time.Second)) // the moment of the power cut is random
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	off = true
	mu.Unlock()
	const shutDown, atOnce = 0x8004587d, 2 // XFS_IOC_GOINGDOWN, which ext4 has too, without flushing the log
	err = unix.IoctlSetPointerInt(int(root.Fd()), shutDown, atOnce)
	root.Close()
	if err != nil {
		t.Fatal(err)
	}
	<-read // the process ends, because every write fails now
	_ = user.Wait()
	return reported
}

// powerUser writes records until that fails, if this is a child process for that.
func powerUser() {
	dir := os.Getenv(envPowerUser)
	if dir == "" {
		return
	}
	store, err := openFiles(dir)
	if err != nil {
		panic(err)
	}
	const writers = 8
	var all sync.WaitGroup
	reported := make(chan string)
	for writer := range writers {
		all.Go(func() { writePower(store, writer, reported) })
	}
	go func() {
		all.Wait()
		close(reported)
	}()
	for line := range reported {
		_, _ = io.WriteString(os.Stdout, line)
	}
	os.Exit(0)
}

// writePower updates some records and puts others, and reports each before and after.
func writePower(store storage.Store, writer int, reported chan<- string) {
	written := map[int]int{}
	for put := 1000; ; {
		which := rand.IntN(6)
		if rand.IntN(5) == 0 {
			put++
			which = put
		}
		id, n := fmt.Sprintf("zzz%c.%d-%d", "xyz"[which%3], writer, which), written[which]+1
		reported <- fmt.Sprintln("begins", id, n)
		var err error
		if which == put {
			err = store.Put(context.Background(), powerKey(id), powerValue(n), time.Time{})
		} else {
			err = store.Update(context.Background(), powerKey(id), func([]byte) ([]byte, time.Time, error) {
				return powerValue(n), time.Time{}, nil
			})
		}
		if err != nil {
			return
		}
		reported <- fmt.Sprintln("wrote", id, n)
		written[which] = n
	}
}

func powerKey(id string) storage.Key { return family(id) }

// powerValue returns the value of a record after n writes; every seventeenth deletes it.
func powerValue(n int) []byte {
	if n%17 == 0 {
		return nil
	}
	return bytes.Repeat(fmt.Appendf(nil, "%08d", n), 1+n*37%400)
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", name, err, out)
	}
}
