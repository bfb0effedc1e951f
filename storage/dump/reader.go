package dump

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Reader reads a dump. It holds one line of it in memory at a time.
type Reader struct {
	Header Header
	Counts Counts // known at the end

	lines *bufio.Scanner
	at    int // the line
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
		return nil, d.wrong("expected the first line of a dump that caddy oauth export has made")
	case l.Version > version:
		return nil, d.wrong(fmt.Sprintf("a dump of version %d, which is made by a later version of this program: expected %d", l.Version, version))
	}
	d.Header = Header{Issuer: l.Issuer, Time: l.Time, ReadOnly: l.ReadOnly}
	return d, nil
}

// Records yields the records, once. An error ends them; without one, all were there.
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

// end checks that this is all, and all there is.
func (d *Reader) end(l line, n int) error {
	if l.Records != n {
		return d.wrong(fmt.Sprintf("there are %d records, and the dump was made of %d", n, l.Records))
	}
	d.Counts = Counts{Records: n, Damaged: l.Damaged}
	if d.lines.Scan() {
		d.at++
		return d.wrong("expected nothing after the end")
	}
	return d.lines.Err()
}

func (d *Reader) record(l line) (storage.Record, error) {
	if l.Error != "" {
		return storage.Record{}, d.wrong(fmt.Sprintf("the export failed: %q", l.Error))
	}
	record := storage.Record{
		Key: storage.Key{Kind: storage.Kind(l.Kind), ID: l.ID}, Value: l.Value, Expires: storage.ExpiryFromMillis(l.Expires),
	}
	if err := errors.Join(record.Key.Check(), check(record)); err != nil {
		return storage.Record{}, d.wrong(err.Error())
	}
	if record.Value == nil {
		record.Value = []byte{}
	}
	return record, nil
}

func (d *Reader) next() (l line, err error) {
	d.at++
	if !d.lines.Scan() {
		err := d.lines.Err()
		switch {
		case errors.Is(err, bufio.ErrTooLong):
			return l, d.wrong("the line is too long for a record")
		case err != nil:
			return l, fmt.Errorf("reading line %d: %w", d.at, err)
		}
		return l, d.wrong("the dump ends here, before its end: it was cut off")
	}
	decoder := json.NewDecoder(bytes.NewReader(d.lines.Bytes()))
	decoder.DisallowUnknownFields()
	// The text of a JSON error can quote what it stumbled over, and this has keys in it.
	if decoder.Decode(&l) != nil || decoder.InputOffset() != int64(len(d.lines.Bytes())) {
		return l, d.wrong("expected the JSON of a dump")
	}
	return l, nil
}

func (d *Reader) wrong(problem string) error { return fmt.Errorf("line %d: %s", d.at, problem) }
