package authserver

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/assertion"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/mtls/mtlstest"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// revokesUsers lets the client billing revoke the tokens of users.
func revokesUsers(issuers ...string) func(*Config) {
	return client("billing", func(c *storage.Client) { c.RevokesUsers = &storage.UserIdentifiers{Issuers: issuers} })
}

// revokeUser sends a request to the global token revocation endpoint.
func (s *testServer) revokeUser(t *testing.T, id, body string, edits ...func(*http.Request)) answer {
	t.Helper()
	r := postRequest("/oauth/revoke_user", body)
	r.Header.Set("Content-Type", "application/json")
	if id != "" {
		r.SetBasicAuth(id, url.QueryEscape(webSecret))
	}
	for _, edit := range edits {
		edit(r)
	}
	return s.do(t, r)
}

// The user's access tokens and refresh tokens are void at once, those of others are not, and the request may be repeated (§3.3, §3.4.1).
func TestRevokeUser(t *testing.T) {
	for name, edit := range map[string]func(*Config){"JWT": func(*Config) {}, "opaque": opaque("acc_", 0)} {
		t.Run(name, func(t *testing.T) {
			s, events := audited(t, edit, revokesUsers())
			alices, code := s.tokens(t), s.code(t, asks("webapp"))
			s.site.user = &User{Subject: "bob"}
			bobs := s.tokens(t)
			for range 2 {
				a := s.revokeUser(t, "billing", `{"sub_id": {"format": "opaque", "id": "alice"}}`)
				if a.Code != http.StatusNoContent || a.Body.Len() > 0 || a.Header().Get("Cache-Control") != "no-store" {
					t.Fatalf("%d %v %s", a.Code, a.Header(), a.Body)
				}
				s.state(t, alices["access_token"], jwt.ErrRevoked)
				s.state(t, bobs["access_token"], nil)
			}
			s.token(t, refreshes(alices["refresh_token"].(string))).check(t, http.StatusBadRequest, "invalid_grant")
			s.token(t, redeems(code)).check(t, http.StatusBadRequest, "invalid_grant")
			s.token(t, refreshes(bobs["refresh_token"].(string))).check(t, http.StatusOK, "")
			var revoked []*Event
			for _, e := range *events {
				if e.Name == eventRevoked {
					revoked = append(revoked, e)
				}
			}
			if len(revoked) != 2 || revoked[0].Subject != "alice" || revoked[0].Reason != "revoked by client billing" || revoked[0].Address == "" {
				t.Errorf("the audit log has %+v", revoked)
			}
		})
	}
}

func TestRevokeUserIdentifiers(t *testing.T) {
	const idp = "https://idp.example.com/"
	email := func(c *Config) { c.Clients["billing"].RevokesUsers.Email = true }
	for name, tt := range map[string]struct {
		sub    string
		edit   func(*Config) // nil: none
		status int
	}{
		"opaque":                        {`{"format": "opaque", "id": "alice"}`, nil, 204},
		"opaque, of nobody":             {`{"format": "opaque", "id": "carol"}`, nil, 204},
		"opaque, without id":            {`{"format": "opaque"}`, nil, 400},
		"opaque, with a number":         {`{"format": "opaque", "id": 7}`, nil, 400},
		"opaque, too long":              {`{"format": "opaque", "id": "` + strings.Repeat("x", 256) + `"}`, nil, 404},
		"opaque, a client":              {`{"format": "opaque", "id": "billing"}`, nil, 404},
		"iss_sub, of this issuer":       {`{"format": "iss_sub", "iss": "` + testIssuer + `", "sub": "alice"}`, nil, 204},
		"iss_sub, of the IdP":           {`{"format": "iss_sub", "iss": "` + idp + `", "sub": "alice"}`, nil, 204},
		"iss_sub, without the slash":    {`{"format": "iss_sub", "iss": "https://idp.example.com", "sub": "alice"}`, nil, 404},
		"iss_sub, of another IdP":       {`{"format": "iss_sub", "iss": "https://evil.example", "sub": "alice"}`, nil, 404},
		"iss_sub, without iss":          {`{"format": "iss_sub", "sub": "alice"}`, nil, 400},
		"iss_sub, without sub":          {`{"format": "iss_sub", "iss": "` + idp + `"}`, nil, 400},
		"email, which is no user ID":    {`{"format": "email", "email": "alice"}`, nil, 400},
		"email, which is the user ID":   {`{"format": "email", "email": "alice"}`, email, 204},
		"phone_number":                  {`{"format": "phone_number", "phone_number": "+12065550100"}`, nil, 400},
		"account":                       {`{"format": "account", "uri": "acct:alice@example.com"}`, nil, 400},
		"aliases":                       {`{"format": "aliases", "identifiers": [{"format": "opaque", "id": "alice"}]}`, nil, 400},
		"without format":                {`{"id": "alice"}`, nil, 400},
		"null":                          {`null`, nil, 400},
		"text":                          {`"alice"`, nil, 400},
		"iss_sub of pairwise subjects":  {`{"format": "iss_sub", "iss": "` + testIssuer + `", "sub": "alice"}`, pairwiseBilling, 400},
		"opaque with pairwise subjects": {`{"format": "opaque", "id": "alice"}`, pairwiseBilling, 204},
	} {
		t.Run(name, func(t *testing.T) {
			edits := []func(*Config){revokesUsers(idp)}
			if tt.edit != nil {
				edits = append(edits, tt.edit)
			}
			s := newTestServer(t, edits...)
			token := s.tokens(t)["access_token"]
			a := s.revokeUser(t, "billing", `{"sub_id": `+tt.sub+`}`)
			if tt.status == http.StatusNoContent {
				if a.Code != tt.status {
					t.Fatalf("%d %s", a.Code, a.Body)
				}
			} else {
				a.check(t, tt.status, "invalid_request")
			}
			if tt.status == http.StatusNoContent && !strings.Contains(tt.sub, "carol") {
				s.state(t, token, jwt.ErrRevoked)
			} else {
				s.state(t, token, nil)
			}
		})
	}
}

func pairwiseBilling(c *Config) {
	c.PairwiseSalt = strings.Repeat("x", 32)
	c.Clients["billing"].OpenID = &storage.OpenIDPolicy{Sector: "idp.example.com"}
}

func TestRevokeUserIsRefused(t *testing.T) {
	const alice = `{"sub_id": {"format": "opaque", "id": "alice"}}`
	contentType := func(value string) func(*http.Request) { return header("Content-Type", value) }
	for name, tt := range map[string]struct {
		id, body string
		edit     func(*http.Request)
		status   int
		code     string
	}{
		"nobody":             {"", alice, nil, 401, "invalid_client"},
		"a wrong secret":     {"", alice, func(r *http.Request) { r.SetBasicAuth("billing", "wrong") }, 401, "invalid_client"},
		"secret in the body": {"", `{"client_id": "billing", "client_secret": "` + webSecret + `", "sub_id": {"format": "opaque", "id": "alice"}}`, nil, 401, "invalid_client"},
		"bearer":             {"", alice, header("Authorization", "Bearer x"), 401, "invalid_client"},
		"a public client":    {"", `{"client_id": "spa", "sub_id": {"format": "opaque", "id": "alice"}}`, nil, 403, "unauthorized_client"},
		"another client":     {"webapp", alice, nil, 403, "unauthorized_client"},
		"a form":             {"billing", "sub_id=alice", contentType("application/x-www-form-urlencoded"), 415, "invalid_request"},
		"no type":            {"billing", alice, func(r *http.Request) { r.Header.Del("Content-Type") }, 415, "invalid_request"},
		"no JSON":            {"billing", `{"sub_id": `, nil, 400, "invalid_request"},
		"more after it":      {"billing", alice + alice, nil, 400, "invalid_request"},
		"no sub_id":          {"billing", `{"subject": {"format": "opaque", "id": "alice"}}`, nil, 400, "invalid_request"},
		"too large":          {"billing", `{"sub_id": {"format": "opaque", "id": "` + strings.Repeat("a", maxRevokeUser) + `"}}`, nil, 413, "invalid_request"},
		"GET":                {"billing", alice, func(r *http.Request) { r.Method = http.MethodGet }, 405, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, revokesUsers())
			token := s.tokens(t)["access_token"]
			var edits []func(*http.Request)
			if tt.edit != nil {
				edits = append(edits, tt.edit)
			}
			s.revokeUser(t, tt.id, tt.body, edits...).check(t, tt.status, tt.code)
			s.state(t, token, nil)
		})
	}
}

// A JSON body has the parameters of client authentication as members.
func TestRevokeUserWithKeyOrCertificate(t *testing.T) {
	k := newKeyed(t, "ES256", revokesUsers())
	token := k.tokens(t)["access_token"]
	signed := k.sign(t, "", k.claimsOf("billing"))
	body := `{"client_assertion_type": "` + assertion.Type + `", "client_assertion": "` + signed + `", "sub_id": {"format": "opaque", "id": "alice"}}`
	if a := k.revokeUser(t, "", body); a.Code != http.StatusNoContent {
		t.Errorf("with a key: %d %s", a.Code, a.Body)
	}
	k.state(t, token, jwt.ErrRevoked)
	k.revokeUser(t, "", body).check(t, http.StatusUnauthorized, "invalid_client") // each assertion works once

	app := mtlstest.SelfSigned(t, mtlstest.DNS("app.example.com"))
	s := newTestServer(t, withCertificate(&storage.ClientCertificate{SANDNS: "app.example.com"}), revokesUsers())
	token = s.tokens(t)["access_token"]
	body = `{"client_id": "billing", "sub_id": {"format": "opaque", "id": "alice"}}`
	s.revokeUser(t, "", body).check(t, http.StatusUnauthorized, "invalid_client")
	s.state(t, token, nil)
	if a := s.revokeUser(t, "", body, over(app, true)); a.Code != http.StatusNoContent {
		t.Errorf("with a certificate: %d %s", a.Code, a.Body)
	}
	s.state(t, token, jwt.ErrRevoked)
}

// The operator learns which setting decides.
func TestRevokeUserExplains(t *testing.T) {
	s := newTestServer(t, revokesUsers("https://idp.example.com"))
	s.revokeUser(t, "billing", `{"sub_id": {"format": "iss_sub", "iss": "https://idp.example.com/", "sub": "alice"}}`)
	lines := s.logs.FilterField(zap.String("setting", "client billing: revokes_users")).All()
	if len(lines) != 1 || lines[0].ContextMap()["sent"] != "iss https://idp.example.com/" || lines[0].ContextMap()["expected"] != testIssuer+" https://idp.example.com" {
		t.Errorf("the log has %v", lines)
	}
}

// While the store is away, nothing is acknowledged.
func TestRevokeUserWithoutAStore(t *testing.T) {
	s := newTestServer(t, revokesUsers())
	s.tokens(t)
	s.store.Err = errors.New("the store is away")
	s.revokeUser(t, "billing", `{"sub_id": {"format": "opaque", "id": "alice"}}`).check(t, http.StatusServiceUnavailable, "temporarily_unavailable")
}

// Applications that the user has signed in to are told (OpenID Connect Back-Channel Logout).
func TestRevokeUserTellsApplications(t *testing.T) {
	s := newLogoutServer(t, revokesUsers())
	one, two := s.signIn(t, "webapp"), s.signIn(t, "other", "scope", "openid offline_access")
	if a := s.revokeUser(t, "billing", `{"sub_id": {"format": "opaque", "id": "alice"}}`); a.Code != http.StatusNoContent {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	s.send(t)
	if n := len(s.told.got()); n != 2 || s.alive(t, one) || s.alive(t, two) {
		t.Errorf("%d applications told; the tokens live: %v, %v", n, s.alive(t, one), s.alive(t, two))
	}
}

// Metadata names the endpoint only if a client may use it (§5).
func TestMetadataOfRevokeUser(t *testing.T) {
	const endpoint = "global_token_revocation_endpoint"
	none := newTestServer(t).fetch(t, wellKnown).json(t)
	for name := range none {
		if strings.HasPrefix(name, endpoint) {
			t.Errorf("nobody may use it, and the metadata has %s", name)
		}
	}
	doc := newTestServer(t, revokesUsers()).fetch(t, wellKnown).json(t)
	methods, _ := doc[endpoint+"_auth_methods_supported"].([]any)
	if doc[endpoint] != testIssuer+"/oauth/revoke_user" || !slices.Equal(methods, []any{"client_secret_basic", "private_key_jwt"}) {
		t.Errorf("%v, %v", doc[endpoint], methods)
	}
}
