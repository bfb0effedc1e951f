// Package guard is what the directive oauth_guard does while requests are answered. The root package has its settings, and makes a
// [Guard] of them.
//
// Start reading at [Guard.ServeHTTP]. A [Place] knows the other guards of the site, and does what they do together for each of its
// requests. Package bearer checks the tokens.
package guard

import (
	"net/http"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/request"
	"github.com/caddy-oauth/caddy-oauth/internal/tokenwatch"
	"github.com/caddy-oauth/caddy-oauth/internal/trail"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
)

// Config is what a guard is made of.
type Config struct {
	Issuer  string   // its name, or the URL of a remote issuer
	Remote  bool     // the issuer is none of this process
	Origins []string // URLs with the schemes and hosts by which clients know this server

	Resource bearer.Resource  // the checks of tokens; Needs and Target are set by New
	Metadata *bearer.Metadata // of the resource
	CORS     *bearer.CORS     // nil: scripts of other origins are refused, unless the site answers their preflights
	Optional bool             // a request without a token passes

	Settings string                // the guard in JSON without its matchers: equal for guards that differ only in which requests they match
	Matchers caddyhttp.MatcherSets // of the requests to check; nil: all

	KeepToken bool              // handlers after the guard see the token
	Headers   map[string]string // that tell the site who the user is: placeholders, by name
	AsUser    bool              // a client with a token for itself is the user of its name

	ClientCert bool // it believes the header Client-Cert of a trusted proxy (RFC 9440)

	MCP      bool                // the resource is a server of the Model Context Protocol
	Endpoint caddyhttp.MatchPath // of that server; nil: all of the site
	Tools    bool                // the matchers look at the messages of that server

	Place *Place
	Trail *trail.Trail
}

// Guard checks the requests of a protected resource.
type Guard struct {
	config  Config
	origins []origin
}

// New returns a guard.
func New(config Config) (*Guard, error) {
	g := &Guard{config: config}
	g.config.Resource.Needs, g.config.Resource.Target = g.needs, g.target
	return g, g.readOrigins()
}

// ServeHTTP answers a request, or passes it on to next. It returns a refusal as an error for Caddy.
func (g *Guard) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	known, answered := g.config.Place.enter(w, r)
	if answered {
		return nil
	}
	applies, err := g.applies(r, known)
	if err != nil {
		return err
	}
	if g.readMessage(w, r, known, applies) {
		return nil
	}
	if !applies {
		return next.ServeHTTP(w, r)
	}
	if !g.config.KeepToken {
		g.config.Resource.Take(r, &known.tokens)
	}
	rules := g.rules(r)
	if wire.IsPreflight(r) && (rules != nil || !g.config.Optional) {
		if answered, err := g.preflight(w, r, rules); answered {
			return err
		}
	}
	claims, err := g.config.Resource.Check(r, &known.tokens, request.ClientIP(r))
	if err != nil {
		if rules != nil {
			rules.Allow(w.Header(), r, "WWW-Authenticate, Retry-After, Error-Id, DPoP-Nonce")
		}
		if passes, err := g.refuse(w, r, err); !passes {
			return err
		}
	}
	known.passed = append(known.passed, g.config.Settings)
	if claims != nil {
		if claims.Bound.Thumbprint != "" {
			if err := g.offerNonce(w, r); err != nil {
				return err
			}
		}
		if claims.ClientID != "" {
			request.Log(r, zap.String("client_id", claims.ClientID))
		}
		if g.config.Trail.Watched() {
			g.config.Trail.Step(g.step(r, claims.ClientID, claims.Subject, "ok"))
		}
		g.identify(r, known, claims)
	}
	if rules != nil || claims != nil && known.watched != claims {
		var watched *tokenwatch.Watch
		if claims != nil && known.watched != claims {
			known.watched = claims
			watched = tokenwatch.Begin(w, r, &g.config.Resource, known.tokens.Last(), claims, g.config.Place.log)
			defer watched.Stop()
		}
		w = tokenwatch.NewResponse(w, r, rules, watched)
	}
	return next.ServeHTTP(w, r)
}

// applies reports whether the guard is to check a request: no other of the same settings has, and the matchers match.
func (g *Guard) applies(r *http.Request, known *state) (bool, error) {
	if g.config.Matchers == nil {
		return true, nil
	}
	if slices.Contains(known.passed, g.config.Settings) {
		return false, nil
	}
	return g.matches(r)
}

// matches reports whether the guard is for a request, by its URL as the client sent it, or as the site may read it.
func (g *Guard) matches(r *http.Request) (bool, error) {
	return matchOriginal(r, g.config.Matchers.AnyMatchWithError)
}

// matchOriginal reports whether matchers match a request with the URL as the client sent it, or as the site may read it.
func matchOriginal(r *http.Request, match func(*http.Request) (bool, error)) (bool, error) {
	// Placeholders in matchers have the URL of this very request.
	rewritten := *r.URL
	defer func() { *r.URL = rewritten }()
	sent := request.Original(r)
	for path := range bearer.Readings(sent.Path) {
		if *r.URL = *sent; path != sent.Path {
			r.URL.Path, r.URL.RawPath = path, ""
		}
		if matches, err := match(r); matches || err != nil {
			return matches, err
		}
	}
	return false, nil
}

// needs returns the scopes that a request needs to pass all guards of this resource that stand together with this one. A client
// that learned of them one by one could end up with a token for either guard and none for both.
func (g *Guard) needs(r *http.Request) []string {
	scopes := g.config.Resource.Scopes
	for other := range g.config.Place.besides(r) {
		if other.config.Issuer == g.config.Issuer && other.config.Metadata.Resource == g.config.Metadata.Resource {
			scopes = bearer.Union(scopes, other.config.Resource.Scopes)
		}
	}
	return scopes
}
