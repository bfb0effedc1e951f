package caddystore

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// maxExpiry is the largest expiry of 15 digits, in milliseconds.
const maxExpiry = 999_999_999_999_999

func TestEnvelopeForm(t *testing.T) {
	// The form must not change: other versions have written it.
	data := wrap([]byte("value"), time.UnixMilli(1700000000123))
	if want := "oauth1 001700000000123 5eb11ddb\nvalue"; string(data) != want {
		t.Errorf("got  %q\nwant %q", data, want)
	}
}

func TestEnvelopeExpiry(t *testing.T) {
	for _, c := range []struct{ expires, want time.Time }{
		{time.Time{}, time.Time{}},
		{time.Unix(0, 0), time.UnixMilli(1)}, // not never
		{time.Unix(-5, 0), time.UnixMilli(1)},
		{time.Unix(1, 0), time.Unix(1, 0)},
		{time.Unix(1, 1), time.UnixMilli(1001)}, // not before its time
		{time.Unix(1, 999_000_001), time.Unix(2, 0)},
		{time.Date(99999, 1, 1, 0, 0, 0, 0, time.UTC), time.UnixMilli(maxExpiry)},
	} {
		_, got, err := unwrap(wrap(nil, c.expires))
		if err != nil || !got.Equal(c.want) {
			t.Errorf("%v: got %v and error %v, want %v", c.expires, got, err, c.want)
		}
	}
}

// Any damage to a record is detected: a lost end or beginning, a changed bit, zeros.
func TestEnvelopeDamage(t *testing.T) {
	whole := wrap([]byte(`{"client":"app","note":"0123456789"}`), time.UnixMilli(1700000000123))
	check := func(what string, at int, data []byte) {
		t.Helper()
		if value, _, err := unwrap(data); !errors.Is(err, storage.ErrDamaged) || value != nil {
			t.Errorf("%s at %d: got %q and error %v, want ErrDamaged", what, at, value, err)
		}
	}
	for i := range whole {
		check("truncated", i, whole[:i])
		check("without its start", i+1, whole[i+1:])
		check("zeros", i, append(bytes.Clone(whole[:i]), make([]byte, len(whole)-i)...))
		for bit := range 8 {
			data := bytes.Clone(whole)
			data[i] ^= 1 << bit
			check("a changed bit", i, data)
		}
	}
	check("more", len(whole), append(bytes.Clone(whole), 'x'))
}

func FuzzUnwrap(f *testing.F) {
	f.Add([]byte(""))
	f.Add([]byte("oauth1 000000000000000 00000000\n"))
	f.Add([]byte("oauth1 +00000000000000 00000000\n"))
	f.Add(wrap(nil, time.Time{}))
	f.Add(wrap([]byte("value"), time.UnixMilli(1700000000123)))
	f.Add(wrap([]byte("value"), time.UnixMilli(maxExpiry)))
	f.Fuzz(func(t *testing.T, data []byte) {
		value, expires, err := unwrap(data)
		if err != nil {
			if value != nil || !expires.IsZero() || !errors.Is(err, storage.ErrDamaged) {
				t.Fatalf("both a result and an error: %q, %v, %v", value, expires, err)
			}
			return
		}
		if value == nil {
			t.Fatal("neither a value nor an error")
		}
		// A record has only one encoding.
		if again := wrap(value, expires); !bytes.Equal(again, data) {
			t.Fatalf("%q is read as %q, which is written as %q", data, value, again)
		}
	})
}

func FuzzWrap(f *testing.F) {
	f.Add([]byte("value"), int64(1700000000123))
	f.Add([]byte{}, int64(0))
	f.Fuzz(func(t *testing.T, value []byte, milli int64) {
		expires := time.UnixMilli(max(milli%maxExpiry, 1))
		got, when, err := unwrap(wrap(value, expires))
		if err != nil || !bytes.Equal(got, value) || !when.Equal(expires) {
			t.Fatalf("wrote %q and %v, read %q and %v, error %v", value, expires, got, when, err)
		}
	})
}
