package authserver

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/revocation"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// lastUses knows when clients last got a token for a person, and writes that to the person's consents: away from the
// requests, and at most once in a storage.UseInterval for each person and client. What it could not write before the
// process died, the client's next token brings up again.
type lastUses struct {
	consents *consentRecords
	cutoffs  *revocation.Cutoffs

	mu       sync.Mutex
	recorded map[pair]use // what was recorded last, to pass over what is not new
	pending  map[pair]use // what of it is yet to be written
}

// use is that a client got a token with those scopes.
type use struct {
	at     time.Time
	began  time.Time // start of the family, or when the token was issued if it has none
	scopes []string
	until  time.Time // until when the person sees the client if it needs no approval; zero: for ever
}

// pair is a user at a client.
type pair struct{ subject, client string }

const (
	maxUses = 50_000 // in each of the maps

	// keptUnasked is how long a person sees a client that needs no approval after its last token, at least.
	keptUnasked = 90 * 24 * time.Hour
)

func newLastUses(consents *consentRecords, cutoffs *revocation.Cutoffs) *lastUses {
	return &lastUses{consents: consents, cutoffs: cutoffs, recorded: make(map[pair]use), pending: make(map[pair]use)}
}

// record notes a use in memory, if it is new. It touches no store.
func (u *lastUses) record(subject, client string, next use) {
	p := pair{subject, client}
	u.mu.Lock()
	defer u.mu.Unlock()
	last := u.recorded[p]
	if u.cutoffs.Voids(subject, client, last.began) { // the consent was taken back, and with it what it said of the last use
		last = use{}
	}
	unknown := func(scope string) bool { return !slices.Contains(last.scopes, scope) }
	if next.at.Sub(last.at) < storage.UseInterval && !slices.ContainsFunc(next.scopes, unknown) {
		return
	}
	// Copy the texts: as parts of a decoded record, they would keep all of it in memory.
	p.subject = strings.Clone(subject)
	all := slices.Clone(last.scopes)
	for _, scope := range next.scopes {
		if unknown(scope) {
			all = append(all, strings.Clone(scope))
		}
	}
	next.scopes = all
	keep(u.recorded, p, next)
	keep(u.pending, p, next)
}

// keep puts a use into a bounded map. If the map is full, it drops any other use: the app's next token notes it again.
func keep(m map[pair]use, p pair, next use) {
	if _, ok := m[p]; !ok && len(m) >= maxUses {
		for other := range m {
			delete(m, other)
			break
		}
	}
	m[p] = next
}

// write writes what is pending of a person or, with "", of everybody.
func (u *lastUses) write(ctx context.Context, subject string) error {
	if err := u.cutoffs.Load(ctx); err != nil {
		return err
	}
	for p, next := range u.due(subject) {
		err := u.writeOne(ctx, p, next)
		if errors.Is(err, storage.ErrReadOnly) {
			return nil // Keep it, and let the page of apps load.
		}
		if err != nil {
			return err
		}
		u.done(p, next)
	}
	return nil
}

func (u *lastUses) due(subject string) map[pair]use {
	u.mu.Lock()
	defer u.mu.Unlock()
	due := make(map[pair]use)
	for p, next := range u.pending {
		if subject == "" || subject == p.subject {
			due[p] = next
		}
	}
	return due
}

// done forgets what was written, unless there is more by now.
func (u *lastUses) done(p pair, written use) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.pending[p].at.Equal(written.at) && len(u.pending[p].scopes) == len(written.scopes) {
		delete(u.pending, p)
	}
}

// writeOne adds a use to the person's consents. Access that was revoked meanwhile stays revoked: a revocation first
// makes its cutoff known here, and then takes the consent back, so that either it sees what is written here or this
// sees the cutoff. See Revoker.Revoke.
func (u *lastUses) writeOne(ctx context.Context, p pair, next use) error {
	return u.consents.change(ctx, p.subject, func(consents *storage.Consents) error {
		consents.Prune(next.at)
		if u.cutoffs.Voids(p.subject, p.client, next.began) || !consents.Use(p.client, next.scopes, next.at, next.until) {
			return storage.ErrKeep
		}
		return nil
	})
}

// seenUntil returns until when a person sees what a client got without approval: as long as its tokens can live, zero for ever. The users of
// a grant can be of other issuers, and are not bounded in number.
func seenUntil(client *storage.Client, now time.Time) time.Time {
	life := lifetimesOf(client)
	if life.Family == storage.Forever {
		return time.Time{}
	}
	// The uses of the next storage.UseInterval are not recorded.
	return now.Add(max(keptUnasked, life.Family+life.AccessToken) + storage.UseInterval)
}
