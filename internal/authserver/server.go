// Package authserver is the OAuth 2.0 authorization server over net/http. It knows nothing of Caddy:
// what the site around it knows of a request, it asks a [Site].
package authserver

import (
	"cmp"
	"context"
	"net/http"
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

// Site is what the site around the server knows of a request.
type Site interface {
	// User returns who is signed in, nil if nobody is.
	User(r *http.Request) (*User, error)
	// LoginURL returns the URL of the site's login page for a person that is to return to the given
	// path and query of this site, or "" if the site has no such page.
	LoginURL(returnTo string) string
	// ClientIP returns the address of the client as the site trusts it.
	ClientIP(r *http.Request) string
}

// Noter is a Site that wants to know what requests were about, for a log of its own.
type Noter interface {
	// Note is told the client of a request that was answered, and the grant type, "" if it had none. Both are known
	// to the server: they are no words of the request's.
	Note(r *http.Request, clientID, grantType string)
}

// Hider is a Site that has a log of answers with their headers.
type Hider interface {
	// Hide is told that the answer to a request is to have a code in a header, which is good until it is used.
	Hide(r *http.Request)
}

// User is a person who is signed in to the site.
type User struct {
	Subject string
	Claims  map[string]any // for the tokens
}

// Server is one issuer's authorization server. [Server.ServeHTTP] answers a request, [Server.Run] does the work that no request
// asks for, [Server.Owner] is for the owner of the site.
type Server struct {
	config        Config
	origin        string // scheme and host of the issuer
	host          string
	scopes        map[string]Scope
	grants        map[string]grants.Grant
	endpoints     map[string]*endpoint // by path
	keys          *keyring.Ring
	pages         *pages.Pages
	clients       *clients.Directory
	authenticator *clients.Authenticator
	verifiers     map[string]grants.Verifier // of passwords, by the grant types that brought one
	cutoffs       *revocation.Cutoffs
	revoker       *Revoker
	uses          *uses
	upkeep        *upkeep
	started       time.Time
	accessTokens  *accessTokens
	sealer        sealer
	limiter       *throttle.Limiter
	store         *bounded.Store
	requests      atomic.Int64 // that are being answered
	metrics       *metrics.Issuer
	outages       *bounded.Outages
	log           *zap.Logger
	now           func() time.Time
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
	s := &Server{
		config:    config,
		origin:    issuer.Scheme + "://" + issuer.Host,
		host:      issuer.Hostname(),
		scopes:    make(map[string]Scope),
		grants:    make(map[string]grants.Grant),
		verifiers: make(map[string]grants.Verifier),
		outages:   bounded.NewOutages(config.Logger.With(zap.String("issuer", config.Name)), config.Now),
		started:   config.Now(),
		log:       config.Logger,
		now:       config.Now,
	}
	for _, scope := range config.Scopes {
		s.scopes[scope.Name] = scope
	}
	for _, g := range config.Grants {
		s.grants[g.Type()] = g
		if provider, ok := g.(grants.VerifierProvider); ok {
			s.verifiers[g.Type()] = provider.ProvideVerifier()
		}
	}
	if s.metrics, err = metrics.New(config.Registry, config.Name); err != nil {
		return nil, err
	}
	if s.pages, err = pages.New(config.ConsentTemplate); err != nil {
		return nil, err
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
		Policy: config.Keys, Store: s.store, Wait: config.StoreTimeout, Changed: s.keyChanged, Logger: s.log, Now: s.now,
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
			s.audit(&Event{Name: ClientChanged, Client: client, Reason: what})
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
		store: s.store, cutoffs: s.cutoffs, clients: s.clients, longest: longest, now: s.now, revoked: s.revoked,
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

// loadCutoffs makes sure that the revocations are known. A request that waits for the first load waits no longer than for any
// other answer of the store.
func (s *Server) loadCutoffs(ctx context.Context) error {
	if s.cutoffs.Loaded() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.StoreTimeout)
	defer cancel()
	return s.cutoffs.Load(ctx)
}

// Origin returns scheme and host of the issuer.
func (s *Server) Origin() string { return s.origin }

// MinimalTokens reports whether the server's access tokens do not say whom they are for.
func (s *Server) MinimalTokens() bool {
	return s.config.AccessToken.Minimal && !s.config.AccessToken.Opaque
}
