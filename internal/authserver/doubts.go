package authserver

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// doubts knows of refreshes whose outcome is not known: the store gave no answer, or the client did not wait for it. The
// refresh token may have been replaced all the same, perhaps only when the store came to it, and nobody was told by
// what. So the time in which the token before the newest is good begins anew with each failure, or else a client that
// comes again when it was told to would be taken for a thief.
type doubts struct {
	some  atomic.Bool // there have been any
	mu    sync.Mutex
	known map[string]doubt // by the ID of the family
}

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
func (d *doubts) after(ctx context.Context, err error, client *storage.Client, form url.Values, began, now time.Time) {
	if !Unavailable(err) && !errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	id, ok := familyOf(client, form)
	if !ok || client.RefreshToken.Retry == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil {
		d.known = make(map[string]doubt)
	}
	if known, ok := d.known[id]; ok && !known.over(began, client.RefreshToken.Retry) {
		began = known.first
	} else if len(d.known) >= maxDoubts {
		d.drop(now)
	}
	d.known[id] = doubt{began, now}
	d.some.Store(true)
}

// drop makes room for another doubt: it drops those that are over, or else whichever comes first.
func (d *doubts) drop(now time.Time) {
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
func (d *doubts) client(client *storage.Client, form url.Values, now time.Time) *storage.Client {
	if !d.some.Load() {
		return client
	}
	id, ok := familyOf(client, form)
	if !ok || client.RefreshToken.Retry == 0 {
		return client
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	known, ok := d.known[id]
	if !ok || known.over(now, client.RefreshToken.Retry) {
		return client
	}
	patient := *client
	patient.RefreshToken.Retry += now.Sub(known.first)
	return &patient
}

// familyOf returns the ID of the family whose refresh token a form has.
func familyOf(client *storage.Client, form url.Values) (id string, ok bool) {
	key, ok := storage.RefreshKey(strings.TrimPrefix(form.Get("refresh_token"), client.RefreshToken.Prefix))
	return key.ID, ok
}
