package dump

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"iter"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Counts are what is in a dump, and what is not.
type Counts struct {
	Records int
	Damaged int // left out: they cannot be read
}

// Write writes a dump. If the records fail, the last line says so.
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
			err = readable(record)
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
