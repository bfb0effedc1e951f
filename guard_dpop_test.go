package caddyoauth_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
	"github.com/caddy-oauth/caddy-oauth/internal/testport"
)

// bound returns an access token of the client app that is bound to a key, with whatever else the answer has.
func (s *server) bound(t *testing.T, issuer string, p *jwttest.Prover, form url.Values) (got tokens) {
	t.Helper()
	endpoint := issuer + "/oauth/token"
	answer := s.do(t, http.MethodPost, endpoint, "application/x-www-form-urlencoded", form.Encode(),
		"DPoP", p.Prove(t, http.MethodPost, endpoint, ""))
	if err := json.Unmarshal([]byte(answer.body), &got); err != nil || answer.status != http.StatusOK || !strings.Contains(answer.body, `"token_type":"DPoP"`) {
		t.Fatalf("token: %d %s: %v", answer.status, answer.body, err)
	}
	return got
}

var asBilling = url.Values{"grant_type": {"client_credentials"}, "client_id": {"billing"}, "client_secret": {"billing-secret"}}

func TestGuardWithDPoP(t *testing.T) {
	s := newServer(t)
	s.run(t, strings.Replace(shop, "scope orders", "scope orders\nclient billing {\nsecret billing-secret\nscopes orders\n}", 1), `http://shop.localhost:PORT {
		oauth
		oauth_guard /api/* {
			scopes orders
			header X-User {http.auth.user.client_id}
		}
		oauth_guard /api/both/* {
			authorization pass
		}
		oauth_guard /own {
			token_header X-Token
		}
		reverse_proxy `+upstream(t)+`
	}
	http://other.localhost:PORT {
		oauth_guard
		respond ok
	}
	http://:PORT {
		oauth_guard {
			audience http://shop.localhost:PORT
		}
		respond ok
	}`)
	shop := s.url("shop.localhost")
	p, thief := jwttest.NewProver(t, "ES256", time.Now), jwttest.NewProver(t, "ES256", time.Now)
	token := s.bound(t, shop, p, asBilling).AccessToken
	plain := s.do(t, http.MethodPost, shop+"/oauth/token", "application/x-www-form-urlencoded", asBilling.Encode())
	var unbound tokens
	if err := json.Unmarshal([]byte(plain.body), &unbound); err != nil {
		t.Fatal(err)
	}
	api := shop + "/api/orders"
	used := p.Prove(t, "GET", api, token)
	if answer := s.get(t, api, "Authorization", "DPoP "+token, "DPoP", used); answer.status != 200 || strings.Contains(answer.body, "Dpop") || !strings.Contains(answer.body, `"X-User":["billing"]`) {
		t.Errorf("a good request: %d %s", answer.status, answer.body)
	}
	for _, tt := range []struct {
		name, target, scheme, proof string
		status                      int
		challenge                   string
	}{
		{"another request", api + "?page=2", "DPoP", p.Prove(t, "GET", api, token), 200, ""},
		{"the scheme in lower case", api, "dpop", p.Prove(t, "GET", api, token), 200, ""},
		{"two guards and one proof", shop + "/api/both/x", "DPoP", p.Prove(t, "GET", shop+"/api/both/x", token), 200, ""},
		{"an escaped path", shop + "/api/a%2Fb/%7E", "DPoP", p.Prove(t, "GET", shop+"/api/a%2fb/~", token), 200, ""},
		{"another site of the same Caddy", s.url("other.localhost"), "DPoP", p.Prove(t, "GET", s.url("other.localhost")+"/", token), 200, ""},
		{"a site without a name, as the resource", s.url("evil.localhost"), "DPoP", p.Prove(t, "GET", shop+"/", token), 200, ""},
		{"a site without a name, as another host", s.url("evil.localhost"), "DPoP", p.Prove(t, "GET", s.url("evil.localhost")+"/", token), 401, `DPoP error="invalid_dpop_proof"`},

		{"the same proof again", api, "DPoP", used, 401, `DPoP error="invalid_dpop_proof", error_description="DPoP proof: jti was used before", algs="`},
		{"as a Bearer token", api, "Bearer", "", 401, `Bearer error="invalid_token", error_description="access token: bound to a key"`},
		{"as a Bearer token with a proof", api, "Bearer", p.Prove(t, "GET", api, token), 401, `Bearer error="invalid_token"`},
		{"no proof", api, "DPoP", "", 401, `DPoP error="invalid_dpop_proof"`},
		{"no ath", api, "DPoP", p.Prove(t, "GET", api, ""), 401, `DPoP error="invalid_dpop_proof"`},
		{"another key", api, "DPoP", thief.Prove(t, "GET", api, token), 401, `DPoP error="invalid_token"`},
		{"another method", api, "DPoP", p.Prove(t, "POST", api, token), 401, `DPoP error="invalid_dpop_proof"`},
		{"another path", api, "DPoP", p.Prove(t, "GET", shop+"/api/other", token), 401, `DPoP error="invalid_dpop_proof"`},
		{"another host", api, "DPoP", p.Prove(t, "GET", "http://evil.localhost/api/orders", token), 401, `DPoP error="invalid_dpop_proof"`},
		{"another port", api, "DPoP", p.Prove(t, "GET", "http://shop.localhost:1/api/orders", token), 401, `DPoP error="invalid_dpop_proof"`},
		{"https", api, "DPoP", p.Prove(t, "GET", strings.Replace(api, "http:", "https:", 1), token), 401, `DPoP error="invalid_dpop_proof"`},
		{"60 s old", api, "DPoP", p.Prove(t, "GET", api, token, "iat", time.Now().Unix()-61), 401, `DPoP error="invalid_dpop_proof"`},
	} {
		header := []string{"Authorization", tt.scheme + " " + token}
		if tt.proof != "" {
			header = append(header, "DPoP", tt.proof)
		}
		answer := s.get(t, tt.target, header...)
		if answer.status != tt.status || !strings.HasPrefix(answer.header.Get("WWW-Authenticate"), tt.challenge) {
			t.Errorf("%s: %d %v %s", tt.name, answer.status, answer.header["Www-Authenticate"], answer.body)
		}
	}
	// RFC 9449 §7.1: a client learns that it may bind its tokens, and what is bound to no key is no DPoP token.
	answer := s.get(t, api)
	if challenges := answer.header.Values("WWW-Authenticate"); len(challenges) != 2 || !strings.HasPrefix(challenges[0], "Bearer ") || !strings.HasPrefix(challenges[1], `DPoP algs="ES256 `) {
		t.Errorf("without a token: %q", challenges)
	}
	answer = s.get(t, api, "Authorization", "DPoP "+unbound.AccessToken, "DPoP", p.Prove(t, "GET", api, unbound.AccessToken))
	if answer.status != 401 || !strings.HasPrefix(answer.header.Get("WWW-Authenticate"), `DPoP error="invalid_token"`) {
		t.Errorf("an unbound token with the scheme DPoP: %d %v", answer.status, answer.header)
	}
	own := shop + "/own"
	if answer := s.get(t, own, "X-Token", token, "DPoP", p.Prove(t, "GET", own, token)); answer.status != 200 {
		t.Errorf("in a header of its own: %d %s", answer.status, answer.body)
	}
	if answer := s.get(t, own, "X-Token", token); answer.status != 401 {
		t.Errorf("in a header of its own, without a proof: %d %s", answer.status, answer.body)
	}
	if entry := s.logEntries(t, func(e map[string]any) bool {
		return e["sent"] == "a token that is bound to a key, as a Bearer token"
	}); len(entry) == 0 {
		t.Error("the log does not say that the token is bound")
	}
}

// A remote issuer's token that is bound, to a key or in a way that the guard does not know, is no Bearer token.
func TestGuardOfARemoteIssuerWithDPoP(t *testing.T) {
	s := newServer(t)
	e := newRemoteIssuer(t)
	key := jwttest.NewKey(t, "ES256")
	e.keys = `{"keys":[` + string(key.Public) + `]}`
	s.run(t, "", `http://api.localhost:PORT {
		oauth_guard `+e.URL+` {
			resource http://api.localhost:PORT
		}
		respond ok
	}`)
	api := s.url("api.localhost") + "/"
	p := jwttest.NewProver(t, "EdDSA", time.Now)
	sign := func(cnf string) string {
		return key.Sign(t, []byte(`{"iss":"`+e.URL+`","sub":"alice","client_id":"app","aud":"`+s.url("api.localhost")+`","exp":9999999999`+cnf+`}`))
	}
	token := sign(`,"cnf":{"jkt":"` + p.Thumbprint + `"}`)
	for name, tt := range map[string]struct {
		token  string
		status int
		header []string
	}{
		"bound":                         {token, 200, []string{"Authorization", "DPoP " + token, "DPoP", p.Prove(t, "GET", api, token)}},
		"bound, as Bearer":              {token, 401, []string{"Authorization", "Bearer " + token}},
		"not bound":                     {"", 200, []string{"Authorization", "Bearer " + sign("")}},
		"bound to a certificate":        {"", 401, []string{"Authorization", "Bearer " + sign(`,"cnf":{"x5t#S256":"bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}`)}},
		"bound in an unknown way":       {"", 401, []string{"Authorization", "Bearer " + sign(`,"cnf":{"kid":"1"}`)}},
		"bound to nothing":              {"", 401, []string{"Authorization", "Bearer " + sign(`,"cnf":{}`)}},
		"a cnf that is null":            {"", 401, []string{"Authorization", "Bearer " + sign(`,"cnf":null`)}},
		"a cnf that is text":            {"", 401, []string{"Authorization", "Bearer " + sign(`,"cnf":"`+p.Thumbprint+`"`)}},
		"bound to two keys, as Bearer":  {"", 401, []string{"Authorization", "Bearer " + sign(`,"cnf":{"jkt":"`+p.Thumbprint+`","kid":"1"}`)}},
		"bound to the empty thumbprint": {"", 401, []string{"Authorization", "Bearer " + sign(`,"cnf":{"jkt":""}`)}},
	} {
		if answer := s.get(t, api, tt.header...); answer.status != tt.status {
			t.Errorf("%s: %d %v", name, answer.status, answer.header)
		}
	}
}

// The example runs as it is: its client must bind its tokens, with nonces.
func TestDPoPExample(t *testing.T) {
	text, err := os.ReadFile("examples/dpop.Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t)
	t.Setenv("BILLING_SECRET", "kX2rN8vQ5tB7wZ1mL4pC9sD6fG3hJ0yA")
	t.Setenv("UPSTREAM", upstream(t))
	site := strings.NewReplacer("https://ledger.example.com", "http://example.localhost:PORT", "ledger.example.com {", "http://example.localhost:PORT {", "app:8080", "{$UPSTREAM}").Replace(string(text))
	s.run(t, "", site)
	issuer := s.url("example.localhost")
	p := jwttest.NewProver(t, "ES256", time.Now)
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"billing"}, "client_secret": {"kX2rN8vQ5tB7wZ1mL4pC9sD6fG3hJ0yA"}}
	endpoint := issuer + "/oauth/token"
	post := func(header ...string) answer {
		return s.do(t, http.MethodPost, endpoint, "application/x-www-form-urlencoded", form.Encode(), header...)
	}
	if answer := post(); answer.status != 400 || !strings.Contains(answer.body, `"invalid_dpop_proof"`) {
		t.Errorf("without a proof: %d %s", answer.status, answer.body)
	}
	refused := post("DPoP", p.Prove(t, http.MethodPost, endpoint, ""))
	nonce := refused.header.Get("DPoP-Nonce")
	if refused.status != 400 || !strings.Contains(refused.body, `"use_dpop_nonce"`) || nonce == "" {
		t.Fatalf("without a nonce: %d %s %v", refused.status, refused.body, refused.header)
	}
	var got tokens
	answer := post("DPoP", p.Prove(t, http.MethodPost, endpoint, "", "nonce", nonce))
	if err := json.Unmarshal([]byte(answer.body), &got); err != nil || got.AccessToken == "" {
		t.Fatalf("with a nonce: %d %s", answer.status, answer.body)
	}
	api := issuer + "/api/orders"
	refused = s.get(t, api, "Authorization", "DPoP "+got.AccessToken, "DPoP", p.Prove(t, "GET", api, got.AccessToken), "Origin", "https://spa.example")
	if refused.status != 401 || !strings.HasPrefix(refused.header.Get("WWW-Authenticate"), `DPoP error="use_dpop_nonce"`) || refused.header.Get("DPoP-Nonce") == "" {
		t.Errorf("without a nonce at the guard: %d %v", refused.status, refused.header)
	}
	if exposed := refused.header.Get("Access-Control-Expose-Headers"); !strings.Contains(exposed, "DPoP-Nonce") {
		t.Errorf("scripts can read %q", exposed)
	}
	good := s.get(t, api, "Authorization", "DPoP "+got.AccessToken, "DPoP", p.Prove(t, "GET", api, got.AccessToken, "nonce", refused.header.Get("DPoP-Nonce")))
	if good.status != 200 || good.header.Get("DPoP-Nonce") == "" {
		t.Errorf("with a nonce at the guard: %d %s %v", good.status, good.body, good.header)
	}
	for _, entry := range s.logged(t, "request refused until it has a nonce") { // one of the endpoint and one of the guard
		if entry["level"] != "debug" || entry["error_id"] == "" {
			t.Errorf("the log has %v", entry)
		}
	}
	if n := len(s.logEntries(t, func(entry map[string]any) bool { return entry["error"] == "use_dpop_nonce" })); n != 2 {
		t.Errorf("%d lines in the logs, want 2", n)
	}
	if err := caddy.Stop(); err != nil {
		t.Error(err)
	}
}

// A request that starts again, as the headers of its MCP message were not there, and a request that a guarded site passes on to another
// site of the same Caddy, come with one proof. Whoever sends the proof once more is refused.
func TestOneProofAtGuardsInARow(t *testing.T) {
	s := newServer(t)
	mcpAddress, calls := mcpServer(t)
	inner := testport.New(t)
	s.run(t, strings.Replace(mcpShop, "scope admin", "scope admin\nclient billing {\nsecret billing-secret\nscopes orders\n}", 1),
		`http://shop.localhost:PORT {
			oauth
			`+toolGuards+`
			oauth_guard /api/* {
				authorization pass
			}
			oauth_guard /outside
			respond /outside "outside"
			reverse_proxy /api/* 127.0.0.1:`+inner+`
			reverse_proxy `+mcpAddress+`
		}
		http://:`+inner+` {
			oauth_guard {
				audience http://shop.localhost:PORT
				authorization pass
			}
			oauth_guard /api/inner/* {
				scopes orders
			}
			respond "inside"
		}`)
	root := s.url("shop.localhost")
	p := jwttest.NewProver(t, "ES256", time.Now)
	token := s.bound(t, root, p, asBilling).AccessToken
	call := func(proof string) answer {
		return s.do(t, http.MethodPost, root+"/mcp", "application/json", getOrder, "Authorization", "DPoP "+token, "DPoP", proof)
	}
	proof := p.Prove(t, http.MethodPost, root+"/mcp", token)
	if answer := call(proof); answer.status != 200 || calls.Load() != 1 {
		t.Errorf("a message of an older client: %d %s", answer.status, answer.header.Get("WWW-Authenticate"))
	}
	if answer := call(proof); answer.status != 401 || calls.Load() != 1 {
		t.Errorf("the same proof again: %d", answer.status)
	}
	for _, path := range []string{"/api/orders", "/api/inner/orders"} {
		proof := p.Prove(t, "GET", root+path, token)
		header := []string{"Authorization", "DPoP " + token, "DPoP", proof}
		if answer := s.get(t, root+path, header...); answer.status != 200 || answer.body != "inside" {
			t.Errorf("%s: %d %s", path, answer.status, answer.header.Get("WWW-Authenticate"))
		}
		for name, port := range map[string]string{"through the outer site": s.port, "at the inner site": inner} {
			if answer := s.get(t, strings.Replace(root, s.port, port, 1)+path, header...); answer.status != 401 {
				t.Errorf("%s, the same proof again %s: %d", path, name, answer.status)
			}
		}
	}
	// As if a proxy on this machine led to the inner site, and clients came to the outer one as well.
	proof = p.Prove(t, "GET", root+"/outside", token)
	for _, tt := range []struct {
		port   string
		status int
	}{{inner, 200}, {s.port, 401}, {inner, 401}} {
		answer := s.get(t, strings.Replace(root, s.port, tt.port, 1)+"/outside", "Authorization", "DPoP "+token, "DPoP", proof)
		if answer.status != tt.status {
			t.Errorf("a proof that was at the inner site first, at port %s: %d %s", tt.port, answer.status, answer.body)
		}
	}
}
