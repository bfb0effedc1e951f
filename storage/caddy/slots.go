package caddystore

import (
	"bytes"
	"errors"
	"hash/crc32"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// The file of a record has two slots of the same size, and an update overwrites the older one in place. No file is created, renamed
// or grown, so all there is to sync is a block of data. Whatever a crash leaves of that write, the other slot is as it was.
// A slot is a line of text, of fixed length, then the value, then whatever was there before:
//
//	oauth2 <sequence, 16 hex digits> <expiry, 15 digits: milliseconds since 1970, 0 for never> <due, a dueList or ----->
//	<size of a slot, 8 hex digits> <length of the value, 8 hex digits> <CRC-32C of all before it and the value, 8 hex digits>
//
// The current slot is the intact one with the higher sequence. A slot that was never written is zeros. This relies on disks that
// write a sector, of 512 bytes or more, whole or not at all, and nothing beside it.
const (
	slotMagic    = "oauth2 "
	slotSequence = len(slotMagic)
	slotExpiry   = slotSequence + 16 + 1
	slotDue      = slotExpiry + 15 + 1
	slotSize     = slotDue + dueLength + 1
	slotLength   = slotSize + 8 + 1
	slotSum      = slotLength + 8 + 1
	slotHeader   = slotSum + 8 + 1

	dueLength = len(notDue)
	notDue    = "-----"

	sector       = 512
	smallestSlot = 2048 // two of them are a block of most file systems, and a family fits into one
)

// slot is one state of a record.
type slot struct {
	sequence uint64
	expires  time.Time
	due      dueList // the list through which a sweep finds the record, if any; see enlist
	value    []byte
}

// slotSizeFor returns the size of the slots of a new file, in which the value can grow.
func slotSizeFor(value []byte) int {
	size := slotHeader + len(value) + len(value)/4
	return max(smallestSlot, (size+sector-1)/sector*sector)
}

// appendSlot appends the beginning of a slot of that size: all but what was there before.
func appendSlot(data []byte, s slot, size int) []byte {
	start := len(data)
	data = appendSlotFields(data, s, size)
	data = appendSlotSum(data, slotChecksum(data[start:], s.value))
	return append(data, s.value...)
}

func appendSlotFields(data []byte, s slot, size int) []byte {
	due := s.due
	if due == "" {
		due = notDue
	}
	data = append(data, slotMagic...)
	data = append(appendDigits(data, s.sequence, 16, 16), ' ')
	data = append(appendDigits(data, uint64(storage.ExpiryMillis(s.expires)), 10, 15), ' ')
	data = append(append(data, due...), ' ')
	data = append(appendDigits(data, uint64(size), 16, 8), ' ')
	return append(appendDigits(data, uint64(len(s.value)), 16, 8), ' ')
}

func appendSlotSum(data []byte, sum uint32) []byte {
	return append(appendDigits(data, uint64(sum), 16, 8), '\n')
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func slotChecksum(fields, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(fields, castagnoli), castagnoli, value)
}

// appendDigits appends n in a base up to 16, with leading zeros.
func appendDigits(data []byte, n, base uint64, digits int) []byte {
	for range digits {
		data = append(data, '0')
	}
	for i := len(data) - 1; n > 0 && i >= len(data)-digits; i-- {
		data[i] = "0123456789abcdef"[n%base]
		n /= base
	}
	return data
}

// parseSlot reads a slot from all of its data, and false if it is not intact. The value shares memory with data.
func parseSlot(data []byte) (slot, bool) {
	if len(data) < slotHeader || string(data[:slotSequence]) != slotMagic {
		return slot{}, false
	}
	// These errors need no handling: a malformed number gives another line than data has, below.
	sequence, _ := strconv.ParseUint(string(data[slotSequence:slotSequence+16]), 16, 64)
	millis, _ := strconv.ParseUint(string(data[slotExpiry:slotExpiry+15]), 10, 63)
	length, _ := strconv.ParseUint(string(data[slotLength:slotLength+8]), 16, 32)
	if length > uint64(len(data)-slotHeader) {
		return slot{}, false
	}
	s := slot{
		sequence: sequence,
		expires:  storage.ExpiryFromMillis(int64(millis)),
		value:    data[slotHeader : slotHeader+int(length)],
	}
	if due := data[slotDue : slotDue+dueLength]; string(due) != notDue {
		s.due = dueList(due)
	}
	if s.due != "" && !s.due.valid() {
		return slot{}, false
	}
	line := appendSlotFields(make([]byte, 0, slotHeader), s, len(data))
	line = appendSlotSum(line, slotChecksum(data[:slotSum], s.value))
	if string(line) != string(data[:slotHeader]) {
		return slot{}, false
	}
	return s, true
}

// currentSlot returns the current slot of a file, and its index. settled says that the other slot is intact or was never used. If
// not, a write to it was cut off, or is in progress.
func currentSlot(file []byte) (s slot, index int, settled bool, err error) {
	if len(file) == 0 || len(file)%(2*sector) != 0 {
		return slot{}, 0, false, storage.ErrDamaged
	}
	half := len(file) / 2
	one, oneIntact := parseSlot(file[:half])
	two, twoIntact := parseSlot(file[half:])
	switch {
	case !oneIntact && !twoIntact, oneIntact && twoIntact && one.sequence == two.sequence:
		return slot{}, 0, false, storage.ErrDamaged
	case !oneIntact || twoIntact && two.sequence > one.sequence:
		return two, 1, oneIntact, nil
	}
	return one, 0, twoIntact || file[half] == 0, nil
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
