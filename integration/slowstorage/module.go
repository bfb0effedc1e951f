// Package slowstorage is a Caddy storage module for tests that behaves like one over a network. Every call takes some time, and its
// only lock is the method Lock. Several processes can share its directory. Tests can make it fail or hang, see [Fault]. Its values
// may be lost in a power cut.
//
// Start reading at [Module].
package slowstorage

import (
	"path/filepath"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/certmagic"
)

func init() {
	caddy.RegisterModule(Module{})
}

// Module is the storage global option:
//
//	storage test_slow <root> {
//		latency <duration>
//		lease   <duration>
//	}
type Module struct {
	// Root is the directory of the storage.
	Root string `json:"root"`

	// Latency is the shortest time that a call takes. Default: 0.
	Latency caddy.Duration `json:"latency,omitempty"`

	// Lease is how long the lock of a dead process stays locked, from the time when it was locked: a storage over a network cannot
	// see that a process died. A process that lives never loses its lock. Default: 0.
	Lease caddy.Duration `json:"lease,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (Module) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "caddy.storage.test_slow",
		New: func() caddy.Module { return new(Module) },
	}
}

// CertMagicStorage returns the storage.
func (m *Module) CertMagicStorage() (certmagic.Storage, error) {
	return New(m.Root, time.Duration(m.Latency), time.Duration(m.Lease)), nil
}

// New returns a storage in a directory, see [Module].
func New(root string, latency, lease time.Duration) *Storage {
	return &Storage{
		values:   filepath.Join(root, "values"),
		drafts:   filepath.Join(root, "drafts"),
		locks:    filepath.Join(root, "locks"),
		controls: filepath.Join(root, "controls"),
		latency:  latency,
		lease:    lease,
		held:     make(map[string]*lockFile),
	}
}

// UnmarshalCaddyfile reads the option, see [Module].
func (m *Module) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if !d.AllArgs(&m.Root) {
		return d.ArgErr()
	}
	for d.NextBlock(0) {
		known := map[string]*caddy.Duration{"latency": &m.Latency, "lease": &m.Lease}
		setting, value := known[d.Val()], ""
		if setting == nil {
			return d.Errf("unknown setting %q, expected latency or lease", d.Val())
		}
		if !d.AllArgs(&value) {
			return d.ArgErr()
		}
		duration, err := caddy.ParseDuration(value)
		if err != nil {
			return d.WrapErr(err)
		}
		*setting = caddy.Duration(duration)
	}
	return nil
}

var (
	_ caddy.StorageConverter = (*Module)(nil)
	_ caddyfile.Unmarshaler  = (*Module)(nil)
)
