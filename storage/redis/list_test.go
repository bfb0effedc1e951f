package redis

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

func listed(t *testing.T, s *store, kind storage.Kind) []string {
	t.Helper()
	ids := make(map[string]bool)
	for id, err := range s.List(t.Context(), kind) {
		noError(t, err)
		if ids[id] {
			t.Errorf("%s is listed twice", id)
		}
		ids[id] = true
	}
	return slices.Sorted(maps.Keys(ids))
}

// The index has the IDs of all records. The ID of a record that was deleted by hand leaves it with the next read.
func TestIndex(t *testing.T) {
	server := startServer(t)
	s, admin := openStore(t, "i", server.address), server.admin(t)
	ctx := t.Context()
	key := func(id string) storage.Key { return storage.Key{Kind: "few", ID: id} }
	index := s.index("few")
	size := func() int64 { return admin.ZCard(ctx, index).Val() }

	noError(t, s.Put(ctx, key("for-ever"), nil, never))
	noError(t, s.Put(ctx, key("long"), nil, time.Now().AddDate(100, 0, 0)))
	noError(t, s.Put(ctx, key("short"), nil, time.Now().Add(time.Hour)))
	noError(t, s.Put(ctx, key("late"), nil, time.Now().Add(-time.Second)))
	noError(t, s.Put(ctx, key("evicted"), nil, time.Now().Add(time.Hour)))
	noError(t, admin.Del(ctx, s.keys(key("evicted"))[0]).Err())
	if n := size(); n != 4 {
		t.Errorf("%d IDs in the index, want 4", n)
	}
	noError(t, s.Put(ctx, key("short"), nil, time.Now().Add(50*time.Millisecond)))
	eventually(t, "the expired record is not listed", func() bool { return !slices.Contains(listed(t, s, "few"), "short") })
	if n := size(); n != 3 {
		t.Errorf("%d IDs in the index, want 3 without the expired record", n)
	}
	if _, err := s.Get(ctx, key("evicted")); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("Get of a deleted record: %v", err)
	}
	if got := fmt.Sprint(listed(t, s, "few")); got != "[for-ever long]" {
		t.Errorf("listed are %s", got)
	}
	// Writing a record again sets a new expiry.
	noError(t, s.Put(ctx, key("again"), nil, time.Now().Add(50*time.Millisecond)))
	noError(t, s.Update(ctx, key("again"), to("for an hour")))
	eventually(t, "the first time is over", func() bool { return admin.PTTL(ctx, s.keys(key("again"))[0]).Val() > time.Minute })
	if !slices.Contains(listed(t, s, "few"), "again") {
		t.Error("a record whose life was extended is not listed")
	}
	for _, id := range []string{"for-ever", "long", "again"} {
		noError(t, s.Delete(ctx, key(id)))
	}
	eventually(t, "nothing is left", func() bool { return admin.DBSize(ctx).Val() == 0 })
}

// Families have no index. A scan of several steps finds them among all other keys in Redis.
func TestScan(t *testing.T) {
	server := startServer(t)
	s, admin := openStore(t, "i", server.address), server.admin(t)
	ctx := t.Context()
	pipe := admin.Pipeline()
	for i := range 3 * scanCount {
		pipe.Set(ctx, fmt.Sprintf("somebody:else:%d", i), "x", 0)
		pipe.Set(ctx, fmt.Sprintf("oauth:i:family:zzzz.%032x", i), string(newRecord(nil, never)), 0)
	}
	for _, name := range []string{
		"oauth:i:family", "oauth:i:family:", "oauth:i:family:Upper", "oauth:i:family:more:parts", "oauth:i2:family:zzzz.x",
		"oauth:i:familyx:zzzz.x", "xoauth:i:family:zzzz.x",
	} {
		pipe.Set(ctx, name, "x", 0)
	}
	_, err := pipe.Exec(ctx)
	noError(t, err)
	noError(t, openStore(t, "other", server.address).Put(ctx, aFamily, nil, never))
	if n := len(listed(t, s, storage.KindFamily)); n != 3*scanCount {
		t.Errorf("%d families are listed, want %d", n, 3*scanCount)
	}
	if n := len(listed(t, s, storage.KindAccess)) + len(listed(t, s, storage.KindConsent)); n != 0 {
		t.Errorf("%d records of other kinds are listed", n)
	}
}

// Issuers with different names and prefixes do not see each other's records, whatever the names are.
func TestIssuersAreApart(t *testing.T) {
	server := startServer(t)
	ctx := t.Context()
	few := storage.Key{Kind: "few", ID: "id"}
	var stores []*store
	for _, prefix := range []string{"oauth", "oauth:a", "OAUTH"} {
		for _, issuer := range []string{"a", "a:few", "a}b", "{a", "A", "a few", "ä", "family", "*"} {
			opened, err := open(&Redis{Addresses: []string{server.address}, Prefix: prefix}, issuer)
			noError(t, err)
			s := opened.(*store)
			t.Cleanup(func() { _ = s.Destruct() })
			stores = append(stores, s)
			for _, key := range []storage.Key{few, aFamily} {
				if _, err := s.Get(ctx, key); !errors.Is(err, storage.ErrNotFound) {
					t.Errorf("prefix %s, issuer %s: %s is there already: %v", prefix, issuer, key.Kind, err)
				}
				noError(t, s.Put(ctx, key, []byte("value"), never))
			}
		}
	}
	for _, s := range stores {
		if n := len(listed(t, s, "few")) + len(listed(t, s, storage.KindFamily)); n != 2 {
			t.Errorf("prefix %s, issuer %s: %d records are listed, want 2", s.prefix, s.issuer, n)
		}
	}
}

// An export yields all records, and the keys of damaged ones.
func TestExport(t *testing.T) {
	server := startServer(t)
	s, admin := openStore(t, "i", server.address), server.admin(t)
	ctx := t.Context()
	key := func(kind storage.Kind, i int) storage.Key {
		return storage.Key{Kind: kind, ID: fmt.Sprintf("zzzz.%032x", i)}
	}
	const each = 700 // of each kind: more than one step of a scan returns
	for i := range each {
		for _, kind := range []storage.Kind{storage.KindFamily, storage.KindCutoff, storage.KindConsent} {
			noError(t, s.Put(ctx, key(kind, i), []byte(kind), time.Now().Add(time.Hour)))
		}
	}
	noError(t, admin.Set(ctx, s.keys(key(storage.KindFamily, 0))[0], "a text", 0).Err())
	noError(t, admin.Del(ctx, s.keys(key(storage.KindCutoff, 0))[0]).Err())
	noError(t, admin.LPush(ctx, s.keys(key(storage.KindCutoff, 0))[0], "a list").Err())
	noError(t, admin.Set(ctx, "oauth:i:family:x:y", "of nobody", 0).Err())
	noError(t, openStore(t, "xi", server.address).Put(ctx, aFamily, nil, never))

	records, damaged := make(map[storage.Key]bool), make(map[storage.Key]bool)
	for record, err := range s.Export(ctx) {
		switch {
		case errors.Is(err, storage.ErrDamaged):
			damaged[record.Key] = true
		case err != nil:
			t.Fatal(err)
		case string(record.Value) != string(record.Key.Kind) || time.Until(record.Expires) < 50*time.Minute:
			t.Errorf("exported is %v", record)
		default:
			records[record.Key] = true
		}
	}
	if len(records) != 3*each-2 || len(damaged) != 2 {
		t.Errorf("%d records and %d damaged ones are exported, want %d and 2", len(records), len(damaged), 3*each-2)
	}
	if _, err := s.Look(ctx, key(storage.KindFamily, 0)); !errors.Is(err, storage.ErrDamaged) {
		t.Errorf("Look at a damaged record: %v", err)
	}

	server.kill()
	var last error
	for _, last = range s.Export(ctx) {
	}
	if last == nil {
		t.Error("Export from a Redis that is down: expected an error")
	}
}
