package caddystore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// fileOf returns the content of a file after updates to these values.
func fileOf(values ...string) []byte {
	var r recordFile
	content := bytes.Clone(r.fresh(slot{sequence: 1, value: []byte(values[0])}))
	half := len(content) / 2
	for i, value := range values[1:] {
		copy(content[(i+1)%2*half:], appendSlot(nil, slot{sequence: uint64(i + 2), value: []byte(value)}, half))
	}
	return content
}

func TestSlotForm(t *testing.T) {
	// The form must not change: other versions have written it.
	s := slot{sequence: 0x1f, expires: time.UnixMilli(1700000000123), due: "abcdz", value: []byte("value")}
	want := "oauth2 000000000000001f 001700000000123 abcdz 00000800 00000005 "
	got := string(appendSlot(nil, s, smallestSlot))
	if !strings.HasPrefix(got, want) || !strings.HasSuffix(got, "\nvalue") || len(got) != slotHeader+len("value") {
		t.Errorf("got  %q\nwant %q, a checksum, a line's end and the value", got, want)
	}
	file := fileOf("first", "second", "third")
	if len(file) != 4096 || !bytes.HasPrefix(file, []byte("oauth2 0000000000000003")) ||
		!bytes.HasPrefix(file[2048:], []byte("oauth2 0000000000000002")) {
		t.Errorf("a file of two slots is %d bytes, %q… and %q…", len(file), file[:24], file[2048:2072])
	}
}

func TestSlotSizes(t *testing.T) {
	for length, want := range map[int]int{0: 2048, 1500: 2048, 1976: 2560, 4096: 5632, 1 << 20: 1310720 + 512} {
		if got := slotSizeFor(make([]byte, length)); got != want {
			t.Errorf("a value of %d bytes gets slots of %d, want %d", length, got, want)
		}
	}
}

func TestCurrentSlot(t *testing.T) {
	for n := 1; n <= 5; n++ {
		values := []string{"one", "two", "three", "four", "five"}[:n]
		s, index, settled, err := currentSlot(fileOf(values...))
		if err != nil || !settled || string(s.value) != values[n-1] || index != (n-1)%2 {
			t.Errorf("%q: got %q in slot %d, settled %v, error %v", values, s.value, index, settled, err)
		}
	}
}

// If one slot is damaged, the other counts. If both are, the record is damaged.
func TestSlotDamage(t *testing.T) {
	whole := fileOf("first", "second")
	end := len("second") + slotHeader
	for i := range end {
		for bit := range 8 {
			file := bytes.Clone(whole)
			file[2048+i] ^= 1 << bit
			if s, _, settled, err := currentSlot(file); err != nil || settled || string(s.value) != "first" {
				t.Fatalf("bit %d of byte %d: got %q, settled %v, error %v", bit, i, s.value, settled, err)
			}
			clear(file[:2048])
			if s, _, _, err := currentSlot(file); !errors.Is(err, storage.ErrDamaged) || s.value != nil {
				t.Fatalf("bit %d of byte %d, alone: got %q, error %v", bit, i, s.value, err)
			}
		}
	}
	// The slots of a truncated file do not have the size in their headers.
	large := fileOf(strings.Repeat("x", 3000), "second")
	for _, size := range []int{0, 1, 35, 512, 1024, 2048, 4096, 5120, len(large) - 1024, len(large) - 1} {
		if s, _, _, err := currentSlot(large[:size]); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("%d of %d bytes: got %q, error %v", size, len(large), s.value, err)
		}
	}
	for _, length := range []int{2048, 4096, 8192} {
		if _, _, _, err := currentSlot(make([]byte, length)); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("%d zeros: got error %v", length, err)
		}
	}
}

// A power cut during a write leaves any subset of its sectors on the disk.
func TestSlotTornWrites(t *testing.T) {
	for _, length := range []int{10, 300, 700, 1900, 4000} {
		values := make([]string, 6)
		for i := range values {
			values[i] = fmt.Sprint(i) + strings.Repeat(string("ab"[i%2]), length+i*5)
		}
		for n := 1; n < len(values); n++ {
			before, after := fileOf(values[:n]...), fileOf(values[:n+1]...)
			var changed []int
			for at := 0; at < len(before); at += sector {
				if !bytes.Equal(before[at:at+sector], after[at:at+sector]) {
					changed = append(changed, at)
				}
			}
			for subset := range 1 << len(changed) {
				file := bytes.Clone(before)
				for i, at := range changed {
					if subset>>i&1 == 1 {
						copy(file[at:at+sector], after[at:at+sector])
					}
				}
				s, _, _, err := currentSlot(file)
				want := values[n-1 : n]
				if subset == 1<<len(changed)-1 {
					want = values[n : n+1]
				}
				if err != nil || !slices.Contains(want, string(s.value)) {
					t.Fatalf("update %d of %d bytes, sectors %b of %d: got %.20q, error %v",
						n, length, subset, len(changed), s.value, err)
				}
			}
		}
	}
}

func FuzzCurrentSlot(f *testing.F) {
	f.Add([]byte(""))
	f.Add(make([]byte, 4096))
	f.Add(fileOf(""))
	f.Add(fileOf("first", "second"))
	f.Add(fileOf("first", "second")[:2048])
	f.Add(fileOf("first", "second", strings.Repeat("third", 300)))
	f.Fuzz(func(t *testing.T, file []byte) {
		s, index, settled, err := currentSlot(file)
		if err != nil {
			if s.value != nil || s.sequence != 0 || settled || !errors.Is(err, storage.ErrDamaged) {
				t.Fatalf("both a result and an error: %v, %v", s, err)
			}
			return
		}
		if s.value == nil {
			t.Fatal("neither a value nor an error")
		}
		// A slot has only one encoding.
		half := len(file) / 2
		if again := appendSlot(nil, s, half); !bytes.HasPrefix(file[index*half:], again) {
			t.Fatalf("%q is read as %v, which is written as %q", file, s, again)
		}
	})
}

func FuzzSlot(f *testing.F) {
	f.Add([]byte("value"), uint64(1), int64(1700000000123), "abcd")
	f.Add([]byte{}, uint64(1<<63), int64(0), "")
	f.Fuzz(func(t *testing.T, value []byte, sequence uint64, milli int64, due string) {
		s := slot{sequence: sequence, expires: storage.ExpiryFromMillis(max(milli, 0) % maxExpiry), value: value}
		if dueList(due).valid() {
			s.due = dueList(due)
		}
		size := slotSizeFor(value)
		data := make([]byte, size)
		copy(data, appendSlot(nil, s, size))
		got, whole := parseSlot(data)
		if !whole || got.sequence != s.sequence || !got.expires.Equal(s.expires) || got.due != s.due || !bytes.Equal(got.value, value) {
			t.Fatalf("wrote %v, read %v, %v", s, got, whole)
		}
	})
}

// scriptedFile returns different content with each read, and then the last one for ever.
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

// counted returns the content of a file after n updates, with torn slots if asked.
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

// A reader copes with files that are written while it reads them.
func TestReadWhileWritten(t *testing.T) {
	// The first slot is of update 3, and the second is read in the middle of update 6.
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
