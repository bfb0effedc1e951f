// Package dump moves the records of an issuer from one store to another, and backs them up: [Write] writes them to a file, which
// [NewReader] reads and [Import] writes into a store.
//
// A dump is lines of JSON: a [Header]; a line for each record, in no order; and a last line with their number, so that an incomplete
// dump is detected. If a record occurs more than once, the last one counts. A dump is not encrypted: it contains private keys and
// personal data.
package dump

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

const (
	format  = "caddy-oauth dump"
	version = 1

	// maxLine is more than any record needs.
	maxLine = 8 << 20
)

// Header describes a dump.
type Header struct {
	Issuer string    // its short name
	Time   time.Time // when the export began

	// ReadOnly says that the issuer was read-only during the export, so that the dump is final. Otherwise records may
	// have changed meanwhile, and each is as it was at some moment.
	ReadOnly bool
}

// Counts are the numbers of records that were exported, and that were not.
type Counts struct {
	Records int
	Damaged int // left out, because they are unreadable
}

// line is a line of any kind. Its first member says which.
type line struct {
	Format string `json:"format,omitempty"`
	Kind   string `json:"kind,omitempty"`
	End    bool   `json:"end,omitempty"`
	Error  string `json:"error,omitempty"`

	// of the header
	Version  int       `json:"version,omitempty"`
	Issuer   string    `json:"issuer,omitempty"`
	Time     time.Time `json:"time,omitzero"`
	ReadOnly bool      `json:"read_only,omitempty"`

	// of a record
	ID      string `json:"id,omitempty"`
	Expires int64  `json:"expires,omitempty"` // milliseconds since 1970; 0: never
	Value   []byte `json:"value,omitempty"`   // base64

	// of the end
	Records int `json:"records,omitempty"`
	Damaged int `json:"damaged,omitempty"`
}

// Write writes a dump. If records yields an error, Write returns it and the last line of the dump contains it.
func Write(w io.Writer, header Header, records iter.Seq2[storage.Record, error]) (n Counts, err error) {
	buffered := bufio.NewWriterSize(w, 1<<16)
	encoder := json.NewEncoder(buffered)
	encoder.SetEscapeHTML(false)
	err = encoder.Encode(line{
		Format: format, Version: version, Issuer: header.Issuer, Time: header.Time.UTC(), ReadOnly: header.ReadOnly,
	})
	if err != nil {
		return n, err
	}
	for record, err := range records {
		if err == nil {
			err = checkReadable(record)
		}
		switch {
		case errors.Is(err, storage.ErrDamaged):
			n.Damaged++
			continue
		case err != nil:
			return n, errors.Join(err, encoder.Encode(line{Error: err.Error()}), buffered.Flush())
		}
		n.Records++
		err := encoder.Encode(line{
			Kind: string(record.Key.Kind), ID: record.Key.ID, Expires: storage.ExpiryMillis(record.Expires), Value: record.Value,
		})
		if err != nil {
			return n, err
		}
	}
	if err := encoder.Encode(line{End: true, Records: n.Records, Damaged: n.Damaged}); err != nil {
		return n, err
	}
	return n, buffered.Flush()
}

// checkReadable refuses a record that is encrypted, which happens if the store is opened without its keys.
func checkReadable(record storage.Record) error {
	if err := storage.CheckReadable(record.Value); err != nil {
		return fmt.Errorf("%s/%s: %w", record.Key.Kind, record.Key.ID, err)
	}
	return nil
}

// Reader reads a dump. It keeps one line in memory at a time.
type Reader struct {
	Header Header
	Counts Counts // valid after Records

	lines  *bufio.Scanner
	number int // of the current line
}

// NewReader reads the header.
func NewReader(r io.Reader) (*Reader, error) {
	d := &Reader{lines: bufio.NewScanner(r)}
	d.lines.Buffer(nil, maxLine)
	l, err := d.next()
	switch {
	case err != nil:
		return nil, err
	case l.Format != format || l.Version < 1:
		return nil, d.problem("expected the first line of a dump that caddy oauth export has made")
	case l.Version > version:
		return nil, d.problem(fmt.Sprintf("the dump has version %d and was made by a later version of this program: expected %d", l.Version, version))
	}
	d.Header = Header{Issuer: l.Issuer, Time: l.Time, ReadOnly: l.ReadOnly}
	return d, nil
}

// Records yields the records, once. Without an error, the dump is complete.
func (d *Reader) Records() iter.Seq2[storage.Record, error] {
	return func(yield func(storage.Record, error) bool) {
		for n := 0; ; n++ {
			l, err := d.next()
			if err == nil && l.End {
				if err = d.end(l, n); err == nil {
					return
				}
			}
			var record storage.Record
			if err == nil {
				record, err = d.record(l)
			}
			if !yield(record, err) || err != nil {
				return
			}
		}
	}
}

// end checks that the dump has the right number of records, and ends here.
func (d *Reader) end(l line, n int) error {
	if l.Records != n {
		return d.problem(fmt.Sprintf("the dump has %d records, but %d were exported", n, l.Records))
	}
	d.Counts = Counts{Records: n, Damaged: l.Damaged}
	if d.lines.Scan() {
		d.number++
		return d.problem("expected nothing after the end")
	}
	return d.lines.Err()
}

func (d *Reader) record(l line) (storage.Record, error) {
	if l.Error != "" {
		return storage.Record{}, d.problem(fmt.Sprintf("the export failed: %q", l.Error))
	}
	record := storage.Record{
		Key: storage.Key{Kind: storage.Kind(l.Kind), ID: l.ID}, Value: l.Value, Expires: storage.ExpiryFromMillis(l.Expires),
	}
	if err := errors.Join(record.Key.Check(), checkValue(record)); err != nil {
		return storage.Record{}, d.problem(err.Error())
	}
	if record.Value == nil {
		record.Value = []byte{}
	}
	return record, nil
}

func (d *Reader) next() (l line, err error) {
	d.number++
	if !d.lines.Scan() {
		err := d.lines.Err()
		switch {
		case errors.Is(err, bufio.ErrTooLong):
			return l, d.problem("the line is too long for a record")
		case err != nil:
			return l, fmt.Errorf("reading line %d: %w", d.number, err)
		}
		return l, d.problem("the dump is incomplete: it was cut off")
	}
	decoder := json.NewDecoder(bytes.NewReader(d.lines.Bytes()))
	decoder.DisallowUnknownFields()
	// A JSON error can quote from the line, which may contain keys.
	if decoder.Decode(&l) != nil || decoder.InputOffset() != int64(len(d.lines.Bytes())) {
		return l, d.problem("expected the JSON of a dump")
	}
	return l, nil
}

func (d *Reader) problem(text string) error { return fmt.Errorf("line %d: %s", d.number, text) }
