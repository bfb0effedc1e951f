package storage

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"path/filepath"
)

// newFolder is where files are written before they get their names, so that those of a killed process are few
// to look for. No kind can have such a name.
const newFolder = ".new"

// replace puts a file in its place, in the place of a record with the content before if there is any.
func (b *files) replace(name string, content, before []byte) error {
	temporary, err := b.write(content)
	if err != nil {
		return err
	}
	err = b.place(temporary, name)
	if err == nil {
		return nil
	}
	_ = b.disk.remove(temporary)
	// A power cut may bring back what was there before, so it must be there now too, if that can be had.
	return takenBack(err, b.restore(name, before))
}

func (b *files) restore(name string, content []byte) error {
	if len(content) == 0 {
		if err := b.disk.remove(name); err != nil {
			return ifThere(err)
		}
		return b.settle(filepath.Dir(name))
	}
	temporary, err := b.write(content)
	if err != nil {
		return err
	}
	return b.place(temporary, name)
}

// write writes a file that has no name yet by which anybody would look for it.
func (b *files) write(content []byte) (temporary string, err error) {
	temporary = filepath.Join(b.path, newFolder, rand.Text())
	f, err := b.disk.create(temporary)
	if errors.Is(err, fs.ErrNotExist) {
		if err := b.makeDir(filepath.Dir(temporary)); err != nil {
			return "", err
		}
		f, err = b.disk.create(temporary)
	}
	if err != nil {
		return "", err
	}
	err = f.writeSynced(content, 0)
	f.close()
	if err != nil {
		_ = b.disk.remove(temporary)
	}
	return temporary, err
}

// place gives a file its name.
func (b *files) place(temporary, name string) error {
	err := b.disk.rename(temporary, name)
	if errors.Is(err, fs.ErrNotExist) {
		if err = b.makeDir(filepath.Dir(name)); err == nil {
			err = b.disk.rename(temporary, name)
		}
	}
	if err != nil {
		return err
	}
	return b.settle(filepath.Dir(name))
}

// ifThere passes over the error that something is not there.
func ifThere(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
