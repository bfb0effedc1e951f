// Package authserver is the OAuth 2.0 authorization server over net/http. It does not import Caddy: it asks a [Site] who is
// signed in, where people sign in, and which address a request came from.
//
// Start reading at the table of endpoints in endpoints.go, and then at [Server.ServeHTTP] in answer.go; fail answers all errors. Each
// endpoint has a file of its own, such as token.go; all of them share a core (core.go). upkeep.go has the background work,
// and owner.go has what the admin API calls.
package authserver

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/assertion"
	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/bounded"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/dpop"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/keyring"
	"github.com/caddy-oauth/caddy-oauth/internal/metrics"
	"github.com/caddy-oauth/caddy-oauth/internal/pages"
	"github.com/caddy-oauth/caddy-oauth/internal/revocation"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Server is one issuer's authorization server. [Server.ServeHTTP] answers requests, [Server.Run] does the background work, and
// [Server.Owner] returns what the admin API calls.
type Server struct {
	*core

	authorize *authorizeEndpoint
	endpoints map[string]*Endpoint // by path
	unknown   *Endpoint            // see UnknownMetadata
	upkeep    *upkeep
	running   *runningServer
	outages   *bounded.Outages
	started   time.Time
}

// New makes a Server. It touches neither the store nor the network.
func New(config Config) (*Server, error) {
	config = config.withDefaults()
	issuer, err := url.Parse(config.URL)
	if err != nil {
		return nil, err
	}
	s := &Server{
		core: &core{
			config: config,
			origin: issuer.Scheme + "://" + issuer.Host,
			log:    config.Logger,
			now:    config.Now,
		},
		outages: bounded.NewOutages(config.Logger.With(zap.String("issuer", config.Name)), config.Now),
		started: config.Now(),
	}
	if s.metrics, err = metrics.New(config.Registry, config.Name); err != nil {
		return nil, err
	}
	if s.pages, err = s.newPages(issuer); err != nil {
		return nil, err
	}
	s.events = &eventLog{issuer: config.Name, log: config.Audit, observe: config.Observe, metrics: s.metrics}
	s.authorize = &authorizeEndpoint{s.core}
	if err := s.assemble(); err != nil {
		return nil, err
	}
	if err := s.route(issuer); err != nil {
		return nil, err
	}
	s.running = config.Servers.add(config.Name, s.store, s.accessTokens.check)
	return s, nil
}

// newPages returns the pages of the issuer.
func (s *core) newPages(issuer *url.URL) (*pages.Pages, error) {
	config := s.config.Pages
	config.Host = issuer.Hostname()
	for _, scope := range s.config.Scopes {
		config.Scopes = append(config.Scopes, pages.ScopeWords{
			Name: scope.Name, Description: scope.Description, Languages: scope.Languages,
			Standard: s.config.OpenID && slices.Contains(grants.OpenIDScopes, scope.Name),
		})
	}
	made, err := pages.New(config)
	if err != nil {
		return nil, fmt.Errorf("page: %w", err)
	}
	s.warnOfLifetimes(made.WithoutLifetimes())
	return made, nil
}

// warnOfLifetimes warns if a person has no way to choose how long a client gets access, since templates of the owner's do not offer it.
func (s *core) warnOfLifetimes(templates []string) {
	for _, name := range templates {
		for _, id := range slices.Sorted(maps.Keys(s.config.Clients)) {
			c := s.config.Clients[id]
			reached := c.Consent != storage.ConsentNever && (name == "consent" && len(c.RedirectURIs) > 0 || name == "device" && c.MayUse(grants.DeviceCodeType))
			if !reached || len(c.ConsentLifetimes) < 2 {
				continue
			}
			s.log.Warn("the template of a page offers no lifetimes to choose from, so that everybody gets the first", zap.String("issuer", s.config.Name),
				zap.String("setting", "page: template "+name), zap.String("client_id", id),
				zap.String("instead", `a radio button "lifetime" with the value {{.Value}} for each of .Lifetimes, or one consent_lifetime`))
			break
		}
	}
}

// assemble makes the parts that use the store, and connects them.
func (s *Server) assemble() (err error) {
	config := &s.config
	_, s.sweeps = storage.As[storage.Sweeper](config.Store)
	s.store = bounded.New(config.Store, bounded.Options{
		Timeout: config.StoreTimeout, ReadOnly: config.ReadOnly, Metrics: s.metrics, Outages: s.outages,
	})
	s.consents = &consentRecords{store: s.store, outages: s.outages, log: s.log, issuer: config.Name}
	s.keys, err = keyring.New(keyring.Config{
		Policy: config.Keys, Store: s.store, Timeout: config.StoreTimeout, Changed: s.events.keyChanged, Logger: s.log, Now: s.now,
	})
	if err != nil {
		return err
	}
	s.cutoffs = revocation.New(revocation.Config{
		Issuer: config.Name, Store: s.store, Timeout: config.StoreTimeout, LocalServers: config.Revocations, Logger: s.log, Now: s.now,
		Lifetimes: s.longestLifetimes, Changed: s.metrics.Cutoffs,
	})
	s.clients = clients.New(clients.Config{
		Issuer: config.Name, Configured: config.Clients, Resolve: config.Resolve, Sources: s.sources(), Secrets: config.Secrets, Store: s.store,
		Logger: s.log, Now: s.now, Timeout: config.StoreTimeout,
		Tombstone: func() time.Duration {
			return max(config.Keys.Lifetime+jwt.MaxLeeway, s.cutoffs.AccessTokenLife()) + checkInterval
		},
		Revoke: func(ctx context.Context, client, reason string) error {
			return s.revoker.Revoke(ctx, "", client, reason, "")
		},
		Changed: func(ctx context.Context, client, what string) error {
			s.events.record(&Event{Name: eventClientChanged, Client: client, Reason: what})
			return s.upkeep.marker.set(ctx)
		},
	})
	s.limiter = config.Throttle.Limiter(config.Name, config.Limits, s.metrics.Throttled, s.now)
	s.assertions = s.newAssertions()
	s.authenticator = clients.NewAuthenticator(s.clients, s.limiter, s.assertions, config.Wire.SecretHeader)
	s.sealer = sealer{keys: s.keys, now: s.now}
	s.pairwise = &pairwise{salt: config.PairwiseSalt, sealer: s.sealer}
	s.proofs = s.newProofs()
	s.accessTokens = &accessTokens{
		pairwise: s.pairwise,
		issuer:   config.URL, shape: config.AccessToken, claims: newScopedClaims(config.Scopes), keys: s.keys, store: s.store, clients: s.clients, cutoffs: s.cutoffs,
		outages: s.outages, log: s.log.With(zap.String("issuer", config.Name)), now: s.now,
	}
	s.revoker = &Revoker{
		store: s.store, consents: s.consents, cutoffs: s.cutoffs, now: s.now, log: s.log, issuer: config.Name, revoked: s.events.revoked,
	}
	s.sessions = &sessionRecords{store: s.store, outages: s.outages, log: s.log, issuer: config.Name, now: s.now}
	s.logouts = s.newLogouts()
	if config.OpenID {
		s.revoker.tell = s.logouts.revoked
	}
	s.lastUses = newLastUses(s.consents, s.cutoffs)
	s.upkeep = s.newUpkeep()
	return nil
}

// sources returns the clients that nobody added.
func (s *Server) sources() map[storage.ClientOrigin]clients.Source {
	sources := make(map[storage.ClientOrigin]clients.Source)
	if s.config.Documents != nil {
		s.documents = s.config.Documents(s.store)
		sources[storage.OriginDocument] = s.documents
	}
	if s.registrations = s.newRegistrations(); s.registrations != nil {
		sources[storage.OriginRegistered] = s.registrations
	}
	return sources
}

// newAssertions returns the checker of the JWTs that clients sign.
func (s *Server) newAssertions() *assertion.Checker {
	issuer, err := url.Parse(s.config.URL)
	return &assertion.Checker{Config: assertion.Config{
		Issuer: s.config.URL, TokenEndpoint: s.origin + s.config.Paths.Token, IssuerOnly: s.config.AssertionForIssuer,
		Store: s.store, Keys: s.config.ClientKeys, Now: s.now,
		Loopback: err == nil && uris.IsLoopback(issuer.Hostname()),
		NamesEndpoint: func(clientID string) {
			s.log.Info("client names the token endpoint as the audience of its assertions", zap.String("issuer", s.config.Name),
				zap.String("client_id", clientID), zap.String("expected", s.config.URL), zap.String("setting", "client_assertion_audience"))
		},
	}}
}

func (s *Server) newLogouts() *logouts {
	issuer, err := url.Parse(s.config.URL)
	return &logouts{
		issuer: s.config.Name, url: s.config.URL, store: s.store, sessions: s.sessions, revoker: s.revoker, keys: s.keys, pairwise: s.pairwise, clients: s.clients,
		configured: s.config.Clients, fetcher: s.config.Fetcher, loopback: err == nil && uris.IsLoopback(issuer.Hostname()),
		events: s.events, log: s.log, now: s.now, wake: make(chan struct{}, 1),
	}
}

func (s *Server) newUpkeep() *upkeep {
	u := &upkeep{
		issuer: s.config.Name, store: s.store, keys: s.keys, clients: s.clients, cutoffs: s.cutoffs, local: s.config.Revocations,
		revoker: s.revoker, lastUses: s.lastUses, marker: changeMarker{store: s.store, now: s.now},
		interval: s.config.RevocationPoll, outages: s.outages, log: s.log, codes: s.config.Codes, now: s.now,
	}
	if s.config.OpenID {
		u.logouts = s.logouts
	}
	u.watcher, _ = storage.As[storage.Watcher](s.store)
	return u
}

// readOnlyMessage is logged when a server starts and when it first refuses to write.
const readOnlyMessage = "issuer is read-only"

// Close says that the server gets no more requests. It may still be answering some.
func (s *Server) Close() { s.config.Servers.end(s.running) }

// Origin returns scheme and host of the issuer.
func (s *Server) Origin() string { return s.origin }

// MinimalTokens reports whether the server's access tokens do not say whom they are for.
func (s *Server) MinimalTokens() bool {
	return s.config.AccessToken.Minimal && !s.config.AccessToken.Opaque
}

// AddSite adds to the metadata what a site tells of people.
func (s *Server) AddSite(facts SiteFacts) error {
	d := &s.document
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sites.Claims = bearer.Union(d.sites.Claims, facts.Claims)
	d.sites.ACRValues = bearer.Union(d.sites.ACRValues, facts.ACRValues)
	d.sites.SignsOut = d.sites.SignsOut || facts.SignsOut
	return s.publishMetadataLocked()
}

// Proofs returns the checker of DPoP proofs of this issuer, for its guards.
func (s *Server) Proofs() *dpop.Checker { return s.proofs }

var _ bearer.Source = (*Server)(nil)

// AccessToken implements bearer.Source.
func (s *Server) AccessToken(ctx context.Context, token string, leeway time.Duration) (*jwt.Claims, error) {
	return s.accessTokens.check(ctx, token, leeway)
}

var _ bearer.Rechecker = (*Server)(nil)

// Recheck implements bearer.Rechecker. A request can outlive the configuration that it began with: the newest server of the issuer
// is the one that learns of revocations.
func (s *Server) Recheck(ctx context.Context, token string, leeway time.Duration) error {
	_, err := s.config.Servers.newest(s.running).check(ctx, token, leeway)
	return err
}

// Monitor returns the monitor of a guard of this issuer.
func (s *Server) Monitor() *bearer.Monitor {
	return &bearer.Monitor{Limiter: s.limiter, Metrics: &s.metrics.Guard, Failed: s.logGuardFailure}
}

// logGuardFailure logs that a token could not be checked, as a rule because the store failed.
func (s *Server) logGuardFailure(r *http.Request, refusal *bearer.Error) {
	level, message := s.severity(r.Context(), refusal, refusal.Status)
	s.config.Trail.Log(s.log, level, message, append(bounded.Fields(refusal),
		zap.String("issuer", s.config.Name), zap.String("endpoint", "guard"), zap.String("error_id", refusal.ID),
		zap.String("error", refusal.Code), zap.Int("status", refusal.Status), zap.NamedError("cause", refusal.Cause))...)
}
