package authserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

const (
	ordersAPI  = "https://orders.example.com"
	ledgerAPI  = "https://ledger.example.com"
	typeAccess = "urn:ietf:params:oauth:token-type:access_token"
)

// withGateway adds a service for testAPI that exchanges tokens for those of ordersAPI, and another one that goes on to ledgerAPI.
func withGateway(c *Config) {
	for _, service := range []storage.Client{
		{ID: "gateway", Exchanges: []storage.ExchangeRule{{From: testAPI, To: ordersAPI, Scopes: []string{"orders"}}}},
		{ID: "orders", Exchanges: []storage.ExchangeRule{{From: ordersAPI, To: ledgerAPI}, {From: ordersAPI, To: ordersAPI}}},
	} {
		service.SecretHashes = []string{clients.HashSecret(webSecret)}
		service.GrantTypes = []string{grants.TokenExchangeType, "client_credentials"}
		service.Scopes, service.Audience = []string{"profile", "orders"}, []string{testIssuer}
		service.AccessTokenLifetime = 10 * time.Minute
		c.Clients[service.ID] = &service
	}
}

// exchanges returns the token request for an exchange, changed by pairs of name and value.
func exchanges(subject any, pairs ...string) url.Values {
	return merge(url.Values{
		"grant_type": {grants.TokenExchangeType}, "subject_token": {subject.(string)}, "subject_token_type": {typeAccess},
	}, pairs...)
}

// as returns an edit that makes another client send the request.
func as(client string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(client, url.QueryEscape(webSecret)) }
}

// exchange exchanges a token of the client, and returns the answer.
func (s *testServer) exchange(t *testing.T, client string, subject any, pairs ...string) map[string]any {
	t.Helper()
	a := s.token(t, exchanges(subject, pairs...), as(client))
	a.check(t, http.StatusOK, "")
	return a.json(t)
}

// tokenShapes are the forms of access tokens that can be exchanged.
var tokenShapes = map[string]func(*Config){"JWT": func(*Config) {}, "opaque": opaque("acc_", 0)}

func TestTokenExchange(t *testing.T) {
	for name, edit := range tokenShapes {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, withGateway, edit)
			s.site.user.Claims = map[string]any{"email": "alice@example.com"}
			subject := s.tokens(t)
			s.clock.Advance(9 * time.Minute)
			got := s.exchange(t, "gateway", subject["access_token"])
			want := map[string]any{ // RFC 8693 §2.2.1
				"access_token": got["access_token"], "issued_token_type": typeAccess, "token_type": "Bearer", "expires_in": 60.0, "scope": "orders",
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("the answer is %v, want %v", got, want)
			}
			seen := s.introspection(t, "gateway", got["access_token"])
			first := s.introspection(t, "webapp", subject["access_token"])
			want = map[string]any{
				"active": true, "token_type": "Bearer", "iss": testIssuer, "sub": "alice", "username": "alice", "client_id": "gateway", "aud": ordersAPI,
				"scope": "orders", "email": "alice@example.com", "exp": first["exp"], "iat": seen["iat"], "jti": seen["jti"],
				"act": map[string]any{"sub": "gateway"},
			}
			for _, name := range []string{"family", "family_iat", "auth_time"} { // which a JWT has
				if value, ok := first[name]; ok && seen[name] != nil {
					want[name] = value
				}
			}
			if list, ok := seen["aud"].([]any); ok && len(list) == 1 {
				seen["aud"] = list[0]
			}
			if !reflect.DeepEqual(seen, want) {
				t.Errorf("introspection says %v, want %v", seen, want)
			}
			s.clock.Advance(time.Minute)
			inactive(t, s.introspection(t, "gateway", got["access_token"])) // together with the first one
		})
	}
}

func TestRefusedTokenExchange(t *testing.T) {
	s := newTestServer(t, withGateway)
	tokens := s.tokens(t)
	subject := tokens["access_token"]
	profile := s.token(t, redeems(s.code(t, asks("webapp", "scope", "profile")))).json(t)["access_token"].(string)
	machine := s.token(t, url.Values{"grant_type": {"client_credentials"}}, as("billing")).json(t)["access_token"].(string)
	spa := s.token(t, spaRedeems(s.code(t, asks("spa", "resource", testIssuer)))).json(t)["access_token"].(string)
	for _, tt := range []struct {
		name   string
		client string
		pairs  []string
		status int
		code   string
	}{
		{"RFC 8693 §2.1 no subject_token", "gateway", []string{"subject_token", ""}, 400, "invalid_request"},
		{"RFC 8693 §2.1 no subject_token_type", "gateway", []string{"subject_token_type", ""}, 400, "invalid_request"},
		{"RFC 8693 §2.1 an actor type without an actor", "gateway", []string{"actor_token_type", typeAccess}, 400, "invalid_request"},
		{"RFC 8693 §2.1 an actor without a type", "gateway", []string{"actor_token", machine}, 400, "invalid_request"},
		{"RFC 8693 §2.1 another type is asked for", "gateway", []string{"requested_token_type", "urn:ietf:params:oauth:token-type:refresh_token"}, 400, "invalid_request"},
		{"an ID token", "gateway", []string{"subject_token_type", "urn:ietf:params:oauth:token-type:id_token"}, 400, "invalid_request"},
		{"RFC 8693 §2.2.2 an invalid token", "gateway", []string{"subject_token", foreignToken(t)}, 400, "invalid_request"},
		{"a refresh token", "gateway", []string{"subject_token", tokens["refresh_token"].(string)}, 400, "invalid_request"},
		{"no JWT as a JWT", "gateway", []string{"subject_token", "abc", "subject_token_type", "urn:ietf:params:oauth:token-type:jwt"}, 400, "invalid_request"},
		{"a token of a client", "gateway", []string{"subject_token", machine}, 400, "invalid_request"},
		{"a token for another resource", "gateway", []string{"subject_token", spa}, 400, "invalid_request"},
		{"a service that the token is not for", "orders", nil, 400, "invalid_request"},
		{"RFC 8693 §2.2.2 another target", "gateway", []string{"resource", ledgerAPI}, 400, "invalid_target"},
		{"another audience", "gateway", []string{"audience", ledgerAPI}, 400, "invalid_target"},
		{"an audience that is no URI", "gateway", []string{"audience", "ledger"}, 400, "invalid_target"},
		{"a scope of the token that the rule has not", "gateway", []string{"scope", "profile"}, 400, "invalid_scope"},
		{"a scope that the token has not", "gateway", []string{"scope", "admin"}, 400, "invalid_scope"},
		{"a token with none of the scopes of the rule", "gateway", []string{"subject_token", profile}, 400, "invalid_scope"},
		{"a client without the grant type", "billing", nil, 400, "unauthorized_client"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.token(t, exchanges(subject, tt.pairs...), as(tt.client)).check(t, tt.status, tt.code)
		})
	}
	s.token(t, exchanges(subject, "client_id", "gateway")).check(t, http.StatusUnauthorized, "invalid_client") // without a secret
	for _, pairs := range [][]string{
		nil,
		{"resource", ordersAPI},
		{"audience", ordersAPI},
		{"audience", ordersAPI + "/"},
		{"scope", "orders"},
		{"requested_token_type", typeAccess},
		{"subject_token_type", "urn:ietf:params:oauth:token-type:jwt"},
	} {
		s.exchange(t, "gateway", subject, pairs...)
	}
}

// RFC 8693 §2.1: a request may name several targets, by audience as by resource.
func TestExchangeForSeveralTargets(t *testing.T) {
	s := newTestServer(t, withGateway)
	token := s.exchange(t, "gateway", s.tokens(t)["access_token"])["access_token"]
	form := exchanges(token)
	form["audience"] = []string{ordersAPI, ledgerAPI, ordersAPI}
	a := s.token(t, form, as("orders"))
	a.check(t, http.StatusOK, "")
	if got := s.introspection(t, "orders", a.json(t)["access_token"])["aud"]; !reflect.DeepEqual(got, []any{ordersAPI, ledgerAPI}) {
		t.Errorf("the audience is %v", got)
	}
	form["resource"] = []string{testAPI, ledgerAPI}
	s.token(t, form, as("orders")).check(t, http.StatusBadRequest, "invalid_target")
	form = exchanges(token)
	form["audience"] = slices.Repeat([]string{ledgerAPI}, 17)
	s.token(t, form, as("orders")).check(t, http.StatusBadRequest, "invalid_target")
	form = url.Values{"grant_type": {"client_credentials"}, "audience": {ordersAPI, ledgerAPI}}
	s.token(t, form, as("orders")).check(t, http.StatusBadRequest, "invalid_request")
}

// A user with the ID of the service would pass for the service.
func TestExchangeForAUserNamedLikeTheClient(t *testing.T) {
	s := newTestServer(t, withGateway, func(c *Config) { c.Clients["gateway"].GrantTypes = []string{grants.TokenExchangeType} })
	s.site.user = &User{Subject: "gateway"}
	s.token(t, exchanges(s.tokens(t)["access_token"]), as("gateway")).check(t, http.StatusBadRequest, "invalid_request")
}

// A public client must not exchange tokens, whatever its settings say.
func TestTokenExchangeNeedsAuthentication(t *testing.T) {
	s := newTestServer(t, withGateway, client("spa", func(c *storage.Client) {
		c.GrantTypes = append(c.GrantTypes, grants.TokenExchangeType)
		c.Exchanges = []storage.ExchangeRule{{From: testAPI, To: ordersAPI}}
	}))
	subject := s.tokens(t)["access_token"]
	s.token(t, exchanges(subject, "client_id", "spa")).check(t, http.StatusBadRequest, "unauthorized_client")
}

// What voids the first token voids the one that it was exchanged for, and that one's successors.
func TestRevocationReachesExchangedTokens(t *testing.T) {
	for _, tt := range []struct {
		name   string
		token  string // of the response, which is revoked; or else
		user   string
		client string
		again  bool // the first token is still good, and can be exchanged again
	}{
		{"the token", "access_token", "", "", false},
		{"its family", "refresh_token", "", "", false},
		{"its user", "", "alice", "", false},
		{"its client", "", "", "webapp", false},
		{"the user at its client", "", "alice", "webapp", false},
		{"the service", "", "", "gateway", true},
		{"the user at the service", "", "alice", "gateway", false}, // see TestRemovedServiceStaysAway
	} {
		t.Run(tt.name, func(t *testing.T) {
			for name, edit := range tokenShapes {
				t.Run(name, func(t *testing.T) {
					s := newTestServer(t, withGateway, edit)
					tokens, other := s.tokens(t), s.tokens(t)
					second := s.exchange(t, "gateway", tokens["access_token"])["access_token"]
					third := s.exchange(t, "orders", second, "resource", ledgerAPI)["access_token"]
					for _, token := range []any{second, third} {
						s.state(t, token, nil)
					}
					if tt.token != "" {
						s.revokeToken(t, tokens[tt.token])
					} else {
						s.revoke(t, tt.user, tt.client)
					}
					for range 2 { // also on a node that has just begun
						for _, token := range []any{second, third} {
							s.state(t, token, jwt.ErrRevoked)
						}
						s.restart(t, s.config)
					}
					s.token(t, exchanges(second), as("orders")).check(t, http.StatusBadRequest, "invalid_request")
					if tt.again {
						s.state(t, s.exchange(t, "gateway", tokens["access_token"])["access_token"], nil)
						s.state(t, s.exchange(t, "gateway", other["access_token"])["access_token"], nil)
					}
				})
			}
		})
	}
}

// A client that was removed at run time takes the tokens with it that others got for its tokens.
func TestRemovedClientEndsExchangedTokens(t *testing.T) {
	s := newTestServer(t, withGateway, runTime)
	claims := &jwt.Claims{ClientID: "gateway", Subject: "alice", Sources: []jwt.Source{{ClientID: "gone", ID: "1", Began: s.clock.Now()}}}
	if err := s.accessTokens.checkSources(t.Context(), claims); err != nil {
		t.Errorf("a client that nobody removed: %v", err)
	}
	s.add(t, "gone")
	if err := s.Owner().Clients().Delete(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	if err := s.accessTokens.checkSources(t.Context(), claims); !errors.Is(err, jwt.ErrRevoked) {
		t.Errorf("a client that was removed: %v", err)
	}
}

func TestChainOfExchanges(t *testing.T) {
	for name, edit := range tokenShapes {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, withGateway, edit)
			token := s.exchange(t, "gateway", s.tokens(t)["access_token"])["access_token"]
			for n := range 3 {
				token = s.exchange(t, "orders", token, "resource", ordersAPI)["access_token"]
				depth := 0
				for act := s.introspection(t, "orders", token)["act"]; act != nil; act = act.(map[string]any)["act"] {
					if want := map[bool]string{true: "gateway", false: "orders"}[depth == n+1]; act.(map[string]any)["sub"] != want {
						t.Errorf("RFC 8693 §4.1: actor %d is %v, want %s", depth, act, want)
					}
					depth++
				}
				if depth != n+2 {
					t.Errorf("%d actors after %d exchanges", depth, n+2)
				}
			}
			s.token(t, exchanges(token, "resource", ordersAPI), as("orders")).check(t, http.StatusBadRequest, "invalid_request")
		})
	}
}

// A service that a person has removed gets nothing for what the person had approved before, by itself or by another service, and for
// as long as that can be refreshed. It may go on for what the person approves afterwards, and for other people.
func TestRemovedServiceStaysAway(t *testing.T) {
	for name, edit := range tokenShapes {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, withGateway, edit)
			refused := func(client string, subject any) {
				t.Helper()
				a := s.token(t, exchanges(subject), as(client))
				a.check(t, http.StatusBadRequest, "invalid_request")
				if got := a.json(t)["error_description"]; got != "the user of subject_token has removed this client" {
					t.Errorf("%s: %v", client, got)
				}
			}
			tokens := s.tokens(t)
			s.exchange(t, "gateway", tokens["access_token"])
			s.site.user = &User{Subject: "bob"}
			others := s.tokens(t)
			s.site.user = &User{Subject: "alice"}
			removes := func(client string) {
				t.Helper()
				page, _ := s.openApps(t, "?client="+client)
				s.remove(t, page, "client", client).leadsTo(t, "/oauth/apps?removed="+client)
			}
			removes("gateway")
			for range 2 { // also on a node that has just begun
				refused("gateway", tokens["access_token"])
				s.restart(t, s.config)
			}
			s.clock.Advance(time.Minute)
			tokens = s.token(t, refreshes(tokens["refresh_token"].(string))).json(t)
			refused("gateway", tokens["access_token"])
			if _, text := s.openApps(t, ""); !strings.Contains(text, "webapp") || strings.Contains(text, "gateway") {
				t.Errorf("the service is on the page again: %s", text)
			}

			s.exchange(t, "gateway", others["access_token"])
			tokens = s.tokens(t)
			anew := s.exchange(t, "gateway", tokens["access_token"])["access_token"]
			s.exchange(t, "orders", anew, "resource", ledgerAPI)
			removes("orders")
			refused("orders", anew)
			s.clock.Advance(time.Minute)
			refused("orders", s.exchange(t, "gateway", tokens["access_token"])["access_token"])
			s.exchange(t, "orders", s.exchange(t, "gateway", s.tokens(t)["access_token"])["access_token"], "resource", ledgerAPI)
		})
	}
}

// A node that does not know of a removal yet lets the service exchange a token, which is void as soon as a node knows.
func TestExchangeRacesARemoval(t *testing.T) {
	s := newTestServer(t, withGateway)
	other := newTestServer(t, withGateway, func(c *Config) { c.Store, c.Now = s.store, s.clock.Now })
	subject := s.tokens(t)["access_token"]
	second := other.exchange(t, "gateway", subject)["access_token"]
	s.clock.Advance(time.Second)
	s.revoke(t, "alice", "gateway")
	anew := other.exchange(t, "gateway", subject)["access_token"]
	for _, token := range []any{second, anew} {
		s.state(t, token, jwt.ErrRevoked)
		other.token(t, exchanges(token, "resource", ledgerAPI), as("orders")).check(t, http.StatusBadRequest, "invalid_request")
	}
}

// The client can act for somebody: the actor is then the subject of a token that the client got.
func TestActorToken(t *testing.T) {
	s := newTestServer(t, withGateway)
	s.config.Clients["gateway"].RedirectURIs = []string{webRedirect}
	s.config.Clients["gateway"].GrantTypes = append(s.config.Clients["gateway"].GrantTypes, "authorization_code")
	s.config.Clients["gateway"].CodeLifetime = time.Minute
	s.config.Clients["gateway"].Name = "The gateway"
	subject := s.tokens(t)["access_token"]
	s.site.user = &User{Subject: "operator"}
	params := merge(asks("webapp"), "client_id", "gateway")
	own := s.token(t, redeems(s.code(t, params)), as("gateway")).json(t)["access_token"].(string)
	others := s.tokens(t)["access_token"].(string)
	pairs := []string{"actor_token", own, "actor_token_type", typeAccess}
	got := s.exchange(t, "gateway", subject, pairs...)["access_token"]
	if act := s.claims(t, got)["act"]; !reflect.DeepEqual(act, map[string]any{"sub": "operator"}) {
		t.Errorf("act is %v", act)
	}
	s.token(t, exchanges(subject, "actor_token", others, "actor_token_type", typeAccess), as("gateway")).
		check(t, http.StatusBadRequest, "invalid_request")
	longer := s.exchange(t, "gateway", subject, "actor_token", got.(string), "actor_token_type", typeAccess)["access_token"]
	tooLong := exchanges(subject, "actor_token", longer.(string), "actor_token_type", typeAccess) // it stems from four others
	s.token(t, tooLong, as("gateway")).check(t, http.StatusBadRequest, "invalid_request")
	s.revoke(t, "operator", "")
	s.state(t, got, jwt.ErrRevoked)
	s.state(t, longer, jwt.ErrRevoked)
	s.token(t, exchanges(subject, pairs...), as("gateway")).check(t, http.StatusBadRequest, "invalid_request")
}

// A token that is bound to a key is exchanged for one that is bound to the key of the service, and never for one that anybody can use.
func TestExchangeOfBoundTokens(t *testing.T) {
	s := newTestServer(t, withGateway)
	app, service := jwttest.NewProver(t, "ES256", s.clock.Now), jwttest.NewProver(t, "ES256", s.clock.Now)
	bound := s.token(t, redeems(s.code(t, asks("webapp"))), proof(t, app)).json(t)["access_token"]
	s.token(t, exchanges(bound), as("gateway")).check(t, http.StatusBadRequest, "invalid_request")
	a := s.token(t, exchanges(bound), as("gateway"), proof(t, service))
	a.check(t, http.StatusOK, "")
	if got := a.json(t); got["token_type"] != "DPoP" || s.cnf(t, got["access_token"]) != service.Thumbprint {
		t.Errorf("the new token is %v, bound to %q", got["token_type"], s.cnf(t, got["access_token"]))
	}
	own := s.token(t, url.Values{"grant_type": {"client_credentials"}}, as("gateway"), proof(t, service)).json(t)["access_token"].(string)
	with := exchanges(bound, "actor_token", own, "actor_token_type", typeAccess)
	s.token(t, with, as("gateway"), proof(t, service)).check(t, http.StatusOK, "")
	s.token(t, with, as("gateway"), proof(t, app)).check(t, http.StatusBadRequest, "invalid_request")
}

// Claims keep their values when their names are changed.
func TestExchangeKeepsRenamedClaims(t *testing.T) {
	s := newTestServer(t, withGateway, func(c *Config) {
		c.AccessToken.Rename = map[string]string{"roles": "groups", "groups": "teams", "sub": "user_id"}
	})
	s.site.user.Claims = map[string]any{"roles": "admin", "groups": "sales"}
	token := s.exchange(t, "gateway", s.tokens(t)["access_token"])["access_token"]
	if got := s.claims(t, token); got["groups"] != "admin" || got["teams"] != "sales" || got["user_id"] != "alice" || got["roles"] != nil {
		t.Errorf("the claims are %v", got)
	}
}

func TestWrongSubjectTokensAreThrottled(t *testing.T) {
	s := newTestServer(t, withGateway, func(c *Config) { c.Limits.Tokens.Burst, c.Limits.Tokens.Every = 3, time.Hour })
	for range 3 {
		s.token(t, exchanges(foreignToken(t)), as("gateway")).check(t, http.StatusBadRequest, "invalid_request")
	}
	s.token(t, exchanges(foreignToken(t)), as("gateway")).check(t, http.StatusTooManyRequests, "temporarily_unavailable")
	s.exchange(t, "gateway", s.tokens(t)["access_token"]) // a good one costs nothing
}

func TestTokenExchangeWithoutAStore(t *testing.T) {
	for name, edit := range tokenShapes {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, withGateway, edit)
			subject := s.tokens(t)["access_token"]
			s.store.Err = errDown
			s.token(t, exchanges(subject), as("gateway")).check(t, http.StatusServiceUnavailable, "temporarily_unavailable")
			s.store.Err = nil
			s.exchange(t, "gateway", subject)
		})
	}
}

func TestMetadataOfTokenExchange(t *testing.T) {
	for want, edits := range map[bool][]func(*Config){true: {withGateway}, false: nil} {
		s := newTestServer(t, edits...)
		body := s.fetch(t, "/.well-known/oauth-authorization-server").Body.String()
		if got := strings.Contains(body, grants.TokenExchangeType); got != want {
			t.Errorf("the metadata has token exchange: %v, want %v", got, want)
		}
	}
}

// What nothing was exchanged for costs nothing to check.
func TestNoSourcesTakeNoMemory(t *testing.T) {
	s := newTestServer(t)
	claims := &jwt.Claims{ClientID: "webapp", Subject: "alice", Raw: map[string]any{}}
	ctx := t.Context()
	if allocs := testing.AllocsPerRun(100, func() {
		if readSources(claims) != nil || s.accessTokens.checkSources(ctx, claims) != nil {
			t.Error("a token without sources is refused")
		}
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// A token with malformed claims about what it stems from is refused: otherwise it would seem to stem from nothing.
func TestMalformedClaimsOfExchangedTokens(t *testing.T) {
	for claims, want := range map[string]string{
		`{"exchanged_from": "x"}`: "refused", `{"exchanged_from": null}`: "refused", `{"exchanged_from": [1]}`: "refused",
		`{"exchanged_from": [{"client_id": 1}]}`: "refused", `{"exchanged_from": [{"family_iat": "1"}]}`: "refused",
		`{"exchanged_from": [{"client_id": "a", "jti": "b", "family_iat": 1.5, "sub": "c", "family": "d"}, {}]}`: "2 sources",
		`{"act": "x"}`: "refused", `{"act": null}`: "refused", `{"act": {"sub": 1}}`: "refused", `{"act": {"sub": "a", "act": {}}}`: "refused",
		`{"act": {"sub": "a", "act": {"sub": "b"}}}`: "a for b",
	} {
		c := new(jwt.Claims)
		decoder := json.NewDecoder(strings.NewReader(claims))
		decoder.UseNumber()
		if err := decoder.Decode(&c.Raw); err != nil {
			t.Fatal(err)
		}
		var got string
		actor, err := actorOf(c)
		switch {
		case err != nil || readSources(c) != nil:
			got = "refused"
		case actor != nil:
			got = actor.Subject + " for " + actor.Actor.Subject
		default:
			got = fmt.Sprintf("%d sources", len(c.Sources))
			if want := (jwt.Source{ClientID: "a", ID: "b", Began: time.UnixMilli(1500), Subject: "c", Family: "d"}); c.Sources[0] != want {
				t.Errorf("%s: %v, want %v", claims, c.Sources[0], want)
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s", claims, got, want)
		}
	}
}
