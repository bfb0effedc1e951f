package authserver

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
)

func issuer(issuerURL string) func(*Config) {
	return func(c *Config) {
		u, _ := url.Parse(issuerURL)
		c.URL, c.Paths = issuerURL, DefaultPaths(u)
	}
}

// fetch sends a GET, after the edits.
func (s *testServer) fetch(t *testing.T, path string, edits ...func(*http.Request)) answer {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for _, edit := range edits {
		edit(r)
	}
	return s.do(t, r)
}

const wellKnown = "/.well-known/oauth-authorization-server"

func TestRFC8414Paths(t *testing.T) {
	for _, tt := range []struct {
		issuer string
		served []string
		not    []string
	}{
		{"https://example.com", []string{wellKnown}, []string{wellKnown + "/tenant", "/tenant" + wellKnown}},
		{"https://example.com/", []string{wellKnown}, nil},
		{"https://example.com/tenant", []string{wellKnown + "/tenant", "/tenant" + wellKnown}, []string{wellKnown, wellKnown + "/other"}},
		{"https://example.com/tenant/", []string{wellKnown + "/tenant", "/tenant" + wellKnown}, []string{wellKnown}},
		{"https://example.com/a/b", []string{wellKnown + "/a/b", "/a/b" + wellKnown}, []string{wellKnown + "/a"}},
		{"https://example.com:8443/tenant", []string{wellKnown + "/tenant"}, nil},
		{"http://localhost:9080", []string{wellKnown}, nil},
	} {
		s := newTestServer(t, issuer(tt.issuer))
		for _, path := range tt.served {
			t.Run("§3 "+tt.issuer+" at "+path, func(t *testing.T) {
				if s.Endpoint(path) == nil {
					t.Fatal("not served")
				}
				a := s.fetch(t, path)
				a.check(t, http.StatusOK, "")
				if got := a.json(t)["issuer"]; got != tt.issuer {
					t.Errorf("§3.3: issuer %q", got)
				}
			})
		}
		for _, path := range tt.not {
			if s.Endpoint(path) != nil {
				t.Errorf("§3 %s is served at %s", tt.issuer, path)
			}
		}
	}
}

func TestRFC8414Members(t *testing.T) {
	algs := []any{"ES256", "ES384", "ES512", "EdDSA", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"} // and never none
	want := map[string]any{
		"issuer":                                testIssuer,
		"authorization_endpoint":                testIssuer + "/oauth/authorize",
		"token_endpoint":                        testIssuer + "/oauth/token",
		"jwks_uri":                              testIssuer + "/oauth/jwks",
		"scopes_supported":                      []any{"profile", "orders", "admin"},
		"response_types_supported":              []any{"code"},
		"response_modes_supported":              []any{"query", "form_post"},
		"grant_types_supported":                 []any{"authorization_code", "client_credentials", "refresh_token"},
		"token_endpoint_auth_methods_supported": []any{"client_secret_basic", "client_secret_post", "private_key_jwt", "none"},
		"token_endpoint_auth_signing_alg_values_supported":         algs,
		"revocation_endpoint":                                      testIssuer + "/oauth/revoke",
		"revocation_endpoint_auth_methods_supported":               []any{"client_secret_basic", "client_secret_post", "private_key_jwt", "none"},
		"revocation_endpoint_auth_signing_alg_values_supported":    algs,
		"introspection_endpoint":                                   testIssuer + "/oauth/introspect",
		"introspection_endpoint_auth_methods_supported":            []any{"client_secret_basic", "client_secret_post", "private_key_jwt"},
		"introspection_endpoint_auth_signing_alg_values_supported": algs,
		"introspection_signing_alg_values_supported":               []any{"ES256"}, // RFC 9701 §7
		"code_challenge_methods_supported":                         []any{"S256"},
		"authorization_response_iss_parameter_supported":           true,
		"dpop_signing_alg_values_supported":                        algs, // RFC 9449 §5.1
		"pushed_authorization_request_endpoint":                    testIssuer + "/oauth/par",
		"ui_locales_supported":                                     []any{"en", "ar", "de", "es", "fr", "ja", "zh-Hans"},
		"request_parameter_supported":                              false,
	}
	a := newTestServer(t).fetch(t, wellKnown)
	if got := a.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("RFC 8414 §3.2: Content-Type %q", got)
	}
	got := a.json(t)
	for name, value := range want {
		if !equalJSON(got[name], value) {
			t.Errorf("RFC 8414 §2, RFC 9207 §3: %s is %v, want %v", name, got[name], value)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("RFC 8414 §2: %s is not looked at by any test", name)
		}
	}
	t.Run("RFC 8414 §3.2 empty arrays are left out", func(t *testing.T) {
		got := newTestServer(t, func(c *Config) { c.Scopes = nil }).fetch(t, wellKnown).json(t)
		for name, value := range got {
			if list, ok := value.([]any); ok && len(list) == 0 {
				t.Errorf("%s is empty", name)
			}
		}
		if _, ok := got["scopes_supported"]; ok {
			t.Errorf("scopes_supported is %v", got["scopes_supported"])
		}
	})
	t.Run("RFC 8414 §2 no jwks_uri where nothing is published", func(t *testing.T) {
		got := newTestServer(t, func(c *Config) { c.Keys.Algorithm = "HS256" }).fetch(t, wellKnown).json(t)
		if uri, ok := got["jwks_uri"]; ok {
			t.Errorf("jwks_uri %v", uri)
		}
		if algs, ok := got["introspection_signing_alg_values_supported"]; ok {
			t.Errorf("no client can verify an introspection response with %v", algs)
		}
	})
	t.Run("RFC 9701 §7 the algorithm that signs", func(t *testing.T) {
		got := newTestServer(t, func(c *Config) { c.Keys.Algorithm = "PS256" }).fetch(t, wellKnown).json(t)
		if algs := got["introspection_signing_alg_values_supported"]; !equalJSON(algs, []any{"PS256"}) {
			t.Errorf("%v", algs)
		}
	})
	t.Run("RFC 8414 §2 own paths", func(t *testing.T) {
		s := newTestServer(t, func(c *Config) {
			c.Paths = Paths{Authorize: "/a", Token: "/o/token/", JWKS: "/keys.json", Introspect: "/i", Revoke: "/r", RevokeUser: "/ru", Device: "/d", DeviceAuthorization: "/da", PAR: "/p"}
		})
		got := s.fetch(t, wellKnown).json(t)
		if got["authorization_endpoint"] != testIssuer+"/a" || got["token_endpoint"] != testIssuer+"/o/token/" || got["jwks_uri"] != testIssuer+"/keys.json" {
			t.Errorf("%v", got)
		}
	})
}

// Everything that the metadata offers works, and everything else is refused.
func TestNothingIsAdvertisedThatIsRefused(t *testing.T) {
	s := newTestServer(t, withoutConsent("webapp"), withoutConsent("spa"))
	metadata := s.fetch(t, wellKnown).json(t)
	list := func(name string) (values []string) {
		for _, value := range metadata[name].([]any) {
			values = append(values, value.(string))
		}
		return values
	}
	for _, endpoint := range []string{"authorization_endpoint", "token_endpoint", "jwks_uri"} {
		u, err := url.Parse(metadata[endpoint].(string))
		if err != nil || s.Endpoint(u.Path) == nil {
			t.Errorf("RFC 8414 §2: %s is not served: %v", endpoint, metadata[endpoint])
		}
	}
	for _, grantType := range append(list("grant_types_supported"), "password", "implicit", "urn:ietf:params:oauth:grant-type:saml2-bearer") {
		a := s.token(t, url.Values{"grant_type": {grantType}})
		if offered := slices.Contains(list("grant_types_supported"), grantType); offered == (a.json(t)["error"] == grants.UnsupportedGrantType) {
			t.Errorf("RFC 8414 §2: grant type %s, offered is %t: %s", grantType, offered, a.Body)
		}
	}
	for _, mode := range append(list("response_modes_supported"), "fragment", "jwt", "web_message") {
		a := s.get(t, asks("webapp", "response_mode", mode))
		if offered := slices.Contains(list("response_modes_supported"), mode); offered == a.location().Has("error") {
			t.Errorf("RFC 8414 §2: response mode %s, offered is %t: %s", mode, offered, a.Header().Get("Location"))
		}
	}
	for _, responseType := range append(list("response_types_supported"), "token", "id_token", "none", "code id_token") {
		a := s.get(t, asks("webapp", "response_type", responseType))
		if offered := slices.Contains(list("response_types_supported"), responseType); offered == a.location().Has("error") {
			t.Errorf("RFC 8414 §2: response type %s, offered is %t: %s", responseType, offered, a.Header().Get("Location"))
		}
	}
	for _, method := range append(list("code_challenge_methods_supported"), "plain", "S512") {
		a := s.get(t, asks("webapp", "code_challenge_method", method))
		if offered := slices.Contains(list("code_challenge_methods_supported"), method); offered == a.location().Has("error") {
			t.Errorf("RFC 8414 §2: challenge method %s, offered is %t: %s", method, offered, a.Header().Get("Location"))
		}
	}
	code := s.code(t, asks("spa"))
	for method, a := range map[string]answer{
		"client_secret_basic": s.token(t, url.Values{"grant_type": {"client_credentials"}}, basic("billing:"+webSecret)),
		"client_secret_post":  s.token(t, asBilling(), header("Authorization", "")),
		"none":                s.token(t, redeems(code, "client_id", "spa", "redirect_uri", "https://spa.example.com/callback")),
	} {
		if offered := slices.Contains(list("token_endpoint_auth_methods_supported"), method); !offered || a.Code != http.StatusOK {
			t.Errorf("RFC 8414 §2: authentication method %s, offered is %t: %d %s", method, offered, a.Code, a.Body)
		}
	}
}

func TestDocumentsAreCached(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.Keys.Publish = 10 * time.Minute })
	for path, cached := range map[string]string{wellKnown: "public, max-age=3600", "/oauth/jwks": "public, max-age=300"} {
		whole := s.fetch(t, path)
		etag := whole.Header().Get("ETag")
		t.Run("RFC 9111 §5.2 "+path, func(t *testing.T) {
			whole.check(t, http.StatusOK, "")
			if got := whole.Header().Get("Cache-Control"); got != cached {
				t.Errorf("Cache-Control %q, want %q", got, cached)
			}
		})
		for name, match := range map[string]string{"the same": etag, "weakly": "W/" + etag, "one of several": `"x", ` + etag, "any": "*"} {
			t.Run("RFC 9110 §13.1.2 304 for "+path+", "+name, func(t *testing.T) {
				a := s.fetch(t, path, header("If-None-Match", match))
				if a.Code != http.StatusNotModified || a.Body.Len() != 0 || a.Header().Get("ETag") != etag || a.Header().Get("Cache-Control") != cached {
					t.Errorf("%d %v %s", a.Code, a.Header(), a.Body)
				}
			})
		}
		t.Run("RFC 9110 §13.1.2 200 for "+path+" with another ETag", func(t *testing.T) {
			s.fetch(t, path, header("If-None-Match", `"x"`)).check(t, http.StatusOK, "")
		})
		t.Run("RFC 9110 §9.3.2 HEAD for "+path, func(t *testing.T) {
			a := s.fetch(t, path, func(r *http.Request) { r.Method = http.MethodHead })
			if a.Code != http.StatusOK || a.Body.Len() != 0 || a.Header().Get("Content-Length") != whole.Header().Get("Content-Length") || a.Header().Get("ETag") != etag {
				t.Errorf("%d %v %s", a.Code, a.Header(), a.Body)
			}
		})
		t.Run("RFC 9110 §15.5.6 405 for POST to "+path, func(t *testing.T) {
			a := s.fetch(t, path, func(r *http.Request) { r.Method = http.MethodPost })
			a.check(t, http.StatusMethodNotAllowed, "invalid_request")
			if allow := a.Header().Get("Allow"); allow != "GET, HEAD" {
				t.Errorf("Allow %q", allow)
			}
		})
	}
	t.Run("RFC 7517 §5 the ETag changes with the keys", func(t *testing.T) {
		s := newTestServer(t, func(c *Config) { c.Keys.Rotate = 24 * time.Hour })
		before := s.fetch(t, "/oauth/jwks").Header().Get("ETag")
		s.clock.Advance(24 * time.Hour)
		if after := s.fetch(t, "/oauth/jwks").Header().Get("ETag"); after == before {
			t.Errorf("ETag %s after the rotation too", after)
		}
	})
}

func TestJWKS(t *testing.T) {
	for _, alg := range []string{"ES256", "ES384", "EdDSA", "RS256", "PS256", "HS256"} {
		t.Run("RFC 7517 §4 public members only: "+alg, func(t *testing.T) {
			s := newTestServer(t, func(c *Config) { c.Keys.Algorithm = alg })
			token := s.token(t, asBilling()).json(t)["access_token"].(string)
			var set struct{ Keys []map[string]string }
			body := s.fetch(t, "/oauth/jwks").Body.Bytes()
			if err := json.Unmarshal(body, &set); err != nil || set.Keys == nil {
				t.Fatalf("RFC 7517 §5.1: %v in %s", err, body)
			}
			kids := map[string]bool{}
			for _, key := range set.Keys {
				for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} {
					if key[private] != "" {
						t.Errorf("RFC 7517 §4: the member %s is published", private)
					}
				}
				if key["use"] != "sig" || key["alg"] != alg || key["kid"] == "" || kids[key["kid"]] {
					t.Errorf("RFC 7517 §4.2 to §4.5: use %q, alg %q, kid %q", key["use"], key["alg"], key["kid"])
				}
				// 2048 bits are 342 characters of base64url.
				if strings.HasSuffix(alg, "S256") && key["kty"] == "RSA" && len(key["n"]) < 342 {
					t.Errorf("RFC 7518 §3.3: a modulus of %d characters", len(key["n"]))
				}
				kids[key["kid"]] = true
			}
			h, err := headerOf(t, token)
			if err != nil {
				t.Fatal(err)
			}
			if published := kids[h.KeyID]; published == (alg == "HS256") {
				t.Errorf("the key of the token is published: %t", published)
			}
		})
	}
	t.Run("the store fails", func(t *testing.T) {
		s := newTestServer(t)
		s.store.Err = errDown
		a := s.fetch(t, "/oauth/jwks")
		a.check(t, http.StatusServiceUnavailable, "temporarily_unavailable")
		checkJSONHeaders(t, a)
	})
}
