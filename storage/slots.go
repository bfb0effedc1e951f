package storage

import (
	"hash/crc32"
	"strconv"
	"time"
)

// A record in a file of its own has two slots of one size, and an update overwrites the older of them where it
// stands: no file is made, renamed or grown, so that all there is to sync is a block of data. Whatever a crash leaves of
// that write, the other slot is as it was. A slot is a line of text, of fixed length, the value, and whatever was
// there before:
//
//	oauth2 <sequence, 16 hex digits> <expiry, 15 digits: milliseconds since 1970, 0 for never> <due, a Bucket or ---->
//	<size of a slot, 8 hex digits> <length of the value, 8 hex digits> <CRC-32C of all before it and the value, 8 hex digits>
//
// The slot that counts is the whole one with the higher sequence. A slot that was never written is zeros. This
// rests on disks that write a sector, of 512 bytes or of more, whole or not at all, and nothing beside it.
const (
	slotMagic    = "oauth2 "
	slotSequence = len(slotMagic)
	slotExpiry   = slotSequence + 16 + 1
	slotDue      = slotExpiry + 15 + 1
	slotSize     = slotDue + bucketLength + 1
	slotLength   = slotSize + 8 + 1
	slotSum      = slotLength + 8 + 1
	slotHeader   = slotSum + 8 + 1

	notDue = "----"

	sector       = 512
	smallestSlot = 2048 // two of them are a block of most file systems, and hold a family
)

// slot is one state of a record.
type slot struct {
	sequence uint64
	expires  time.Time
	due      Bucket // the list that leads a sweep to the record, if one does
	value    []byte
}

// slotFor returns the size of the slots of a new file, in which the value has room to grow.
func slotFor(value []byte) int {
	size := slotHeader + len(value) + len(value)/4
	return max(smallestSlot, (size+sector-1)/sector*sector)
}

// appendSlot appends what a slot of that size begins with.
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
	data = append(appendDigits(data, uint64(ExpiryMillis(s.expires)), 10, 15), ' ')
	data = append(append(data, due...), ' ')
	data = append(appendDigits(data, uint64(size), 16, 8), ' ')
	return append(appendDigits(data, uint64(len(s.value)), 16, 8), ' ')
}

func appendSlotSum(data []byte, sum uint32) []byte {
	return append(appendDigits(data, uint64(sum), 16, 8), '\n')
}

func slotChecksum(fields, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(fields, castagnoli), castagnoli, value)
}

// appendDigits appends n in a base up to 16, in so many digits.
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

// parseSlot reads a slot, of which data is all, with what was there before it. The value is part of data.
func parseSlot(data []byte) (slot, bool) {
	if len(data) < slotHeader || string(data[:slotSequence]) != slotMagic {
		return slot{}, false
	}
	// What is no number becomes some number, and the line then differs from what it should be.
	sequence, _ := strconv.ParseUint(string(data[slotSequence:slotSequence+16]), 16, 64)
	milli, _ := strconv.ParseUint(string(data[slotExpiry:slotExpiry+15]), 10, 63)
	length, _ := strconv.ParseUint(string(data[slotLength:slotLength+8]), 16, 32)
	if length > uint64(len(data)-slotHeader) {
		return slot{}, false
	}
	s := slot{
		sequence: sequence,
		expires:  ExpiryFromMillis(int64(milli)),
		value:    data[slotHeader : slotHeader+int(length)],
	}
	if due := data[slotDue : slotDue+bucketLength]; string(due) != notDue {
		s.due = Bucket(due)
	}
	if s.due != "" && !s.due.Valid() {
		return slot{}, false
	}
	line := appendSlotFields(make([]byte, 0, slotHeader), s, len(data))
	line = appendSlotSum(line, slotChecksum(data[:slotSum], s.value))
	if string(line) != string(data[:slotHeader]) {
		return slot{}, false
	}
	return s, true
}

// newestSlot returns the slot that counts of a file, and its index. settled says that the other is whole or was never
// used; if not, a write to it was cut off, or is going on.
func newestSlot(file []byte) (s slot, index int, settled bool, err error) {
	if len(file) == 0 || len(file)%(2*sector) != 0 {
		return slot{}, 0, false, ErrDamaged
	}
	half := len(file) / 2
	one, oneWhole := parseSlot(file[:half])
	two, twoWhole := parseSlot(file[half:])
	switch {
	case !oneWhole && !twoWhole, oneWhole && twoWhole && one.sequence == two.sequence:
		return slot{}, 0, false, ErrDamaged
	case !oneWhole || twoWhole && two.sequence > one.sequence:
		return two, 1, oneWhole, nil
	}
	return one, 0, twoWhole || file[half] == 0, nil
}
