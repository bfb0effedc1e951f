package authserver

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// sectors is an edit that gives webapp, and spa, pairwise subjects of these sectors.
func sectors(webapp, spa string) func(*Config) {
	return func(c *Config) {
		openID(func(p *storage.OpenIDPolicy) { p.Sector = webapp })(c)
		c.PairwiseSalt = strings.Repeat("salt", 8)
		c.Clients["spa"].OpenID = &storage.OpenIDPolicy{IDTokenAlgorithm: "RS256", Sector: spa}
		c.Clients["spa"].Scopes = append(c.Clients["spa"].Scopes, "openid")
	}
}

// signInToSPA signs the user in to spa, and returns the tokens.
func (s *testServer) signInToSPA(t *testing.T) map[string]any {
	t.Helper()
	code := s.code(t, asks("spa", "scope", "openid"))
	return s.token(t, redeems(code, "client_id", "spa", "redirect_uri", "https://spa.example.com/callback")).json(t)
}

// OpenID Connect Core §8.1: all that a client sees has the same subject, which is another one in another sector. The server itself goes
// by the user ID.
func TestPairwiseSubjects(t *testing.T) {
	for name, shape := range accessTokenShapes {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, sectors("app.example.com", "spa.example.com"), shape)
			tokens := s.signIn(t, "openid")
			access := tokens["access_token"].(string)
			subject := s.userinfo(t, access).json(t)["sub"].(string)
			if subject == "alice" || len(subject) > 255 {
				t.Errorf("subject %q", subject)
			}
			refreshed := s.token(t, refreshes(tokens["refresh_token"].(string))).json(t)
			for what, got := range map[string]any{
				"the ID token":              s.idToken(t, "RS256", tokens["id_token"])["sub"],
				"the ID token of a refresh": s.idToken(t, "RS256", refreshed["id_token"])["sub"],
				"introspection":             s.introspection(t, "webapp", access)["sub"],
				"the user name there":       s.introspection(t, "webapp", access)["username"],
				"that of a refresh token":   s.introspection(t, "webapp", refreshed["refresh_token"])["sub"],
			} {
				if got != subject {
					t.Errorf("%s has the subject %v, want %s", what, got, subject)
				}
			}
			if answer := s.introspection(t, "webapp", access); answer["sub_sealed"] != nil {
				t.Errorf("introspection: %v", answer)
			}
			if strings.Contains(access, ".") {
				parts, err := jwt.Split(access)
				if err != nil {
					t.Fatal(err)
				}
				if ref, err := parts.Reference(); s.claims(t, access)["sub"] != subject || err != nil || name == "minimal" && ref.SealedSubject == "" {
					t.Errorf("the access token has %v, and in its header %v, %v", s.claims(t, access), ref, err)
				}
			}

			// A guard knows the user.
			claims, err := s.AccessToken(t.Context(), access, 0)
			if err != nil || claims.Subject != "alice" || claims.Raw["sub"] != subject {
				t.Errorf("a guard sees %+v, %v", claims, err)
			}
			other := s.signInToSPA(t)
			if got := s.userinfo(t, other["access_token"]).json(t)["sub"]; got == subject || got == "alice" {
				t.Errorf("in another sector, the subject is %v", got)
			}

			// Another process of the issuer reads the token too, and a revocation names the user.
			s.restart(t, s.config)
			s.state(t, access, nil)
			s.revoke(t, "alice", "")
			s.state(t, access, jwt.ErrRevoked)
			s.state(t, other["access_token"], jwt.ErrRevoked)
		})
	}
}

func TestPairwiseSectors(t *testing.T) {
	s := newTestServer(t, sectors("example.com", "example.com"))
	first := s.idToken(t, "RS256", s.signIn(t, "openid")["id_token"])["sub"]
	if got := s.idToken(t, "RS256", s.signInToSPA(t)["id_token"])["sub"]; got != first {
		t.Errorf("in the same sector: %v and %v", first, got)
	}
	s.site.user = &User{Subject: "bob"}
	if got := s.idToken(t, "RS256", s.signIn(t, "openid")["id_token"])["sub"]; got == first {
		t.Errorf("bob is alice: %v", got)
	}
	s.site.user = &User{Subject: "alice"}
	salted := newTestServer(t, sectors("example.com", "example.com"), func(c *Config) { c.PairwiseSalt = strings.Repeat("x", 32) })
	if got := salted.idToken(t, "RS256", salted.signIn(t, "openid")["id_token"])["sub"]; got == first {
		t.Errorf("with another salt: %v", got)
	}
	if got := s.fetch(t, wellKnown).json(t)["subject_types_supported"]; !equalJSON(got, []any{"public", "pairwise"}) {
		t.Errorf("subject types %v", got)
	}
}

// A hint and a requested subject are those that the client knows.
func TestPairwiseSubjectOfARequest(t *testing.T) {
	s := newTestServer(t, sectors("app.example.com", "spa.example.com"))
	tokens := s.signIn(t, "openid")
	subject := s.userinfo(t, tokens["access_token"]).json(t)["sub"].(string)
	hint := tokens["id_token"].(string)
	s.get(t, asks("webapp", "scope", "openid", "prompt", "none", "id_token_hint", hint)).check(t, http.StatusSeeOther, "")
	s.get(t, asks("webapp", "scope", "openid", "prompt", "none", "claims", `{"id_token":{"sub":{"value":"`+subject+`"}}}`)).check(t, http.StatusSeeOther, "")
	s.get(t, asks("webapp", "scope", "openid", "prompt", "none", "claims", `{"id_token":{"sub":{"value":"alice"}}}`)).check(t, http.StatusSeeOther, "login_required")
}

// When the owner retires a key, the secret goes that sealed the user IDs. The tokens are refused then, and the client gets others.
func TestPairwiseAfterAKeyIsRetired(t *testing.T) {
	s := newTestServer(t, sectors("app.example.com", "spa.example.com"))
	tokens := s.signIn(t, "openid")
	parts, err := jwt.Split(tokens["id_token"].(string))
	if err != nil {
		t.Fatal(err)
	}
	header, err := parts.ParseHeader()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.keys.RetireNow(t.Context(), header.KeyID); err != nil { // not the key of the access token
		t.Fatal(err)
	}
	s.restart(t, s.config)
	s.userinfo(t, tokens["access_token"]).check(t, http.StatusUnauthorized, invalidToken)
	again := s.token(t, refreshes(tokens["refresh_token"].(string)))
	again.check(t, http.StatusOK, "")
	s.userinfo(t, again.json(t)["access_token"]).check(t, http.StatusOK, "")
}

// OpenID Connect Core §2: a subject is ASCII. A person whose ID is not can use apps, but not sign in to them, unless the subject is
// pairwise.
func TestSubjectsAreASCII(t *testing.T) {
	s := newTestServer(t, openID())
	s.site.user = &User{Subject: "älice"}
	a := s.get(t, asks("webapp", "scope", "openid"))
	a.check(t, http.StatusSeeOther, "access_denied")
	if logged := s.logs.FilterMessage("request refused").All(); len(logged) != 1 || !strings.Contains(logged[0].ContextMap()["expected"].(string), "subject_type pairwise") {
		t.Errorf("log %v", logged)
	}
	s.token(t, redeems(s.code(t, asks("webapp", "scope", "orders")))).check(t, http.StatusOK, "")

	// A scope of the owner's that is called openid, where nobody signs in to applications.
	s = newTestServer(t, client("webapp", func(c *storage.Client) { c.Scopes = append(slices.Clone(c.Scopes), "openid") }))
	s.site.user = &User{Subject: "älice"}
	s.token(t, redeems(s.code(t, asks("webapp", "scope", "openid")))).check(t, http.StatusOK, "")

	s = newTestServer(t, sectors("app.example.com", "spa.example.com"))
	s.site.user = &User{Subject: "älice"}
	token := s.signIn(t, "openid")["access_token"]
	if claims, err := s.AccessToken(t.Context(), token.(string), 0); err != nil || claims.Subject != "älice" {
		t.Errorf("got %+v, %v", claims, err)
	}

	// The client was pairwise when the person approved it.
	tokens := s.signIn(t, "openid")
	s.config.Clients["webapp"].OpenID = &storage.OpenIDPolicy{IDTokenAlgorithm: "RS256"}
	s.restart(t, s.config)
	s.token(t, refreshes(tokens["refresh_token"].(string))).check(t, http.StatusForbidden, grants.AccessDenied)
}
