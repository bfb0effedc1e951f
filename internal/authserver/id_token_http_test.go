package authserver

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// openID is an edit that lets webapp sign people in.
func openID(edits ...func(*storage.OpenIDPolicy)) func(*Config) {
	return func(c *Config) {
		policy := &storage.OpenIDPolicy{IDTokenAlgorithm: "RS256"}
		for _, edit := range edits {
			edit(policy)
		}
		c.OpenID, c.IDTokenAlgorithms = true, []string{policy.IDTokenAlgorithm}
		c.Keys.Further = c.IDTokenAlgorithms
		webapp := c.Clients["webapp"]
		webapp.OpenID = policy
		webapp.Scopes = append(slices.Clone(webapp.Scopes), "openid", "email", "offline_access")
	}
}

// idToken returns the claims of an ID token that a key of the server's JWKS verifies.
func (s *testServer) idToken(t *testing.T, alg string, token any) map[string]any {
	t.Helper()
	keys, err := jwt.ParsePublicKeys(s.do(t, httptest.NewRequest(http.MethodGet, "/oauth/jwks", nil)).Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	parts, err := jwt.Split(token.(string))
	if err != nil {
		t.Fatal(err)
	}
	header, err := parts.ParseHeader()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(keys, func(key *jwt.Key) bool { return key.ID == header.KeyID })
	if i < 0 || header.Algorithm != alg || keys[i].Algorithm != alg {
		t.Fatalf("header %+v, want alg %s and a kid of the JWKS", header, alg)
	}
	payload, err := parts.Verify(keys[i])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// OpenID Connect Core §2, §3.1.3.6, §12.2.
func TestIDToken(t *testing.T) {
	for _, alg := range []string{"RS256", "ES256", "PS256", "EdDSA", "ES384"} {
		s := newTestServer(t, openID(func(p *storage.OpenIDPolicy) { p.IDTokenAlgorithm = alg }))
		s.site.user = &User{
			Subject: "alice", Claims: map[string]any{"email": "alice@example.com", "name": "Alice"},
			AuthTime: epoch.Add(-time.Hour), Session: storage.SiteSession{ID: "s1", ACR: "mfa", AMR: []string{"pwd", "otp"}},
		}
		a := s.token(t, redeems(s.code(t, asks("webapp", "scope", "openid email", "nonce", "n-0S6_WzA2Mj"))))
		a.check(t, http.StatusOK, "")
		tokens := a.json(t)
		got := s.idToken(t, alg, tokens["id_token"])
		if got["at_hash"] == "" || got["at_hash"] != tokenHash(alg, tokens["access_token"].(string)) {
			t.Errorf("%s: at_hash %v", alg, got["at_hash"])
		}
		delete(got, "at_hash")
		want := map[string]any{
			"iss": testIssuer, "sub": "alice", "aud": "webapp", "nonce": "n-0S6_WzA2Mj", "sid": "s1", "acr": "mfa",
			"amr": []any{"pwd", "otp"}, "iat": float64(epoch.Unix()), "exp": float64(epoch.Add(10 * time.Minute).Unix()),
			"auth_time": float64(epoch.Add(-time.Hour).Unix()),
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: ID token\n%v, want\n%v", alg, got, want)
		}
		if access := s.claims(t, tokens["access_token"]); access["acr"] != "mfa" || access["email"] != "alice@example.com" || access["name"] != nil {
			t.Errorf("access token %v, want acr and email, and no name, as profile was not asked for", access)
		}

		s.clock.Advance(time.Minute)
		a = s.token(t, refreshes(tokens["refresh_token"].(string)))
		a.check(t, http.StatusOK, "")
		again := s.idToken(t, alg, a.json(t)["id_token"])
		for _, name := range []string{"iss", "sub", "aud", "auth_time", "sid", "acr"} {
			if again[name] != want[name] {
				t.Errorf("%s: after a refresh, %s is %v, want %v", alg, name, again[name], want[name])
			}
		}
		if again["nonce"] != nil || again["iat"] != float64(epoch.Add(time.Minute).Unix()) {
			t.Errorf("%s: after a refresh: %v", alg, again)
		}
	}
}

// What nobody knows, no ID token claims.
func TestIDTokenClaimsWhatIsKnown(t *testing.T) {
	s := newTestServer(t, openID(func(p *storage.OpenIDPolicy) { p.ClaimsInIDToken = true }))
	s.site.user.Claims = map[string]any{"email": "alice@example.com", "name": "Alice", "team": "red", "nonce": "forged"}
	a := s.token(t, redeems(s.code(t, asks("webapp", "scope", "openid email"))))
	a.check(t, http.StatusOK, "")
	got := s.idToken(t, "RS256", a.json(t)["id_token"])
	names := slices.Sorted(maps.Keys(got))
	if want := []string{"at_hash", "aud", "email", "exp", "iat", "iss", "sub", "team"}; !slices.Equal(names, want) {
		t.Errorf("claims %v, want %v", names, want)
	}
}

// Without the scope openid, nothing is about OpenID Connect (Core §3.1.2.1).
func TestRequestsWithoutOpenID(t *testing.T) {
	s := newTestServer(t, openID())
	for name, params := range map[string][]string{"another scope": {"scope", "orders"}, "no scope": {}} {
		a := s.token(t, redeems(s.code(t, asks("webapp", params...))))
		a.check(t, http.StatusOK, "")
		if body := a.json(t); body["id_token"] != nil || body["scope"] == "" || slices.Contains([]string{"openid", "email"}, body["scope"].(string)) {
			t.Errorf("%s: %v", name, body)
		}
	}
	s.get(t, asks("webapp", "scope", "email")).check(t, http.StatusSeeOther, "invalid_scope")
	s.get(t, asks("spa", "scope", "openid")).check(t, http.StatusSeeOther, "invalid_scope")
}

// Where access tokens have the typ JWT as well, an ID token still is none.
func TestIDTokenIsNoAccessToken(t *testing.T) {
	for _, minimal := range []bool{false, true} {
		s := newTestServer(t, openID(func(p *storage.OpenIDPolicy) { p.IDTokenAlgorithm = "ES256" }), func(c *Config) {
			c.Keys.Type, c.AccessToken.Minimal = "JWT", minimal
		})
		a := s.token(t, redeems(s.code(t, asks("webapp", "scope", "openid"))))
		a.check(t, http.StatusOK, "")
		if _, err := s.AccessToken(t.Context(), a.json(t)["access_token"].(string), 0); err != nil {
			t.Errorf("the access token: %v", err)
		}
		if _, err := s.AccessToken(t.Context(), a.json(t)["id_token"].(string), 0); err == nil {
			t.Error("the ID token is accepted as an access token")
		}
	}
}
