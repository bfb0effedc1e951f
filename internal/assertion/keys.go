package assertion

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
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
	flights fetch.Group[keySet]

	mu         sync.Mutex
	inline     map[string]keySet // by the set
	remote     map[source]*remoteSet
	registered map[source]*remoteSet // of clients that have registered themselves, so that these crowd out no others
}

// keySet is what a JWK set of a client is used for.
type keySet struct {
	keys         []*jwt.Key
	certificates [][]byte // in DER
}

func parseSet(document []byte) (set keySet, err error) {
	if set.keys, err = jwt.ParseClientKeys(document); err == nil {
		set.certificates = jwt.ParseClientCertificates(document)
	}
	return set, err
}

// source is where a set is.
type source struct {
	url        string
	loopback   bool // it can be on this machine
	registered bool // a client has registered itself with it, as anybody can
}

// remoteSet is what is known of the set at a URL. Nobody changes it, it is replaced.
type remoteSet struct {
	keySet

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
		fetcher: fetcher, now: now, inline: make(map[string]keySet),
		remote: make(map[source]*remoteSet), registered: make(map[source]*remoteSet),
	}
}

// find returns the keys of a client that can have signed with that header. With loopback, they can be at an address of this machine.
// The error is an *Error unless ctx has ended.
func (k *Keys) find(ctx context.Context, client *storage.Client, header jwt.Header, loopback bool) ([]*jwt.Key, error) {
	set, err := k.setOf(ctx, client, loopback, func(set keySet) bool { return len(matching(set.keys, header)) > 0 })
	if err != nil {
		return nil, err
	}
	fitting := matching(set.keys, header)
	if len(fitting) == 0 {
		return nil, &Error{
			Sent: "alg " + header.Algorithm + ", kid " + header.KeyID, Expected: "the alg and, if there is one, the kid of a key of the client",
			Setting: "jwks, jwks_uri",
		}
	}
	return fitting, nil
}

// hasCertificate reports whether a certificate in DER is in an x5c of the JWK set of a client (RFC 8705 §2.2). With loopback, the set can be
// at an address of this machine. The error is an *Error unless ctx has ended.
func (k *Keys) hasCertificate(ctx context.Context, client *storage.Client, der []byte, loopback bool) (bool, error) {
	has := func(set keySet) bool {
		return slices.ContainsFunc(set.certificates, func(known []byte) bool { return bytes.Equal(known, der) })
	}
	set, err := k.setOf(ctx, client, loopback, has)
	return err == nil && has(set), err
}

// setOf returns the JWK set of a client. One at a URL is fetched again if it is not enough.
func (k *Keys) setOf(ctx context.Context, client *storage.Client, loopback bool, enough func(keySet) bool) (keySet, error) {
	if len(client.JWKS) > 0 {
		return k.parse(client.JWKS)
	}
	return k.at(ctx, source{client.JWKSURI, loopback, client.Origin == storage.OriginRegistered}, enough)
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

// parse returns a set that is among a client's settings.
func (k *Keys) parse(document []byte) (keySet, error) {
	k.mu.Lock()
	set, ok := k.inline[string(document)]
	k.mu.Unlock()
	if ok {
		return set, nil
	}
	set, err := parseSet(document)
	if err != nil {
		return keySet{}, &Error{Sent: "a JWT of the client", Expected: "keys of the client: " + err.Error(), Setting: "jwks"}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	keep(k.inline, string(document), set)
	return set, nil
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

// at returns the set at a client's URL. It is fetched again when it is no longer fresh, or not enough, but at most once a minute. If that
// fails, what is known is used for a day.
func (k *Keys) at(ctx context.Context, from source, enough func(keySet) bool) (keySet, error) {
	known := k.known(from)
	if k.now().Before(known.fresh) && enough(known.keySet) {
		return known.keySet, nil
	}
	set, err := k.flights.Do(ctx, fmt.Sprint(from), fetchTime, func(ctx context.Context) (keySet, error) {
		return k.refresh(ctx, from)
	})
	if err == nil || ctx.Err() != nil {
		return set, err
	}
	return keySet{}, &Error{Sent: "a JWT of the client", Expected: "keys at " + from.url + ": " + err.Error(), Setting: "jwks_uri"}
}

func (k *Keys) known(from source) remoteSet {
	k.mu.Lock()
	defer k.mu.Unlock()
	if set := k.sets(from)[from]; set != nil {
		return *set
	}
	return remoteSet{}
}

// sets returns the map that from belongs to: self-registered clients have their own. The caller holds the lock.
func (k *Keys) sets(from source) map[source]*remoteSet {
	if from.registered {
		return k.registered
	}
	return k.remote
}

// refresh fetches a set, unless that was tried a moment ago, and returns what is known then.
func (k *Keys) refresh(ctx context.Context, from source) (keySet, error) {
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
		return keySet{}, set.problem
	case now.Sub(set.fresh) >= maxSetStale:
		return keySet{}, errors.Join(errors.New("those that were fetched are too old"), set.problem)
	}
	return set.keySet, nil
}

// fetch changes the set to what is at the URL now.
func (s *remoteSet) fetch(ctx context.Context, fetcher *fetch.Fetcher, from source, now time.Time) error {
	response, err := fetcher.Get(ctx, fetch.Request{
		URL: from.url, Purpose: "jwks_uri", Known: !from.registered, Loopback: from.loopback, Limit: maxSet, ETag: s.etag, LastModified: s.changed,
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
	s.keySet, err = parseSet(response.Body)
	return err
}
