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
	mu     sync.Mutex
	ends   map[issuedCode]time.Time
	pushed int // how many of them are pushed requests, which have a bound of their own: a flood of them must not crowd out codes
}

// issuedCode is a code, by the key of its family's record.
type issuedCode struct {
	issuer string
	key    storage.Key
}

const (
	maxCodes = 100_000 // more are left to the sweep of the store; of pushed requests, there are no more

	// codeMargin is how far the clock of a node may be behind, without another node removing a code that it would accept.
	codeMargin = time.Minute
)

// NewCodes returns a Codes that remembers none.
func NewCodes() *Codes { return &Codes{ends: make(map[issuedCode]time.Time)} }

func (c *Codes) add(issuer string, key storage.Key, end time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, again := c.ends[issuedCode{issuer, key}]
	count := len(c.ends) - c.pushed
	if key.Kind == storage.KindPushed {
		count = c.pushed
	}
	switch {
	case again:
	case count >= maxCodes:
		return
	case key.Kind == storage.KindPushed:
		c.pushed++
	}
	c.ends[issuedCode{issuer, key}] = end
}

// addPushed is add for a request that a client is about to push. It reports false, and the request must be refused, if clients push
// faster than the records can go: they would stay for hours. A client that is not known, see call.isKnown, has half of the room, so that
// strangers never keep out the clients that the owner has added.
func (c *Codes) addPushed(issuer string, key storage.Key, end time.Time, known bool) bool {
	room := maxCodes
	if !known {
		room /= 2
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pushed >= room {
		return false
	}
	c.pushed++
	c.ends[issuedCode{issuer, key}] = end
	return true
}

// forget forgets a code that is remembered.
func (c *Codes) forget(code issuedCode) {
	if code.key.Kind == storage.KindPushed {
		c.pushed--
	}
	delete(c.ends, code)
}

func (c *Codes) redeemed(issuer string, key storage.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.ends[issuedCode{issuer, key}]; ok {
		c.forget(issuedCode{issuer, key})
	}
}

// takeEnded returns the codes of an issuer that no node accepts any more, and forgets them.
func (c *Codes) takeEnded(issuer string, now time.Time) (ended []storage.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for code, end := range c.ends {
		if code.issuer == issuer && storage.Expired(end.Add(codeMargin), now) {
			ended = append(ended, code.key)
			c.forget(code)
		}
	}
	return ended
}

// sweep removes the records of the issuer's codes that have ended. What fails is done again in the next sweep.
func (c *Codes) sweep(ctx context.Context, issuer string, store storage.Store, now time.Time) error {
	ended := c.takeEnded(issuer, now)
	for n, key := range ended {
		if err := removeExpired(ctx, store, key); err != nil {
			for _, key := range ended[n:] {
				c.add(issuer, key, now.Add(-codeMargin))
			}
			return err
		}
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
