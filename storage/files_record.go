package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

// recordFile is a record in its file, as long as a call takes.
type recordFile struct {
	file    file
	content []byte // all of the file; none if there is no record
	held    slot   // the state that counts, which is part of content
	index   int    // of its slot
	scratch []byte // what is to be written
}

// usualFile is how long the file of most records is.
const usualFile = 2 * smallestSlot

var usualSize = appendDigits(nil, smallestSlot, 16, 8)

var recordFiles = sync.Pool{New: func() any {
	return &recordFile{content: make([]byte, 0, usualFile), scratch: make([]byte, 0, usualFile)}
}}

func newRecordFile() *recordFile { return recordFiles.Get().(*recordFile) }

// release gives back all that belongs to r, values and content included.
func (r *recordFile) release() {
	r.close()
	if cap(r.content)+cap(r.scratch) > 32*usualFile {
		return // let the memory of a giant go
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

// open reads a record.
func (r *recordFile) open(d disk, name string, write bool) (err error) {
	if r.file, err = d.open(name, write); err != nil {
		r.file = nil
		return err
	}
	return r.read()
}

// read finds the state that counts. Without the lock that is an art: a slot that is being written is not whole, and if
// two updates passed while one of their slots was read and the other not yet, then what is whole is not the newest. So
// if a slot is not whole it reads again, until the same is the newest twice: then the other slot was being written all
// the time or was left so by a crash, and does not count.
func (r *recordFile) read() error {
	var last uint64
	for range 4 {
		if err := r.readContent(); err != nil {
			return err
		}
		var settled bool
		var err error
		if r.held, r.index, settled, err = newestSlot(r.content); err != nil {
			continue
		}
		if settled || r.held.sequence == last {
			return nil
		}
		last = r.held.sequence
	}
	r.held = slot{}
	return ErrDamaged
}

// readContent takes one call for the files of most records, which say at their start how long they are.
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

// value returns a copy of what the record holds, nil if there is none.
func (r *recordFile) value() []byte {
	if r.held.value == nil {
		return nil
	}
	return bytes.Clone(r.held.value)
}

// takes reports whether a state can be written into a slot of the file.
func (r *recordFile) takes(s slot) bool {
	return slotHeader+len(s.value) <= len(r.content)/2
}

// updateInPlace gives the record a state that its file takes. If that is much less than it had, as of a family that is
// revoked, the other slot gets it too, and nothing of the rest is left.
func (r *recordFile) updateInPlace(s slot) error {
	shrinks := 2*len(s.value) < len(r.held.value)
	if err := r.overwrite(s); err != nil {
		return err
	}
	if shrinks {
		s.sequence++
		_ = r.overwrite(s) // the record has its state already
	}
	return nil
}

// overwrite writes a state over the slot that does not count, from which it then does. If that fails, the slot becomes what
// it was: memory might hold the new state and the disk not, and nobody must be told what a power cut takes back.
func (r *recordFile) overwrite(s slot) error {
	half := len(r.content) / 2
	start := (1 - r.index) * half
	r.scratch = appendSlot(r.scratch[:0], s, half)
	before := withoutZeros(r.content[start : start+half])
	for len(r.scratch) < len(before) {
		r.scratch = append(r.scratch, 0)
	}
	before = r.content[start : start+len(r.scratch)]
	if err := r.file.writeSynced(r.scratch, int64(start)); err != nil {
		return takenBack(err, r.file.writeSynced(before, int64(start)))
	}
	copy(before, r.scratch)
	r.index = 1 - r.index
	return nil
}

// withoutZeros returns data without the zeros at its end.
func withoutZeros(data []byte) []byte {
	for len(data) > 0 && data[len(data)-1] == 0 {
		data = data[:len(data)-1]
	}
	return data
}

// takenBack returns the error of a write, with the one of taking it back if there was one: it is then open which of the
// two states the record has.
func takenBack(err, undo error) error {
	if undo == nil {
		return err
	}
	return fmt.Errorf("%w; taking that back: %w", err, undo)
}

// fresh returns the content of a new file with that state.
func (r *recordFile) fresh(s slot) []byte {
	size := slotFor(s.value)
	r.scratch = appendSlot(slices.Grow(r.scratch[:0], 2*size), s, size)
	used := len(r.scratch)
	r.scratch = r.scratch[:2*size]
	clear(r.scratch[used:])
	return r.scratch
}
