package storage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// decodeJSON reads a record of JSON into a value. It ignores members it does not know, so that a node of an older version can
// read what a newer one wrote. Numbers among claims stay as they are, since a float64 would change large ones.
func decodeJSON(what string, record []byte, value any) error {
	if err := CheckReadable(record); err != nil {
		return fmt.Errorf("%s record: %w", what, err)
	}
	d := json.NewDecoder(bytes.NewReader(record))
	d.UseNumber()
	if err := d.Decode(value); err != nil {
		return fmt.Errorf("%s record: %w", what, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s record: more than one JSON value", what)
	}
	return nil
}
