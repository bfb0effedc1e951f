package crash_test

import (
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration/slowstorage"
)

// Every call of the storage takes two seconds, of which a change needs four. That is slow, and no failure.
func TestSlowStorage(t *testing.T) {
	t.Parallel() // it is all waiting
	config := shop("").OnSlowStorage(0, 0)
	config.Storage = t.TempDir()
	suffer(t, config, fault{
		begin: func() { must(t, slowstorage.Begin(config.Storage, slowstorage.Slow, "2s")) },
		end:   func() { must(t, slowstorage.End(config.Storage, slowstorage.Slow)) },
		bound: 30 * time.Second, works: true,
	})
}

// The storage answers nothing at all.
func TestHangingStorage(t *testing.T) {
	t.Parallel() // it is all waiting
	config := shop("").OnSlowStorage(0, 0)
	config.Storage = t.TempDir()
	suffer(t, config, fault{
		begin: func() { must(t, slowstorage.Begin(config.Storage, slowstorage.Hangs, "")) },
		end:   func() { must(t, slowstorage.End(config.Storage, slowstorage.Hangs)) },
		bound: 20 * time.Second, troubles: []string{"no answer in time"},
	})
}
