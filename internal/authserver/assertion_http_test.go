package authserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

const (
	partner = "https://partner.example"
	company = "https://idp.company.example"
	typeJAG = "oauth-id-jag+jwt"
)

// bearers are a server that trusts two issuers elsewhere, and the key of both.
type bearers struct {
	*keyed
}

// newBearers returns a server with a client agent that may bring the assertions of partner, which are about anybody at partner.example,
// and the ID-JAGs of company, which are about those with an email address there.
func newBearers(t *testing.T, edits ...func(*Config)) *bearers {
	t.Helper()
	key := jwttest.NewKey(t, "ES256")
	file := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(file, setOf(key), 0o600); err != nil {
		t.Fatal(err)
	}
	grant := &grants.JWTBearer{Issuers: map[string]*grants.TrustedIssuer{
		partner: {JWKSFile: file, Subjects: []string{"*@partner.example", "webapp", "billing", "agent"}},
		company: {JWKSFile: file, IDJAG: true, Map: "email", Subjects: []string{"*@company.example"}, Scopes: []string{"orders"}},
	}}
	if err := grant.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	edits = append([]func(*Config){func(c *Config) {
		c.Grants = append(c.Grants, grant)
		for _, id := range []string{"agent", "other"} {
			c.Clients[id] = &storage.Client{
				ID: id, Name: id, SecretHashes: []string{clients.HashSecret(webSecret)}, GrantTypes: []string{grants.JWTBearerType, "refresh_token"},
				Scopes: []string{"profile", "orders"}, Audience: []string{testIssuer, testAPI}, AccessTokenLifetime: 10 * time.Minute,
				RefreshToken: storage.RefreshPolicy{Lifetime: time.Hour},
			}
		}
	}}, edits...)
	return &bearers{&keyed{testServer: newTestServer(t, edits...), key: key}}
}

// about returns good claims of partner about a user, changed by pairs.
func (b *bearers) about(user string, pairs ...any) map[string]any {
	return b.claimsOf(partner, append([]any{"sub", user}, pairs...)...)
}

// jag returns the good claims of an ID-JAG of company for agent, changed by pairs.
func (b *bearers) jag(pairs ...any) map[string]any {
	return b.claimsOf(company, append([]any{
		"sub", "00u1", "email", "ann@company.example", "client_id", "agent", "resource", testAPI, "scope", "orders",
	}, pairs...)...)
}

// brings returns the token request of agent with an assertion, changed by pairs.
func brings(assertion string, pairs ...string) url.Values {
	return merge(url.Values{"grant_type": {grants.JWTBearerType}, "assertion": {assertion}}, pairs...)
}

func (b *bearers) bring(t *testing.T, typ string, claims map[string]any, pairs ...string) answer {
	t.Helper()
	return b.token(t, brings(b.sign(t, typ, claims), pairs...), as("agent"))
}

func TestJWTBearer(t *testing.T) {
	eachFormat := map[string]func(*Config){"JWT": func(*Config) {}, "opaque": opaque("acc_", 0)}
	for name, edit := range eachFormat {
		t.Run(name, func(t *testing.T) {
			b := newBearers(t, edit)
			a := b.bring(t, "", b.about("bob@partner.example"), "scope", "orders", "resource", testAPI)
			a.check(t, http.StatusOK, "")
			got := a.json(t)
			want := map[string]any{"access_token": got["access_token"], "token_type": "Bearer", "expires_in": 600.0, "scope": "orders"}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("the answer is %v, want %v", got, want)
			}
			seen := b.introspection(t, "agent", got["access_token"])
			if seen["sub"] != "bob@partner.example" || seen["client_id"] != "agent" || seen["scope"] != "orders" || seen["jti"] == nil {
				t.Errorf("introspection says %v", seen)
			}
			b.revoke(t, "bob@partner.example", "agent") // as the person does on the page of connected apps
			b.state(t, got["access_token"], jwt.ErrRevoked)
			a = b.bring(t, "", b.about("bob@partner.example"))
			a.check(t, http.StatusOK, "")
			b.state(t, a.json(t)["access_token"], nil)
		})
	}
}

func TestWhichAssertionsAreGood(t *testing.T) {
	b := newBearers(t)
	in := func(d time.Duration) int64 { return b.clock.Now().Add(d).Unix() }
	for _, tt := range []struct {
		name   string
		typ    string
		change []any
		good   bool
	}{
		{"the issuer", "", nil, true},
		{"RFC 7523 §3 the token endpoint", "JWT", []any{"aud", testToken}, true},
		{"both", "authorization-grant+jwt", []any{"aud", []string{testIssuer, testToken}}, true},
		{"another audience", "", []any{"aud", "https://other.example"}, false},
		{"another audience too", "", []any{"aud", []string{testIssuer, "https://other.example"}}, false},
		{"no audience", "", []any{"aud", nil}, false},
		{"another issuer", "", []any{"iss", "https://other.example"}, false},
		{"an issuer with a slash", "", []any{"iss", partner + "/"}, false},
		{"no issuer", "", []any{"iss", nil}, false},
		{"no subject", "", []any{"sub", nil}, false},
		{"no exp", "", []any{"exp", nil}, false},
		{"expired", "", []any{"exp", in(-time.Minute)}, false},
		{"an hour", "", []any{"exp", in(time.Hour)}, true},
		{"two hours", "", []any{"exp", in(2 * time.Hour)}, false},
		{"made long ago", "", []any{"iat", in(-2 * time.Hour)}, false},
		{"made in 10 seconds", "", []any{"iat", in(10 * time.Second)}, true},
		{"made in a minute", "", []any{"iat", in(61 * time.Second)}, false},
		{"valid in a minute", "", []any{"nbf", in(61 * time.Second)}, false},
		{"no jti", "", []any{"jti", nil}, false},
		{"an ID token", "JWT", []any{"nonce", "n"}, false},
		{"an ID token of a response with an access token", "", []any{"at_hash", "MTIz"}, false},
		{"an access token without a type of its own", "JWT", []any{"azp", "agent"}, false},
		{"an ID-JAG", typeJAG, nil, false},
		{"an access token", "at+jwt", nil, false},
		{"an assertion of a client", "client-authentication+jwt", nil, false},
		{"a user of somebody else", "", []any{"sub", "ann@company.example"}, false},
		{"the client itself", "", []any{"sub", "agent"}, false},
		{"a client with client_credentials", "", []any{"sub", "billing"}, false},
		{"a control character", "", []any{"sub", "bob\n@partner.example"}, false},
		{"its client", "", []any{"client_id", "agent"}, true},
		{"another client", "", []any{"client_id", "other"}, false},
		{"authorization details", "", []any{"authorization_details", []any{map[string]any{"type": "payment"}}}, false},
		{"bound to a key that is not proven", "", []any{"cnf", map[string]any{"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}}, false},
		{"bound in another way", "", []any{"cnf", map[string]any{"kid": "1"}}, false},
		{"a scope that is a list", "", []any{"scope", []string{"orders"}}, false},
		{"a resource that is a number", "", []any{"resource", 1}, false},
		{"unknown claims", "", []any{"tenant", "a", "groups", []string{"b"}}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := b.bring(t, tt.typ, b.about("bob@partner.example", tt.change...))
			if tt.good {
				a.check(t, http.StatusOK, "")
				return
			}
			a.check(t, http.StatusBadRequest, "invalid_grant")
			if d := a.json(t)["error_description"]; d != "the assertion was refused" {
				t.Errorf("the client learns %q", d)
			}
		})
	}
	for name, text := range map[string]string{
		"no JWT": "abc", "another key": foreignToken(t), "no algorithm": jwttest.Encode(`{"alg":"none"}`) + "." + jwttest.Encode(`{"iss":"`+partner+`","sub":"a","exp":2e9}`) + ".",
		"too long": strings.Repeat("a", 9<<10),
	} {
		if a := b.token(t, brings(text), as("agent")); a.Code != http.StatusBadRequest || a.json(t)["error"] != "invalid_grant" {
			t.Errorf("%s: %d %s", name, a.Code, a.Body)
		}
	}
	b.token(t, brings(""), as("agent")).check(t, http.StatusBadRequest, "invalid_request")
	b.config.Clients["agent"].Scopes = []string{"profile"} // company can give only orders
	b.bring(t, typeJAG, b.jag("scope", nil)).check(t, http.StatusBadRequest, "invalid_scope")
	b.config.Clients["agent"].Scopes = nil
	b.bring(t, typeJAG, b.jag("scope", nil)).check(t, http.StatusOK, "")
}

// A partner's client cannot use what it finds of another partner.
func TestClientsOfATrustedIssuer(t *testing.T) {
	b := newBearers(t)
	for _, g := range b.config.Grants {
		if g, ok := g.(*grants.JWTBearer); ok {
			g.Issuers[partner].Clients = []string{"agent"}
		}
	}
	signed := b.sign(t, "", b.about("bob@partner.example"))
	b.token(t, brings(signed), as("other")).check(t, http.StatusBadRequest, "invalid_grant")
	b.explained(t, "the client other", "agent", "grant jwt_bearer: issuer "+partner+": clients")
	b.token(t, brings(signed), as("agent")).check(t, http.StatusOK, "")
}

func TestIDJAG(t *testing.T) {
	b := newBearers(t)
	for _, tt := range []struct {
		name   string
		typ    string
		change []any
		pairs  []string
		status int
		code   string
	}{
		{"good", typeJAG, nil, nil, 200, ""},
		{"its type in full", "application/OAuth-ID-JAG+JWT", nil, nil, 200, ""},
		{"one audience in a list", typeJAG, []any{"aud", []string{testIssuer}}, nil, 200, ""},
		{"two audiences", typeJAG, []any{"aud", []string{testIssuer, testToken}}, nil, 400, "invalid_grant"},
		{"the token endpoint", typeJAG, []any{"aud", testToken}, nil, 400, "invalid_grant"},
		{"azp, which its type makes harmless", typeJAG, []any{"azp", "agent"}, nil, 200, ""},
		{"no type", "", nil, nil, 400, "invalid_grant"},
		{"JWT", "JWT", nil, nil, 400, "invalid_grant"},
		{"an ID token", "JWT", []any{"aud", "agent"}, nil, 400, "invalid_grant"},
		{"no client", typeJAG, []any{"client_id", nil}, nil, 400, "invalid_grant"},
		{"another client", typeJAG, []any{"client_id", "other"}, nil, 400, "invalid_grant"},
		{"no iat", typeJAG, []any{"iat", nil}, nil, 400, "invalid_grant"},
		{"no jti", typeJAG, []any{"jti", nil}, nil, 400, "invalid_grant"},
		{"no email", typeJAG, []any{"email", nil}, nil, 400, "invalid_grant"},
		{"a verified email", typeJAG, []any{"email_verified", true}, nil, 200, ""},
		{"an email that is not verified", typeJAG, []any{"email_verified", false}, nil, 400, "invalid_grant"},
		{"an email with a text that says that it is verified", typeJAG, []any{"email_verified", "true"}, nil, 400, "invalid_grant"},
		{"an email of somebody else", typeJAG, []any{"email", "bob@partner.example"}, nil, 400, "invalid_grant"},
		{"two emails in one", typeJAG, []any{"email", "bob@partner.example@company.example"}, nil, 400, "invalid_grant"},
		{"another resource", typeJAG, []any{"resource", "https://other.example"}, nil, 400, "invalid_target"},
		{"a resource that it does not name", typeJAG, nil, []string{"resource", testIssuer}, 400, "invalid_target"},
		{"no resource", typeJAG, []any{"resource", nil}, nil, 200, ""},
		{"a scope that the company may not give", typeJAG, []any{"scope", "profile"}, nil, 400, "invalid_scope"},
		{"a scope that it does not name", typeJAG, []any{"scope", "orders"}, []string{"scope", "profile"}, 400, "invalid_scope"},
		{"no scope", typeJAG, []any{"scope", nil}, nil, 200, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := b.bring(t, tt.typ, b.jag(tt.change...), tt.pairs...)
			a.check(t, tt.status, tt.code)
			if tt.code != "" {
				return
			}
			claims := b.claims(t, a.json(t)["access_token"])
			if claims["sub"] != "ann@company.example" || claims["client_id"] != "agent" || claims["scope"] != "orders" || a.json(t)["refresh_token"] != nil {
				t.Errorf("the token has %v, the answer is %s", claims, a.Body)
			}
			if want := any(testAPI); !slices.Contains(tt.change, any("resource")) && claims["aud"] != want {
				t.Errorf("aud is %v, want %v", claims["aud"], want)
			}
		})
	}
}

// An assertion that is bound to a key gives a token that is bound to it.
func TestBoundAssertion(t *testing.T) {
	b := newBearers(t)
	p, thief := jwttest.NewProver(t, "ES256", b.clock.Now), jwttest.NewProver(t, "ES256", b.clock.Now)
	signed := b.sign(t, typeJAG, b.jag("cnf", map[string]any{"jkt": p.Thumbprint}))
	b.token(t, brings(signed), as("agent")).check(t, http.StatusBadRequest, "invalid_grant")
	b.token(t, brings(signed), as("agent"), proof(t, thief)).check(t, http.StatusBadRequest, "invalid_grant")
	a := b.token(t, brings(signed), as("agent"), proof(t, p))
	a.check(t, http.StatusOK, "")
	if got := b.cnf(t, a.json(t)["access_token"]); got != p.Thumbprint {
		t.Errorf("the token is bound to %q", got)
	}
}

// Each assertion works once, on all nodes, and a refusal because of something else does not use it up.
func TestAssertionWorksOnce(t *testing.T) {
	b := newBearers(t)
	signed := b.sign(t, "", b.about("bob@partner.example"))
	b.token(t, brings(signed, "scope", "admin"), as("agent")).check(t, http.StatusBadRequest, "invalid_scope")
	nodes := []*testServer{b.testServer, b.node(t)}
	var mu sync.Mutex
	var all sync.WaitGroup
	codes := make(map[int]int)
	for n := range 10 {
		all.Go(func() {
			r := postRequest("/oauth/token", brings(signed).Encode())
			as("agent")(r)
			w := newRecorder()
			if err := nodes[n%2].ServeHTTP(w, r, b.site); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			codes[w.Code]++
		})
	}
	all.Wait()
	if codes[http.StatusOK] != 1 || codes[http.StatusBadRequest] != 9 {
		t.Errorf("ten requests with one assertion: %v", codes)
	}
	b.restart(t, b.config) // also after a restart
	b.token(t, brings(signed), as("agent")).check(t, http.StatusBadRequest, "invalid_grant")
	// The same jti of another issuer is another assertion.
	claims := b.about("bob@partner.example")
	b.bring(t, "", claims).check(t, http.StatusOK, "")
	b.bring(t, typeJAG, b.jag("jti", claims["jti"])).check(t, http.StatusOK, "")
}

func TestAssertionNeedsAClientThatAuthenticates(t *testing.T) {
	b := newBearers(t, client("spa", func(c *storage.Client) { c.GrantTypes = append(c.GrantTypes, grants.JWTBearerType) }))
	signed := b.sign(t, "", b.about("bob@partner.example"))
	b.token(t, brings(signed, "client_id", "spa")).check(t, http.StatusBadRequest, "unauthorized_client")
	b.token(t, brings(signed)).check(t, http.StatusBadRequest, "unauthorized_client") // webapp, which has not the grant type
	b.token(t, brings(signed), as("agent")).check(t, http.StatusOK, "")
}

// Wrong assertions of a client that authenticates are throttled at its address. Nobody else can send any.
func TestWrongAssertionsAreThrottled(t *testing.T) {
	b := newBearers(t, func(c *Config) { c.Limits.Tokens.Burst, c.Limits.Tokens.Every = 3, time.Hour })
	for range 3 {
		b.token(t, brings("wrong"), as("agent")).check(t, http.StatusBadRequest, "invalid_grant")
	}
	b.token(t, brings("wrong"), as("agent")).check(t, http.StatusTooManyRequests, "temporarily_unavailable")
	for range 5 {
		b.token(t, brings("wrong", "client_id", "agent")).check(t, http.StatusUnauthorized, "invalid_client") // a stranger
	}
	b.from("198.51.100.9")
	b.bring(t, "", b.about("bob@partner.example")).check(t, http.StatusOK, "")
}

func TestAssertionWithoutAStore(t *testing.T) {
	b := newBearers(t)
	b.bring(t, "", b.about("bob@partner.example")).check(t, http.StatusOK, "")
	signed := b.sign(t, "", b.about("bob@partner.example"))
	b.store.Err = errDown
	b.token(t, brings(signed), as("agent")).check(t, http.StatusServiceUnavailable, "temporarily_unavailable")
	b.store.Err = nil
	b.token(t, brings(signed), as("agent")).check(t, http.StatusOK, "")
}

// askedAccounts are accounts of a site.
type askedAccounts func(a *grants.Account) (map[string]any, error)

func (askedAccounts) Due(time.Time, time.Time) bool { return true }

func (f askedAccounts) Ask(_ context.Context, a *grants.Account) (map[string]any, error) { return f(a) }

// The site is asked whether the user of an assertion has an account.
func TestAssertionOfAClosedAccount(t *testing.T) {
	var err error
	b := newBearers(t, func(c *Config) {
		c.Accounts = askedAccounts(func(a *grants.Account) (map[string]any, error) {
			return map[string]any{"team": "team of " + a.Subject, "gone": nil}, err
		})
	})
	a := b.bring(t, "", b.about("bob@partner.example"))
	a.check(t, http.StatusOK, "")
	if claims := b.claims(t, a.json(t)["access_token"]); claims["team"] != "team of bob@partner.example" {
		t.Errorf("the claims are %v", claims)
	}
	signed := b.sign(t, "", b.about("bob@partner.example"))
	err = errors.New("the site is down")
	b.token(t, brings(signed), as("agent")).check(t, http.StatusServiceUnavailable, "temporarily_unavailable")
	err = fmt.Errorf("status 404: %w", grants.ErrNoAccount)
	b.token(t, brings(signed), as("agent")).check(t, http.StatusBadRequest, "invalid_grant")
	err = nil
	b.token(t, brings(signed), as("agent")).check(t, http.StatusOK, "")
}

// The metadata has the profile of ID-JAGs if an issuer has it and a client may use it, and never says who is trusted.
func TestMetadataOfAssertions(t *testing.T) {
	for name, tt := range map[string]struct {
		s    *testServer
		want bool
	}{
		"used": {newBearers(t).testServer, true},
		"no client": {newBearers(t, func(c *Config) {
			delete(c.Clients, "agent")
			delete(c.Clients, "other")
		}).testServer, false},
		"no such grant": {newTestServer(t), false},
	} {
		var doc struct {
			Grants   []string `json:"grant_types_supported"`
			Profiles []string `json:"authorization_grant_profiles_supported"`
		}
		body := tt.s.fetch(t, "/.well-known/oauth-authorization-server").Body.String()
		if err := json.Unmarshal([]byte(body), &doc); err != nil {
			t.Fatal(err)
		}
		if slices.Contains(doc.Grants, grants.JWTBearerType) != tt.want || slices.Contains(doc.Profiles, grants.ProfileIDJAG) != tt.want {
			t.Errorf("%s: %v %v, want %v", name, doc.Grants, doc.Profiles, tt.want)
		}
		if strings.Contains(body, "company") || strings.Contains(body, "partner") {
			t.Errorf("%s: the metadata tells who is trusted: %s", name, body)
		}
	}
}

// The log says what is wrong with an assertion.
func TestRefusedAssertionIsExplained(t *testing.T) {
	b := newBearers(t)
	b.bring(t, "", b.about("ann@company.example")).check(t, http.StatusBadRequest, "invalid_grant")
	for _, entry := range b.logs.FilterMessage("request refused").All() {
		fields := entry.ContextMap()
		if fields["sent"] == "the user ann@company.example" && fields["setting"] == "grant jwt_bearer: issuer "+partner+": subjects" {
			return
		}
	}
	t.Error("the log does not say that the issuer may not speak for this user")
}
