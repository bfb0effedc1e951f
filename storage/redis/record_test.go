package redis

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

func TestCache(t *testing.T) {
	const size, value = 1 << 20, 800
	c := newCache(size)
	name := func(i int) string { return fmt.Sprintf("oauth:i:family:zzzz.%032x", i) }
	text := func(value string) record { return newRecord([]byte(value), never) }
	const many = 10_000
	for i := range many {
		c.put(name(i), text(strings.Repeat("x", value)))
		c.put(name(i), text(fmt.Sprintf("%d%s", i, strings.Repeat("y", value))))
		if _, ok := c.get(name(0)); !ok {
			t.Fatalf("a record that is used all the time is dropped after %d others", i)
		}
	}
	known := 0
	for i := range many {
		if r, ok := c.get(name(i)); ok {
			known++
			if !strings.HasPrefix(string(r.value()), fmt.Sprintf("%dy", i)) {
				t.Fatalf("the record at %d is %.20q", i, r)
			}
		}
	}
	if most := size / (value + entryOverhead); known < most/3 || known > most {
		t.Errorf("%d records are cached, want up to %d", known, most)
	}

	c.drop(name(0))
	if _, ok := c.get(name(0)); ok {
		t.Error("a dropped record is cached")
	}
	c.put(name(0), newRecord(nil, time.Now().Add(-time.Second)))
	if _, ok := c.get(name(0)); ok {
		t.Error("an expired record is cached")
	}
	c.put(name(0), text(strings.Repeat("x", size)))
	if _, ok := c.get(name(0)); ok {
		t.Error("a record larger than the cache is cached")
	}
	for i := range many {
		c.drop(name(i))
	}
	if c.size != 0 || len(c.new)+len(c.old) != 0 {
		t.Errorf("after all records were dropped, %d bytes and %d records are left", c.size, len(c.new)+len(c.old))
	}
}

// The cache uses about the configured amount of memory.
func TestCacheUsesItsMemory(t *testing.T) {
	const size = 32 << 20
	inUse := func() int {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := inUse()
	c := newCache(size)
	for i := range 200_000 {
		c.put(fmt.Sprintf("oauth:default:family:zzzz.%032x", i), newRecord(bytes.Repeat([]byte("x"), 700), never))
	}
	if took := inUse() - before; took < size/3 || took > size*5/4 {
		t.Errorf("it takes %d KiB, want about %d", took>>10, size>>10)
	}
	runtime.KeepAlive(c)
}

// Any value in Redis is a record or damaged.
func FuzzRecord(f *testing.F) {
	f.Add("")
	f.Add("somebody else's")
	f.Add("\x01short")
	f.Add(string(newRecord(nil, time.Time{})))
	f.Add(string(newRecord([]byte("value"), time.Now())))
	f.Fuzz(func(t *testing.T, stored string) {
		r, err := readRecord(stored)
		if err != nil {
			if r != "" {
				t.Errorf("%q is a record and an error", stored)
			}
			return
		}
		_, _ = r.ttl()
		value := r.value()
		if value == nil || !strings.HasSuffix(stored, string(value)) || !strings.HasPrefix(stored, r.stamp()) {
			t.Errorf("%q has the stamp %q and the value %q", stored, r.stamp(), value)
		}
		again := newRecord(value, r.expires())
		if string(again.value()) != string(value) || again.stamp() == r.stamp() {
			t.Errorf("%q written again is %q", stored, again)
		}
	})
}

// A key in Redis belongs to at most one record, which is stored at that key.
func FuzzKey(f *testing.F) {
	s := newStore(new(connection), "oauth", "shop", nil)
	for _, key := range []storage.Key{aFamily, {Kind: storage.KindCutoff, ID: "zzzz.id"}} {
		f.Add(s.keys(key)[0])
	}
	f.Add("oauth:{shop:cutoff}")
	f.Add("oauth:{shop:family}:zzzz.id")
	f.Add("oauth:shop:family:")
	f.Fuzz(func(t *testing.T, name string) {
		key, ok := s.parse(name)
		if ok && (key.Check() != nil || s.keys(key)[0] != name) {
			t.Errorf("%q is taken for the key of %v", name, key)
		}
	})
}
