package storage

import (
	"context"
	"errors"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/stripes"
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
// With the file system storage, Caddy's default, what a client was told is on the disk: a code that was used, a refresh
// token that was replaced, a revocation. That is:
//
//   - When Caddy is killed, nothing of it is lost, nothing is half written, and nothing stays locked.
//   - When the power goes, or the system crashes, the same holds on a disk that has written what it says it has: files are
//     synced, and on other systems than Windows the folders that they are in. What was being written at that moment is
//     there or is not, and its client has not had its answer: `retry` of the refresh tokens is for that. On Windows, a code or
//     a consent of the last moments may be lost. On a file system mounted without barriers, in a virtual machine whose
//     host ignores syncs, or in memory, nothing is promised.
//   - Over a network it holds if the server syncs when it is told to, as NFS does with `sync` in its exports.
//   - When the disk is full, what is there can still be refreshed and revoked on most file systems, as that takes no room; whoever is new
//     gets an error. When the disk fails, the request does, and the record is what it was before.
//
// Every instance must see file locks of the others: this holds on one machine, and on network file systems that support flock,
// such as NFSv4. A refresh is one small write, however many records there are.
//
// On any other storage module, records survive as well as what that module stores, and they are guarded by its locks: use
// one whose locks work across all your instances. Those locks cost several round trips each; a site with many instances
// and many tokens is better served by a store made for that.
//
// Stored are hashes of tokens and codes, never the tokens themselves. Deleting the folder `oauth` of
// the storage logs everybody out.
type Caddy struct {
	ctx     context.Context // ends when the config does
	storage certmagic.Storage
	log     *zap.Logger
	opened  []string
}

// stripePool shares the in-process locks of an issuer between config generations, by its name, so
// that the requests of an old and a new config queue up together.
var stripePool = caddy.NewUsagePool()

// CaddyModule returns the Caddy module information.
func (Caddy) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "oauth.stores.caddy",
		New: func() caddy.Module { return new(Caddy) },
	}
}

// Provision takes the storage of the config.
func (m *Caddy) Provision(ctx caddy.Context) error {
	m.ctx = ctx
	m.storage = ctx.Storage()
	m.log = ctx.Logger()
	return nil
}

// Open returns the store of the named issuer.
func (m *Caddy) Open(issuer string) (Store, error) {
	pooled, _ := stripePool.LoadOrStore(issuer, stripes.New())
	m.opened = append(m.opened, issuer)
	return newCaddyStore(m.ctx, m.storage, issuer, pooled.(*stripes.Stripes), m.log), nil
}

// Cleanup gives back what this module opened.
func (m *Caddy) Cleanup() error {
	var errs []error
	for _, issuer := range m.opened {
		_, err := stripePool.Delete(issuer)
		errs = append(errs, err)
	}
	m.opened = nil
	return errors.Join(errs...)
}

// OpenCaddy returns the store of the named issuer on any storage, for programs and tests without a
// Caddy config. If a lock of the storage cannot be released, it retries that in the background for about an hour.
func OpenCaddy(storage certmagic.Storage, issuer string) Store {
	return newCaddyStore(context.Background(), storage, issuer, stripes.New(), caddy.Log().Named("oauth.stores.caddy"))
}

var (
	_ caddy.Provisioner  = (*Caddy)(nil)
	_ caddy.CleanerUpper = (*Caddy)(nil)
	_ Opener             = (*Caddy)(nil)
)
