package storage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// A record is either JSON or, if it is read with every request, fields in the Protocol Buffers wire format. Either way a node of an
// older version ignores what it does not know in a record that a newer one wrote.

// DamagedError says which record is damaged. It is an ErrDamaged.
type DamagedError struct {
	Key Key
	Err error
}

func (e *DamagedError) Error() string {
	return string(e.Key.Kind) + "/" + e.Key.ID + ": " + e.Err.Error()
}

// Unwrap returns ErrDamaged and what is wrong.
func (e *DamagedError) Unwrap() []error { return []error{ErrDamaged, e.Err} }

// decodeJSON reads a record of JSON into a value. Numbers among claims stay as they are, since a float64 would change large ones.
func decodeJSON(what string, record []byte, value any) error {
	if err := CheckReadable(record); err != nil {
		return fmt.Errorf("%s record: %w", what, err)
	}
	d := json.NewDecoder(bytes.NewReader(record))
	d.UseNumber()
	if err := d.Decode(value); err != nil {
		return fmt.Errorf("%w: %s record: %w", ErrDamaged, what, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %s record: more than one JSON value", ErrDamaged, what)
	}
	return nil
}

// fieldsFormat is the first byte of a record of fields: fields in the Protocol Buffers wire format follow it.
const fieldsFormat = 0x01

// fieldWriter writes fields in the Protocol Buffers wire format and leaves out empty ones.
type fieldWriter struct{ record []byte }

func (w *fieldWriter) bytes(n protowire.Number, value []byte) {
	if len(value) > 0 {
		w.record = protowire.AppendTag(w.record, n, protowire.BytesType)
		w.record = protowire.AppendBytes(w.record, value)
	}
}

func (w *fieldWriter) text(n protowire.Number, value string) {
	if value != "" {
		w.record = protowire.AppendTag(w.record, n, protowire.BytesType)
		w.record = protowire.AppendString(w.record, value)
	}
}

// texts writes a list, whose elements may be empty.
func (w *fieldWriter) texts(n protowire.Number, values []string) {
	for _, value := range values {
		w.record = protowire.AppendTag(w.record, n, protowire.BytesType)
		w.record = protowire.AppendString(w.record, value)
	}
}

func (w *fieldWriter) number(n protowire.Number, value int64) {
	if value != 0 {
		w.record = protowire.AppendTag(w.record, n, protowire.VarintType)
		w.record = protowire.AppendVarint(w.record, protowire.EncodeZigZag(value))
	}
}

func (w *fieldWriter) flag(n protowire.Number, value bool) {
	if value {
		w.number(n, 1)
	}
}

// time writes seconds and nanoseconds, because nanoseconds alone end in the year 2262.
func (w *fieldWriter) time(n protowire.Number, t time.Time) {
	if t.IsZero() {
		return
	}
	var parts [20]byte
	value := protowire.AppendVarint(parts[:0], protowire.EncodeZigZag(t.Unix()))
	w.bytes(n, protowire.AppendVarint(value, uint64(t.Nanosecond())))
}

// message writes a field that consists of fields.
func (w *fieldWriter) message(n protowire.Number, encode func(*fieldWriter)) {
	w.record = protowire.AppendTag(w.record, n, protowire.BytesType)
	// The length comes first but is not known yet. Reserve one byte for it, and insert more if needed.
	start := len(w.record)
	w.record = append(w.record, 0)
	encode(w)
	size := len(w.record) - start - 1
	if grow := protowire.SizeVarint(uint64(size)) - 1; grow > 0 {
		w.record = append(w.record, make([]byte, grow)...)
		copy(w.record[start+1+grow:], w.record[start+1:])
	}
	protowire.AppendVarint(w.record[:start], uint64(size))
}

// field is a decoded field.
type field struct {
	number protowire.Number
	bytes  []byte // shares memory with the record
	text   string // the same as bytes; shares memory with all other texts of the record
	varint uint64
}

func (f field) int() int64 { return protowire.DecodeZigZag(f.varint) }

func (f field) flag() bool { return f.varint != 0 }

func (f field) time() (time.Time, error) {
	seconds, n := protowire.ConsumeVarint(f.bytes)
	if n < 0 {
		return time.Time{}, errField
	}
	nanoseconds, m := protowire.ConsumeVarint(f.bytes[n:])
	if m < 0 || n+m != len(f.bytes) || nanoseconds >= uint64(time.Second) {
		return time.Time{}, errField
	}
	return time.Unix(protowire.DecodeZigZag(seconds), int64(nanoseconds)).UTC(), nil
}

// errField does not quote the field, because records contain hashes.
var errField = errors.New("malformed field")

// decodeFields reads a record of fields and calls take with each. take must ignore fields it does not know.
func decodeFields(what string, record []byte, take func(field) error) error {
	if err := CheckReadable(record); err != nil {
		return fmt.Errorf("%s record: %w", what, err)
	}
	if len(record) == 0 || record[0] != fieldsFormat {
		return fmt.Errorf("%w: %s record: unknown format", ErrDamaged, what)
	}
	if err := readFields(record[1:], string(record[1:]), take); err != nil {
		return fmt.Errorf("%w: %s record: %w", ErrDamaged, what, err)
	}
	return nil
}

// readFields calls take with each field of data, which the caller passes as text too. Fields of types that this package does
// not write arrive with number 0.
func readFields(data []byte, text string, take func(field) error) error {
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return errField
		}
		f := field{number: number}
		var size int
		switch kind {
		case protowire.BytesType:
			f.bytes, size = protowire.ConsumeBytes(data[n:])
		case protowire.VarintType:
			f.varint, size = protowire.ConsumeVarint(data[n:])
		default:
			f.number, size = 0, protowire.ConsumeFieldValue(number, kind, data[n:])
		}
		if size < 0 {
			return errField
		}
		n += size
		f.text = text[n-len(f.bytes) : n]
		data, text = data[n:], text[n:]
		if err := take(f); err != nil {
			return err
		}
	}
	return nil
}
