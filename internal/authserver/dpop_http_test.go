package authserver

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/dpop"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// proof returns an edit that adds a DPoP proof to a token request.
func proof(t *testing.T, p *jwttest.Prover, pairs ...any) func(*http.Request) {
	t.Helper()
	return header("DPoP", p.Prove(t, http.MethodPost, testToken, "", pairs...))
}

// cnf returns the key that an access token is bound to.
func (s *testServer) cnf(t *testing.T, token any) string {
	t.Helper()
	claims, err := s.AccessToken(t.Context(), token.(string), 0)
	if err != nil {
		t.Fatal(err)
	}
	return claims.Bound.Thumbprint
}

func spaRedeems(code string) url.Values {
	return redeems(code, "client_id", "spa", "redirect_uri", "https://spa.example.com/callback")
}

// RFC 9449 §5, §6: the access token is bound, as a JWT and as a record, and the answers say so.
func TestBoundTokens(t *testing.T) {
	for name, edit := range map[string]func(*Config){
		"JWT": func(*Config) {}, "opaque": opaque("acc_", 0), "minimal": func(c *Config) { c.AccessToken.Minimal = true },
		"a name of its own for Bearer": func(c *Config) { c.Wire.Response.TokenType = "bearer" },
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, edit)
			p := jwttest.NewProver(t, "ES256", s.clock.Now)
			a := s.token(t, redeems(s.code(t, asks("webapp"))), proof(t, p))
			a.check(t, http.StatusOK, "")
			got := a.json(t)
			if got["token_type"] != "DPoP" || s.cnf(t, got["access_token"]) != p.Thumbprint {
				t.Errorf("token_type %v, key %q; want DPoP, %q", got["token_type"], s.cnf(t, got["access_token"]), p.Thumbprint)
			}
			seen := s.introspect(t, got["access_token"].(string)).json(t)
			if cnf, _ := seen["cnf"].(map[string]any); seen["token_type"] != "DPoP" || cnf["jkt"] != p.Thumbprint {
				t.Errorf("introspection says %v", seen)
			}
			if a := s.token(t, refreshes(got["refresh_token"].(string))); a.json(t)["token_type"] == "DPoP" || s.cnf(t, a.json(t)["access_token"]) != "" {
				t.Errorf("a refresh without a proof, of a client that authenticates: %s", a.Body)
			}
		})
	}
}

func (s *testServer) introspect(t *testing.T, token string) answer {
	t.Helper()
	r := postRequest("/oauth/introspect", url.Values{"token": {token}}.Encode())
	r.SetBasicAuth("webapp", url.QueryEscape(webSecret))
	return s.do(t, r)
}

// RFC 9449 §5: the refresh tokens of a public client are bound to its key.
func TestRefreshTokensOfPublicClientsAreBound(t *testing.T) {
	for name, rotate := range map[string]bool{"rotating": true, "kept": false} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, client("spa", func(c *storage.Client) { c.RefreshToken.Keep = !rotate }))
			p, thief := jwttest.NewProver(t, "ES256", s.clock.Now), jwttest.NewProver(t, "ES256", s.clock.Now)
			a := s.token(t, spaRedeems(s.code(t, asks("spa"))), proof(t, p))
			a.check(t, http.StatusOK, "")
			first := a.json(t)["refresh_token"].(string)
			for what, edits := range map[string][]func(*http.Request){"no proof": nil, "another key": {proof(t, thief)}} {
				s.token(t, refreshes(first, "client_id", "spa"), edits...).check(t, http.StatusBadRequest, grants.InvalidGrant)
				if t.Failed() {
					t.Fatal(what)
				}
			}
			a = s.token(t, refreshes(first, "client_id", "spa"), proof(t, p))
			a.check(t, http.StatusOK, "")
			second := a.json(t)["refresh_token"].(string)
			// The client has lost that answer, and asks again with a new proof. Somebody else cannot.
			s.token(t, refreshes(first, "client_id", "spa"), proof(t, thief)).check(t, http.StatusBadRequest, grants.InvalidGrant)
			a = s.token(t, refreshes(first, "client_id", "spa"), proof(t, p))
			a.check(t, http.StatusOK, "")
			if again := a.json(t); again["refresh_token"] != second || s.cnf(t, again["access_token"]) != p.Thumbprint {
				t.Errorf("the repeat gives %v, want %s", again, second)
			}
			a = s.token(t, refreshes(second, "client_id", "spa"), proof(t, p))
			a.check(t, http.StatusOK, "")
			if !rotate {
				return
			}
			s.token(t, refreshes(first, "client_id", "spa")).check(t, http.StatusBadRequest, grants.InvalidGrant) // without the key: no reuse
			s.token(t, refreshes(a.json(t)["refresh_token"].(string), "client_id", "spa"), proof(t, p)).check(t, http.StatusOK, "")
			s.token(t, refreshes(first, "client_id", "spa"), proof(t, p)).check(t, http.StatusBadRequest, grants.InvalidGrant) // reuse
			s.token(t, refreshes(a.json(t)["refresh_token"].(string), "client_id", "spa"), proof(t, p)).check(t, http.StatusBadRequest, grants.InvalidGrant)
		})
	}
}

// A thief of a refresh token that is not bound cannot bind it to a key of their own: its reuse ends the family as ever.
func TestLateProofBindsNoRefreshToken(t *testing.T) {
	s := newTestServer(t)
	thief := jwttest.NewProver(t, "ES256", s.clock.Now)
	token := s.token(t, spaRedeems(s.code(t, asks("spa")))).json(t)["refresh_token"].(string)
	a := s.token(t, refreshes(token, "client_id", "spa"), proof(t, thief))
	a.check(t, http.StatusOK, "")
	stolen := a.json(t)["refresh_token"].(string)
	s.clock.Advance(time.Minute)
	s.token(t, refreshes(token, "client_id", "spa")).check(t, http.StatusBadRequest, grants.InvalidGrant) // the owner
	s.token(t, refreshes(stolen, "client_id", "spa"), proof(t, thief)).check(t, http.StatusBadRequest, grants.InvalidGrant)
}

// A client that sends its exchange twice by accident keeps what it has got; anybody else with the code and the verifier ends it.
func TestRepeatOfACodeWithDPoP(t *testing.T) {
	for _, tt := range []struct {
		name  string
		key   int // the client's, another one, or none
		lives bool
	}{{"the same key", 0, true}, {"another key", 1, false}, {"no key", 2, false}} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t)
			p := jwttest.NewProver(t, "ES256", s.clock.Now)
			code := s.code(t, asks("spa"))
			first := s.token(t, spaRedeems(code), proof(t, p)).json(t)
			again := [][]func(*http.Request){{proof(t, p)}, {proof(t, jwttest.NewProver(t, "ES256", s.clock.Now))}, nil}[tt.key]
			s.token(t, spaRedeems(code), again...).check(t, http.StatusBadRequest, grants.InvalidGrant)
			a := s.token(t, refreshes(first["refresh_token"].(string), "client_id", "spa"), proof(t, p))
			if (a.Code == http.StatusOK) != tt.lives {
				t.Errorf("the refresh after it: %d %s", a.Code, a.Body)
			}
		})
	}
}

// RFC 9449 §10.
func TestCodeForOneKey(t *testing.T) {
	s := newTestServer(t)
	p, other := jwttest.NewProver(t, "ES256", s.clock.Now), jwttest.NewProver(t, "ES256", s.clock.Now)
	code := s.code(t, asks("spa", "dpop_jkt", p.Thumbprint))
	s.token(t, spaRedeems(code)).check(t, http.StatusBadRequest, grants.InvalidGrant)
	s.token(t, spaRedeems(code), proof(t, other)).check(t, http.StatusBadRequest, grants.InvalidGrant)
	s.token(t, spaRedeems(code), proof(t, p)).check(t, http.StatusOK, "")
	for _, jkt := range []string{"short", strings.Repeat("a", 44), strings.Repeat("!", 43)} {
		if got := s.get(t, asks("spa", "dpop_jkt", jkt)).location().Get("error"); got != grants.InvalidRequest {
			t.Errorf("dpop_jkt %q: %q", jkt, got)
		}
	}
}

func TestProofsAtTheTokenEndpoint(t *testing.T) {
	s := newTestServer(t)
	p := jwttest.NewProver(t, "ES256", s.clock.Now)
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"billing"}, "client_secret": {webSecret}}
	at := func(target string) func(*http.Request) {
		return header("DPoP", p.Prove(t, http.MethodPost, target, ""))
	}
	for _, tt := range []struct {
		name   string
		edit   func(*http.Request)
		status int
	}{
		{"the endpoint as in the metadata", at(testToken), 200},
		{"in another spelling", at("HTTPS://EXAMPLE.COM:443/x/../oauth/token?a=b#c"), 200},
		{"the host that the request names", func(r *http.Request) {
			at("https://evil.example/oauth/token")(r)
			r.Host = "evil.example"
		}, 400},
		{"whatever host the request names", func(r *http.Request) {
			at(testToken)(r)
			r.Host = "evil.example"
		}, 200},
		{"the issuer", at(testIssuer), 400},
		{"http", at("http://example.com/oauth/token"), 400},
		{"two headers", func(r *http.Request) {
			at(testToken)(r)
			r.Header.Add("DPoP", p.Prove(t, http.MethodPost, testToken, ""))
		}, 400},
		{"an empty header", func(r *http.Request) { r.Header["Dpop"] = []string{""} }, 400},
		{"an authorization with the scheme DPoP", header("Authorization", "DPoP x"), 400},
	} {
		code := ""
		if tt.status == http.StatusBadRequest {
			code = grants.InvalidDPoPProof
		}
		if strings.HasPrefix(tt.name, "an authorization") {
			code = grants.InvalidRequest
		}
		a := s.token(t, form, tt.edit)
		if a.Code != tt.status || a.Code != 200 && a.json(t)["error"] != code {
			t.Errorf("%s: %d %s", tt.name, a.Code, a.Body)
		}
	}
	r := postRequest("/oauth/token/", form.Encode()) // the server answers there as well
	at(testToken + "/")(r)
	if a := s.do(t, r); a.Code != http.StatusOK {
		t.Errorf("with a slash: %d %s", a.Code, a.Body)
	}
}

// RFC 9449 §5.2.
func TestClientThatMustUseDPoP(t *testing.T) {
	s := newTestServer(t, client("spa", func(c *storage.Client) { c.RequireDPoP = true }))
	p := jwttest.NewProver(t, "ES256", s.clock.Now)
	code := s.code(t, asks("spa"))
	s.token(t, spaRedeems(code)).check(t, http.StatusBadRequest, grants.InvalidDPoPProof)
	s.token(t, spaRedeems(code), proof(t, p)).check(t, http.StatusOK, "")
}

// RFC 9449 §8: the client gets a nonce with the refusal, and its code is still good then.
func TestNoncesAtTheTokenEndpoint(t *testing.T) {
	s, events := audited(t, func(c *Config) { c.DPoPNonce = true })
	p := jwttest.NewProver(t, "ES256", s.clock.Now)
	code := s.code(t, asks("spa"))
	before := len(*events)
	a := s.token(t, spaRedeems(code), proof(t, p))
	a.check(t, http.StatusBadRequest, grants.UseDPoPNonce)
	logged := s.logs.FilterMessage("request refused until it has a nonce").All()
	if len(*events) != before || len(logged) != 1 || logged[0].Level != zap.DebugLevel {
		t.Errorf("%d events, and the log has %v", len(*events)-before, logged)
	}
	nonce := a.Header().Get("DPoP-Nonce")
	if nonce == "" || !strings.Contains(a.Header().Get("Access-Control-Expose-Headers"), "DPoP-Nonce") {
		t.Fatalf("%v", a.Header())
	}
	node := s.node(t) // which has the same secret
	a = node.token(t, spaRedeems(code), proof(t, p, "nonce", nonce))
	a.check(t, http.StatusOK, "")
	if a.Header().Get("DPoP-Nonce") == "" {
		t.Error("an answer without a nonce for the next proof")
	}
	if a := s.token(t, redeems(s.code(t, asks("webapp")))); a.Code != http.StatusOK || a.Header().Get("DPoP-Nonce") != "" {
		t.Errorf("without DPoP: %d %v", a.Code, a.Header())
	}
}

// A proof is good once, also if several nodes get it at once. Tokens that a stranger has made up leave nothing in the store.
func TestProofsAcrossNodes(t *testing.T) {
	s := newTestServer(t)
	nodes := []*testServer{s, s.node(t), s.node(t)}
	for _, node := range nodes[1:] {
		config := node.config
		config.Proofs = dpop.NewMemory() // each machine has its own
		node.restart(t, config)
	}
	p := jwttest.NewProver(t, "ES256", s.clock.Now)
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"billing"}, "client_secret": {webSecret}}
	sent := proof(t, p)
	var all sync.WaitGroup
	statuses := make([]int, len(nodes))
	for n, node := range nodes {
		all.Go(func() {
			r := postRequest("/oauth/token", form.Encode())
			sent(r)
			w := httptest.NewRecorder()
			_ = node.ServeHTTP(w, r, s.site)
			statuses[n] = w.Code
		})
	}
	all.Wait()
	slices.Sort(statuses)
	if !slices.Equal(statuses, []int{200, 400, 400}) {
		t.Errorf("%v", statuses)
	}
	before := s.store.Count(t, storage.KindOnce)
	for range 3 {
		s.token(t, refreshes("nonsense", "client_id", "spa"), proof(t, p)).check(t, http.StatusBadRequest, grants.InvalidGrant)
	}
	if after := s.store.Count(t, storage.KindOnce); before != 1 || after != before {
		t.Errorf("%d records, then %d", before, after)
	}
}

// A refresh whose proof another node has seen changes nothing that the client cannot repeat.
func TestReplayedProofLosesNoRefreshToken(t *testing.T) {
	s := newTestServer(t)
	p := jwttest.NewProver(t, "ES256", s.clock.Now)
	token := s.token(t, spaRedeems(s.code(t, asks("spa"))), proof(t, p)).json(t)["refresh_token"].(string)
	used := p.Prove(t, http.MethodPost, testToken, "", "jti", "seen elsewhere")
	if _, err := storage.Once(t.Context(), s.store, s.clock.Now().Add(time.Minute), "dpop", p.Thumbprint, "seen elsewhere"); err != nil {
		t.Fatal(err)
	}
	s.token(t, refreshes(token, "client_id", "spa"), header("DPoP", used)).check(t, http.StatusBadRequest, grants.InvalidDPoPProof)
	s.token(t, refreshes(token, "client_id", "spa"), proof(t, p)).check(t, http.StatusOK, "")
}

func TestDPoPMetadata(t *testing.T) {
	s := newTestServer(t)
	document, err := s.metadata(new(SiteFacts))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Algs []string `json:"dpop_signing_alg_values_supported"`
	}
	if err := json.Unmarshal(document, &got); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(got.Algs, "ES256") || slices.ContainsFunc(got.Algs, func(alg string) bool { return !jwt.Asymmetric(alg) }) {
		t.Errorf("%v", got.Algs)
	}
}

// A refused proof is explained, and no proof or token is in the log (see newTestServer).
func TestRefusedProofIsExplained(t *testing.T) {
	s := newTestServer(t)
	p := jwttest.NewProver(t, "ES256", s.clock.Now)
	s.token(t, url.Values{"grant_type": {"client_credentials"}, "client_id": {"billing"}, "client_secret": {webSecret}},
		proof(t, p, "htu", "https://proxy.example/oauth/token")).check(t, http.StatusBadRequest, grants.InvalidDPoPProof)
	entry := s.logs.FilterMessage("request refused").All()
	if len(entry) != 1 || entry[0].ContextMap()["sent"] != "htu https://proxy.example/oauth/token" || entry[0].ContextMap()["expected"] != testToken {
		t.Errorf("%v", entry)
	}
}

// RFC 9449 §7: the userinfo endpoint is a protected resource too.
func TestUserinfoWithDPoP(t *testing.T) {
	s := newTestServer(t, openID())
	p, thief := jwttest.NewProver(t, "ES256", s.clock.Now), jwttest.NewProver(t, "ES256", s.clock.Now)
	a := s.token(t, redeems(s.code(t, asks("webapp", "scope", "openid"))), proof(t, p))
	a.check(t, http.StatusOK, "")
	token := a.json(t)["access_token"].(string)
	const target = testIssuer + "/oauth/userinfo"
	for _, tt := range []struct {
		name, scheme, proof string
		status              int
		challenge           string
	}{
		{"a proof", "DPoP", p.Prove(t, "GET", target, token), 200, ""},
		{"no proof", "DPoP", "", 401, "DPoP algs="},
		{"as a Bearer token", "Bearer", "", 401, "Bearer realm="},
		{"as a Bearer token with a proof", "Bearer", p.Prove(t, "GET", target, token), 401, "Bearer realm="},
		{"no ath", "DPoP", p.Prove(t, "GET", target, ""), 401, "DPoP algs="},
		{"another key", "DPoP", thief.Prove(t, "GET", target, token), 401, "DPoP algs="},
		{"another endpoint", "DPoP", p.Prove(t, "GET", testToken, token), 401, "DPoP algs="},
	} {
		r := httptest.NewRequest(http.MethodGet, "/oauth/userinfo", nil)
		r.Header.Set("Authorization", tt.scheme+" "+token)
		if tt.proof != "" {
			r.Header.Set("DPoP", tt.proof)
		}
		if a := s.do(t, r); a.Code != tt.status || !strings.HasPrefix(a.Header().Get("WWW-Authenticate"), tt.challenge) {
			t.Errorf("%s: %d %v %s", tt.name, a.Code, a.Header(), a.Body)
		}
	}
}

// FAPI 2.0 Security Profile §5.4.1: an RSA key can sign by PS256 and by RS256.
func TestUserinfoWithProofUnderFAPI(t *testing.T) {
	for alg, status := range map[string]int{"PS256": http.StatusOK, "RS256": http.StatusUnauthorized} {
		s := newTestServer(t, openID())
		p := jwttest.NewProver(t, alg, s.clock.Now)
		token := s.token(t, redeems(s.code(t, asks("webapp", "scope", "openid"))), proof(t, p)).json(t)["access_token"].(string)
		for _, profile := range []bool{false, true} {
			s.config.Clients["webapp"].FAPI = profile
			r := httptest.NewRequest(http.MethodGet, "/oauth/userinfo", nil)
			r.Header.Set("Authorization", "DPoP "+token)
			r.Header.Set("DPoP", p.Prove(t, "GET", testIssuer+"/oauth/userinfo", token))
			if a := s.do(t, r); profile && a.Code != status || !profile && a.Code != http.StatusOK {
				t.Errorf("%s, with the profile %v: %d %s", alg, profile, a.Code, a.Body)
			}
		}
	}
}

// A program without a browser binds its tokens too, and repeats a poll whose answer it lost with the same key.
func TestDeviceWithDPoP(t *testing.T) {
	s := newTestServer(t, withDevices)
	p, thief := jwttest.NewProver(t, "ES256", s.clock.Now), jwttest.NewProver(t, "ES256", s.clock.Now)
	d := s.startDevice(t, "cli")
	s.approveDevice(t, d)
	form := url.Values{"grant_type": {grants.DeviceCodeType}, "device_code": {d.code}, "client_id": {"cli"}}
	a := s.token(t, form, proof(t, p))
	a.check(t, http.StatusOK, "")
	token := a.json(t)["refresh_token"].(string)
	s.token(t, form, proof(t, thief)).check(t, http.StatusBadRequest, grants.InvalidGrant)
	s.token(t, form).check(t, http.StatusBadRequest, grants.InvalidGrant)
	if again := s.token(t, form, proof(t, p)); again.Code != http.StatusOK || again.json(t)["refresh_token"] != token {
		t.Errorf("the repeat: %d %s", again.Code, again.Body)
	}
	s.token(t, refreshes(token, "client_id", "cli")).check(t, http.StatusBadRequest, grants.InvalidGrant)
	s.token(t, refreshes(token, "client_id", "cli"), proof(t, p)).check(t, http.StatusOK, "")
}

// Clients that do not use DPoP pay nothing for it.
func TestNoProofTakesNoMemory(t *testing.T) {
	s := newTestServer(t)
	c := &call{ctx: t.Context(), r: postRequest("/oauth/token", ""), client: s.config.Clients["spa"]}
	allocs := testing.AllocsPerRun(100, func() {
		if err := s.checkPossession(c); err != nil || c.proof != nil || !c.proven.IsZero() {
			t.Error(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}
