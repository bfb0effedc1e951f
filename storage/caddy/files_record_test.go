package caddystore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// scriptedFile shows something else with each read, the last of it for ever.
type scriptedFile struct {
	file

	shows [][]byte
}

func (f *scriptedFile) ReadAt(data []byte, _ int64) (int, error) {
	n := copy(data, f.shows[0])
	if len(f.shows) > 1 {
		f.shows = f.shows[1:]
	}
	if n < len(data) {
		return n, io.EOF
	}
	return n, nil
}

// counted returns the content of a file after n updates, of which the one and the other slot are torn or not.
func counted(n int, tornOne, tornTwo bool) []byte {
	var values []string
	for i := range n {
		values = append(values, fmt.Sprint(i+1))
	}
	content := bytes.Clone(fileOf(values...))
	for i, torn := range []bool{tornOne, tornTwo} {
		if torn {
			content[i*smallestSlot+slotSum]++
		}
	}
	return content
}

// What a reader makes of files that are written while it reads them, at slots 2 and 3 in turn.
func TestReadWhileWritten(t *testing.T) {
	// The first slot is of update 3, and of the second it sees the middle of update 6.
	passed := append(counted(3, false, false)[:smallestSlot:smallestSlot], counted(6, false, true)[smallestSlot:]...)
	for name, c := range map[string]struct {
		shows [][]byte
		want  string // none: ErrDamaged
	}{
		"nobody writes":                    {[][]byte{counted(3, false, false)}, "3"},
		"only one slot was ever used":      {[][]byte{counted(1, false, false)}, "1"},
		"a crash has torn the newest":      {[][]byte{counted(4, false, true)}, "3"},
		"and so in the other slot":         {[][]byte{counted(5, true, false)}, "4"},
		"the first update is being done":   {[][]byte{counted(2, false, true), counted(2, false, false)}, "2"},
		"an update is being done":          {[][]byte{counted(5, true, false), counted(5, false, false)}, "5"},
		"two updates passed meanwhile":     {[][]byte{passed, counted(6, false, false)}, "6"},
		"and the next is being done":       {[][]byte{passed, counted(7, true, false), counted(7, false, false)}, "7"},
		"and it is for long":               {[][]byte{passed, counted(7, true, false), counted(7, true, false)}, "6"},
		"both slots at once":               {[][]byte{counted(5, true, true), counted(5, false, false)}, "5"},
		"both slots and then one":          {[][]byte{counted(5, true, true), counted(6, false, true), counted(6, false, false)}, "6"},
		"nothing is whole, nor gets whole": {[][]byte{counted(5, true, true)}, ""},
		"it never comes to rest": {[][]byte{
			counted(4, false, true), counted(5, true, false), counted(6, false, true), counted(7, true, false), counted(8, false, true),
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRecordFile()
			defer r.release()
			r.file = &scriptedFile{shows: c.shows}
			err := r.read()
			r.file = nil
			if c.want == "" && !errors.Is(err, storage.ErrDamaged) || c.want != "" && err != nil || string(r.current.value) != c.want {
				t.Errorf("got %q, error %v; want %q", r.current.value, err, c.want)
			}
		})
	}
}
