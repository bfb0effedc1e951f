package storage

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// rawFile is a file descriptor. An os.File would ask the kernel to be told when it can be read, which it cannot for a
// file, and be watched by the garbage collector; that takes longer than reading a record.
type rawFile int

func (osDisk) open(name string, write bool) (file, error) {
	if write {
		// O_DSYNC makes each write sync what it wrote, in one call.
		return openRaw(name, unix.O_RDWR|unix.O_DSYNC)
	}
	return openRaw(name, unix.O_RDONLY)
}

func (osDisk) create(name string) (file, error) {
	return openRaw(name, unix.O_RDWR|unix.O_DSYNC|unix.O_CREAT|unix.O_EXCL)
}

func openRaw(name string, flags int) (file, error) {
	fd, err := uninterrupted(func() (int, error) { return unix.Open(name, flags|unix.O_CLOEXEC, 0o600) })
	if err != nil {
		return nil, err
	}
	return rawFile(fd), nil
}

func (f rawFile) ReadAt(data []byte, at int64) (n int, err error) {
	for n < len(data) {
		m, err := uninterrupted(func() (int, error) { return unix.Pread(int(f), data[n:], at+int64(n)) })
		if err != nil {
			return n, err
		}
		if m == 0 {
			return n, io.EOF
		}
		n += m
	}
	return n, nil
}

func (f rawFile) writeSynced(data []byte, at int64) error {
	for len(data) > 0 {
		n, err := uninterrupted(func() (int, error) { return unix.Pwrite(int(f), data, at) })
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrShortWrite
		}
		data, at = data[n:], at+int64(n)
	}
	return nil
}

func (f rawFile) size() (int64, error) {
	var stat unix.Stat_t
	_, err := uninterrupted(func() (int, error) { return 0, unix.Fstat(int(f), &stat) })
	return stat.Size, err
}

func (f rawFile) close() { _ = unix.Close(int(f)) } // what was written is synced

func (osDisk) sync(dir string) error {
	d, err := openRaw(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer d.close()
	_, err = uninterrupted(func() (int, error) { return 0, unix.Fsync(int(d.(rawFile))) })
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		return nil // this file system does not sync directories
	}
	return err
}

// uninterrupted calls again what a signal has interrupted, which happens on file systems over a network.
func uninterrupted(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
