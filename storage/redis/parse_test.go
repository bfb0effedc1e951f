package redis

import (
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Whatever stands at a key is a record or damaged.
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

// A key of Redis is that of one record at most, which is kept there.
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

func FuzzAddress(f *testing.F) {
	for _, address := range []string{
		"localhost", "127.0.0.1:6379", "[::1]:6379", "::1", "unix//run/redis.sock", "redis://user:secret@host", ":1", "a:b:c", "[0]0",
		"fe80::1%eth0", "[fe80::1%eth0]:6379", "::%[",
	} {
		f.Add(address)
	}
	f.Fuzz(func(t *testing.T, address string) {
		full, err := fullAddress(address, portOfRedis)
		if err != nil {
			return
		}
		if again, err := fullAddress(full, portOfSentinel); err != nil || again != full {
			t.Errorf("%q is %q, and that is %q, %v", address, full, again, err)
		}
	})
}
