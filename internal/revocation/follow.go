package revocation

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// journalRecord is the journal, and the record that it was read from.
type journalRecord struct {
	*storage.Journal
	record []byte
}

// listInterval is how often all records are listed even if the journal has nothing new: records can vanish.
const listInterval = 10 * time.Minute

// Load reads the cutoffs from the store unless that is done. Before that nobody can tell whether a token is void. It waits up to
// Config.Timeout; where that is too short, Poll loads them.
func (c *Cutoffs) Load(ctx context.Context) error {
	if c.loaded() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	return c.whileLoading(ctx, func() error {
		if c.loaded() { // another request was first
			return nil
		}
		_, err := c.follow(ctx)
		return err
	})
}

func (c *Cutoffs) loaded() bool { return c.lastJournal.Load() != nil }

// Sync makes sure that all revocations are in force here that any node has announced until now. If there is none that is not,
// it reads one record.
func (c *Cutoffs) Sync(ctx context.Context) error {
	if last := c.lastJournal.Load(); last != nil {
		journal, err := c.readJournal(ctx)
		if err != nil || journal == last {
			return err
		}
	}
	return c.whileLoading(ctx, func() error {
		_, err := c.follow(ctx)
		return err
	})
}

// Poll picks up the cutoffs of other nodes, drops those that have expired, and writes what the store should have and has not.
// A node that may not write leaves that to others.
func (c *Cutoffs) Poll(ctx context.Context) error {
	return c.whileLoading(ctx, func() error {
		journal, err := c.follow(ctx)
		if err != nil {
			return err
		}
		for _, err := range []error{c.restore(ctx), c.coverAll(ctx, journal)} {
			if err != nil && !errors.Is(err, storage.ErrReadOnly) {
				return err
			}
		}
		return nil
	})
}

func (c *Cutoffs) whileLoading(ctx context.Context, do func() error) error {
	if err := c.loading.Acquire(ctx, 1); err != nil {
		return fmt.Errorf("%w: %w", storage.ErrTimeout, err)
	}
	defer c.loading.Release(1)
	return do()
}

// follow reads the journal and takes in what is new there. If the journal does not have all of that, or is another one than
// before, it lists all records.
func (c *Cutoffs) follow(ctx context.Context) (*journalRecord, error) {
	journal, err := c.readJournal(ctx)
	if err != nil {
		return nil, err
	}
	last, now := c.lastJournal.Load(), c.Now()
	news, complete := journal.Latest, false
	if last != nil && now.Sub(c.listed) < listInterval {
		news, complete = journal.Since(last.ID, last.Announced)
	}
	if !complete {
		if err := c.list(ctx, last); err != nil {
			return nil, err
		}
		c.listed = now
	}
	c.learn(news...)
	c.expire()
	c.learnLifetimes(journal.Lifetimes)
	c.lastJournal.Store(journal)
	return journal, nil
}

func (c *Cutoffs) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.reportChange(c.index.inForce)
	c.index.expire(c.Now())
}

// readJournal returns the journal, an empty one if there is none. One that is damaged is as good as none: the next change of
// the journal begins a new one. If it is the same as before, the result is the same pointer.
func (c *Cutoffs) readJournal(ctx context.Context) (*journalRecord, error) {
	record, err := c.Store.Get(ctx, storage.JournalKey)
	switch {
	case errors.Is(err, storage.ErrNotFound), errors.Is(err, storage.ErrDamaged):
		record = nil
	case err != nil:
		return nil, err
	}
	if last := c.lastJournal.Load(); last != nil && bytes.Equal(record, last.record) {
		return last, nil
	}
	journal, err := storage.DecodeJournal(record)
	if errors.Is(err, storage.ErrDamaged) {
		journal, err = new(storage.Journal), nil
	}
	return &journalRecord{journal, record}, err
}

// updateJournal changes the journal, and returns what it is then. It begins one if there is none.
func (c *Cutoffs) updateJournal(
	ctx context.Context, change func(*storage.Journal) error,
) (journal *storage.Journal, err error) {
	var damage error
	update := func() error {
		return c.Store.Update(ctx, storage.JournalKey, func(old []byte) (record []byte, never time.Time, err error) {
			journal, err = storage.DecodeJournal(old)
			if errors.Is(err, storage.ErrDamaged) {
				journal, damage, err = new(storage.Journal), err, nil
			}
			if err != nil {
				return nil, never, err
			}
			if journal.ID == "" {
				journal.ID = rand.Text()
			}
			if err := change(journal); err != nil {
				return nil, never, err
			}
			record, err = journal.Encode()
			return record, never, err
		})
	}
	if err = update(); errors.Is(err, storage.ErrDamaged) {
		damage = err
		if err = c.Store.Delete(ctx, storage.JournalKey); err == nil {
			err = update()
		}
	}
	if err == nil && damage != nil {
		c.Logger.Error("unreadable journal of revocations in the store; a new one was begun",
			zap.String("issuer", c.Issuer), zap.Error(damage))
	}
	return journal, err
}

// list reads the records that it has not read before. last is the journal that was followed until now, nil for none.
func (c *Cutoffs) list(ctx context.Context, last *journalRecord) error {
	known := c.known()
	listed := make(map[string]bool, len(known))
	var unread []string
	for id, err := range c.Store.List(ctx, storage.KindCutoff) {
		if err != nil {
			return err
		}
		listed[id] = true
		if cutoff, ok := known[id]; !ok || cutoff != nil && mayHaveChanged(cutoff, last) {
			unread = append(unread, id)
		}
	}
	unread = append(unread, c.sample(known, listed, unread)...)
	found, damaged, err := c.readAll(ctx, unread)
	if err != nil {
		return err
	}
	c.damaged = damaged
	c.merge(known, listed, found)
	return nil
}

// known returns the cutoffs by the IDs of their records.
func (c *Cutoffs) known() map[string]*storage.Cutoff {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return maps.Clone(c.index.known)
}

// maxSample is how many records of known cutoffs are read with each list, to find damaged ones while somebody can write them again.
const maxSample = 500

// sample returns the IDs of some of the known cutoffs, without those in unread. Their records are read again, others each time, so
// that each is checked in time.
func (c *Cutoffs) sample(known map[string]*storage.Cutoff, listed map[string]bool, unread []string) (ids []string) {
	for id, cutoff := range known {
		if len(ids) == maxSample {
			break
		}
		if cutoff != nil && listed[id] && !cutoff.Expired(c.Now()) && !slices.Contains(unread, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// mayHaveChanged reports whether a record can have changed since the journal was at that state: revocations within the same second
// share a record.
func mayHaveChanged(c *storage.Cutoff, last *journalRecord) bool {
	return c.Dated() && (last == nil || c.Before.Unix() >= last.Clock.Add(ClockSkew).Unix())
}

// merge takes in what list has found. A record that is not listed any more and has not expired has vanished from the store, as when
// somebody has emptied it: it stays in force and will be written again. The record of a new revocation may not be there yet, since its
// node announces it before it writes the record, or has died in between. What another goroutine added meanwhile is not among known.
func (c *Cutoffs) merge(known map[string]*storage.Cutoff, listed map[string]bool, found map[string]*storage.Cutoff) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.reportChange(c.index.inForce)
	now, vanished := c.Now(), 0
	for id, cutoff := range found {
		c.index.add(id, cutoff, now)
	}
	for id := range known {
		if listed[id] {
			continue
		}
		switch cutoff := c.index.known[id]; {
		case cutoff == nil:
			delete(c.index.known, id)
		case !cutoff.Expired(now.Add(aboutToExpire)) && !c.unsaved[id]:
			c.unsaved[id] = true
			if now.After(cutoff.Before.Add(beingWritten)) {
				vanished++
			}
		}
	}
	if vanished > 0 {
		c.Logger.Error("revocations have vanished from the store; they stay in force and will be written again",
			zap.String("issuer", c.Issuer), zap.Int("revocations", vanished))
	}
}

// beingWritten is how long after a revocation its record may not have been written yet.
const beingWritten = time.Minute

// aboutToExpire is how long before its end a record may be gone, since the clock of the store may be ahead.
const aboutToExpire = time.Minute

// atOnce is how many records are read or written at the same time, since a store may be far away.
const atOnce = 16

// readAll reads records, and returns which of them cannot be read.
func (c *Cutoffs) readAll(ctx context.Context, ids []string) (found map[string]*storage.Cutoff, damaged map[string]bool, err error) {
	reading, ctx := errgroup.WithContext(ctx)
	reading.SetLimit(atOnce)
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
				c.takeDamaged(id, err)
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
	return cutoff, err
}

// takeDamaged takes in that a record cannot be read, and logs it once. If its cutoff is known, it stays in force, and the record is
// written again. If not, it is left out: it must take neither the other revocations nor all good tokens with it.
func (c *Cutoffs) takeDamaged(id string, err error) {
	c.mu.Lock()
	known := c.index.known[id] != nil
	if known {
		c.unsaved[id] = true
	}
	c.mu.Unlock()
	switch {
	case c.damaged[id]:
	case known:
		c.Logger.Error("unreadable revocation in the store; it stays in force and will be written again",
			zap.String("issuer", c.Issuer), zap.String("record", string(storage.KindCutoff)+"/"+id), zap.Error(err))
	default:
		c.Logger.Error("unreadable revocation in the store; what it revoked may be accepted until it expires",
			zap.String("issuer", c.Issuer), zap.String("record", string(storage.KindCutoff)+"/"+id), zap.Error(err))
	}
}

// restore writes the cutoffs that the store has not, and then begins another journal, so that all nodes list the records.
func (c *Cutoffs) restore(ctx context.Context) error {
	unsaved := c.unsavedCutoffs()
	if len(unsaved) == 0 {
		return nil
	}
	writing, ctx2 := errgroup.WithContext(ctx)
	writing.SetLimit(atOnce)
	for _, cutoff := range unsaved {
		writing.Go(func() error { return c.write(ctx2, cutoff) })
	}
	if err := writing.Wait(); err != nil {
		return err
	}
	_, err := c.updateJournal(ctx, func(journal *storage.Journal) error {
		journal.ID = rand.Text()
		return nil
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range unsaved {
		delete(c.unsaved, id)
	}
	return nil
}

// unsavedCutoffs returns the cutoffs that are in force here and not in the store.
func (c *Cutoffs) unsavedCutoffs() map[string]*storage.Cutoff {
	c.mu.Lock()
	defer c.mu.Unlock()
	unsaved := make(map[string]*storage.Cutoff)
	for id := range c.unsaved {
		if cutoff := c.index.known[id]; cutoff != nil {
			unsaved[id] = cutoff
		} else {
			delete(c.unsaved, id) // it has expired
		}
	}
	return unsaved
}

// coverAll makes sure that the journal has the lifetimes that this node has ever read there, and those of its configuration.
func (c *Cutoffs) coverAll(ctx context.Context, journal *journalRecord) error {
	need, err := c.longest(ctx)
	if err != nil {
		return err
	}
	if journal.Max(need) == journal.Lifetimes {
		return nil
	}
	raised, err := c.raise(ctx, need)
	if err != nil {
		return err
	}
	if _, err := c.follow(ctx); err != nil {
		return err
	}
	c.learnLifetimes(raised)
	return nil
}
