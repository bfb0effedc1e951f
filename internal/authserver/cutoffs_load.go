package authserver

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// poll picks up what other nodes wrote, and forgets what has expired.
func (c *cutoffs) poll(ctx context.Context) error {
	release, err := c.loads.take(ctx)
	if err != nil {
		return err
	}
	defer release()
	return c.load(ctx)
}

// load is poll in its turn. It reads only what it has not read before, and what is listed though it is late but once.
func (c *cutoffs) load(ctx context.Context) error {
	known, now := c.beginLoad(), c.now()
	seen := make(map[string]*storage.Cutoff, len(known))
	var unknown []string
	for id, err := range c.store.List(ctx, storage.KindCutoff) {
		if err != nil {
			return err
		}
		cutoff, ok := known[id]
		switch {
		case !ok:
			unknown = append(unknown, id)
		case cutoff != nil && cutoff.Late(now):
			seen[id] = nil
		default:
			seen[id] = cutoff
		}
	}
	lost, err := c.readAll(ctx, unknown, seen)
	if err != nil {
		return err
	}
	c.lost = lost
	c.endLoad(seen)
	return nil
}

// readAtOnce is how many records are read at the same time, as a store may be far away.
const readAtOnce = 16

// readAll reads records, and returns which cannot be.
func (c *cutoffs) readAll(
	ctx context.Context, ids []string, into map[string]*storage.Cutoff,
) (lost map[string]bool, err error) {
	reading, ctx := errgroup.WithContext(ctx)
	reading.SetLimit(readAtOnce)
	var mu sync.Mutex
	lost = make(map[string]bool)
	for _, id := range ids {
		reading.Go(func() error {
			cutoff, err := c.read(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, errLost):
				c.lose(id, lost, err)
			case err != nil:
				return err
			default:
				into[id] = cutoff
			}
			return nil
		})
	}
	return lost, reading.Wait()
}

// beginLoad returns what is known so far.
func (c *cutoffs) beginLoad() map[string]*storage.Cutoff {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fresh = make(map[string]*storage.Cutoff)
	return maps.Clone(c.known)
}

// endLoad takes over what was loaded.
func (c *cutoffs) endLoad(seen map[string]*storage.Cutoff) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(seen, c.fresh)
	c.known, c.fresh = seen, nil
	c.makeIndex()
}

// read returns the record of a cutoff, nil if it is late or has gone meanwhile.
func (c *cutoffs) read(ctx context.Context, id string) (*storage.Cutoff, error) {
	record, err := c.store.Get(ctx, storage.Key{Kind: storage.KindCutoff, ID: id})
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil //nolint:nilnil // gone is an answer
	}
	if errors.Is(err, storage.ErrDamaged) {
		return nil, fmt.Errorf("%w: %w", errLost, err)
	}
	if err != nil {
		return nil, err
	}
	cutoff, err := storage.DecodeCutoff(record)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLost, err)
	}
	return cutoff, nil
}

// errLost is what is wrong with a record that no later attempt can read.
var errLost = errors.New("the record cannot be read")

// lose leaves out a record that cannot be read. What it revoked is not known any more, but it must not take the other
// revocations with it, nor all that is good.
func (c *cutoffs) lose(id string, lost map[string]bool, err error) {
	lost[id] = true
	if !c.lost[id] {
		c.log.Error("a revocation in the store cannot be read; what it was for may be good again until it expires",
			zap.String("record", id), zap.Error(err))
	}
}
