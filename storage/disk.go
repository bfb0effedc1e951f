package storage

import (
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
)

// disk is what records in files ask of the operating system. A test puts one in its place that fails or loses power.
type disk interface {
	// open opens a file that is there, to read it or to read and write it.
	open(name string, write bool) (file, error)
	// create makes a file that must not be there.
	create(name string) (file, error)
	// add appends to a file, which it makes if need be, and does not sync.
	add(name string, data []byte) error
	// rename puts a file in the place of another.
	rename(from, to string) error
	// remove deletes a file or an empty directory.
	remove(name string) error
	// mkdir makes a directory.
	mkdir(name string) error
	// sync makes what was made, renamed and removed in a directory survive a power cut, where that can be asked for.
	sync(dir string) error
	// list yields what is in a directory, in no order.
	list(dir string) iter.Seq2[fs.DirEntry, error]
}

// file is an open file.
type file interface {
	ReadAt(data []byte, at int64) (int, error)
	// writeSynced returns when the data, and what it takes to read it, would survive a power cut.
	writeSynced(data []byte, at int64) error
	size() (int64, error)
	close()
}

// osDisk is the disk of the operating system. Its files differ: see osDisk.open.
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

// list reads a large directory bit by bit. It does not sort, nor ask for the status of each file.
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
