// Package caddystore keeps records in the storage that Caddy has for its certificates. It is the default store.
//
// Start with [Caddy], the Caddy module, which says what the store promises. store.go decides what a record means, and lock.go who may
// change it. There are two backends. On Caddy's file system storage, files.go keeps each record in a file of two slots (slots.go), and
// locks are those of the operating system; files_sweep.go removes what has expired, which it finds by lists (due.go). folder.go makes files
// survive a power cut; disk.go and the files os_*.go call the operating system. On any other
// storage, objects.go keeps records as values, and objects_lock.go uses the locks of that storage.
package caddystore

import (
	"context"
	"errors"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/stripes"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

func init() {
	caddy.RegisterModule(Caddy{})
}

// Caddy keeps records in Caddy's storage, beside its certificates. It is the default.
//
// Records survive reloads, restarts, upgrades and crashes; back them up with the rest of Caddy's
// storage, which may be done while Caddy runs. Every Caddy instance that uses the same storage shares them, and each
// refresh token and code is used once across all of them.
//
// With the file system storage, Caddy's default, everything a client has been told is on the disk: that a code was used, that a
// refresh token was replaced, a revocation. That means:
//
//   - When Caddy is killed, nothing of it is lost, nothing is half written, and nothing stays locked.
//   - When the power goes, or the system crashes, the same holds on a disk that has written what it says it has: files are
//     synced, and on other systems than Windows the folders that contain them. What was being written at that moment is
//     there or is not, and its client has not had an answer: `retry` of the refresh tokens is for that. On Windows, a code or
//     a consent of the last moments may be lost. On a file system mounted without barriers, in a virtual machine whose
//     host ignores syncs, or in memory, nothing is promised.
//   - Over a network it holds if the server syncs when it is told to, as NFS does with `sync` in its exports.
//   - When the disk is full, existing records can still be refreshed and revoked on most file systems, since that takes no
//     space; new users get an error. When the disk fails, the request does, and the record is what it was before.
//
// Every instance must see the file locks of the others: this holds on one machine, and on network file systems that support flock,
// such as NFSv4. A refresh is one small write, however many records there are.
//
// On any other storage module, records survive as well as what that module stores, and its locks guard them: use
// one whose locks work across all your instances. Those locks cost several round trips each; a site with many instances
// and many tokens is better served by a store made for that.
//
// The store contains hashes of tokens and codes, never the tokens themselves. Deleting the folder `oauth` of
// the storage logs everybody out.
type Caddy struct {
	ctx    context.Context // ends when the config does
	on     certmagic.Storage
	log    *zap.Logger
	opened []string
}

// stripePool shares the in-process locks of an issuer, by its name, between the configurations of this process, so that requests
// of an old and a new one wait for each other.
var stripePool = caddy.NewUsagePool()

// CaddyModule returns the Caddy module information.
func (Caddy) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "oauth.stores.caddy",
		New: func() caddy.Module { return new(Caddy) },
	}
}

// UnmarshalCaddyfile reads the name of the store, which has no options:
//
//	caddy
func (*Caddy) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() || d.NextBlock(0) {
		return d.Errf("the caddy store has no options, but here is %q", d.Val())
	}
	return nil
}

// Provision takes the storage of the config.
func (m *Caddy) Provision(ctx caddy.Context) error {
	m.ctx = ctx
	m.on = ctx.Storage()
	m.log = ctx.Logger()
	return nil
}

// Open returns the store of the named issuer.
func (m *Caddy) Open(issuer string) (storage.Store, error) {
	pooled, _ := stripePool.LoadOrStore(issuer, stripes.New())
	m.opened = append(m.opened, issuer)
	return newStore(m.ctx, m.on, issuer, pooled.(*stripes.Stripes), m.log), nil
}

// Cleanup releases what this module opened.
func (m *Caddy) Cleanup() error {
	var errs []error
	for _, issuer := range m.opened {
		_, err := stripePool.Delete(issuer)
		errs = append(errs, err)
	}
	m.opened = nil
	return errors.Join(errs...)
}

// New returns the store of the named issuer on any storage, for programs and tests without a Caddy config. If it cannot release
// a lock of the storage, it retries in the background for about an hour.
func New(on certmagic.Storage, issuer string) storage.Store {
	return newStore(context.Background(), on, issuer, stripes.New(), caddy.Log().Named("oauth.stores.caddy"))
}

var (
	_ caddy.Provisioner     = (*Caddy)(nil)
	_ caddy.CleanerUpper    = (*Caddy)(nil)
	_ caddyfile.Unmarshaler = (*Caddy)(nil)
	_ storage.Opener        = (*Caddy)(nil)
)
