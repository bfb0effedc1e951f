package authserver

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/clients"
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
				client.ID, client.Origin, client.RedirectURIs, client.GrantTypes = id, storage.OriginRegistered, m.RedirectURIs, m.GrantTypes
				client.Scopes = append(client.Scopes, "openid", "email")
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

// signInAs signs the user in to a registered client, and returns the tokens.
func (s *testServer) signInAs(t *testing.T, registered map[string]any, redirectURI string) map[string]any {
	t.Helper()
	id := registered["client_id"].(string)
	code := s.code(t, url.Values{
		"response_type": {"code"}, "client_id": {id}, "redirect_uri": {redirectURI}, "scope": {"openid email"}, "nonce": {"n"},
	})
	a := s.token(t, redeems(code, "redirect_uri", redirectURI, "code_verifier", ""), func(r *http.Request) {
		r.SetBasicAuth(id, registered["client_secret"].(string))
	})
	a.check(t, http.StatusOK, "")
	return a.json(t)
}

// The modules of oidcc-config-certification-test-plan and of oidcc-dynamic-certification-test-plan that are about registration and
// userinfo, each with the outcome that it asks for. The others of the dynamic plan are those of the basic plan with another client.
func TestOpenIDDynamicPlan(t *testing.T) {
	const redirectURI, sector, bad = "https://rp.example/callback", "https://rp.example/sector.json", "https://rp.example/bad.json"
	newServer := func(t *testing.T) *testServer {
		t.Helper()
		s := newTestServer(t, registersOpenID(map[string]string{sector: `["` + redirectURI + `"]`, bad: `["https://other.example/callback"]`}))
		s.site.user = &User{Subject: "alice", Claims: profile(), AuthTime: epoch}
		return s
	}
	body := func(more string) string { return `{"redirect_uris":["` + redirectURI + `"]` + more + `}` }
	created := func(t *testing.T, s *testServer, more string) map[string]any {
		t.Helper()
		a := s.register(t, body(more))
		a.check(t, http.StatusCreated, "")
		return a.json(t)
	}
	t.Run("oidcc-discovery-endpoint-verification", func(t *testing.T) {
		got := newServer(t).fetch(t, "/.well-known/openid-configuration").json(t)
		for _, name := range []string{
			"issuer", "authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri", "scopes_supported", "response_types_supported",
			"subject_types_supported", "id_token_signing_alg_values_supported", "claims_supported", "registration_endpoint",
		} {
			if got[name] == nil {
				t.Errorf("%s is missing", name)
			}
		}
		if got["issuer"] != testIssuer || got["request_uri_parameter_supported"] != false {
			t.Errorf("%v", got)
		}
	})
	t.Run("oidcc-idtoken-rs256", func(t *testing.T) {
		s := newServer(t)
		client := created(t, s, `,"id_token_signed_response_alg":"RS256"`)
		if claims := s.idToken(t, "RS256", s.signInAs(t, client, redirectURI)["id_token"]); claims["aud"] != client["client_id"] || claims["nonce"] != "n" {
			t.Errorf("claims %v", claims)
		}
	})
	t.Run("oidcc-userinfo-rs256", func(t *testing.T) {
		s := newServer(t)
		client := created(t, s, `,"userinfo_signed_response_alg":"RS256"`)
		if client["userinfo_signed_response_alg"] != "RS256" {
			t.Errorf("registered %v", client)
		}
		a := s.userinfo(t, s.signInAs(t, client, redirectURI)["access_token"])
		if claims := s.idToken(t, "RS256", a.Body.String()); claims["iss"] != testIssuer || claims["aud"] != client["client_id"] || claims["sub"] != "alice" {
			t.Errorf("claims %v", claims)
		}
	})
	t.Run("oidcc-registration-dynamic", func(t *testing.T) {
		client := created(t, newServer(t), `,"default_max_age":3600,"require_auth_time":true,"id_token_encrypted_response_alg":"RSA-OAEP"`)
		for name, want := range map[string]any{
			"id_token_signed_response_alg": "RS256", "subject_type": "public", "default_max_age": 3600.0, "require_auth_time": true,
			"id_token_encrypted_response_alg": nil,
		} {
			if client[name] != want {
				t.Errorf("%s is %v, want %v", name, client[name], want)
			}
		}
	})
	t.Run("oidcc-registration-sector-uri", func(t *testing.T) {
		s := newServer(t)
		client := created(t, s, `,"subject_type":"pairwise","sector_identifier_uri":"`+sector+`"`)
		tokens := s.signInAs(t, client, redirectURI)
		subject := s.idToken(t, "RS256", tokens["id_token"])["sub"]
		if got := s.userinfo(t, tokens["access_token"]).json(t)["sub"]; got != subject || got == "alice" {
			t.Errorf("subjects %v and %v", subject, got)
		}
	})
	t.Run("oidcc-registration-sector-bad", func(t *testing.T) {
		s := newServer(t)
		for _, address := range []string{bad, "https://rp.example/missing.json", "http://rp.example/", "https://rp.example/#x"} {
			s.register(t, body(`,"subject_type":"pairwise","sector_identifier_uri":"`+address+`"`)).check(t, http.StatusBadRequest, "invalid_client_metadata")
		}
	})
	t.Run("oidcc-request-uri-unsigned", func(t *testing.T) { // the metadata says that it is not supported
		s := newServer(t)
		client := created(t, s, `,"request_uris":["https://rp.example/request"]`)
		if client["request_uris"] != nil {
			t.Errorf("registered %v", client["request_uris"])
		}
	})
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
