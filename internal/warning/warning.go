// Package warning tells owners of settings that load, and that cannot work or are not what their owner means.
//
// The same configuration is looked at twice. Adapted warns while a Caddyfile is adapted, with the file and the line. Log warns when a
// configuration in any format is provisioned, without a line, and repeats nothing that the adapter
// has said.
package warning

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
)

// Mistake is what a warning is about.
type Mistake struct {
	Path    []string        // of the setting, as in directive.Error
	At      caddyfile.Token // where it stands; none: where the path leads
	Seen    string
	Instead string // what to write
	Key     string // tells it from others; "" is Seen
}

const message = "the configuration loads, but this is probably a mistake"

// listed is how many mistakes of an issuer or of a site are logged one by one. More come from a generated configuration.
const listed = 100

// Adapted logs mistakes that were found while a Caddyfile is adapted. It uses the logger of Caddy's own directives, so that `caddy
// adapt` and `caddy validate` show them. The parser knows where the settings stand.
func Adapted(p *directive.Parser, mistakes []Mistake) {
	for _, m := range mistakes {
		adapted.add(m)
	}
	write(caddy.Log().Named("config.adapter.caddyfile"), p, mistakes)
}

// Log logs mistakes in the settings of one configuration, each once.
type Log struct{ said *memory }

// NewLog returns the log of a configuration that is being provisioned. As a rule, it is the one that was adapted last.
func NewLog() *Log { return &Log{adapted.take()} }

// Warn logs those of the mistakes that were not warned of before.
func (l *Log) Warn(log *zap.Logger, mistakes []Mistake) {
	write(log, nil, slices.DeleteFunc(mistakes, func(m Mistake) bool { return !l.said.add(m) }))
}

// write logs mistakes. The parser is nil outside the Caddyfile adapter.
func write(log *zap.Logger, p *directive.Parser, mistakes []Mistake) {
	if more := len(mistakes) - listed; more > 0 {
		mistakes = append(mistakes[:listed:listed], Mistake{
			Seen: fmt.Sprintf("%d more mistakes, which are not listed", more), Instead: "the settings that were named before, first",
		})
	}
	for _, m := range mistakes {
		fields := []zap.Field{zap.String("seen", m.Seen), zap.String("instead", m.Instead)}
		if len(m.Path) > 0 {
			fields = append(fields, zap.String("setting", strings.Join(m.Path, ": ")))
		}
		at := m.At
		if p != nil && at.File == "" {
			at = p.Find(m.Path)
		}
		if at.File != "" {
			fields = append(fields, zap.String("file", at.File), zap.Int("line", at.Line))
		}
		log.Warn(message, fields...)
	}
}

// adapted has the warnings of the Caddyfile adapter since this process last provisioned a configuration.
var adapted memory

// memory has the mistakes that were warned of.
type memory struct {
	mu   sync.Mutex
	seen map[string]bool
}

// maxRemembered bounds what is remembered of configurations that are adapted and never loaded.
const maxRemembered = 50_000

// add reports whether there was no such warning before.
func (m *memory) add(mistake Mistake) bool {
	seen := cmp.Or(mistake.Key, mistake.Seen)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen[seen] {
		return false
	}
	if m.seen == nil {
		m.seen = make(map[string]bool)
	}
	if len(m.seen) < maxRemembered {
		m.seen[seen] = true
	}
	return true
}

// take returns what is remembered, and forgets it.
func (m *memory) take() *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := &memory{seen: m.seen}
	m.seen = nil
	return taken
}
