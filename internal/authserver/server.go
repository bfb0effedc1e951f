// Package authserver is the OAuth 2.0 authorization server over net/http. It knows nothing of Caddy:
// what the site around it knows of a request, it asks a [Site].
package authserver

import (
	"cmp"
	"context"
	"net/url"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/bounded"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/keyring"
	"github.com/caddy-oauth/caddy-oauth/internal/metrics"
	"github.com/caddy-oauth/caddy-oauth/internal/pages"
	"github.com/caddy-oauth/caddy-oauth/internal/revocation"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Config is what a Server is made of. It is not changed once a Server has it.
type Config struct {
	Identity
	Parties
	Persistence
	Shared
	Observers

	Keys   keyring.Policy
	Limits throttle.Limits
	Now    func() time.Time // nil is time.Now
}

// Identity is what clients and people see of an issuer.
type Identity struct {
	Name   string // the issuer's short name, for logs and metrics
	URL    string // the issuer, exactly as clients know it
	Paths  Paths
	Scopes []Scope

	AccessToken AccessTokenShape
	Wire        wire.Shape

	ConsentTemplate string // an owner's own consent page; "" is the built-in one
}

// Parties are the clients of an issuer, and how they get tokens.
type Parties struct {
	Clients map[string]*storage.Client // by client ID
	Resolve clients.Resolver           // of clients that are added at run time
	Secrets clients.Secrets
	Grants  []grants.Grant
}

// Persistence is where an issuer keeps its records.
type Persistence struct {
	Store storage.Store

	// ReadOnly refuses every write to the store, so that it can be copied.
	ReadOnly bool

	// StoreTimeout is how long a request may wait for the store in all; 0 is what is right for the store.
	StoreTimeout time.Duration

	// RevocationPoll is how often to poll for what other nodes have revoked; 0 is every five seconds.
	RevocationPoll time.Duration
}

// Shared is what the servers of this process have in common, so that a reload forgets nothing. Each that is nil is new.
type Shared struct {
	Throttle    *throttle.Throttle    // remembers failures, which Limits bounds
	Revocations *revocation.Broadcast // passes revocations on between the servers of one issuer
	Generations *Generations          // knows the servers before this one
}

// Observers learn what a server does.
type Observers struct {
	Logger   *zap.Logger
	Audit    *zap.Logger // gets a line for each Event; nil is none
	Registry metrics.Registry
	Observe  func(e *Event) // is called with each Event before the answer is written; nil is nobody
}

// Scope is a scope the issuer knows, with the words a person is asked with.
type Scope struct {
	Name        string
	Description string
}

// Server is one issuer's authorization server. [Server.ServeHTTP] answers a request, [Server.Run] does the work that no request
// asks for, [Server.Owner] is for the owner of the site.
type Server struct {
	*core

	authorize *authorizeEndpoint
	endpoints map[string]*endpoint // by path
	upkeep    *upkeep
	outages   *bounded.Outages
	requests  atomic.Int64 // that are being answered
	started   time.Time
}

// withDefaults returns the config with nothing left open but what depends on the store.
func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Audit == nil {
		c.Audit = zap.NewNop()
	}
	if c.Revocations == nil {
		c.Revocations = revocation.NewBroadcast()
	}
	if c.Throttle == nil {
		c.Throttle = throttle.New()
	}
	if c.Generations == nil {
		c.Generations = NewGenerations()
	}
	c.RevocationPoll = cmp.Or(c.RevocationPoll, 5*time.Second)
	c.StoreTimeout = cmp.Or(c.StoreTimeout, bounded.Timeout(c.Store))
	return c
}

// New makes a Server. It touches neither the store nor the network.
func New(config Config) (*Server, error) {
	config = config.withDefaults()
	issuer, err := url.Parse(config.URL)
	if err != nil {
		return nil, err
	}
	shared := &core{
		config: config,
		origin: issuer.Scheme + "://" + issuer.Host,
		host:   issuer.Hostname(),
		scopes: make(map[string]Scope),
		log:    config.Logger,
		now:    config.Now,
	}
	for _, scope := range config.Scopes {
		shared.scopes[scope.Name] = scope
	}
	if shared.metrics, err = metrics.New(config.Registry, config.Name); err != nil {
		return nil, err
	}
	if shared.pages, err = pages.New(config.ConsentTemplate); err != nil {
		return nil, err
	}
	shared.events = &eventLog{issuer: config.Name, log: config.Audit, observe: config.Observe, metrics: shared.metrics}
	s := &Server{
		core:      shared,
		authorize: &authorizeEndpoint{shared},
		outages:   bounded.NewOutages(config.Logger.With(zap.String("issuer", config.Name)), config.Now),
		started:   config.Now(),
	}
	if err := s.assemble(); err != nil {
		return nil, err
	}
	if err := s.route(issuer); err != nil {
		return nil, err
	}
	config.Generations.add(s)
	return s, nil
}

// assemble makes the parts that use the store, and connects them.
func (s *Server) assemble() (err error) {
	config := &s.config
	s.store = bounded.New(config.Store, bounded.Options{
		Timeout: config.StoreTimeout, ReadOnly: config.ReadOnly, Metrics: s.metrics, Outages: s.outages,
	})
	config.Store = s.store
	s.keys, err = keyring.New(keyring.Config{
		Policy: config.Keys, Store: s.store, Wait: config.StoreTimeout, Changed: s.events.keyChanged, Logger: s.log, Now: s.now,
	})
	if err != nil {
		return err
	}
	longest := config.Keys.Lifetime + jwt.Leeway
	s.cutoffs = revocation.New(revocation.Config{
		Issuer: config.Name, Store: s.store, Broadcast: config.Revocations, Logger: s.log, Now: s.now, Changed: s.metrics.Cutoffs,
	})
	s.clients = clients.New(clients.Config{
		Issuer: config.Name, Configured: config.Clients, Resolve: config.Resolve, Secrets: config.Secrets, Store: s.store,
		Logger: s.log, Now: s.now, Timeout: config.StoreTimeout, Tombstone: longest + checkInterval,
		Revoke: func(ctx context.Context, client, reason string) error {
			return s.revoker.Revoke(ctx, "", client, reason, "")
		},
		Changed: func(ctx context.Context, client, what string) error {
			s.events.record(&Event{Name: ClientChanged, Client: client, Reason: what})
			return s.upkeep.marker.set(ctx)
		},
	})
	s.limiter = config.Throttle.Limiter(config.Name, config.Limits, s.metrics.Throttled, s.now)
	s.authenticator = clients.NewAuthenticator(s.clients, s.limiter, config.Wire.SecretHeader)
	s.accessTokens = &accessTokens{
		issuer: config.URL, shape: config.AccessToken, keys: s.keys, store: s.store, clients: s.clients, cutoffs: s.cutoffs,
		load: s.loadCutoffs, now: s.now,
	}
	s.revoker = &Revoker{
		store: s.store, cutoffs: s.cutoffs, clients: s.clients, longest: longest, now: s.now, revoked: s.events.revoked,
	}
	s.uses = newUses(s.store, s.cutoffs)
	s.sealer = sealer{keys: s.keys, now: s.now}
	s.upkeep = s.newUpkeep()
	return nil
}

func (s *Server) newUpkeep() *upkeep {
	u := &upkeep{
		issuer: s.config.Name, store: s.store, keys: s.keys, clients: s.clients, cutoffs: s.cutoffs, broadcast: s.config.Revocations,
		revoker: s.revoker, uses: s.uses, marker: changeMarker{store: s.config.Store, now: s.now},
		interval: s.config.RevocationPoll, outages: s.outages, log: s.log,
	}
	u.watcher, _ = storage.As[storage.Watcher](s.store)
	return u
}

// readOnlyMessage is logged when a server starts and when it first refuses to write.
const readOnlyMessage = "issuer is read-only"

// Origin returns scheme and host of the issuer.
func (s *Server) Origin() string { return s.origin }

// MinimalTokens reports whether the server's access tokens do not say whom they are for.
func (s *Server) MinimalTokens() bool {
	return s.config.AccessToken.Minimal && !s.config.AccessToken.Opaque
}
