package secretcache

import (
	"strconv"
	"sync"
	"testing"
)

func TestCache(t *testing.T) {
	m := New(10)
	m.Add("$2a$14$hash", "secret")
	for _, c := range []struct {
		what, secret string
		want         bool
	}{
		{"$2a$14$hash", "secret", true},
		{"$2a$14$hash", "Secret", false},
		{"$2a$14$hash", "", false},
		{"$2a$14$other", "secret", false},
		{"$2a$14$has", "hsecret", false}, // the same letters, split differently
		{"", "$2a$14$hashsecret", false},
	} {
		if got := m.Has(c.what, c.secret); got != c.want {
			t.Errorf("%q for %q: %v, want %v", c.secret, c.what, got, c.want)
		}
	}
	if New(10).Has("$2a$14$hash", "secret") {
		t.Error("one memory knows the secret of another")
	}
}

func TestCacheIsBounded(t *testing.T) {
	const most = 50
	m := New(most)
	var crowd sync.WaitGroup
	for n := range 4 {
		crowd.Go(func() {
			for i := range 100 {
				m.Add(strconv.Itoa(n), strconv.Itoa(i))
				m.Has(strconv.Itoa(n), strconv.Itoa(i))
			}
		})
	}
	crowd.Wait()
	m.Add("last", "one")
	if n := len(m.right); n != most || !m.Has("last", "one") {
		t.Errorf("it remembers %d, want %d; the last one: %v", n, most, m.Has("last", "one"))
	}
}
