package caddystore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
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
	*folder
	due dueLists
	now func() time.Time
	log *zap.Logger

	// replaces reports whether every update creates a new file, as it must where other machines see the files.
	replaces func() bool
}

func newFiles(on *certmagic.FileStorage, p paths, now func() time.Time, log *zap.Logger) *files {
	own := &folder{dir: on.Filename(p.root), top: filepath.Clean(on.Path), disk: osDisk{}}
	return &files{
		paths:    p,
		folder:   own,
		due:      dueLists{folder: own, now: now},
		now:      now,
		log:      log,
		replaces: sync.OnceValue(func() bool { return onNetwork(own.dir) }),
	}
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
	first := slot{sequence: 1, expires: expires, due: b.due.enlist(key, "", expires), value: value}
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
		due:      b.due.enlist(key, r.current.due, expires),
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

// recordFile is an open file of a record, for one call of the store.
type recordFile struct {
	file    file
	content []byte // the whole file; empty if there is no record
	current slot   // the current slot, part of content
	index   int    // of the current slot
	scratch []byte // what will be written
}

// usualFile is the length of the file of most records.
const usualFile = 2 * smallestSlot

var usualSize = appendDigits(nil, smallestSlot, 16, 8)

var recordFiles = sync.Pool{New: func() any {
	return &recordFile{content: make([]byte, 0, usualFile), scratch: make([]byte, 0, usualFile)}
}}

func newRecordFile() *recordFile { return recordFiles.Get().(*recordFile) }

// release closes the file and reuses the memory of r, that of content and current included.
func (r *recordFile) release() {
	r.close()
	if cap(r.content)+cap(r.scratch) > 32*usualFile {
		return // too large to keep
	}
	*r = recordFile{content: r.content[:0], scratch: r.scratch[:0]}
	recordFiles.Put(r)
}

// close may be called again.
func (r *recordFile) close() {
	if r.file != nil {
		r.file.close()
		r.file = nil
	}
}

// open opens and reads a record.
func (r *recordFile) open(d disk, name string, write bool) (err error) {
	if r.file, err = d.open(name, write); err != nil {
		r.file = nil
		return err
	}
	return r.read()
}

// read finds the current slot. Reading without the lock can see a torn slot, or miss two updates between reading one slot and the
// other. If a slot is torn, it reads again until it finds the same current slot twice: then the other slot was being written all
// the time, or a crash has left it torn, and it does not count.
func (r *recordFile) read() error {
	var last uint64
	for range 4 {
		if err := r.readContent(); err != nil {
			return err
		}
		var settled bool
		var err error
		if r.current, r.index, settled, err = currentSlot(r.content); err != nil {
			continue
		}
		if settled || r.current.sequence == last {
			return nil
		}
		last = r.current.sequence
	}
	r.current = slot{}
	return storage.ErrDamaged
}

// readContent needs one call of the disk for files of the usual length, which their beginning tells.
func (r *recordFile) readContent() error {
	length := usualFile
	for {
		r.content = slices.Grow(r.content[:0], length)[:length]
		n, err := r.file.ReadAt(r.content, 0)
		r.content = r.content[:n]
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n < length || length > usualFile || bytes.HasPrefix(r.content[slotSize:], usualSize) {
			return nil
		}
		size, err := r.file.size()
		if err != nil || size <= usualFile {
			return err
		}
		length = int(size)
	}
}

// value returns a copy of the record's value, nil if there is no record.
func (r *recordFile) value() []byte {
	if r.current.value == nil {
		return nil
	}
	return bytes.Clone(r.current.value)
}

// fits reports whether a slot of the file can hold s.
func (r *recordFile) fits(s slot) bool {
	return slotHeader+len(s.value) <= len(r.content)/2
}

// updateInPlace writes a new state that fits. If it is much smaller than the old one, as when a family is revoked, it goes into
// both slots, so that nothing of the old state is left.
func (r *recordFile) updateInPlace(s slot) error {
	shrinks := 2*len(s.value) < len(r.current.value)
	if err := r.overwrite(s); err != nil {
		return err
	}
	if shrinks {
		s.sequence++
		_ = r.overwrite(s) // the record already has its new state
	}
	return nil
}

// overwrite writes s over the older slot, which becomes the current one. If that fails, it restores the slot: memory may hold the
// new state and the disk may not, and no reader may see what a power cut would take back.
func (r *recordFile) overwrite(s slot) error {
	half := len(r.content) / 2
	start := (1 - r.index) * half
	r.scratch = appendSlot(r.scratch[:0], s, half)
	before := trimZeros(r.content[start : start+half])
	for len(r.scratch) < len(before) {
		r.scratch = append(r.scratch, 0)
	}
	before = r.content[start : start+len(r.scratch)]
	if err := r.file.writeSynced(r.scratch, int64(start)); err != nil {
		return withUndo(err, r.file.writeSynced(before, int64(start)))
	}
	copy(before, r.scratch)
	r.index = 1 - r.index
	return nil
}

// trimZeros returns data without the zeros at its end.
func trimZeros(data []byte) []byte {
	for len(data) > 0 && data[len(data)-1] == 0 {
		data = data[:len(data)-1]
	}
	return data
}

// fresh returns the content of a new file with one state.
func (r *recordFile) fresh(s slot) []byte {
	size := slotSizeFor(s.value)
	r.scratch = appendSlot(slices.Grow(r.scratch[:0], 2*size), s, size)
	used := len(r.scratch)
	r.scratch = r.scratch[:2*size]
	clear(r.scratch[used:])
	return r.scratch
}
