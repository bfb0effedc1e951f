package storage

import (
	"fmt"
	"hash/crc32"
	"strconv"
	"time"
)

// A record at rest is one line of text, of fixed length, and the value as it is:
//
//	oauth1 <expiry, 15 digits: milliseconds since 1970, 0 for never> <CRC-32C of all the rest, 8 hex digits>
//
// The checksum tells a truncated or zero-filled record, which some backends leave behind after a
// power failure, from a whole one.
const (
	envelopeMagic  = "oauth1 "
	envelopeFormat = envelopeMagic + "%015d %08x\n"
	envelopeLength = len(envelopeMagic) + 15 + 1 + 8 + 1
	envelopeExpiry = len(envelopeMagic)
	envelopeSum    = envelopeExpiry + 15 + 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// wrap returns a copy of the value with its envelope. A zero expires means never.
func wrap(value []byte, expires time.Time) []byte {
	data := make([]byte, 0, envelopeLength+len(value))
	data = fmt.Appendf(data, envelopeFormat, ExpiryMillis(expires), 0)
	data = append(data, value...)
	copy(data[envelopeSum:], fmt.Sprintf("%08x", envelopeChecksum(data)))
	return data
}

// unwrap returns the value, which is part of data and never nil, and when it expires, or ErrDamaged.
func unwrap(data []byte) (value []byte, expires time.Time, err error) {
	if len(data) < envelopeLength {
		return nil, time.Time{}, ErrDamaged
	}
	milli, err := strconv.ParseUint(string(data[envelopeExpiry:envelopeExpiry+15]), 10, 63)
	if err != nil {
		return nil, time.Time{}, ErrDamaged
	}
	// Whatever else the line could say is settled by writing it anew.
	if string(data[:envelopeLength]) != fmt.Sprintf(envelopeFormat, milli, envelopeChecksum(data)) {
		return nil, time.Time{}, ErrDamaged
	}
	return data[envelopeLength:], ExpiryFromMillis(int64(milli)), nil
}

func envelopeChecksum(data []byte) uint32 {
	sum := crc32.Checksum(data[:envelopeSum], castagnoli)
	return crc32.Update(sum, castagnoli, data[envelopeLength:])
}
