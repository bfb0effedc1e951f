package crash_test

import (
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration/slowstorage"
)

// Every call of the storage takes a second, and a change needs four calls. That is slow, but not a failure.
func TestSlowStorage(t *testing.T) {
	t.Parallel()
	config := shop("").OnSlowStorage(0, 0)
	config.Storage = t.TempDir()
	withFault(t, config, fault{
		begin: func() { must(t, slowstorage.Begin(config.Storage, slowstorage.Slow, "1s")) },
		end:   func() { must(t, slowstorage.End(config.Storage, slowstorage.Slow)) },
		works: true,
	})
}

// The storage does not answer at all.
func TestHangingStorage(t *testing.T) {
	t.Parallel()
	config := shop("").OnSlowStorage(0, 0)
	config.Storage = t.TempDir()
	withFault(t, config, fault{
		begin:    func() { must(t, slowstorage.Begin(config.Storage, slowstorage.Hangs, "")) },
		end:      func() { must(t, slowstorage.End(config.Storage, slowstorage.Hangs)) },
		troubles: []string{"no answer in time"},
	})
}
