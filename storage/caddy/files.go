package caddystore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// files is the backend on certmagic.FileStorage. It uses the folders and names that FileStorage would, but writes files of two
// slots (see slot), by itself.
type files struct {
	paths

	dir      string // the folder oauth/<issuer>
	top      string // the folder of the storage
	disk     disk
	durables durableDirs
	now      func() time.Time
	log      *zap.Logger

	// replaces reports whether every update creates a new file, as it must where other machines see the files.
	replaces func() bool
}

func newFiles(on *certmagic.FileStorage, p paths, now func() time.Time, log *zap.Logger) *files {
	dir := on.Filename(p.root)
	return &files{
		paths:    p,
		dir:      dir,
		top:      filepath.Clean(on.Path),
		disk:     osDisk{},
		now:      now,
		log:      log,
		replaces: sync.OnceValue(func() bool { return onNetwork(dir) }),
	}
}

// file returns the name of a record's file.
func (b *files) file(key storage.Key) string {
	const separator = string(filepath.Separator)
	if bucket := key.Bucket(); bucket != "" {
		return b.dir + separator + string(key.Kind) + separator + string(bucket) + separator + key.ID + recordSuffix
	}
	return b.dir + separator + string(key.Kind) + separator + key.ID + recordSuffix
}

func (b *files) read(_ context.Context, key storage.Key) ([]byte, time.Time, error) {
	r := newRecordFile()
	defer r.release()
	if err := r.open(b.disk, b.file(key), false); err != nil {
		return nil, time.Time{}, b.reading(key, err)
	}
	return r.value(), r.current.expires, nil
}

func (b *files) put(_ context.Context, key storage.Key, value []byte, expires time.Time) error {
	r := newRecordFile()
	defer r.release()
	first := slot{sequence: 1, expires: expires, due: b.enlist(key, "", expires), value: value}
	return b.writing(key, b.replace(b.file(key), r.fresh(first), nil))
}

func (b *files) update(ctx context.Context, key storage.Key, change expiryChange) error {
	r := newRecordFile()
	defer r.release()
	if err := r.open(b.disk, b.file(key), true); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return b.reading(key, err)
	}
	value, expires, err := change(r.value(), r.current.expires)
	if err != nil {
		return err
	}
	if value == nil {
		r.close() // some systems cannot delete or replace an open file
		return b.remove(ctx, key)
	}
	next := slot{
		sequence: r.current.sequence + 1,
		expires:  expires,
		due:      b.enlist(key, r.current.due, expires),
		value:    value,
	}
	// A new key means a new file, so that no ciphertext of the old key stays in the other slot.
	if r.fits(next) && !b.replaces() && storage.SameKey(r.current.value, value) {
		return b.writing(key, r.updateInPlace(next))
	}
	r.close()
	return b.writing(key, b.replace(b.file(key), r.fresh(next), r.content))
}

// remove syncs the folder even if there is no such record: whoever removed it may not have synced yet.
func (b *files) remove(_ context.Context, key storage.Key) error {
	name := b.file(key)
	err := ignoreAbsent(b.disk.remove(name))
	if err == nil {
		err = ignoreAbsent(b.disk.sync(filepath.Dir(name)))
	}
	return b.deleting(key, err)
}

// newFolder holds files that have not got their final names yet, so that the sweep finds those of a killed process at one place.
// No kind can have this name.
const newFolder = ".new"

// replace gives a file new content. before is the content that the file has now, empty if there is none.
func (b *files) replace(name string, content, before []byte) error {
	temporary, err := b.writeTemporary(content)
	if err != nil {
		return err
	}
	err = b.rename(temporary, name)
	if err == nil {
		return nil
	}
	_ = b.disk.remove(temporary)
	// A power cut may bring back the content before, so readers should see it now, too.
	return withUndo(err, b.restore(name, before))
}

func (b *files) restore(name string, content []byte) error {
	if len(content) == 0 {
		if err := b.disk.remove(name); err != nil {
			return ignoreAbsent(err)
		}
		return b.makeDurable(filepath.Dir(name))
	}
	temporary, err := b.writeTemporary(content)
	if err != nil {
		return err
	}
	return b.rename(temporary, name)
}

func (b *files) writeTemporary(content []byte) (name string, err error) {
	name = filepath.Join(b.dir, newFolder, rand.Text())
	f, err := b.disk.create(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := b.makeDir(filepath.Dir(name)); err != nil {
			return "", err
		}
		f, err = b.disk.create(name)
	}
	if err != nil {
		return "", err
	}
	err = f.writeSynced(content, 0)
	f.close()
	if err != nil {
		_ = b.disk.remove(name)
	}
	return name, err
}

// rename gives a temporary file its final name, durably.
func (b *files) rename(temporary, name string) error {
	err := b.disk.rename(temporary, name)
	if errors.Is(err, fs.ErrNotExist) {
		if err = b.makeDir(filepath.Dir(name)); err == nil {
			err = b.disk.rename(temporary, name)
		}
	}
	if err != nil {
		return err
	}
	return b.makeDurable(filepath.Dir(name))
}

// makeDir creates a folder, and those above it that do not exist.
func (b *files) makeDir(dir string) error {
	err := b.disk.mkdir(dir)
	if above := filepath.Dir(dir); errors.Is(err, fs.ErrNotExist) && above != dir {
		if err := b.makeDir(above); err != nil {
			return err
		}
		err = b.disk.mkdir(dir)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	err = b.disk.sync(filepath.Dir(dir))
	if errors.Is(err, fs.ErrPermission) && !strings.HasPrefix(dir, b.top+string(filepath.Separator)) {
		return nil // Caddy need not be able to read folders above the storage
	}
	return err
}

// makeDurable makes the names in a folder survive a power cut, and the names of the folder and of those above it.
func (b *files) makeDurable(dir string) error {
	if err := b.makeNameDurable(dir); err != nil {
		return err
	}
	return b.disk.sync(dir)
}

// makeNameDurable syncs the folders above dir, once. The process that created dir may not have synced them yet.
func (b *files) makeNameDurable(dir string) error {
	above := filepath.Dir(dir)
	if dir == b.top || dir == above || b.durables.has(dir) {
		return nil
	}
	if err := b.makeNameDurable(above); err != nil {
		return err
	}
	if err := b.disk.sync(above); err != nil {
		return err
	}
	b.durables.add(dir)
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
