package integration_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// An identity provider revokes all tokens of alice, and the process is killed right after it said so. The guard and the token endpoint
// refuse them from the answer on, in this process and in the next one.
func TestRevocationOfAUserIsNotLost(t *testing.T) {
	t.Parallel()
	config := integration.ShopWith(`client idp {
		secret {env.PARTNER_SECRET}
		revokes_users {
			iss https://idp.example.com
		}
	}`)
	config.Sites = strings.Replace(config.Sites, "respond \"the shop\"", "oauth_guard /api/*\n\trespond \"the shop\"", 1)
	s := integration.Start(t, config)
	held := s.NewTokens(t)
	request := func(method, path, body string, authenticate func(r *http.Request)) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
		must(t, err)
		r.Header.Set("Content-Type", "application/json")
		authenticate(r)
		response, err := s.Client(t).Do(r)
		must(t, err)
		must(t, response.Body.Close())
		return response.StatusCode
	}
	guard := func() int {
		return request(http.MethodGet, "/api/orders", "", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+held.AccessToken) })
	}
	revoke := func(id, secret string) int {
		const body = `{"sub_id": {"format": "iss_sub", "iss": "https://idp.example.com", "sub": "` + integration.Customer + `"}}`
		return request(http.MethodPost, "/oauth/revoke_user", body, func(r *http.Request) { r.SetBasicAuth(id, secret) })
	}
	if got := revoke("partner", integration.PartnerSecret); got != http.StatusForbidden {
		t.Errorf("a client that may not: %d", got)
	}
	if got := guard(); got != http.StatusOK {
		t.Fatalf("the guard answers %d before", got)
	}
	if got := revoke("idp", integration.PartnerSecret); got != http.StatusNoContent {
		t.Fatalf("the revocation: %d", got)
	}
	if got := guard(); got != http.StatusUnauthorized {
		t.Errorf("the guard answers %d after", got)
	}
	s.Kill()
	s.Run()
	if got := guard(); got != http.StatusUnauthorized {
		t.Errorf("the guard answers %d after a crash", got)
	}
	answer, err := integration.Post(t.Context(), s.Client(t), s.TokenURL(), integration.RefreshRequest("app", held.RefreshToken))
	must(t, err)
	if answer.Status != http.StatusBadRequest || answer.Error != "invalid_grant" {
		t.Errorf("a refresh after a crash: %d %s", answer.Status, answer.Error)
	}
	held = s.NewTokens(t) // who can still sign in can approve an app again
	if got := guard(); got != http.StatusOK {
		t.Errorf("the guard answers %d to a new token", got)
	}
}
