package caddystore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
)

// disk is the part of the operating system that files needs. Tests replace it by one that fails or loses power.
type disk interface {
	// open opens an existing file to read it or, with write, to read and write it.
	open(name string, write bool) (file, error)
	// create creates a file that must not exist.
	create(name string) (file, error)
	// add appends to a file, which it creates if need be, and does not sync.
	add(name string, data []byte) error
	// rename replaces the file to.
	rename(from, to string) error
	// remove deletes a file or an empty directory.
	remove(name string) error
	// mkdir creates a directory.
	mkdir(name string) error
	// sync makes the names created, renamed and removed in a directory survive a power cut, where the system can do that.
	sync(dir string) error
	// list yields the content of a directory, in no order.
	list(dir string) iter.Seq2[fs.DirEntry, error]
}

// file is an open file.
type file interface {
	ReadAt(data []byte, at int64) (int, error)
	// writeSynced returns when the data, and the metadata needed to read it, would survive a power cut.
	writeSynced(data []byte, at int64) error
	size() (int64, error)
	close()
}

// osDisk is the disk of the operating system. The systems differ in open, create and sync, which os_linux.go and os_portable.go have.
type osDisk struct{}

func (osDisk) add(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

func (osDisk) rename(from, to string) error { return os.Rename(from, to) }
func (osDisk) remove(name string) error     { return os.Remove(name) }
func (osDisk) mkdir(name string) error      { return os.Mkdir(name, 0o700) }

// list reads a large directory in parts. It neither sorts the entries nor asks for the status of each file.
func (osDisk) list(dir string) iter.Seq2[fs.DirEntry, error] {
	return func(yield func(fs.DirEntry, error) bool) {
		d, err := os.Open(dir)
		if err != nil {
			yield(nil, err)
			return
		}
		defer d.Close()
		for {
			entries, err := d.ReadDir(256)
			for _, entry := range entries {
				if !yield(entry, nil) {
					return
				}
			}
			if len(entries) == 0 {
				if err != nil && !errors.Is(err, io.EOF) {
					yield(nil, err)
				}
				return
			}
		}
	}
}

// ignoreAbsent returns nil for the error that something does not exist.
func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// withUndo returns the error of a write, joined with that of undoing it. If there was one, the record may have either state.
func withUndo(err, undo error) error {
	if undo == nil {
		return err
	}
	return fmt.Errorf("%w; undoing that: %w", err, undo)
}
