package move

import (
	"fmt"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// Encryption is turned on, its key is replaced, and it is turned off while clients refresh. In each step the old and the new
// configuration overlap and read what the other writes, so no request gets 503.
func TestEncryptUnderLoad(t *testing.T) {
	plain := func(settings string) place { return place{"with " + settings, settings, "{$STORAGE}"} }
	const first, second = "{env.OAUTH_KEY}", "{env.OAUTH_KEY_2}"
	steps := []struct {
		place
		encrypt bool
		shows   bool // records are readable on the disk
	}{
		{place: plain(""), shows: true},
		{place: plain("encryption_key off " + first), shows: true},
		{place: plain("encryption_key " + first), encrypt: true},
		{place: plain("encryption_key " + first + " " + second)},
		{place: plain("encryption_key " + second + " " + first), encrypt: true},
		{place: plain("encryption_key " + second)},
		{place: plain("encryption_key off " + second), encrypt: true, shows: true},
		{place: plain(""), shows: true},
	}
	var places []place
	for _, step := range steps {
		places = append(places, step.place)
	}
	m := start(t, places...)
	load := begin(t, m.Server, 6)
	for _, step := range steps {
		m.reload(step.name)
		load.goOn(t)
		if step.encrypt {
			t.Log(step.settings, m.oauth("encrypt"))
		}
		if n := grep(t, m.Storage+"/oauth", integration.Customer); (n > 0) != step.shows {
			t.Errorf("%s: %d records have the customer in them", step.name, n)
		}
		if step.encrypt {
			if again := m.oauth("encrypt"); !strings.Contains(again, "of which 0 were") {
				t.Errorf("%s: once more: %s", step.name, again)
			}
		}
	}
	load.end()
	for _, one := range load.all {
		one.check(t)
	}
	if n := load.putOff(); n > 0 {
		t.Error(fmt.Sprint(n, " requests got 503"))
	}
	m.checkLog()
}
