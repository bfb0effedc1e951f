// Package guard tests oauth_guard before a site, with one Caddy process or several on one storage.
package guard

import (
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

func TestMain(m *testing.M) { os.Exit(integration.Main(m)) }

var must = integration.Must

// shop returns the integration shop with a guarded API.
func shop(settings string) integration.Config {
	config := integration.ShopWith("revocation_poll 2s\n" + settings)
	config.Sites = strings.Replace(config.Sites, `respond "the shop"`, `oauth_guard /api/* {
		header X-User {http.auth.user.id}
	}
	respond /api/* "{header.X-User}"
	respond "the shop"`, 1)
	return config
}

// ask calls the API with a token and returns the status.
func ask(t *testing.T, s *integration.Server, token string) int {
	t.Helper()
	status, text := s.CallAPI(t, token)
	if status == http.StatusOK && text != integration.Customer {
		t.Errorf("the user of the token is %q", text)
	}
	return status
}

func expect(t *testing.T, s *integration.Server, token string, status int) {
	t.Helper()
	if got := ask(t, s, token); got != status {
		t.Errorf("the API answers %d, want %d", got, status)
	}
}

// revoke revokes a token of the shop's public client.
func revoke(t *testing.T, s *integration.Server, token string) {
	t.Helper()
	resp, err := s.Client(t).PostForm(s.URL+"/oauth/revoke", url.Values{"client_id": {"app"}, "token": {token}}) //nolint:noctx // the client has a timeout
	must(t, err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("the revocation: %s", resp.Status)
	}
}

// TestTwoNodes measures how long one node accepts a token that another node has revoked.
func TestTwoNodes(t *testing.T) {
	a := integration.Start(t, shop(""))
	config := shop("")
	config.Issuer, config.Storage, config.Secrets = a.Issuer, a.Storage, a.Secrets
	b := integration.Start(t, config)

	for _, kind := range []string{"an access token", "a refresh token"} {
		tokens, others := a.NewTokens(t), a.NewTokens(t)
		expect(t, a, tokens.AccessToken, http.StatusOK)
		expect(t, b, tokens.AccessToken, http.StatusOK)
		revoked := tokens.AccessToken
		if kind == "a refresh token" {
			revoked = tokens.RefreshToken
		}
		revoke(t, a, revoked)
		began := time.Now()
		expect(t, a, tokens.AccessToken, http.StatusUnauthorized)
		integration.Eventually(t, "the other node to refuse", func() bool { return ask(t, b, tokens.AccessToken) == http.StatusUnauthorized })
		t.Logf("after the revocation of %s the other node refuses within %s", kind, time.Since(began).Round(10*time.Millisecond))
		expect(t, b, others.AccessToken, http.StatusOK)
	}

	// RFC 9700 §4.14.2: reuse at one node voids the JWTs at both nodes, also after a restart.
	first := a.NewTokens(t)
	refresh := func(token string) *integration.Answer {
		answer, err := integration.Post(t.Context(), a.Client(t), a.TokenURL(), integration.RefreshRequest("app", token))
		must(t, err)
		return answer
	}
	second := refresh(first.RefreshToken)
	third := refresh(second.RefreshToken)
	expect(t, b, third.AccessToken, http.StatusOK)
	if answer := refresh(first.RefreshToken); !answer.Refused("invalid_grant") {
		t.Errorf("the reuse: %d %s, want 400 invalid_grant", answer.Status, answer.Error)
	}
	for _, token := range []string{first.AccessToken, second.AccessToken, third.AccessToken} {
		expect(t, a, token, http.StatusUnauthorized)
		integration.Eventually(t, "the other node to refuse", func() bool { return ask(t, b, token) == http.StatusUnauthorized })
	}
	b.Kill()
	b.Run()
	expect(t, b, third.AccessToken, http.StatusUnauthorized)
}
