package dump_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/dump"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
)

// family returns the record of a family that last changed at that time.
func family(tb testing.TB, rotated, revoked time.Time) []byte {
	tb.Helper()
	f := &storage.Family{Client: "app", Started: noon, Refresh: &storage.Refresh{Rotated: rotated}}
	if !revoked.IsZero() {
		f.Revoke("reuse", revoked)
	}
	record, err := f.Encode()
	noError(tb, err)
	return record
}

// checked returns the record of a family that the site was asked about at that time.
func checked(tb testing.TB, at time.Time) []byte {
	tb.Helper()
	record, err := (&storage.Family{Client: "app", Started: noon, Checked: at}).Encode()
	noError(tb, err)
	return record
}

func registered(tb testing.TB, name string, changed time.Time) []byte {
	tb.Helper()
	record, err := (&storage.AddedClient{ID: "app", Settings: []byte(`{"name":"` + name + `"}`), Changed: changed}).Encode()
	noError(tb, err)
	return record
}

func document(tb testing.TB, fetched time.Time) []byte {
	tb.Helper()
	record, err := (&storage.Document{ID: "https://app.example.com/client", Body: []byte(`{}`), Fetched: fetched}).Encode()
	noError(tb, err)
	return record
}

func consents(tb testing.TB, last time.Time) []byte {
	tb.Helper()
	record, err := (&storage.Consents{Clients: map[string]storage.Consent{"a": {Since: noon}, "b": {Last: last}}}).Encode()
	noError(tb, err)
	return record
}

// keys returns a record of signing keys that were created at those times.
func keys(created ...time.Time) []byte {
	made := make([]map[string]time.Time, 0, len(created))
	for _, t := range created {
		made = append(made, map[string]time.Time{"created": t})
	}
	record, _ := json.Marshal(map[string]any{"keys": made}) // it always can
	return record
}

func encryptionKeys(tb testing.TB, text string) *storage.EncryptionKeys {
	tb.Helper()
	keys, err := storage.NewEncryptionKeys([]string{text}, false)
	noError(tb, err)
	return keys
}

// A record of the dump replaces that of the store, unless the latter is revoked, or is newer and the dump is not final.
func TestImportChooses(t *testing.T) {
	var never time.Time
	earlier, later := noon.Add(time.Minute), noon.Add(time.Hour)
	of := func(kind storage.Kind) storage.Key { return storage.Key{Kind: kind, ID: "zzzz.1"} }
	for _, c := range []struct {
		name             string
		key              storage.Key
		store, dump      []byte
		kept, finalKeeps bool
	}{
		{"nothing there", of("kind"), nil, []byte("new"), false, false},
		{"any other kind", of("kind"), []byte("old"), []byte("new"), false, false},
		{"a family rotated since", of(storage.KindFamily), family(t, later, never), family(t, earlier, never), true, false},
		{"a family rotated in the dump", of(storage.KindFamily), family(t, earlier, never), family(t, later, never), false, false},
		{"a family checked since", of(storage.KindFamily), checked(t, later), checked(t, earlier), true, false},
		{"a family revoked in the store", of(storage.KindFamily), family(t, earlier, earlier), family(t, later, never), true, true},
		{"a family revoked in the dump", of(storage.KindFamily), family(t, later, never), family(t, earlier, earlier), false, false},
		{"a family that cannot be read", of(storage.KindFamily), []byte("?"), family(t, earlier, never), false, false},
		{"consents given since", of(storage.KindConsent), consents(t, later), consents(t, earlier), true, false},
		{"consents given in the dump", of(storage.KindConsent), consents(t, earlier), consents(t, later), false, false},
		{"a key made since", of(storage.KindKeys), keys(earlier, later), keys(earlier), true, false},
		{"a key made in the dump", of(storage.KindKeys), keys(earlier), keys(later, earlier), false, false},
		{"a key retired", of(storage.KindKeys), keys(earlier, later), keys(later), false, false},
		{"a client changed since", of(storage.KindClient), registered(t, "b", later), registered(t, "a", earlier), true, false},
		{"a client changed in the dump", of(storage.KindClient), registered(t, "b", earlier), registered(t, "a", later), false, false},
		{"a document fetched since", of(storage.KindDocument), document(t, later), document(t, earlier), true, false},
		{"a document fetched in the dump", of(storage.KindDocument), document(t, earlier), document(t, later), false, false},
		{"an initial access token used since", of(storage.KindInitial), []byte(`{"clients":["a","b"]}`), []byte(`{"clients":["a"]}`), true, true},
		{"an initial access token used in the dump", of(storage.KindInitial), []byte(`{"clients":["a"]}`), []byte(`{"clients":["a","b"]}`), false, false},
	} {
		for _, final := range []bool{false, true} {
			for name, store := range map[string]storage.Store{
				"exporter":               memory.New(),
				"no exporter":            struct{ storage.Store }{memory.New()},
				"no exporter, encrypted": storage.Encrypted(struct{ storage.Store }{memory.New()}, "shop", encryptionKeys(t, "a key that is as long as a key at least must be")),
			} {
				if c.store != nil {
					noError(t, store.Put(t.Context(), c.key, c.store, never))
				}
				report, err := dump.Import(t.Context(), store, each([]storage.Record{{Key: c.key, Value: c.dump}}), final)
				noError(t, err)
				want, wantReport := c.dump, dump.Report{Records: 1, Written: 1}
				if !final && c.kept || final && c.finalKeeps {
					want, wantReport = c.store, dump.Report{Records: 1, Kept: 1}
				}
				got, err := store.Get(t.Context(), c.key)
				if err != nil || !bytes.Equal(got, want) || report != wantReport {
					t.Errorf("%s, final %v, %s: got %q, %v, %+v; want %q, %+v", c.name, final, name, got, err, report, want, wantReport)
				}
			}
		}
	}
}

func contents(tb testing.TB, store storage.Store) map[string]string {
	tb.Helper()
	all := map[string]string{}
	for record, err := range store.(storage.Exporter).Export(tb.Context()) {
		noError(tb, err)
		all[string(record.Key.Kind)+" "+record.Key.ID] = fmt.Sprint(string(record.Value), record.Expires.UnixMilli())
	}
	return all
}

// After a final import, the store has the records of the dump and no others, except revocations.
func TestImportFinal(t *testing.T) {
	ctx, from, to := t.Context(), memory.New(), memory.New()
	put := func(store storage.Store, kind storage.Kind, id, value string, life time.Duration) {
		noError(t, store.Put(ctx, storage.Key{Kind: kind, ID: id}, []byte(value), time.Now().Add(life)))
	}
	for n := range 1000 {
		put(from, "kind", fmt.Sprint("kept", n), "value", time.Hour)
		put(to, "kind", fmt.Sprint("gone", n), "value", time.Hour)
	}
	put(from, "kind", "life", "value", 2*time.Hour)
	put(to, "kind", "life", "value", time.Hour)
	put(to, storage.KindConsent, "taken-back", `{}`, time.Hour)
	put(to, storage.KindCutoff, "zzzz.1", `{}`, time.Hour)
	put(from, storage.KindOnce, "zzzz.1", "used", time.Hour)
	put(to, storage.KindOnce, "zzzz.2", "used", time.Hour)
	put(to, storage.KindInitial, "a-token", `{"clients":["a"]}`, time.Hour)

	records := from.(storage.Exporter).Export(ctx)
	report, err := dump.Import(ctx, to, records, false)
	noError(t, err)
	if report != (dump.Report{Records: 1002, Written: 1002}) {
		t.Errorf("the first import: %+v", report)
	}
	report, err = dump.Import(ctx, to, records, true)
	noError(t, err)
	if report != (dump.Report{Records: 1002, Same: 1002, Removed: 1001}) {
		t.Errorf("the final import: %+v", report)
	}
	want, got := contents(t, from), contents(t, to)
	for _, kept := range []string{"cutoff zzzz.1", "once zzzz.2", "initial a-token"} { // nothing that was revoked or used is good again
		want[kept] = got[kept]
	}
	if len(got) != len(want) {
		t.Errorf("%d records, want %d", len(got), len(want))
	}
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s: got %q, want %q", key, got[key], value)
		}
	}
}

// An import of an incomplete dump deletes nothing, and one that is stopped returns an error.
func TestImportStops(t *testing.T) {
	cut, store := errors.New("cut off"), memory.New()
	key := storage.Key{Kind: storage.KindConsent, ID: "kept"}
	noError(t, store.Put(t.Context(), key, []byte("{}"), time.Time{}))
	if _, err := dump.Import(t.Context(), store, each(some(), cut), true); !errors.Is(err, cut) {
		t.Errorf("half a dump: %v", err)
	}
	over, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if _, err := dump.Import(over, store, each(some()), true); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	if _, err := dump.Import(t.Context(), failing{store}, each(some()), true); !errors.Is(err, errFull) {
		t.Errorf("a store that is full: %v", err)
	}
	if _, err := store.Get(t.Context(), key); err != nil {
		t.Errorf("the existing record: %v", err)
	}
}

var errFull = errors.New("no space left")

type failing struct{ storage.Store }

func (failing) Update(context.Context, storage.Key, storage.Change) error { return errFull }

func TestImportPassesOverExpired(t *testing.T) {
	store := memory.New()
	report, err := dump.Import(t.Context(), store, each([]storage.Record{
		{Key: storage.Key{Kind: "kind", ID: "1"}, Value: []byte("late"), Expires: time.Now().Add(-time.Millisecond)},
	}), true)
	if err != nil || report != (dump.Report{Records: 1, Expired: 1}) || len(contents(t, store)) > 0 {
		t.Errorf("%+v %v %v", report, err, contents(t, store))
	}
}

// An import overwrites damaged records, but not records that need another key.
func TestImportOverEncrypted(t *testing.T) {
	ctx, inner := t.Context(), memory.New()
	const first, second = "the first key, which is as long as it must be", "the second key, which is as long as it must be"
	key := storage.ConsentKey("alice")
	noError(t, inner.Put(ctx, key, []byte("\x00cipher1"), time.Time{}))
	store := storage.Encrypted(inner, "shop", encryptionKeys(t, first))
	report, err := dump.Import(ctx, store, each(some()), true)
	if err != nil || report.Written != 2 { // the third has expired
		t.Errorf("over a damaged record: %+v %v", report, err)
	}
	for _, data := range contents(t, inner) {
		if !bytes.Contains([]byte(data), []byte("\x00cipher1")) {
			t.Errorf("a record is not encrypted: %q", data)
		}
	}
	if _, err := dump.Import(ctx, storage.Encrypted(inner, "shop", encryptionKeys(t, second)), each(some()), true); !errors.Is(err, storage.ErrUnknownKey) {
		t.Errorf("with another key: %v", err)
	}
	if _, err := dump.Import(ctx, inner, each(some()), true); !errors.Is(err, storage.ErrUnknownKey) {
		t.Errorf("without a key: %v", err)
	}
	var b bytes.Buffer
	if _, err := dump.Write(&b, dump.Header{}, inner.(storage.Exporter).Export(ctx)); !errors.Is(err, storage.ErrUnknownKey) {
		t.Errorf("exported without a key: %v", err)
	}
}
