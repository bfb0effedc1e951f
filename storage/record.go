package storage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// decodeRecord reads a record of JSON into a value. Members it does not know are passed over, so that a node of an
// older version can read what a newer one wrote; numbers among claims stay as they are, where a float64 would
// change large ones.
func decodeRecord(what string, record []byte, value any) error {
	d := json.NewDecoder(bytes.NewReader(record))
	d.UseNumber()
	if err := d.Decode(value); err != nil {
		return fmt.Errorf("%s record: %w", what, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s record: there is more than one", what)
	}
	return nil
}
