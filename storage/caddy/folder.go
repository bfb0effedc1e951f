package caddystore

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// folder is the folder of a store on a disk. What it has written survives a power cut.
type folder struct {
	dir      string // oauth/<issuer>
	top      string // the folder of the storage
	disk     disk
	durables durableDirs
}

// file returns the name of a record's file.
func (d *folder) file(key storage.Key) string {
	const separator = string(filepath.Separator)
	if bucket := key.Bucket(); bucket != "" {
		return d.dir + separator + string(key.Kind) + separator + string(bucket) + separator + key.ID + recordSuffix
	}
	return d.dir + separator + string(key.Kind) + separator + key.ID + recordSuffix
}

// newFolder holds files that have not got their final names yet, so that the sweep finds those of a killed process at one place.
// No kind can have this name.
const newFolder = ".new"

// replace gives a file new content. before is the content that the file has now, empty if there is none.
func (d *folder) replace(name string, content, before []byte) error {
	temporary, err := d.writeTemporary(content)
	if err != nil {
		return err
	}
	err = d.rename(temporary, name)
	if err == nil {
		return nil
	}
	_ = d.disk.remove(temporary)
	// A power cut may bring back the content before, so readers should see it now, too.
	return withUndo(err, d.restore(name, before))
}

func (d *folder) restore(name string, content []byte) error {
	if len(content) == 0 {
		if err := d.disk.remove(name); err != nil {
			return ignoreAbsent(err)
		}
		return d.makeDurable(filepath.Dir(name))
	}
	temporary, err := d.writeTemporary(content)
	if err != nil {
		return err
	}
	return d.rename(temporary, name)
}

func (d *folder) writeTemporary(content []byte) (name string, err error) {
	name = filepath.Join(d.dir, newFolder, rand.Text())
	f, err := d.disk.create(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := d.makeDir(filepath.Dir(name)); err != nil {
			return "", err
		}
		f, err = d.disk.create(name)
	}
	if err != nil {
		return "", err
	}
	err = f.writeSynced(content, 0)
	f.close()
	if err != nil {
		_ = d.disk.remove(name)
	}
	return name, err
}

// rename gives a temporary file its final name, durably.
func (d *folder) rename(temporary, name string) error {
	err := d.disk.rename(temporary, name)
	if errors.Is(err, fs.ErrNotExist) {
		if err = d.makeDir(filepath.Dir(name)); err == nil {
			err = d.disk.rename(temporary, name)
		}
	}
	if err != nil {
		return err
	}
	return d.makeDurable(filepath.Dir(name))
}

// makeDir creates a folder, and those above it that do not exist.
func (d *folder) makeDir(dir string) error {
	err := d.disk.mkdir(dir)
	if above := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && above != dir {
		if err := d.makeDir(above); err != nil {
			return err
		}
		err = d.disk.mkdir(dir)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = d.disk.sync(filepath.Dir(dir))
	if errors.Is(err, fs.ErrPermission) && !strings.HasPrefix(dir, d.top+string(filepath.Separator)) {
		return nil // Caddy need not be able to read folders above the storage
	}
	return err
}

// makeDurable makes the names in a folder survive a power cut, and the names of the folder and of those above it.
func (d *folder) makeDurable(dir string) error {
	if err := d.makeNameDurable(dir); err != nil {
		return err
	}
	return d.disk.sync(dir)
}

// makeNameDurable syncs the folders above dir, once. The process that created dir may not have synced them yet.
func (d *folder) makeNameDurable(dir string) error {
	above := filepath.Dir(dir)
	if dir == d.top || dir == above || d.durables.has(dir) {
		return nil
	}
	if err := d.makeNameDurable(above); err != nil {
		return err
	}
	if err := d.disk.sync(above); err != nil {
		return err
	}
	d.durables.add(dir)
	return nil
}

// durableDirs are folders whose names are known to survive a power cut.
type durableDirs struct {
	mu   sync.RWMutex
	dirs map[string]bool
}

func (s *durableDirs) has(dir string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.dirs[dir]
}

func (s *durableDirs) add(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	const limit = 1000 // every hour adds a bucket
	if s.dirs == nil || len(s.dirs) >= limit {
		s.dirs = map[string]bool{}
	}
	s.dirs[dir] = true
}
