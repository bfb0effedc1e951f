package warning

import (
	"strconv"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
)

// A configuration that was adapted says nothing again, and the next one does.
func TestEachMistakeOnce(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	log := zap.New(core)
	NewLog() // forgets what other tests have adapted
	Adapted(directive.New(caddyfile.NewTestDispenser("oauth")), []Mistake{{Seen: "adapted"}, {Seen: "one address", Key: "host"}})

	config := NewLog()
	config.Warn(log, []Mistake{{Seen: "adapted"}, {Seen: "another address", Key: "host"}, {Seen: "new", Instead: "this", Path: []string{"issuer", "scope"}}})
	config.Warn(log, []Mistake{{Seen: "new"}})
	if logs.Len() != 1 {
		t.Fatalf("%d warnings, want one", logs.Len())
	}
	if got := logs.All()[0].ContextMap(); got["seen"] != "new" || got["instead"] != "this" || got["setting"] != "issuer: scope" {
		t.Errorf("%v", got)
	}
	NewLog().Warn(log, []Mistake{{Seen: "adapted"}})
	if logs.Len() != 2 {
		t.Errorf("the next configuration has %d warnings more, want one", logs.Len()-1)
	}
}

func TestManyMistakes(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	mistakes := make([]Mistake, listed+7)
	for i := range mistakes {
		mistakes[i].Seen = strconv.Itoa(i)
	}
	NewLog().Warn(zap.New(core), mistakes)
	all := logs.All()
	if len(all) != listed+1 || all[listed].ContextMap()["seen"] != "7 more mistakes, which are not listed" {
		t.Errorf("%d warnings, the last is %v", len(all), all[len(all)-1].ContextMap())
	}
}
