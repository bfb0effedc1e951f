package authserver

import (
	"context"
	"errors"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Doubts knows of refreshes whose outcome is not known: the store gave no answer, or the client did not wait for it. The
// refresh token may have been replaced all the same, perhaps only when the store came to it, and nobody was told by
// what. So the time in which the token before the newest is good begins anew with each failure, or else a client that
// comes again when it was told to would be taken for a thief. That is so for the very token that was presented: it
// could have been presented with success then. Safe for concurrent use, by all servers of a process.
type Doubts struct {
	some  atomic.Bool // there have been any
	mu    sync.Mutex
	known map[string]doubt // by the hash of the refresh token
}

// NewDoubts returns Doubts about nothing.
func NewDoubts() *Doubts { return &Doubts{known: make(map[string]doubt)} }

// doubt is about refreshes between two times.
type doubt struct{ first, last time.Time }

const (
	maxDoubts   = 50_000
	doubtsShort = time.Minute // how long a doubt lasts, unless retry is longer
)

func (d doubt) over(now time.Time, retry time.Duration) bool {
	return now.Sub(d.last) >= max(doubtsShort, retry)
}

// after notes that a request for tokens, if it is a refresh, has failed with an error, and when it began.
func (d *Doubts) after(err error, client *storage.Client, form url.Values, began, now time.Time) {
	token, retry := form.Get("refresh_token"), client.RefreshToken.Retry
	if token == "" || retry == 0 || !Unavailable(err) && !errors.Is(err, context.Canceled) {
		return
	}
	id := storage.HashID(token)
	d.mu.Lock()
	defer d.mu.Unlock()
	if known, ok := d.known[id]; ok && !known.over(began, retry) {
		began = known.first
	} else if len(d.known) >= maxDoubts {
		d.drop(now)
	}
	d.known[id] = doubt{began, now}
	d.some.Store(true)
}

// drop makes room for another doubt: it drops those that are over, or else whichever comes first.
func (d *Doubts) drop(now time.Time) {
	for id, known := range d.known {
		if known.over(now, 0) {
			delete(d.known, id)
		}
	}
	for id := range d.known {
		if len(d.known) < maxDoubts {
			return
		}
		delete(d.known, id)
	}
}

// client returns the client as a request for tokens is to see it.
func (d *Doubts) client(client *storage.Client, form url.Values, now time.Time) *storage.Client {
	token, retry := form.Get("refresh_token"), client.RefreshToken.Retry
	if token == "" || retry == 0 || !d.some.Load() {
		return client
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	known, ok := d.known[storage.HashID(token)]
	if !ok || known.over(now, retry) {
		return client
	}
	patient := *client
	patient.RefreshToken.Retry += now.Sub(known.first)
	return &patient
}
