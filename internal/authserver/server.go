// Package authserver is the OAuth 2.0 authorization server over net/http. It knows nothing of Caddy:
// what the site around it knows of a request, it asks a [Site].
package authserver

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Config is what a Server is made of. It is not changed once a Server has it.
type Config struct {
	Name    string // the issuer's short name, for logs and metrics
	URL     string // the issuer, exactly as clients know it
	Paths   Paths
	Scopes  []Scope
	Clients map[string]*storage.Client // by client ID
	Grants  []grants.Grant
	Keys    KeyPolicy
	Store   storage.Store
	Secrets Secrets
	Wire    Wire

	// Throttle bounds guessing. It outlives a Server, so that a reload does not forget; nil is a new one.
	Throttle *Throttle

	ConsentTemplate string // an owner's own consent page; "" is the built-in one

	Logger   *zap.Logger
	Registry Registry
	Now      func() time.Time // nil is time.Now
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

// User is a person who is signed in to the site.
type User struct {
	Subject string
	Claims  map[string]any // for the tokens
}

// Server is one issuer's authorization server.
type Server struct {
	config    Config
	origin    string // scheme and host of the issuer
	host      string
	scopes    map[string]Scope
	grants    map[string]grants.Grant
	endpoints map[string]*endpoint // by path
	keys      *Keys
	pages     *Pages
	clients   *clientAuth
	bodies    []string                   // of token requests
	verifiers map[string]grants.Verifier // of passwords, by the grant types that brought one
	metrics   *metrics
	log       *zap.Logger
	now       func() time.Time
}

// New makes a Server. It touches neither the store nor the network.
func New(config Config) (*Server, error) {
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Throttle == nil {
		config.Throttle = NewThrottle()
	}
	issuer, err := url.Parse(config.URL)
	if err != nil {
		return nil, err
	}
	s := &Server{
		config: config,
		origin: issuer.Scheme + "://" + issuer.Host,
		host:   issuer.Hostname(),
		scopes: make(map[string]Scope),
		grants: make(map[string]grants.Grant),
		log:    config.Logger,
		now:    config.Now,

		verifiers: make(map[string]grants.Verifier),
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
	if s.bodies = config.Wire.Bodies; len(s.bodies) == 0 {
		s.bodies = []string{formBody}
	}
	s.keys, err = NewKeys(config.Keys, config.Store, config.Logger, config.Now)
	if err != nil {
		return nil, err
	}
	s.pages, err = NewPages(config.ConsentTemplate)
	if err != nil {
		return nil, err
	}
	s.metrics, err = newMetrics(config.Registry, config.Name)
	if err != nil {
		return nil, err
	}
	s.clients = newClientAuth(config.Clients, config.Secrets, config.Wire.SecretHeader)
	return s, s.route(issuer)
}

const (
	keysInterval  = time.Minute
	sweepInterval = 10 * time.Minute
)

// Run keeps the issuer's keys and its store in order until ctx ends. Every node runs it; it is
// idempotent, and what it cannot do now it does a minute later.
func (s *Server) Run(ctx context.Context) {
	s.attempt(ctx, "keeping the keys in order", s.keys.Maintain)

	keys := time.NewTicker(keysInterval)
	defer keys.Stop()
	sweep := time.NewTicker(sweepInterval)
	defer sweep.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-keys.C:
			s.attempt(ctx, "keeping the keys in order", s.keys.Maintain)
		case <-sweep.C:
			if sweeper, ok := s.config.Store.(storage.Sweeper); ok {
				s.attempt(ctx, "sweeping expired records", sweeper.Sweep)
			}
		}
	}
}

func (s *Server) attempt(ctx context.Context, what string, do func(context.Context) error) {
	if err := do(ctx); err != nil && !errors.Is(err, context.Canceled) {
		s.log.Error(what+" failed; will try again", zap.String("issuer", s.config.Name), zap.Error(err))
	}
}

// Origin returns scheme and host of the issuer.
func (s *Server) Origin() string { return s.origin }
