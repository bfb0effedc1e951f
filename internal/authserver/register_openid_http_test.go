package authserver

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/registration"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// registersOpenID lets clients that sign people in register themselves. documents are those at sector_identifier_uris.
func registersOpenID(documents map[string]string) func(*Config) {
	return func(c *Config) {
		openID()(c)
		c.PairwiseSalt = "a salt of the length that is necessary"
		c.IDTokenAlgorithms = []string{"ES256", "RS256"}
		c.UserinfoAlgorithms = c.IDTokenAlgorithms
		registers(func(r *Registration) {
			r.Clients.Supported.AuthMethods = append(r.Clients.Supported.AuthMethods, storage.MethodKey)
			r.Clients.Supported.SigningAlgs = jwt.AssertionAlgorithms()
			r.Clients.Supported.OpenID = &registration.OpenIDSupported{
				Algs: c.IDTokenAlgorithms, DefaultAlg: "RS256", SubjectTypes: []string{"public", "pairwise"}, DefaultSubject: "public", Sectors: true,
			}
			r.Sector = func(_ context.Context, address string) ([]byte, error) {
				if document, ok := documents[address]; ok {
					return []byte(document), nil
				}
				return nil, errors.New("no such document")
			}
			r.Clients.Describe = func(id string, m *registration.Metadata, secret string) (*storage.Client, error) {
				n, err := m.Negotiate(r.Clients.Supported)
				if err != nil {
					return nil, err
				}
				client := *testClients()["spa"]
				client.RequirePKCE = true
				client.ID, client.Name, client.Origin, client.RedirectURIs, client.GrantTypes = id, m.ClientName, storage.OriginRegistered, m.RedirectURIs, n.GrantTypes
				client.AuthMethods, client.JWKS, client.JWKSURI = n.AuthMethods, m.JWKS, m.JWKSURI
				client.Scopes = append(client.Scopes, "openid", "email", "offline_access")
				client.OpenID = &storage.OpenIDPolicy{
					IDTokenAlgorithm: n.OpenID.IDTokenAlg, UserinfoAlgorithm: n.OpenID.UserinfoAlg, RequireAuthTime: m.RequireAuthTime,
				}
				if n.OpenID.SubjectType == "pairwise" {
					u, _ := url.Parse(m.RedirectURIs[0])
					client.OpenID.Sector = u.Hostname()
				}
				if m.DefaultMaxAge != nil {
					maxAge := time.Duration(*m.DefaultMaxAge) * time.Second
					client.OpenID.DefaultMaxAge = &maxAge
				}
				if secret != "" {
					client.SecretHashes = []string{clients.HashSecret(secret)}
				}
				return &client, nil
			}
		})(c)
	}
}

// A registered default_max_age holds for requests without max_age, and require_auth_time refuses to sign in where nobody knows when
// the person did.
func TestRegisteredDemandsOnTheLogin(t *testing.T) {
	const redirectURI = "https://rp.example/callback"
	for _, tt := range []struct {
		metadata string
		authTime time.Time
		want     string // the error
	}{
		{`"default_max_age":3600`, epoch.Add(-time.Hour), ""},
		{`"default_max_age":3600`, epoch.Add(-time.Hour - time.Second), "login_required"},
		{`"default_max_age":3600`, time.Time{}, "login_required"},
		{`"require_auth_time":true`, epoch.Add(-time.Hour), ""},
		{`"require_auth_time":true`, time.Time{}, "login_required"},
	} {
		s := newTestServer(t, registersOpenID(nil))
		s.site.user.AuthTime = tt.authTime
		client := s.register(t, `{"redirect_uris":["`+redirectURI+`"],`+tt.metadata+`}`).json(t)
		asks := func(scope string) answer {
			return s.get(t, url.Values{"response_type": {"code"}, "client_id": {client["client_id"].(string)}, "redirect_uri": {redirectURI}, "scope": {scope}, "code_challenge": {s256(testVerifier)}, "code_challenge_method": {"S256"}})
		}
		if tt.want == "" {
			asks("openid").sealed(t) // the consent page
		} else {
			asks("openid").check(t, http.StatusSeeOther, tt.want)
		}
		asks("orders").sealed(t)
	}
}

// A client that describes itself and authenticates may do without PKCE where it has a nonce instead (RFC 9700 §2.1.1).
func TestNonceInsteadOfPKCE(t *testing.T) {
	const redirectURI = "https://rp.example/callback"
	s := newTestServer(t, registersOpenID(nil))
	s.site.user.AuthTime = epoch
	ids := make(map[string]string)
	for _, method := range []string{"client_secret_basic", "none"} {
		ids[method] = s.register(t, `{"redirect_uris":["`+redirectURI+`"],"token_endpoint_auth_method":"`+method+`"}`).json(t)["client_id"].(string)
	}
	for _, tt := range []struct {
		method, scope, nonce, challengeMethod string
		refused                               bool
	}{
		{"client_secret_basic", "openid email", "n", "", false},
		{"client_secret_basic", "openid", "", "", true},
		{"client_secret_basic", "orders", "n", "", true},
		{"client_secret_basic", "", "n", "", true},
		{"client_secret_basic", "openid", "n", "S256", true}, // it means to use PKCE
		{"none", "openid", "n", "", true},
	} {
		params := url.Values{"response_type": {"code"}, "client_id": {ids[tt.method]}, "redirect_uri": {redirectURI}}
		for name, value := range map[string]string{"scope": tt.scope, "nonce": tt.nonce, "code_challenge_method": tt.challengeMethod} {
			if value != "" {
				params.Set(name, value)
			}
		}
		if a := s.get(t, params); tt.refused {
			a.check(t, http.StatusSeeOther, "invalid_request")
		} else {
			a.sealed(t) // the consent page
		}
	}
}

// Nobody makes this server fetch documents for registrations as often as they like.
func TestSectorsAreThrottled(t *testing.T) {
	s := newTestServer(t, registersOpenID(nil))
	const refused = `{"redirect_uris":["https://rp.example/callback"],"sector_identifier_uri":"https://rp.example/x"}`
	for range 10 {
		s.register(t, refused).check(t, http.StatusBadRequest, "invalid_client_metadata")
	}
	s.register(t, refused).check(t, http.StatusTooManyRequests, "temporarily_unavailable")
}
