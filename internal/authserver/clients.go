package authserver

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Resolver returns a client that was added at run time as requests see it, with those hashes of secrets. An error says
// what is wrong with its settings.
type Resolver func(r *storage.Registered, hashes []string) (*storage.Client, error)

// clientDirectory knows the clients: those of the configuration, and those that were added at run time. All of them are in
// memory, so that nothing is read for a request; what another node changes is here after the next poll.
type clientDirectory struct {
	configured map[string]*storage.Client // these win over others of the same ID
	store      storage.Store
	resolve    Resolver
	secrets    Secrets
	decoy      *storage.Client // see unknown
	log        *zap.Logger
	now        func() time.Time

	loads turn // held to read

	mu    sync.Mutex // held to index; never while the store is asked
	known map[string]*storage.Registered
	live  atomic.Pointer[clientIndex] // nil before the first load
}

// clientIndex is what is known of the clients added at run time, by client ID. It does not change: a load or a change
// replaces it.
type clientIndex struct {
	known    map[string]*storage.Registered
	clients  map[string]*storage.Client
	ended    map[string]*storage.Client // disabled or deleted: their tokens are void
	problems map[string]string          // why a client is in neither of these
	unsure   bool                       // there are clients whose settings are not known
	until    time.Time                  // when a secret expires and this has to be made anew; zero: never
	decoy    *storage.Client            // nil if no secret has a slow hash
}

func newClientDirectory(config Config) *clientDirectory {
	return &clientDirectory{
		configured: config.Clients, store: config.Store, resolve: config.Resolve, log: config.Logger, now: config.Now,
		secrets: config.Secrets, decoy: config.Secrets.decoy(config.Clients), known: make(map[string]*storage.Registered),
		loads: newTurn(storeTimeout(config.Store)),
	}
}

// find returns the client of that ID, nil if there is none that may do anything.
func (c *clientDirectory) find(ctx context.Context, id string) (*storage.Client, error) {
	if client := c.configured[id]; client != nil {
		return client, nil
	}
	x, err := c.index(ctx)
	if err != nil {
		return nil, err
	}
	return x.clients[id], nil
}

// all returns every client of which there may be tokens, and whether there are others whose settings are not known now.
func (c *clientDirectory) all(ctx context.Context) (list []*storage.Client, others bool, err error) {
	x, err := c.index(ctx)
	if err != nil {
		return nil, false, err
	}
	all := maps.Clone(x.ended)
	maps.Copy(all, x.clients)
	maps.Copy(all, c.configured)
	return slices.Collect(maps.Values(all)), x.unsure, nil
}

// unknown returns a client that nobody can authenticate as, which takes as long to find out as for one that there is.
func (c *clientDirectory) unknown() *storage.Client {
	if x := c.live.Load(); x != nil && x.decoy != nil {
		return x.decoy
	}
	if c.decoy != nil {
		return c.decoy
	}
	return &storage.Client{SecretHashes: []string{hashPrefix + strings.Repeat("-", 2*sha256.Size)}}
}

// ended reports whether a client was disabled or deleted, as far as this node has heard.
func (c *clientDirectory) ended(ctx context.Context, id string) (bool, error) {
	x, err := c.index(ctx)
	return err == nil && x.ended[id] != nil && c.configured[id] == nil, err
}

// index returns what is known of the clients added at run time, and loads it on first need.
func (c *clientDirectory) index(ctx context.Context) (*clientIndex, error) {
	if x := c.live.Load(); x != nil {
		return c.indexNow(x), nil
	}
	ctx, cancel := withinTimeout(ctx, c.loads.most) // a guard has no deadline
	defer cancel()
	release, err := c.loads.take(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if c.live.Load() == nil { // else somebody else was first
		if err := c.load(ctx); err != nil {
			return nil, err
		}
	}
	return c.live.Load(), nil
}

// indexNow returns an index as it is now that the time is what it is.
func (c *clientDirectory) indexNow(x *clientIndex) *clientIndex {
	fresh := func(x *clientIndex) bool { return x.until.IsZero() || c.now().Before(x.until) }
	if fresh(x) {
		return x
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !fresh(c.live.Load()) { // else somebody else was first
		c.makeIndex()
	}
	return c.live.Load()
}

// reload picks up what other nodes changed.
func (c *clientDirectory) reload(ctx context.Context) error {
	release, err := c.loads.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	return c.load(ctx)
}

// load is reload in its turn.
func (c *clientDirectory) load(ctx context.Context) error {
	known := make(map[string]*storage.Registered)
	for id, err := range c.store.List(ctx, storage.KindClient) {
		if err != nil {
			return err
		}
		if err := c.read(ctx, storage.Key{Kind: storage.KindClient, ID: id}, known); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = known
	c.makeIndex()
	return nil
}

// refresh picks up what this node has changed, be it that another change came between.
func (c *clientDirectory) refresh(ctx context.Context, id string) error {
	release, err := c.loads.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	if c.live.Load() == nil {
		return c.load(ctx)
	}
	changed := make(map[string]*storage.Registered)
	if err := c.read(ctx, storage.RegisteredKey(id), changed); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(c.known, changed)
	c.makeIndex()
	return nil
}

// read adds a record to those that are known. One that cannot be read is left out: it must not take the other
// clients with it.
func (c *clientDirectory) read(ctx context.Context, key storage.Key, known map[string]*storage.Registered) error {
	record, err := c.store.Get(ctx, key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil // it has gone meanwhile
	}
	if err != nil && !errors.Is(err, storage.ErrDamaged) {
		return err
	}
	var r *storage.Registered
	if err == nil {
		r, err = storage.DecodeRegistered(record)
	}
	if err != nil {
		c.log.Error("a client in the store cannot be read", zap.String("record", key.ID), zap.Error(err))
		return nil
	}
	known[r.ID] = r
	return nil
}

// makeIndex makes what requests look at from what is known. It tells of clients that the issuer's settings of today
// do not allow any more.
func (c *clientDirectory) makeIndex() {
	before, now := c.live.Load(), c.now()
	x := &clientIndex{
		known: maps.Clone(c.known), clients: make(map[string]*storage.Client),
		ended: make(map[string]*storage.Client), problems: make(map[string]string),
	}
	for id, r := range c.known {
		hashes, until := r.Hashes(now)
		x.until = sooner(x.until, until)
		client, err := c.resolve(r, hashes)
		x.unsure = x.unsure || err != nil
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
			c.log.Error("a client added at run time can do nothing until it is changed",
				zap.String("client_id", id), zap.Error(err))
		}
	}
	x.decoy = c.secrets.decoy(x.clients)
	c.live.Store(x)
}

// sooner returns the sooner of two times, where zero is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
