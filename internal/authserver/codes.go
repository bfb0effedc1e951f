package authserver

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Codes remembers the codes that this process has issued and not redeemed, and the requests that clients have pushed to it, for all of
// its issuers, and removes their records when they have ended. A store would keep them longer: the record of a code is filed by the end of the refresh
// tokens that could come of it, so that an exchange is one write. A code that another process redeems is remembered until
// its end, and then found to be in use. What is remembered when the process ends is left to the sweep of the store. Safe
// for concurrent use.
type Codes struct {
	mu      sync.Mutex
	ends    map[issuedCode]remembered
	pushed  int       // how many of them have the place of a pushed request: a flood of them must not crowd out codes
	dropped time.Time // when entries that nobody removes were looked for
}

// remembered is an entry of Codes.
type remembered struct {
	end   time.Time
	place bool // it is a pushed request that no browser has come with, and has one of their places
}

// issuedCode is a code, by the key of its family's record.
type issuedCode struct {
	issuer string
	key    storage.Key
}

const (
	maxCodes = 100_000 // more are left to the sweep of the store; of pushed requests, there are 50,000 at most, see roomForPushed

	// codeMargin is how far the clock of a node may be behind, without another node removing a code that it would accept.
	codeMargin = time.Minute

	// abandoned is how much later than an old entry a new one must end for the old one to be dropped. If the old one is still there
	// by then, its issuer was removed or may not write. It is long enough for several sweeps.
	abandoned = 20 * time.Minute
)

// newCodes returns a Codes that remembers none.
func newCodes() *Codes { return &Codes{ends: make(map[issuedCode]remembered)} }

func (c *Codes) add(issuer string, key storage.Key, end time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(issuedCode{issuer, key}, remembered{end: end}, maxCodes)
}

// put adds or replaces an entry. It reports false if there are already room entries of that kind.
func (c *Codes) put(code issuedCode, r remembered, room int) bool {
	c.forget(code)
	count := func() int {
		if r.place {
			return c.pushed
		}
		return len(c.ends) - c.pushed
	}
	if count() >= room {
		c.dropAbandoned(r.end)
		if count() >= room {
			return false
		}
	}
	if r.place {
		c.pushed++
	}
	c.ends[code] = r
	return true
}

// dropAbandoned forgets what nobody removes, and leaves the records to the sweep of the store. It looks once in a while: a flood
// finds no room again and again.
func (c *Codes) dropAbandoned(end time.Time) {
	if end.Before(c.dropped.Add(codeMargin)) {
		return
	}
	c.dropped = end
	for code, r := range c.ends {
		if storage.Expired(r.end.Add(abandoned), end) {
			c.forget(code)
		}
	}
}

// addPushed is add for a request that a client is about to push. It reports false if there are too many; then the request must be
// refused, or its record would stay in the store for hours. Clients that are not known (see call.isKnown) can use only half of the
// room, so that they never lock out the clients that the owner has added.
func (c *Codes) addPushed(issuer string, key storage.Key, end time.Time, known bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.put(issuedCode{issuer, key}, remembered{end, true}, roomForPushed(known))
}

func roomForPushed(known bool) int {
	if known {
		return maxCodes
	}
	return maxCodes / 2
}

// forget forgets a code or a pushed request, if it is remembered.
func (c *Codes) forget(code issuedCode) {
	r, ok := c.ends[code]
	if !ok {
		return
	}
	if r.place {
		c.pushed--
	}
	delete(c.ends, code)
}

// redeemed forgets a code that was redeemed, or a pushed request that a browser has come with: their records have another end now.
func (c *Codes) redeemed(issuer string, key storage.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(issuedCode{issuer, key})
}

// takeEnded returns the codes of an issuer that no node accepts any more, and forgets them.
func (c *Codes) takeEnded(issuer string, now time.Time) map[storage.Key]remembered {
	ended := make(map[storage.Key]remembered)
	c.mu.Lock()
	defer c.mu.Unlock()
	for code, r := range c.ends {
		if code.issuer == issuer && storage.Expired(r.end.Add(codeMargin), now) {
			ended[code.key] = r
			c.forget(code)
		}
	}
	return ended
}

// putBack remembers what could not be removed.
func (c *Codes) putBack(issuer string, ended map[storage.Key]remembered) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, r := range ended {
		c.put(issuedCode{issuer, key}, r, maxCodes)
	}
}

// sweep removes the records of the issuer's codes that have ended. What fails is done again in the next sweep.
func (c *Codes) sweep(ctx context.Context, issuer string, store storage.Store, now time.Time) error {
	ended := c.takeEnded(issuer, now)
	for key := range ended {
		if err := removeExpired(ctx, store, key); err != nil {
			c.putBack(issuer, ended)
			return err
		}
		delete(ended, key)
	}
	return nil
}

// removeExpired removes a record unless it is live. It looks first, since that takes no lock.
func removeExpired(ctx context.Context, store storage.Store, key storage.Key) error {
	switch _, err := store.Get(ctx, key); {
	case errors.Is(err, storage.ErrNotFound):
	case errors.Is(err, storage.ErrDamaged), errors.Is(err, storage.ErrUnknownKey):
		return nil // it is left for people to look at, as by the sweep of the store
	default:
		return err
	}
	return store.Update(ctx, key, func(record []byte) ([]byte, time.Time, error) {
		if record != nil {
			return nil, time.Time{}, storage.ErrKeep
		}
		return nil, time.Time{}, nil // for an expired record too, nil deletes it
	})
}
