package crash_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// disk is a small file system for a test.
type disk struct {
	t    *testing.T
	path string
}

// mountDisk mounts a disk of some MB until the test ends.
func mountDisk(t *testing.T) *disk {
	t.Helper()
	d := &disk{t, t.TempDir()}
	err := d.mount(0)
	if errors.Is(err, syscall.EPERM) && os.Getenv("CADDY_OAUTH_TEST_REQUIRE") != "all" {
		t.Skip("run this test as root, so that it can mount a disk")
	}
	must(t, err)
	t.Cleanup(func() { _ = syscall.Unmount(d.path, syscall.MNT_DETACH) }) // it is removed when the last file on it is closed
	return d
}

func (d *disk) mount(flags uintptr) error {
	return syscall.Mount("tmpfs", d.path, "tmpfs", flags, "size=16m,mode=0700")
}

// fill fills the disk to the last byte.
func (d *disk) fill() {
	d.t.Helper()
	file, err := os.Create(filepath.Join(d.path, "filler")) // #nosec G304 -- on a disk of the test
	must(d.t, err)
	for _, size := range []int{64 << 10, 1} {
		for err == nil {
			_, err = file.Write(bytes.Repeat([]byte{'x'}, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			d.t.Fatal(err)
		}
		err = nil
	}
	must(d.t, file.Close())
}

func (d *disk) empty() { must(d.t, os.Remove(filepath.Join(d.path, "filler"))) }

// readOnly makes the kernel refuse every write, also from root. The kernel accepts that only while no file is open for writing.
func (d *disk) readOnly() {
	integration.Eventually(d.t, "the disk is read-only", func() bool {
		err := d.mount(syscall.MS_REMOUNT | syscall.MS_RDONLY)
		if err != nil && !errors.Is(err, syscall.EBUSY) {
			d.t.Fatal(err)
		}
		return err == nil
	})
}

func (d *disk) writable() { must(d.t, d.mount(syscall.MS_REMOUNT)) }

// The disk is full for a while. Records can still be read, and no client loses anything.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	d := mountDisk(t)
	config := shop(opaque)
	config.Storage = filepath.Join(d.path, "storage")
	withFault(t, config, fault{begin: d.fill, end: d.empty, lasts: 3 * time.Second, troubles: []string{"no space left"}})
}

func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	d := mountDisk(t)
	config := shop(opaque)
	config.Storage = filepath.Join(d.path, "storage")
	withFault(t, config, fault{begin: d.readOnly, end: d.writable, lasts: 3 * time.Second, troubles: []string{"the file system is read-only"}})
}

// A node is killed while its disk is full, and starts on it.
func TestKillOnFullDisk(t *testing.T) {
	t.Parallel()
	d := mountDisk(t)
	config := shop("")
	config.Storage, config.Ailing = filepath.Join(d.path, "storage"), true
	s, store := integration.Start(t, config), filesIn(config.Storage)
	l := newLoad(t, s, false)
	for range 3 {
		l.progress(t, 5)
		l.troubled.Store(true)
		d.fill()
		<-time.After(anyTime(100 * time.Millisecond))
		s.Kill()
		walk(t, store)
		s.Run()
		l.refusedOnce(t)
		d.empty()
		l.progress(t, 3)
		l.troubled.Store(false)
	}
	l.finish(t)
	s.Stop()
	walk(t, store)
	checkErrors(t, s.Log(), fault{times: 6, troubles: []string{"no space left"}})
}
