package revocation

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Loaded reports whether the cutoffs were read from the store. Before that nobody can tell whether a token is void.
func (c *Cutoffs) Loaded() bool { return c.loaded.Load() }

// Load reads the cutoffs from the store unless that is done.
func (c *Cutoffs) Load(ctx context.Context) error {
	if c.loaded.Load() {
		return nil
	}
	if err := c.loading.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("%w: %w", storage.ErrTimeout, err)
	}
	defer c.loading.Release(1)
	if c.loaded.Load() { // another request was first
		return nil
	}
	return c.load(ctx)
}

// Poll picks up the cutoffs of other nodes, and drops those that have expired.
func (c *Cutoffs) Poll(ctx context.Context) error {
	if err := c.loading.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("%w: %w", storage.ErrTimeout, err)
	}
	defer c.loading.Release(1)
	return c.load(ctx)
}

// load reads the records that it has not read before.
func (c *Cutoffs) load(ctx context.Context) error {
	before := c.ids()
	listed := make(map[string]bool, len(before))
	var unread []string
	for id, err := range c.Store.List(ctx, storage.KindCutoff) {
		if err != nil {
			return err
		}
		listed[id] = true
		if !before[id] {
			unread = append(unread, id)
		}
	}
	found, damaged, err := c.readAll(ctx, unread)
	if err != nil {
		return err
	}
	c.damaged = damaged
	c.merge(before, listed, found)
	c.loaded.Store(true)
	return nil
}

// ids returns the IDs of the records that were read.
func (c *Cutoffs) ids() map[string]bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	ids := make(map[string]bool, len(c.known))
	for id := range c.known {
		ids[id] = true
	}
	return ids
}

// merge adds what a load has found, and drops what has expired or is not listed any more. A store may list a record that has
// expired for a while: such a record stays known as nil, so that it is not read again. What another goroutine added
// during the load is not among before, and stays.
func (c *Cutoffs) merge(before, listed map[string]bool, found map[string]*storage.Cutoff) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed := false
	for id, cutoff := range found {
		if c.known[id] == nil {
			c.known[id] = cutoff
			changed = changed || cutoff != nil
		}
	}
	now := c.Now()
	for id := range before {
		cutoff := c.known[id]
		switch {
		case !listed[id]:
			delete(c.known, id)
		case cutoff != nil && cutoff.Expired(now):
			c.known[id] = nil
		default:
			continue
		}
		changed = changed || cutoff != nil
	}
	if !changed {
		return
	}
	c.index = newIndex()
	for _, cutoff := range c.known {
		if cutoff != nil {
			c.index.add(cutoff)
		}
	}
	c.Changed(c.index.count)
}

// readAtOnce is how many records are read at the same time, since a store may be far away.
const readAtOnce = 16

// readAll reads records, and returns which of them cannot be read.
func (c *Cutoffs) readAll(ctx context.Context, ids []string) (found map[string]*storage.Cutoff, damaged map[string]bool, err error) {
	reading, ctx := errgroup.WithContext(ctx)
	reading.SetLimit(readAtOnce)
	var mu sync.Mutex
	found, damaged = make(map[string]*storage.Cutoff), make(map[string]bool)
	for _, id := range ids {
		reading.Go(func() error {
			cutoff, err := c.read(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, storage.ErrDamaged):
				damaged[id] = true
				c.logDamaged(id, err)
			case err != nil:
				return err
			default:
				found[id] = cutoff
			}
			return nil
		})
	}
	err = reading.Wait()
	return found, damaged, err
}

// read returns the cutoff of a record, nil if the record has expired or is gone.
func (c *Cutoffs) read(ctx context.Context, id string) (*storage.Cutoff, error) {
	record, err := c.Store.Get(ctx, storage.Key{Kind: storage.KindCutoff, ID: id})
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil //nolint:nilnil // gone is an answer
	}
	if err != nil {
		return nil, err
	}
	cutoff, err := storage.DecodeCutoff(record)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", storage.ErrDamaged, err)
	}
	return cutoff, nil
}

// logDamaged logs a record that cannot be read, once. It is left out: it must take neither the other revocations nor all
// good tokens with it.
func (c *Cutoffs) logDamaged(id string, err error) {
	if !c.damaged[id] {
		c.Logger.Error("unreadable revocation in the store; what it revoked may be accepted until it expires",
			zap.String("issuer", c.Issuer), zap.String("record", id), zap.Error(err))
	}
}
