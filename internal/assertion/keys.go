package assertion

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/fetch"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

const (
	maxSet      = 64 << 10 // bytes of a JWK set
	maxSets     = 500      // sets that are kept in memory, of each kind
	fetchTime   = 6 * time.Second
	fetchPause  = time.Minute    // between two fetches of a set, whatever the reason
	maxSetStale = 24 * time.Hour // how long a set is used that cannot be fetched again
)

// Keys finds the keys of clients, and remembers them. Safe for concurrent use. All issuers of a process can share it.
type Keys struct {
	fetcher *fetch.Fetcher
	now     func() time.Time
	flights fetch.Group[[]*jwt.Key]

	mu        sync.Mutex
	inline    map[string][]*jwt.Key // by the set
	remote    map[source]*remoteSet
	strangers map[source]*remoteSet // of clients that have registered themselves, so that these crowd out no others
}

// source is where a set is.
type source struct {
	url      string
	loopback bool // it can be on this machine
	stranger bool // a client has registered itself with it, as anybody can
}

// remoteSet is what is known of the set at a URL. Nobody changes it, it is replaced.
type remoteSet struct {
	keys    []*jwt.Key
	etag    string
	changed string    // Last-Modified
	fresh   time.Time // until then there is no need to fetch it again
	got     time.Time // when it was last fetched; zero: never
	tried   time.Time // when a fetch was last begun
	problem error     // of the last fetch
}

// NewKeys returns a Keys that fetches sets with the fetcher.
func NewKeys(fetcher *fetch.Fetcher, now func() time.Time) *Keys {
	return &Keys{
		fetcher: fetcher, now: now, inline: make(map[string][]*jwt.Key),
		remote: make(map[source]*remoteSet), strangers: make(map[source]*remoteSet),
	}
}

// find returns the keys of a client that can have signed with that header. With loopback, they can be at an address of this machine.
// The error is an *Error unless ctx has ended.
func (k *Keys) find(ctx context.Context, client *storage.Client, header jwt.Header, loopback bool) ([]*jwt.Key, error) {
	var all []*jwt.Key
	var err error
	if len(client.JWKS) > 0 {
		all, err = k.parse(client.JWKS)
	} else {
		all, err = k.at(ctx, source{client.JWKSURI, loopback, client.Origin == storage.OriginRegistered}, header)
	}
	if err != nil {
		return nil, err
	}
	fitting := matching(all, header)
	if len(fitting) == 0 {
		return nil, &Error{
			Sent: "alg " + header.Algorithm + ", kid " + header.KeyID, Expected: "the alg and, if there is one, the kid of a key of the client",
			Setting: "jwks, jwks_uri",
		}
	}
	return fitting, nil
}

// matching returns the keys with the algorithm, and with the kid if both key and header have one.
func matching(keys []*jwt.Key, header jwt.Header) (fitting []*jwt.Key) {
	for _, key := range keys {
		if key.Algorithm == header.Algorithm && (header.KeyID == "" || key.ID == "" || key.ID == header.KeyID) {
			fitting = append(fitting, key)
		}
	}
	return fitting
}

// parse returns the keys of a set that is among a client's settings.
func (k *Keys) parse(set []byte) ([]*jwt.Key, error) {
	k.mu.Lock()
	keys, ok := k.inline[string(set)]
	k.mu.Unlock()
	if ok {
		return keys, nil
	}
	keys, err := jwt.ParseClientKeys(set)
	if err != nil {
		return nil, &Error{Sent: "a JWT of the client", Expected: "keys of the client: " + err.Error(), Setting: "jwks"}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	keep(k.inline, string(set), keys)
	return keys, nil
}

// keep adds an entry to a map of at most maxSets.
func keep[K comparable, T any](entries map[K]T, name K, entry T) {
	for other := range entries {
		if len(entries) < maxSets {
			break
		}
		if other != name {
			delete(entries, other)
		}
	}
	entries[name] = entry
}

// at returns the keys at a client's URL. They are fetched again when they are no longer fresh, or when none of them can have signed,
// but at most once a minute. If that fails, those that are known are used for a day.
func (k *Keys) at(ctx context.Context, from source, header jwt.Header) ([]*jwt.Key, error) {
	known := k.known(from)
	if k.now().Before(known.fresh) && len(matching(known.keys, header)) > 0 {
		return known.keys, nil
	}
	keys, err := k.flights.Do(ctx, fmt.Sprint(from), fetchTime, func(ctx context.Context) ([]*jwt.Key, error) {
		return k.refresh(ctx, from)
	})
	if err == nil || ctx.Err() != nil {
		return keys, err
	}
	return nil, &Error{Sent: "a JWT of the client", Expected: "keys at " + from.url + ": " + err.Error(), Setting: "jwks_uri"}
}

func (k *Keys) known(from source) remoteSet {
	k.mu.Lock()
	defer k.mu.Unlock()
	if set := k.sets(from)[from]; set != nil {
		return *set
	}
	return remoteSet{}
}

// sets returns the sets that one at a URL is among. The caller holds the lock.
func (k *Keys) sets(from source) map[source]*remoteSet {
	if from.stranger {
		return k.strangers
	}
	return k.remote
}

// refresh fetches a set, unless that was tried a moment ago, and returns the keys that are known then.
func (k *Keys) refresh(ctx context.Context, from source) ([]*jwt.Key, error) {
	set, now := k.known(from), k.now()
	if set.tried.IsZero() || now.Sub(set.tried) >= fetchPause {
		set.tried = now
		set.problem = set.fetch(ctx, k.fetcher, from, now)
		k.mu.Lock()
		keep(k.sets(from), from, &set)
		k.mu.Unlock()
	}
	switch {
	case set.got.IsZero():
		return nil, set.problem
	case now.Sub(set.fresh) >= maxSetStale:
		return nil, errors.Join(errors.New("those that were fetched are too old"), set.problem)
	}
	return set.keys, nil
}

// fetch changes the set to what is at the URL now.
func (s *remoteSet) fetch(ctx context.Context, fetcher *fetch.Fetcher, from source, now time.Time) error {
	response, err := fetcher.Get(ctx, fetch.Request{
		URL: from.url, Purpose: "jwks_uri", Known: !from.stranger, Loopback: from.loopback, Limit: maxSet, ETag: s.etag, LastModified: s.changed,
		Check: func(document []byte) error {
			_, err := jwt.ParseClientKeys(document)
			return err
		},
	})
	if err != nil {
		return err
	}
	s.got, s.fresh = now, now.Add(response.Fresh)
	if response.NotModified() {
		return nil
	}
	s.etag, s.changed = response.ETag, response.LastModified
	s.keys, err = jwt.ParseClientKeys(response.Body)
	return err
}
