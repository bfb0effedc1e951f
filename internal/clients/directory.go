// Package clients knows the clients of an issuer and authenticates them.
//
// A [Directory] holds the clients of the configuration and those that were added at run time, and changes the latter. An
// [Authenticator] finds the client that a request comes from. Start reading at these two.
//
// Clients are of three kinds. A configured client is in the configuration. An added client was added at run time, by the admin API
// (added.go, [storage.AddedClient]). A described client was added by nobody and brought its own metadata (described.go): in a document
// whose URL is its ID ([storage.OriginDocument], package cimd), or when it registered itself ([storage.OriginRegistered], package
// registration).
package clients

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Resolver returns a client that was added at run time as requests see it, with these hashes of its secrets. An error says
// what is wrong with its settings.
type Resolver func(r *storage.AddedClient, hashes []string) (*storage.Client, error)

// Source has clients that nobody added: they brought their own metadata. Safe for concurrent use.
type Source interface {
	// Find returns the client with that ID, nil if the source has none.
	Find(ctx context.Context, id string) (*storage.Client, error)

	// InUse says that the client has tokens until then; zero is for ever. The source must not forget it before.
	InUse(ctx context.Context, id string, until time.Time) error
}

// Explainer is a Source whose Missing returns, for the owner, what an ID that Find does not know should be. It returns "" if such
// an ID is never one of the Source.
type Explainer interface {
	Missing(id string) string
}

// Config is what a Directory is made of.
type Config struct {
	Issuer     string                     // its short name
	Configured map[string]*storage.Client // those of the configuration, by client ID; they hide others with the same ID
	Resolve    Resolver
	Sources    map[storage.ClientOrigin]Source // of clients that nobody added
	Secrets    Secrets
	Store      storage.Store
	Logger     *zap.Logger
	Now        func() time.Time

	// Timeout is how long a request waits for the first load.
	Timeout time.Duration

	// Tombstone is how long a deleted client must be remembered: as long as an access token can live that was issued by a node
	// which did not know of the deletion yet.
	Tombstone func() time.Duration

	// Revoke voids all tokens of a client.
	Revoke func(ctx context.Context, client, reason string) error

	// Changed is told of each change, for the audit log and the other nodes.
	Changed func(ctx context.Context, client, what string) error
}

// Directory knows the clients of an issuer. All of them are in memory, so that a request reads nothing from the store; what
// another node changes is known here after the next poll. Safe for concurrent use.
type Directory struct {
	Config

	decoy   *storage.Client     // see unknown
	loading *semaphore.Weighted // held by the one load that runs; guards unreadable

	unreadable map[string]bool // records that cannot be read; each was logged once

	mu     sync.Mutex // held to replace the index; never while the store is asked
	stored map[string]*storage.AddedClient
	latest atomic.Pointer[index] // nil before the first load
}

// index is what is known of the clients that were added at run time, by client ID. It is never changed, only replaced.
type index struct {
	stored   map[string]*storage.AddedClient
	clients  map[string]*storage.Client
	ended    map[string]*storage.Client // disabled or deleted: their tokens are void
	problems map[string]string          // why a client is neither among clients nor among ended
	hosts    map[string]bool            // redirect hosts that are blocked
	unknown  bool                       // there are clients whose settings are not known
	expires  time.Time                  // when a secret expires and the index must be rebuilt; zero: never
	decoy    *storage.Client            // nil if no secret has a slow hash
}

// New returns a Directory that loads the clients of the store on first use.
func New(config Config) *Directory {
	return &Directory{
		Config: config, decoy: config.Secrets.decoy(config.Configured), stored: make(map[string]*storage.AddedClient),
		loading: semaphore.NewWeighted(1), unreadable: make(map[string]bool),
	}
}

// Find returns the client with that ID, nil if there is none or if it may do nothing.
func (d *Directory) Find(ctx context.Context, id string) (*storage.Client, error) {
	if client := d.Configured[id]; client != nil {
		return client, nil
	}
	x, err := d.index(ctx)
	if err != nil {
		return nil, err
	}
	if client := x.clients[id]; client != nil || x.overridesSources(id) {
		return client, nil
	}
	for _, source := range d.Sources {
		if client, err := source.Find(ctx, id); client != nil || err != nil {
			return x.unlessBlocked(client), err
		}
	}
	return nil, nil
}

// overridesSources reports whether what the owner has stored of a client counts, and no source is asked.
func (x *index) overridesSources(id string) bool {
	r := x.stored[id]
	return r != nil && !(r.BlocksDescribed && r.Disabled.IsZero())
}

// UnlessBlocked returns a client of a source, and nil if the owner has blocked it or a host of its redirect URIs.
func (d *Directory) UnlessBlocked(ctx context.Context, client *storage.Client) (*storage.Client, error) {
	x, err := d.index(ctx)
	if err != nil {
		return nil, err
	}
	return x.unlessBlocked(client), nil
}

func (x *index) unlessBlocked(client *storage.Client) *storage.Client {
	if client == nil || x.ended[client.ID] != nil || x.blocksRedirect(client.RedirectURIs) {
		return nil
	}
	return client
}

// InUse says that a client has tokens until then; zero is for ever. See [Source.InUse].
func (d *Directory) InUse(ctx context.Context, client *storage.Client, until time.Time) error {
	source := d.Sources[client.Origin]
	if source == nil {
		return nil
	}
	return source.InUse(ctx, client.ID, until)
}

// All returns every client that may have tokens. others says that there are more, whose settings are not known.
func (d *Directory) All(ctx context.Context) (list []*storage.Client, others bool, err error) {
	x, err := d.index(ctx)
	if err != nil {
		return nil, false, err
	}
	all := maps.Clone(x.ended)
	maps.Copy(all, x.clients)
	maps.Copy(all, d.Configured)
	return slices.Collect(maps.Values(all)), x.unknown, nil
}

// unknown returns a client that nobody can authenticate as. To refuse it takes as long as to refuse one that exists.
func (d *Directory) unknown() *storage.Client {
	if x := d.latest.Load(); x != nil && x.decoy != nil {
		return x.decoy
	}
	if d.decoy != nil {
		return d.decoy
	}
	return &storage.Client{SecretHashes: []string{noHash}}
}

// Ended reports whether a client was disabled or deleted, as far as this node knows.
func (d *Directory) Ended(ctx context.Context, id string) (bool, error) {
	x, err := d.index(ctx)
	return err == nil && x.ended[id] != nil && d.Configured[id] == nil, err
}

// index returns what is known of the clients added at run time. The first call loads it.
func (d *Directory) index(ctx context.Context) (*index, error) {
	if x := d.latest.Load(); x != nil {
		return d.current(x), nil
	}
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	if err := d.loading.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("%w: %w", storage.ErrTimeout, err)
	}
	defer d.loading.Release(1)
	if d.latest.Load() == nil { // no other request was first
		if err := d.load(ctx); err != nil {
			return nil, err
		}
	}
	return d.latest.Load(), nil
}

// current rebuilds the index if a secret in it has expired.
func (d *Directory) current(x *index) *index {
	fresh := func(x *index) bool { return x.expires.IsZero() || d.Now().Before(x.expires) }
	if fresh(x) {
		return x
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !fresh(d.latest.Load()) { // no other request was first
		d.makeIndex()
	}
	return d.latest.Load()
}

// Reload picks up what other nodes changed.
func (d *Directory) Reload(ctx context.Context) error {
	if err := d.loading.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("%w: %w", storage.ErrTimeout, err)
	}
	defer d.loading.Release(1)
	return d.load(ctx)
}

// load is Reload for a caller that holds loading.
func (d *Directory) load(ctx context.Context) error {
	known := make(map[string]*storage.AddedClient)
	for id, err := range d.Store.List(ctx, storage.KindClient) {
		if err != nil {
			return err
		}
		if err := d.read(ctx, storage.Key{Kind: storage.KindClient, ID: id}, known); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stored = known
	d.makeIndex()
	return nil
}

// refresh reloads one client after this node changed it, including any concurrent change.
func (d *Directory) refresh(ctx context.Context, id string) error {
	if err := d.loading.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("%w: %w", storage.ErrTimeout, err)
	}
	defer d.loading.Release(1)
	if d.latest.Load() == nil {
		return d.load(ctx)
	}
	changed := make(map[string]*storage.AddedClient)
	if err := d.read(ctx, storage.AddedClientKey(id), changed); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.Copy(d.stored, changed)
	d.makeIndex()
	return nil
}

// read adds a record to those that are known. A record that cannot be read is logged and left out: it must not take the
// other clients with it.
func (d *Directory) read(ctx context.Context, key storage.Key, known map[string]*storage.AddedClient) error {
	record, err := d.Store.Get(ctx, key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil // deleted since it was listed
	}
	if err != nil && !errors.Is(err, storage.ErrDamaged) {
		return err
	}
	var r *storage.AddedClient
	if err == nil {
		r, err = storage.DecodeAddedClient(record)
	}
	if err != nil {
		if !d.unreadable[key.ID] {
			d.unreadable[key.ID] = true
			d.Logger.Error("unreadable client in the store", zap.String("issuer", d.Issuer), zap.String("record", key.ID), zap.Error(err))
		}
		return nil
	}
	delete(d.unreadable, key.ID)
	known[r.ID] = r
	return nil
}

// makeIndex replaces the index. It logs clients that the issuer's settings do not allow any more.
func (d *Directory) makeIndex() {
	before, now := d.latest.Load(), d.Now()
	x := &index{
		stored: maps.Clone(d.stored), clients: make(map[string]*storage.Client),
		ended: make(map[string]*storage.Client), problems: make(map[string]string), hosts: make(map[string]bool),
	}
	for id, r := range d.stored {
		if r.BlocksDescribed {
			x.block(r)
			continue
		}
		hashes, expires := r.Hashes(now)
		x.expires = sooner(x.expires, expires)
		client, err := d.Resolve(r, hashes)
		x.unknown = x.unknown || err != nil
		switch {
		case !r.Disabled.IsZero() || !r.Deleted.IsZero():
			x.ended[id] = cmp.Or(client, &storage.Client{ID: id})
			continue
		case err == nil:
			client.Created = r.Created
			x.clients[id] = client
			continue
		}
		x.problems[id] = err.Error()
		if before == nil || before.problems[id] != err.Error() {
			d.Logger.Error("client is refused until its settings are changed",
				zap.String("issuer", d.Issuer), zap.String("client_id", id), zap.Error(err))
		}
	}
	x.decoy = d.Secrets.decoy(x.clients)
	d.latest.Store(x)
}

// block adds what is blocked according to a record.
func (x *index) block(r *storage.AddedClient) {
	host, isHost := strings.CutPrefix(r.ID, hostPrefix)
	switch {
	case r.Disabled.IsZero():
	case isHost:
		x.hosts[host] = true
	default:
		x.ended[r.ID] = &storage.Client{ID: r.ID}
	}
}

// sooner returns the sooner of two times. Zero is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// fapiCodeLifetime is the longest that a code may live under FAPI 2.0.
const fapiCodeLifetime = time.Minute

// HoldToFAPI holds a client to FAPI 2.0 Security Profile §5.3.2. It must authenticate with a key or a certificate. Its tokens are bound to
// its certificate if it is set to be, and otherwise to the key of its DPoP proofs.
func HoldToFAPI(c *storage.Client) {
	c.FAPI = true
	c.RequirePushed, c.RequirePKCE = true, true // §5.3.2.2, 3 and 5
	c.RedirectRules.Authorize = true            // 6
	c.CodeLifetime = min(c.CodeLifetime, fapiCodeLifetime)
	c.RequireDPoP = c.RequireDPoP || !c.BindToCertificate
}
