package authserver

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/keyring"
)

// audited returns a server that keeps its events. The events go into the log too, which is searched for secrets.
func audited(t *testing.T, edits ...func(*Config)) (*testServer, *[]*Event) {
	t.Helper()
	var events []*Event
	s := newTestServer(t, append(edits, func(c *Config) {
		c.Audit = c.Logger.Named("audit")
		c.Observe = func(e *Event) { events = append(events, e) }
	})...)
	if _, err := s.keys.JWKS(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, &events
}

func TestEvents(t *testing.T) {
	s, events := audited(t)
	const address = "192.0.2.7"
	expect := func(what string, names string, about map[string]string) {
		t.Helper()
		got := make([]string, 0, len(*events))
		for _, e := range *events {
			got = append(got, e.Name)
		}
		if strings.Join(got, " ") != names {
			t.Fatalf("%s: events %v, want %s", what, got, names)
		}
		last := maps.Collect((*events)[len(got)-1].All())
		for _, name := range []string{"family", "jti", "error_id", "kid"} { // these are random
			if want, ok := about[name]; ok && want == "" && last[name] != "" {
				about[name] = last[name]
			}
		}
		if about["issuer"] = "default"; !maps.Equal(last, about) {
			t.Errorf("%s: the event is %v, want %v", what, last, about)
		}
		lines := s.logs.FilterLoggerName("audit").All()
		line := lines[len(lines)-1]
		if line.Message != strings.ReplaceAll(got[len(got)-1], "_", " ") || line.Level != zap.InfoLevel {
			t.Errorf("%s: the log has %q at level %s", what, line.Message, line.Level)
		}
		logged := line.ContextMap()
		delete(logged, "event")
		for name, want := range about {
			if logged[name] != want {
				t.Errorf("%s: the log has %s=%v, want %s", what, name, logged[name], want)
			}
		}
		*events = nil
	}
	who := func(pairs ...string) map[string]string {
		about := map[string]string{"client_ip": address, "client_id": "webapp", "sub": "alice"}
		for pair := range slices.Chunk(pairs, 2) {
			about[pair[0]] = pair[1]
		}
		return about
	}
	expect("start", "key_made key_in_use", map[string]string{"kid": ""})

	code := s.code(t, asks("webapp", "scope", "orders"))
	expect("consent", "consent_given code_issued", who("family", "", "scope", "orders"))
	s.code(t, asks("webapp", "scope", "orders"))
	expect("remembered consent", "code_issued", who("family", "", "scope", "orders"))
	first := s.token(t, redeems(code)).json(t)["refresh_token"].(string)
	expect("issue", "token_issued", who("grant_type", "authorization_code", "family", "", "jti", "", "scope", "orders"))
	second := s.token(t, refreshes(first)).json(t)["refresh_token"].(string)
	expect("refresh", "token_issued", who("grant_type", "refresh_token", "family", "", "jti", "", "scope", "orders"))
	s.token(t, refreshes(second))
	*events = nil

	s.token(t, refreshes(first)).check(t, http.StatusBadRequest, "invalid_grant")
	expect("reuse", "revoked reuse_detected", who(
		"grant_type", "refresh_token", "family", "", "error", "invalid_grant", "error_id", "", "reason", "refresh token used again"))

	refused := map[string]string{"client_ip": address, "error_id": ""}
	s.token(t, asBilling("client_secret", "wrong"))
	expect("wrong secret", "token_refused", merged(refused, "client_id", "billing", "error", "invalid_client"))
	s.token(t, asBilling("client_id", "nobody", "client_secret", "wrong"))
	expect("no such client", "token_refused", merged(refused, "error", "invalid_client"))
	s.decide(t, s.get(t, asks("webapp", "prompt", "consent")), "deny")
	expect("denial", "authorize_refused", who("error_id", "", "error", "access_denied"))
	s.do(t, postRequest("/oauth/revoke", "token=x"))
	expect("revocation by nobody", "revoke_refused", merged(refused, "error", "invalid_client"))
	s.fetch(t, "/oauth/token")
	expect("GET", "token_refused", merged(refused, "error", "invalid_request"))
}

func merged(about map[string]string, pairs ...string) map[string]string {
	about = maps.Clone(about)
	for pair := range slices.Chunk(pairs, 2) {
		about[pair[0]] = pair[1]
	}
	return about
}

func TestRevocationsAreTold(t *testing.T) {
	s, events := audited(t, withoutConsent("webapp"))
	for _, tt := range []struct {
		name   string
		revoke func(t *testing.T, tokens map[string]any)
		want   Event
	}{
		{"family by the client", func(t *testing.T, tokens map[string]any) {
			t.Helper()
			s.do(t, postRequest("/oauth/revoke", webappsOwn("token", tokens["refresh_token"].(string)).Encode()))
		}, Event{Client: "webapp", Subject: "alice", Address: "192.0.2.7", Reason: "revoked by the client"}},
		{"token by the client", func(t *testing.T, tokens map[string]any) {
			t.Helper()
			s.do(t, postRequest("/oauth/revoke", webappsOwn("token", tokens["access_token"].(string)).Encode()))
		}, Event{Client: "webapp", Subject: "alice", Address: "192.0.2.7", Reason: "revoked by the client"}},
		{"user by the owner", func(t *testing.T, _ map[string]any) {
			t.Helper()
			if err := s.revoker.Revoke(t.Context(), "bob", "", "left us", ""); err != nil {
				t.Fatal(err)
			}
		}, Event{Subject: "bob", Reason: "left us"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tokens := s.tokens(t)
			*events = nil
			tt.revoke(t, tokens)
			if len(*events) != 1 {
				t.Fatalf("%d events", len(*events))
			}
			got := *(*events)[0]
			tt.want.Name, tt.want.Issuer = eventRevoked, "default"
			if (got.Family+got.TokenID == "") != (tt.want.Client == "") {
				t.Errorf("family %q, token %q", got.Family, got.TokenID)
			}
			got.Family, got.TokenID = "", ""
			if !maps.Equal(maps.Collect(got.All()), maps.Collect(tt.want.All())) || got.Name != eventRevoked {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestTokenIDsOfTheAuditLogAreThoseOfTokens(t *testing.T) {
	for name, opaque := range map[string]bool{"JWT": false, "opaque": true} {
		t.Run(name, func(t *testing.T) {
			s, events := audited(t, withoutConsent("webapp"), func(c *Config) { c.AccessToken.Opaque = opaque })
			token, _ := s.tokens(t)["access_token"].(string)
			claims, err := s.AccessToken(t.Context(), token, jwt.Leeway)
			if err != nil {
				t.Fatal(err)
			}
			if e := (*events)[len(*events)-1]; e.TokenID != claims.ID || e.Family != claims.Family || e.TokenID == "" {
				t.Errorf("%+v for jti %s of family %s", e, claims.ID, claims.Family)
			}
		})
	}
}

func TestKeysThatChangeAreTold(t *testing.T) {
	s, events := audited(t, func(c *Config) {
		c.Keys = keyring.Policy{Rotate: 24 * time.Hour, Publish: time.Hour, Lifetime: time.Hour}
	})
	for range 4 * 24 {
		s.clock.Advance(time.Hour / 2)
		if err := s.keys.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	count := make(map[string]int)
	for _, e := range *events {
		if e.KeyID == "" {
			t.Errorf("%s of no key", e.Name)
		}
		count[e.Name]++
	}
	if count[keyring.Made] < 2 || count[keyring.InUse] < 2 || count[keyring.Retired] < 1 {
		t.Errorf("%v", count)
	}
}

func webappsOwn(pairs ...string) url.Values {
	return merge(url.Values{"client_id": {"webapp"}, "client_secret": {webSecret}}, pairs...)
}
