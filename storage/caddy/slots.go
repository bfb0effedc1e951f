package caddystore

import (
	"hash/crc32"
	"strconv"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// The file of a record has two slots of the same size, and an update overwrites the older one in place. No file is created, renamed
// or grown, so all there is to sync is a block of data. Whatever a crash leaves of that write, the other slot is as it was.
// A slot is a line of text, of fixed length, then the value, then zeros:
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

	notDue = "-----" // as long as a dueList

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

// appendSlot appends the beginning of a slot of that size: all but the zeros after its value.
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
