// Package revocation knows which tokens are void before their time.
//
// A revocation is a [storage.Cutoff] in the issuer's store: it voids one access token, a family, or all that a user, a
// client, or a user at a client got until a moment. [Cutoffs] holds those in force in memory, so that a request reads
// nothing from the store. It announces new ones in the issuer's [storage.Journal], follows those of other nodes there, and
// passes its own on to the other servers of this process through [LocalServers]. Start reading at Cutoffs.
package revocation

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// ClockSkew is how far the clocks of nodes may differ. A revocation voids what began up to this time later, by the clock of
// the node that revokes: a node whose clock is ahead may have begun it before. See [Cutoffs.Begin] for what begins afterwards.
const ClockSkew = 30 * time.Second

// Config is what Cutoffs are made of.
type Config struct {
	Issuer       string // its short name
	Store        storage.Store
	Timeout      time.Duration // of a load, see Cutoffs.Load
	LocalServers *LocalServers
	Logger       *zap.Logger
	Now          func() time.Time

	// Lifetimes returns the longest lifetimes that the configuration of this node allows. With an error, it returns those that are
	// known. It may be nil.
	Lifetimes func(ctx context.Context) (storage.Lifetimes, error)

	// Changed is told how many cutoffs are in force, whenever that changes; may be nil.
	Changed func(inForce int)
}

// Cutoffs are the revocations of one issuer that are in force. Safe for concurrent use.
type Cutoffs struct {
	Config

	loading *semaphore.Weighted // held by the one load that runs; guards the fields below
	listed  time.Time           // when all records were last listed
	damaged map[string]bool     // records that cannot be read; each was logged once

	lastJournal atomic.Pointer[journalRecord] // nil before the first load

	mu      sync.RWMutex // never held while the store is asked
	index   index
	stored  storage.Lifetimes // that the journal has
	unsaved map[string]bool   // IDs of cutoffs that are in force here, and not in the store
}

// New returns Cutoffs that load on first use.
func New(config Config) *Cutoffs {
	if config.Changed == nil {
		config.Changed = func(int) {}
	}
	if config.Lifetimes == nil {
		config.Lifetimes = func(context.Context) (storage.Lifetimes, error) { return storage.Lifetimes{}, nil }
	}
	return &Cutoffs{Config: config, loading: semaphore.NewWeighted(1), index: newIndex(), unsaved: make(map[string]bool)}
}

// Add revokes. It sets when the cutoff is in force: Before, and unless the cutoff is for a single token, Expires, so that it
// is kept as long as anything that it voids can live.
//
// The cutoff is in force here at once, even if the store fails: then the next polls write it. On other nodes it is in force
// as soon as it is announced and they have polled.
func (c *Cutoffs) Add(ctx context.Context, cutoff *storage.Cutoff) error {
	// Copy the texts that can be parts of a decoded record: all of it would stay in memory.
	cutoff.Subject, cutoff.Client, cutoff.Reason = strings.Clone(cutoff.Subject), strings.Clone(cutoff.Client), strings.Clone(cutoff.Reason)
	journal, err := c.announce(ctx, cutoff)
	if errors.Is(err, storage.ErrReadOnly) {
		return err
	}
	if err != nil {
		c.date(cutoff, journal)
	}
	c.learn(cutoff)
	c.learn(journal.Latest...)
	c.LocalServers.send(c, cutoff)
	if err == nil {
		err = c.write(ctx, cutoff)
	}
	if err != nil {
		c.mu.Lock()
		c.unsaved[cutoff.Key().ID] = true
		c.mu.Unlock()
	}
	return err
}

// announce announces a cutoff, and sets when it is in force. It returns the journal, with an error only what this node knows of it.
func (c *Cutoffs) announce(ctx context.Context, cutoff *storage.Cutoff) (*storage.Journal, error) {
	longest, err := c.longest(ctx)
	if err != nil {
		return &storage.Journal{Lifetimes: longest}, err
	}
	var announced storage.Cutoff
	journal, err := c.updateJournal(ctx, func(journal *storage.Journal) error {
		journal.Lifetimes = journal.Max(longest)
		announced = *cutoff
		c.date(&announced, journal)
		journal.Announce(&announced)
		return nil
	})
	if err != nil {
		return &storage.Journal{Lifetimes: longest}, err
	}
	*cutoff = announced
	return journal, nil
}

// tick is the least time between two revocations on the clock of the journal. What begins between them is void by the
// second and not by the first.
const tick = 2 * time.Millisecond

// date sets when a cutoff is in force, by the clock of the journal: the clock of this node may be behind that of others.
func (c *Cutoffs) date(cutoff *storage.Cutoff, journal *storage.Journal) {
	moment := c.Now().Truncate(time.Millisecond)
	if next := journal.Clock.Add(tick); next.After(moment) {
		moment = next
	}
	journal.Clock = moment
	cutoff.Before = moment.Add(ClockSkew)
	switch {
	case cutoff.Token != "":
	case cutoff.Family != "":
		cutoff.Expires = cutoff.Before.Add(journal.AccessToken)
	case journal.Family == storage.Forever:
		cutoff.Expires = time.Time{}
	default:
		cutoff.Expires = cutoff.Before.Add(journal.Family + journal.AccessToken)
	}
}

// write writes the record of a cutoff.
func (c *Cutoffs) write(ctx context.Context, cutoff *storage.Cutoff) error {
	record, err := cutoff.Encode()
	if err != nil {
		return err
	}
	key := cutoff.Key()
	if !cutoff.Dated() {
		return c.Store.Put(ctx, key, record, cutoff.Expires)
	}
	err = c.Store.Update(ctx, key, func(old []byte) ([]byte, time.Time, error) {
		if other, err := storage.DecodeCutoff(old); err == nil && !other.Before.Before(cutoff.Before) {
			return nil, time.Time{}, storage.ErrKeep // another revocation within the same second was later
		}
		return record, cutoff.Expires, nil
	})
	if errors.Is(err, storage.ErrDamaged) {
		return c.Store.Put(ctx, key, record, cutoff.Expires)
	}
	return err
}

// Cover makes sure that revocations from now on are kept for tokens with these lifetimes, before such tokens are issued. As
// a rule they are, and it does not ask the store.
func (c *Cutoffs) Cover(ctx context.Context, need storage.Lifetimes) error {
	if err := c.Load(ctx); err != nil {
		return err
	}
	if stored := c.lifetimes(); stored.Max(need) == stored {
		return nil
	}
	raised, err := c.raise(ctx, need)
	if err != nil {
		return err
	}
	// The revocations until now are kept for shorter lifetimes. So this node must know them, and issue nothing that they void.
	if err := c.Sync(ctx); err != nil {
		return err
	}
	c.learnLifetimes(raised)
	return nil
}

// raise writes longer lifetimes into the journal, and returns those that it has then.
func (c *Cutoffs) raise(ctx context.Context, need storage.Lifetimes) (storage.Lifetimes, error) {
	journal, err := c.updateJournal(ctx, func(journal *storage.Journal) error {
		longest := journal.Max(need)
		if longest == journal.Lifetimes {
			return storage.ErrKeep
		}
		journal.Lifetimes = longest
		return nil
	})
	if err != nil {
		return storage.Lifetimes{}, err
	}
	return journal.Lifetimes, nil
}

// lifetimes returns the longest lifetimes that the journal is known to have.
func (c *Cutoffs) lifetimes() storage.Lifetimes {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.stored
}

// longest returns the longest lifetimes that this node knows of.
func (c *Cutoffs) longest(ctx context.Context) (storage.Lifetimes, error) {
	own, err := c.Lifetimes(ctx)
	return own.Max(c.lifetimes()), err
}

func (c *Cutoffs) learnLifetimes(l storage.Lifetimes) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stored = c.stored.Max(l)
}

// AccessTokenLife returns how long an access token can be accepted after it was issued, by any configuration that this node
// knows of.
func (c *Cutoffs) AccessTokenLife() time.Duration { return c.lifetimes().AccessToken }

// learn takes in cutoffs.
func (c *Cutoffs) learn(cutoffs ...*storage.Cutoff) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.reportChange(c.index.inForce)
	for _, cutoff := range cutoffs {
		c.index.add(cutoff.Key().ID, cutoff, c.Now())
	}
}

// reportChange says how many cutoffs are in force, if it is another number than before. The caller holds the lock.
func (c *Cutoffs) reportChange(before int) {
	if c.index.inForce != before {
		c.Changed(c.index.inForce)
	}
}

// Knows reports whether the cutoff with the record of that ID is in force here. It does not ask the store.
func (c *Cutoffs) Knows(id string) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.index.known[id] != nil
}

// Count returns how many cutoffs are in force.
func (c *Cutoffs) Count() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.index.inForce
}

// Token is what has to be known of an access token to tell whether it is void.
type Token struct {
	ID, Family, Subject, Client string

	// Began is when the token was issued, or, if it has a family, when the family started: a node that did not know of a
	// revocation yet may have issued the token after it.
	Began time.Time
}

// VoidsToken reports whether an access token is void.
func (c *Cutoffs) VoidsToken(t Token) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.index.hasToken(t.ID) || c.index.hasFamily(t.Family) || c.index.voids(t.Subject, t.Client, t.Began)
}

// Why says in a few words which revocation voids an access token, "" for none.
func (c *Cutoffs) Why(t Token) string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	switch {
	case c.index.hasToken(t.ID):
		return "the token was revoked"
	case c.index.hasFamily(t.Family):
		return "the family of the token was revoked"
	}
	for _, about := range []struct {
		target
		what string
	}{
		{target{subject: t.Subject, client: t.Client}, "the user at the client"},
		{target{subject: t.Subject}, "the user"},
		{target{client: t.Client}, "the client"},
	} {
		if before := c.index.entries[about.target].before; !before.IsZero() && t.Began.UnixMilli() <= before.UnixMilli() {
			return "all tokens of " + about.what + " until " + before.Add(-ClockSkew).UTC().Format(time.RFC3339) + " were revoked"
		}
	}
	return ""
}

// VoidsFamily reports whether the family with the record of that ID is void.
func (c *Cutoffs) VoidsFamily(id string, f *storage.Family) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.index.hasFamily(id) || c.index.voids(f.Subject, f.Client, f.Started)
}

// HasFamilyCutoff reports whether the family with the record of that ID was revoked by itself, and its access tokens are void.
func (c *Cutoffs) HasFamilyCutoff(id string) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.index.hasFamily(id)
}

// Voids reports whether what began at a time, for a user through a client, is void.
func (c *Cutoffs) Voids(subject, client string, began time.Time) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.index.voids(subject, client, began)
}

// Removed reports whether the user has taken back the access of a client since something began: then the client may get nothing more
// on the strength of it. The time need not be one at which the client itself got something, as that for Voids is, so the clocks of
// nodes do not matter as they do there.
func (c *Cutoffs) Removed(subject, client string, began time.Time) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	before := c.index.entries[target{subject: subject, client: client}].before
	return !before.IsZero() && began.UnixMilli() <= before.Add(-ClockSkew).UnixMilli()
}

// Begin returns the start time of what a user starts through a client now, such as a family: now, or the first moment after the
// latest cutoff that would revoke it. Call [Cutoffs.Sync] before, so that the revocations of other nodes are known.
func (c *Cutoffs) Begin(subject, client string, now time.Time) time.Time {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if last := c.index.last(subject, client); !last.IsZero() && now.UnixMilli() <= last.UnixMilli() {
		return last.Truncate(time.Millisecond).Add(time.Millisecond)
	}
	return now
}
