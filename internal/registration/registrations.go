// Package registration has the metadata of clients that describe themselves, and keeps the clients that register with it.
//
// [Metadata] is what such a client says: in the body of a registration (RFC 7591) or in the document at the URL that is its client ID
// (Client ID Metadata Document, package cimd). [Parse] reads it, [Metadata.Check] refuses what no client may say, and
// [Metadata.Negotiate] decides what the client gets of what it asks for.
//
// [Registrations] are the clients that have registered, one [Record] each. A record is deleted a day after the registration if its
// client never gets a code, and otherwise some time after its last use, but not before its tokens have expired (Record.use). A
// client with a secret can change its registration or delete it (RFC 7592), see [Registrations.Manage]; what is left of a deleted one for
// an hour tells the other nodes. Beyond the greatest number of registrations, room.go drops the oldest ones without valid tokens.
//
// Start reading at [Registrations.Register].
package registration

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

const (
	// firstUse is how long a registration is kept until its client first gets a code.
	firstUse = 24 * time.Hour
	// slack is how much longer than necessary an expiry is set, so that a client which is used all the time costs one write a day.
	slack = 24 * time.Hour
	// tombstone is how long other nodes must remember that a registration was deleted: longer than they believe what they have read.
	tombstone = time.Hour
	// freshness is how long this node believes what it has read.
	freshness = time.Minute
	// maxCached is how many clients this node keeps in memory.
	maxCached = 4096
)

// Config is what Registrations are made of.
type Config struct {
	Issuer string // its short name
	Store  storage.Store
	Logger *zap.Logger
	Now    func() time.Time

	Supported Supported
	KnownOnly bool          // whether only widely used clients can register, see isKnownRedirect
	Max       int           // how many registrations are kept
	Unused    time.Duration // how long a registration without tokens is kept

	// Describe returns the client of a registration. secret is "" if it has none. An *Error says why its metadata is refused.
	Describe func(id string, m *Metadata, secret string) (*storage.Client, error)
}

// Registrations are the clients that have registered themselves (RFC 7591). All of them are in the store; what requests need is in
// memory for a minute. Safe for concurrent use.
type Registrations struct {
	config Config
	idKey  idKey
	room   room

	mu    sync.Mutex
	cache map[string]cached
}

// cached is what was read of a registration.
type cached struct {
	record *Record // never changed, only replaced; nil if it is not there
	client *storage.Client
	at     time.Time
}

// New returns the registrations in a store, which it does not touch before the first request.
func New(config Config) *Registrations {
	return &Registrations{
		config: config, idKey: idKey{store: config.Store, loading: semaphore.NewWeighted(1)},
		room: room{making: semaphore.NewWeighted(1)}, cache: make(map[string]cached),
	}
}

// Registered is a client right after its registration or a change of it.
type Registered struct {
	*Record

	Client *storage.Client
	New    bool   // it was not registered before
	Secret string // the client_secret, "" if it has none
	Token  string // the registration access token (RFC 7592 §3), "" if the client cannot change its registration

	negotiated *Negotiated
}

var (
	// ErrGone says that there is no such registration, or that the token is not that of the registration.
	ErrGone    = errors.New("no such registration, or another registration access token")
	errDeleted = &grants.Error{
		Code: grants.InvalidClient, Description: "the client is not registered any more", Status: http.StatusUnauthorized,
	}
)

// FullError says that no more clients can register now.
type FullError struct {
	Max   int
	After time.Duration // when to try again
}

func (e *FullError) Error() string {
	return fmt.Sprintf("there are %d registrations, and none can be dropped", e.Max)
}

// Register registers a client. A public client that sends the same again gets the same ID: there is one record of it. An *Error says
// what is wrong with the metadata, a *FullError that there is no room, and a *UsedUpError that the initial access token, which can be nil,
// is used up. admit is asked before a new record is made.
func (r *Registrations) Register(ctx context.Context, asked *Metadata, token *InitialToken, admit func() error) (*Registered, error) {
	m, err := r.accept(asked)
	if err != nil {
		return nil, err
	}
	key, err := r.idKey.load(ctx)
	if err != nil {
		return nil, err
	}
	record := &Record{ID: publicID(key, m), Metadata: m, Created: r.config.Now()}
	if m.Confidential() {
		record.ID = randomID(key)
	}
	made, err := r.describe(key, record)
	if err != nil {
		return nil, err
	}
	known, err := r.find(ctx, record.ID)
	if err != nil {
		return nil, err
	}
	counted := false
	if made.New = known.record == nil; made.New {
		if err := admit(); err != nil {
			return nil, err
		}
		if err := r.left(ctx, token, record.ID); err != nil { // before others are dropped
			return nil, err
		}
		if err := r.makeRoom(ctx); err != nil {
			return nil, err
		}
		if counted, err = r.use(ctx, token, record.ID); err != nil {
			return nil, err
		}
	}
	stored, err := r.keep(ctx, record)
	if err != nil {
		if counted {
			r.giveBack(context.WithoutCancel(ctx), token, record.ID)
		}
		return nil, err
	}
	// The answer has the redirect URIs of this request, which can differ from those of the first in the ports of loopback hosts.
	made.Record = answer(stored, m, made.negotiated)
	return made, nil
}

// accept checks metadata, and returns what is registered of it. The defaults for OpenID Connect are not: the owner may change them.
func (r *Registrations) accept(asked *Metadata) (*Metadata, error) {
	if err := asked.Check(); err != nil {
		return nil, err
	}
	if r.config.KnownOnly {
		for _, uri := range asked.RedirectURIs {
			if !isKnownRedirect(uri) {
				return nil, &Error{InvalidRedirectURI, "redirect_uris", "expected that of a client which this server knows: " + short(uri)}
			}
		}
	}
	n, err := asked.Negotiate(r.config.Supported)
	if err != nil {
		return nil, err
	}
	if n.OpenIDRefused != nil {
		return nil, n.OpenIDRefused
	}
	m := *asked
	if s := r.config.Supported.OpenID; s == nil || !s.Sectors {
		m.SectorIdentifierURI = "" // nobody has checked what is there
	}
	m.ClientID, m.Scope, m.HasSecret, m.ClientSecret = "", "", false, "" // every client may ask for the same scopes
	m.TokenEndpointAuthMethod, m.TokenEndpointAuthMethods = n.AuthMethod, nil
	if !m.Confidential() {
		methods := slices.DeleteFunc(slices.Clone(n.AuthMethods), func(method string) bool {
			return method == storage.MethodBasic || method == storage.MethodPost
		})
		if len(methods) > 1 {
			m.TokenEndpointAuthMethods = methods
		}
	}
	m.GrantTypes, m.ResponseTypes, m.RequestSigningAlg = n.GrantTypes, n.ResponseTypes, n.RequestAlg
	return &m, nil
}

// answer returns a record as its client gets to know it, with what the client gets of OpenID Connect now.
func answer(record *Record, m *Metadata, n *Negotiated) *Record {
	told, got := *record, *m
	got.OpenIDMetadata = n.OpenID
	told.Metadata = &got
	return &told
}

// describe returns the client of a record.
func (r *Registrations) describe(key []byte, record *Record) (*Registered, error) {
	n, err := record.Metadata.Negotiate(r.config.Supported)
	if err != nil {
		return nil, err
	}
	made := &Registered{Record: answer(record, record.Metadata, n), negotiated: n}
	if record.Metadata.Confidential() {
		made.Secret, made.Token = secretOf(key, record.ID), tokenOf(key, record.ID)
	}
	if made.Client, err = r.config.Describe(record.ID, record.Metadata, made.Secret); err != nil {
		return nil, err
	}
	made.Client.Created = record.Created
	return made, nil
}

// keep stores a registration unless it is there, and returns what is there. One that was never used is kept for another day.
func (r *Registrations) keep(ctx context.Context, record *Record) (stored *Record, err error) {
	now := r.config.Now()
	err = r.update(ctx, record.ID, func(old *Record) (*Record, error) {
		stored = old
		if old == nil || !old.live(now) {
			fresh := *record
			stored = &fresh
		} else if !old.Used.IsZero() || old.Expires.Sub(now) > firstUse-time.Hour {
			return nil, storage.ErrKeep
		}
		stored.Expires = now.Add(firstUse)
		return stored, nil
	})
	return stored, err
}

// update decides on a record in one atomic step. change gets nil if there is none, and returns what it becomes.
func (r *Registrations) update(ctx context.Context, id string, change func(old *Record) (*Record, error)) error {
	defer r.forget(id)
	return r.config.Store.Update(ctx, recordKey(id), func(text []byte) ([]byte, time.Time, error) {
		var old *Record
		if text != nil {
			var err error
			if old, err = decodeRecord(text); err != nil {
				return nil, time.Time{}, err
			}
		}
		next, err := change(old)
		if err != nil || next == nil {
			return nil, time.Time{}, err
		}
		value, err := json.Marshal(next)
		return value, next.Expires, err
	})
}

// Find returns the client with that ID, nil if it has not registered. It implements clients.Source.
func (r *Registrations) Find(ctx context.Context, id string) (*storage.Client, error) {
	found, err := r.find(ctx, id)
	return found.client, err
}

// Missing says what an ID that Find does not know should be, for the owner. It implements clients.Explainer.
func (r *Registrations) Missing(id string) string {
	if !looksLikeID(id) {
		return ""
	}
	return "a client that has registered here, has not been forgotten or deleted, and has no redirect host that is blocked"
}

// find returns a registration, from memory if it was read a moment ago. For an ID that this server did not make it reads nothing.
func (r *Registrations) find(ctx context.Context, id string) (cached, error) {
	if !looksLikeID(id) {
		return cached{}, nil
	}
	now := r.config.Now()
	r.mu.Lock()
	known, ok := r.cache[id]
	r.mu.Unlock()
	if ok && now.Sub(known.at) < freshness && known.record.live(now) {
		return known, nil
	}
	key, err := r.idKey.load(ctx)
	if errors.Is(err, storage.ErrReadOnly) {
		return cached{}, nil // there is no key, so nobody has registered
	}
	if err != nil || !issued(key, id) {
		return cached{}, err
	}
	text, err := r.config.Store.Get(ctx, recordKey(id))
	if errors.Is(err, storage.ErrNotFound) {
		r.forget(id)
		return cached{}, nil
	}
	if err != nil {
		return cached{}, err
	}
	record, err := decodeRecord(text)
	if err != nil {
		return cached{}, err
	}
	if record.ID != id || !record.live(now) {
		return cached{}, nil
	}
	made, err := r.describe(key, record)
	if refused, ok := errors.AsType[*Error](err); ok {
		r.config.Logger.Info("registered client is refused, as the settings of the issuer have changed",
			zap.String("issuer", r.config.Issuer), zap.String("client_id", id), zap.Error(refused))
		return cached{}, nil
	}
	if err != nil {
		return cached{}, err
	}
	if refused := made.negotiated.OpenIDRefused; refused != nil {
		r.config.Logger.Info("registered client cannot sign people in, as the settings of the issuer have changed",
			zap.String("issuer", r.config.Issuer), zap.String("client_id", id), zap.Error(refused))
	}
	found := cached{record, made.Client, now}
	r.remember(record.ID, found) // not id, a part of the request, all of which would stay in memory
	return found, nil
}

// remember keeps in memory what was read. If the memory is full, an arbitrary other client has to be read again.
func (r *Registrations) remember(id string, found cached) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for other := range r.cache {
		if len(r.cache) < maxCached {
			break
		}
		delete(r.cache, other)
	}
	r.cache[id] = found
}

func (r *Registrations) forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.cache, id)
}

// InUse says that the client has tokens until then; zero is for ever. It implements clients.Source. A registration that was dropped
// for another one since the login began is written again.
func (r *Registrations) InUse(ctx context.Context, id string, until time.Time) error {
	found, err := r.find(ctx, id)
	if err != nil {
		return err
	}
	if found.record == nil {
		return errDeleted
	}
	now := r.config.Now()
	if !found.record.mustKeep(now, until, r.config.Unused) {
		return nil
	}
	return r.update(ctx, id, func(old *Record) (*Record, error) {
		next := old
		switch {
		case old == nil || !old.live(now) && old.Deleted.IsZero():
			again := *found.record
			next = &again
		case !old.Deleted.IsZero():
			return nil, errDeleted
		case !old.mustKeep(now, until, r.config.Unused):
			return nil, storage.ErrKeep
		}
		next.use(now, until, r.config.Unused)
		return next, nil
	})
}

// Manage returns a registration for whoever presents its registration access token (RFC 7592 §2), or ErrGone.
func (r *Registrations) Manage(ctx context.Context, id, token string) (*Registered, error) {
	if !looksLikeID(id) {
		return nil, ErrGone
	}
	key, err := r.idKey.load(ctx)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare([]byte(token), []byte(tokenOf(key, id))) != 1 {
		return nil, ErrGone
	}
	r.forget(id)
	found, err := r.find(ctx, id)
	if err != nil {
		return nil, err
	}
	if found.record == nil || !found.record.Metadata.Confidential() {
		return nil, ErrGone
	}
	return r.describe(key, found.record)
}

// Change replaces the metadata of a registration that Manage has returned (RFC 7592 §2.2). The client keeps its secret.
func (r *Registrations) Change(ctx context.Context, id string, asked *Metadata) (*Registered, error) {
	m, err := r.accept(asked)
	if err != nil {
		return nil, err
	}
	if !m.Confidential() {
		return nil, invalid("token_endpoint_auth_method", "expected a method with the client secret, as before")
	}
	key, err := r.idKey.load(ctx)
	if err != nil {
		return nil, err
	}
	now := r.config.Now()
	if _, err := r.describe(key, &Record{ID: id, Metadata: m}); err != nil {
		return nil, err
	}
	var changed *Record
	err = r.update(ctx, id, func(old *Record) (*Record, error) {
		if old == nil || !old.live(now) {
			return nil, ErrGone
		}
		old.Metadata, old.Changed = m, now
		changed = old
		return old, nil
	})
	if err != nil {
		return nil, err
	}
	return r.describe(key, changed)
}

// Delete deletes a registration. used says that its client may have tokens, which the caller voids.
func (r *Registrations) Delete(ctx context.Context, id string) (used bool, err error) {
	now := r.config.Now()
	err = r.update(ctx, id, func(old *Record) (*Record, error) {
		if old == nil || !old.live(now) {
			return nil, ErrGone
		}
		used = !old.Used.IsZero()
		old.Deleted, old.Expires = now, now.Add(tombstone)
		return old, nil
	})
	return used, err
}
