package storage

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// files keeps records where certmagic.FileStorage keeps values, in the same folders and by the same names, but in
// files of two slots (see slot), which it reads and writes itself.
type files struct {
	naming

	path    string // of the folder oauth/<issuer>
	top     string // of the folder of the storage
	disk    disk
	settled settledDirs
	now     func() time.Time
	log     *zap.Logger

	// replaces says that every update makes a new file, as it must where other machines see the files.
	replaces func() bool
}

func newFiles(storage *certmagic.FileStorage, place naming, now func() time.Time, log *zap.Logger) *files {
	path := storage.Filename(place.root)
	return &files{
		naming:   place,
		path:     path,
		top:      filepath.Clean(storage.Path),
		disk:     osDisk{},
		now:      now,
		log:      log,
		replaces: sync.OnceValue(func() bool { return onNetwork(path) }),
	}
}

// file returns the name of a record's file.
func (b *files) file(key Key) string {
	const separator = string(filepath.Separator)
	if bucket := key.Bucket(); bucket != "" {
		return b.path + separator + string(key.Kind) + separator + string(bucket) + separator + key.ID + recordSuffix
	}
	return b.path + separator + string(key.Kind) + separator + key.ID + recordSuffix
}

func (b *files) read(_ context.Context, key Key) ([]byte, time.Time, error) {
	r := newRecordFile()
	defer r.release()
	if err := r.open(b.disk, b.file(key), false); err != nil {
		return nil, time.Time{}, b.reading(key, err)
	}
	return r.value(), r.held.expires, nil
}

func (b *files) put(_ context.Context, key Key, value []byte, expires time.Time) error {
	r := newRecordFile()
	defer r.release()
	first := slot{sequence: 1, expires: expires, due: b.listByEnd(key, "", expires), value: value}
	return b.writing(key, b.replace(b.file(key), r.fresh(first), nil))
}

func (b *files) update(ctx context.Context, key Key, change timedChange) error {
	r := newRecordFile()
	defer r.release()
	if err := r.open(b.disk, b.file(key), true); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return b.reading(key, err)
	}
	value, expires, err := change(r.value(), r.held.expires)
	if err != nil {
		return err
	}
	if value == nil {
		r.close() // some systems delete and replace no open file
		return b.remove(ctx, key)
	}
	next := slot{
		sequence: r.held.sequence + 1,
		expires:  expires,
		due:      b.listByEnd(key, r.held.due, expires),
		value:    value,
	}
	// What is encrypted with another key than before leaves nothing of that in the file.
	if r.takes(next) && !b.replaces() && SameKey(r.held.value, value) {
		return b.writing(key, r.updateInPlace(next))
	}
	r.close()
	return b.writing(key, b.replace(b.file(key), r.fresh(next), r.content))
}

// remove syncs the folder even if there is no such record: whoever removed it may not have come to that.
func (b *files) remove(_ context.Context, key Key) error {
	name := b.file(key)
	err := ifThere(b.disk.remove(name))
	if err == nil {
		err = ifThere(b.disk.sync(filepath.Dir(name)))
	}
	return b.deleting(key, err)
}
