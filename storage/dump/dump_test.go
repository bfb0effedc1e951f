package dump_test

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/dump"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func noError(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// each yields records, and then errors.
func each(records []storage.Record, errs ...error) iter.Seq2[storage.Record, error] {
	return func(yield func(storage.Record, error) bool) {
		for _, record := range records {
			if !yield(record, nil) {
				return
			}
		}
		for _, err := range errs {
			if !yield(storage.Record{}, err) {
				return
			}
		}
	}
}

func some() []storage.Record {
	return []storage.Record{
		{Key: storage.Key{Kind: "kind", ID: "zzzz.1"}, Value: []byte("\x00\xffbytes\n<&>")},
		{Key: storage.Key{Kind: "kind", ID: "2"}, Value: []byte{}, Expires: noon.Add(time.Millisecond)},
		{Key: storage.ConsentKey("alice"), Value: []byte("\x01\x0a\x05alice")},
	}
}

func written(tb testing.TB, header dump.Header, records iter.Seq2[storage.Record, error]) string {
	tb.Helper()
	var b bytes.Buffer
	_, err := dump.Write(&b, header, records)
	noError(tb, err)
	return b.String()
}

// read returns the records of a dump up to the first error.
func read(text string) (header dump.Header, records []storage.Record, err error) {
	d, err := dump.NewReader(strings.NewReader(text))
	if err != nil {
		return header, nil, err
	}
	for record, err := range d.Records() {
		if err != nil {
			return d.Header, records, err
		}
		records = append(records, record)
	}
	return d.Header, records, nil
}

func sameRecord(a, b storage.Record) bool {
	return a.Key == b.Key && string(a.Value) == string(b.Value) && a.Expires.Sub(b.Expires).Abs() <= time.Millisecond
}

func TestRoundTrip(t *testing.T) {
	for _, header := range []dump.Header{
		{Issuer: "default", Time: noon}, {Issuer: "a b", Time: noon, ReadOnly: true},
	} {
		got, records, err := read(written(t, header, each(some())))
		noError(t, err)
		if got != header {
			t.Errorf("got %+v, want %+v", got, header)
		}
		want := some()
		if len(records) != len(want) {
			t.Fatalf("got %d records, want %d", len(records), len(want))
		}
		for i := range want {
			if !sameRecord(records[i], want[i]) {
				t.Errorf("got %v, want %v", records[i], want[i])
			}
		}
	}
	if _, records, err := read(written(t, dump.Header{}, each(nil))); err != nil || len(records) > 0 {
		t.Errorf("an empty dump: %v %v", records, err)
	}
}

// A record must not expire before its time.
func TestExpiresIsRoundedUp(t *testing.T) {
	for _, expires := range []time.Time{noon.Add(1), noon.Add(time.Millisecond - 1), time.Unix(0, 0), time.Unix(0, 1)} {
		_, records, err := read(written(t, dump.Header{}, each([]storage.Record{
			{Key: storage.Key{Kind: "kind", ID: "1"}, Expires: expires},
		})))
		noError(t, err)
		if got := records[0].Expires; got.IsZero() || got.Before(expires) || got.Sub(expires) > time.Millisecond {
			t.Errorf("%v became %v", expires, got)
		}
	}
}

func TestWriteFails(t *testing.T) {
	down := errors.New("the store is down")
	var b bytes.Buffer
	if _, err := dump.Write(&b, dump.Header{}, each(some(), down)); !errors.Is(err, down) {
		t.Errorf("got error %v", err)
	}
	if _, _, err := read(b.String()); err == nil || !strings.Contains(err.Error(), `line 5: the export failed: "the store is down"`) {
		t.Errorf("the reader gets the error %v", err)
	}
	b.Reset()
	n, err := dump.Write(&b, dump.Header{}, each(some(), storage.ErrDamaged))
	if err != nil || n != (dump.Counts{Records: 3, Damaged: 1}) {
		t.Errorf("with a damaged record: %+v %v", n, err)
	}
	if _, records, err := read(b.String()); err != nil || len(records) != 3 {
		t.Errorf("with a damaged record: %v %v", records, err)
	}
}

const (
	head = `{"format":"caddy-oauth dump","version":1,"issuer":"default","time":"2026-01-02T12:00:00Z"}` + "\n"
	one  = `{"kind":"kind","id":"1","value":"AAAA"}` + "\n"
)

func TestBadDumps(t *testing.T) {
	for _, c := range []struct{ name, text, problem string }{
		{"nothing", "", "line 1: the dump is incomplete"},
		{"a page", "<!doctype html>", "line 1: expected the JSON of a dump"},
		{"other JSON", `{"format":"other","version":1}`, "line 1: expected the first line"},
		{"other lines", one, "line 1: expected the first line"},
		{"no version", `{"format":"caddy-oauth dump"}`, "line 1: expected the first line"},
		{"a later version", `{"format":"caddy-oauth dump","version":2}`, "line 1: the dump has version 2"},
		{"only the header", head, "line 2: the dump is incomplete"},
		{"no end", head + one + one, "line 4: the dump is incomplete"},
		{"cut off in a line", head + one + one[:20], "line 3: expected the JSON"},
		{"one lost", head + one + `{"end":true,"records":2}`, "line 3: the dump has 1 records, but 2 were exported"},
		{"one too many", head + one + one + `{"end":true,"records":1}`, "line 4: the dump has 2"},
		{"something after the end", head + `{"end":true}` + "\n" + one, "line 3: expected nothing after the end"},
		{"two on a line", head + strings.TrimSpace(one) + one, "line 2: expected the JSON"},
		{"an empty line", head + "\n" + one, "line 2: expected the JSON"},
		{"an unknown member", head + `{"kind":"kind","id":"1","color":"red"}`, "line 2: expected the JSON"},
		{"no base64", head + `{"kind":"kind","id":"1","value":"%%"}`, "line 2: expected the JSON"},
		{"another header", head + head, "line 2: storage: unsafe key"},
		{"an ID that is a path", head + `{"kind":"kind","id":"../1"}`, "line 2: storage: unsafe key"},
		{"a kind that is a path", head + `{"kind":"../kind","id":"1"}`, "line 2: storage: unsafe kind"},
		{"a record of the sweep", head + `{"kind":"sweep","id":"records"}`, "line 2: a record of a kind that is never exported"},
		{"no family", head + `{"kind":"family","id":"zzzz.1","value":"e30gIHt9"}`, "line 2: the value is not a family record"},
		{"no keys", head + `{"kind":"keys","id":"signing","value":"c2VjcmV0"}`, "line 2: the value is not a keys record"},
		{"an endless line", head + `{"kind":"` + strings.Repeat("a", 9<<20), "line 2: the line is too long"},
		{"the message of the exporter", head + `{"error":"no luck"}`, `line 2: the export failed: "no luck"`},
	} {
		_, _, err := read(c.text)
		if err == nil || !strings.HasPrefix(err.Error(), c.problem) {
			t.Errorf("%s: got error %v, want %q", c.name, err, c.problem)
		}
	}
}

// Errors do not quote a line, which may contain a private key.
func TestErrorsQuoteNoValues(t *testing.T) {
	for _, text := range []string{
		head + `{"kind":"keys","id":"signing","value":"c2VjcmV0`, head + `{"kind":"keys","id":"signing","secret":1}`,
		head + `{"kind":"keys","id":"signing","value":"c2VjcmV0"}`,
	} {
		if _, _, err := read(text); err == nil || strings.Contains(err.Error(), "c2Vj") || strings.Contains(err.Error(), "secret") {
			t.Errorf("got error %v", err)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add(written(f, dump.Header{Issuer: "default", Time: noon, ReadOnly: true}, each(some())))
	f.Add(head + one)
	f.Add(head + `{"error":"no luck"}`)
	for kind, value := range map[storage.Kind][]byte{
		storage.KindFamily: family(f, noon, noon), storage.KindClient: registered(f, "a", noon), storage.KindConsent: consents(f, noon),
		storage.KindKeys: keys(noon), storage.KindCutoff: []byte("{}"), storage.KindAccess: []byte("{}"),
	} {
		f.Add(written(f, dump.Header{}, each([]storage.Record{{Key: storage.Key{Kind: kind, ID: "zzzz.1"}, Value: value}})))
	}
	f.Add(head + one + `{"end":true,"records":1}`)
	f.Fuzz(func(t *testing.T, text string) {
		header, records, err := read(text)
		if err != nil {
			return
		}
		store := memory.New()
		for _, record := range records {
			noError(t, record.Key.Check())
		}
		for range 2 { // the second time over the same records
			_, err := dump.Import(context.Background(), store, each(records), false) //nolint:usetesting // the store is only memory
			noError(t, err)
		}
		again, same, err := read(written(t, header, each(records)))
		noError(t, err)
		if !again.Time.Equal(header.Time) || again.ReadOnly != header.ReadOnly || len(same) != len(records) {
			t.Errorf("became %+v with %d records, was %+v with %d", again, len(same), header, len(records))
		}
		for i := range same {
			if !sameRecord(same[i], records[i]) {
				t.Errorf("%v became %v", records[i], same[i])
			}
		}
	})
}
