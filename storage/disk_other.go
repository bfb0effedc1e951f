//go:build !linux

package storage

import (
	"errors"
	"os"
	"runtime"
	"syscall"
)

type osFile struct{ *os.File }

func (osDisk) open(name string, write bool) (file, error) {
	if write {
		return openFile(name, os.O_RDWR)
	}
	return openFile(name, os.O_RDONLY)
}

func (osDisk) create(name string) (file, error) {
	return openFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

func openFile(name string, flags int) (file, error) {
	f, err := os.OpenFile(name, flags, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (f osFile) writeSynced(data []byte, at int64) error {
	if _, err := f.WriteAt(data, at); err != nil {
		return err
	}
	return f.Sync()
}

func (f osFile) size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f osFile) close() { _ = f.Close() } // what was written is synced

func (osDisk) sync(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // a directory cannot be synced there, see the documentation of Caddy
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil // this file system does not sync directories
	}
	return err
}
