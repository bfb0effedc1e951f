package move

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// Encryption is turned on, its key is replaced, and it is turned off while clients refresh. In each step, the old and the new
// configuration overlap and can read each other's records, so no request gets 503.
func TestEncryptUnderLoad(t *testing.T) {
	t.Parallel()
	plain := func(settings string) setup { return setup{"with " + settings, settings, "{$STORAGE}"} }
	const first, second = "{env.OAUTH_KEY}", "{env.OAUTH_KEY_2}"
	steps := []struct {
		setup
		encrypt bool
		shows   bool // records are readable on the disk
	}{
		{setup: plain(""), shows: true},
		{setup: plain("encryption_key off " + first), shows: true},
		{setup: plain("encryption_key " + first), encrypt: true},
		{setup: plain("encryption_key " + first + " " + second)},
		{setup: plain("encryption_key " + second + " " + first), encrypt: true},
		{setup: plain("encryption_key " + second)},
		{setup: plain("encryption_key off " + second), encrypt: true, shows: true},
		{setup: plain(""), shows: true},
	}
	var setups []setup
	for _, step := range steps {
		setups = append(setups, step.setup)
	}
	m := start(t, setups...)
	load := begin(t, m.Server, 6)
	for _, step := range steps {
		m.reload(step.name)
		load.goOn(t)
		if step.encrypt {
			t.Log(step.settings, m.oauth("encrypt"))
		}
		if n := grep(t, m.Storage+"/oauth", integration.Customer); (n > 0) != step.shows {
			t.Errorf("%s: %d records contain the customer in clear", step.name, n)
		}
		if step.encrypt {
			if again := m.oauth("encrypt"); !strings.Contains(again, "of which 0 were") {
				t.Errorf("%s: encrypt again: %s", step.name, again)
			}
		}
	}
	load.end()
	for _, one := range load.all {
		one.check(t)
	}
	if n := load.refusals(); n > 0 {
		t.Error(fmt.Sprint(n, " requests got 503"))
	}
	m.checkLog()
}
