package integration_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/oauth2"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// describedClient serves the document of a client, and counts how often.
func describedClient(t *testing.T, metadata map[string]any) (id string, fetched *atomic.Int64) {
	t.Helper()
	fetched = new(atomic.Int64)
	website := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fetched.Add(1)
		metadata["client_id"] = "http://" + r.Host + r.URL.Path
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(metadata) // the test sees what the server makes of it
	}))
	t.Cleanup(website.Close)
	return website.URL + "/client.json", fetched
}

// A client that nobody has configured connects by its URL (Client ID Metadata Documents), and keeps its tokens over a crash and without
// its website. The issuer is on this machine, so that the website may be too.
func TestClientsThatAreDescribed(t *testing.T) {
	id, fetched := describedClient(t, map[string]any{
		"client_name": "Agent", "redirect_uris": []string{"http://127.0.0.1/callback", "https://agent.example/callback"},
		"grant_types": []string{"authorization_code", "refresh_token"},
		"logo_uri":    "https://agent.example/unasked.png", "client_uri": "https://agent.example/unasked",
		"tos_uri": "https://agent.example/unasked/tos", "policy_uri": "https://agent.example/unasked/policy",
	})
	s := integration.Start(t, integration.ShopWith("mcp"))
	ctx, config := withClient(t, s), s.AppClient()
	config.ClientID = id

	verifier := oauth2.GenerateVerifier()
	s.Secrets.Add(verifier)
	request := config.AuthCodeURL("state", oauth2.S256ChallengeOption(verifier))
	unknown, err := http.NewRequestWithContext(t.Context(), http.MethodGet, request, nil)
	must(t, err)
	response, err := s.Client(t).Do(unknown)
	must(t, err)
	_ = response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized || fetched.Load() > 0 {
		t.Fatalf("nobody is signed in: status %d and %d fetches, want 401 and none", response.StatusCode, fetched.Load())
	}

	page := s.Customer(t).Open(t, request)
	for _, want := range []string{"The app calls itself Agent.", strings.TrimPrefix(strings.TrimSuffix(id, "/client.json"), "http://")} {
		if !strings.Contains(strings.NewReplacer("<bdi>", "", "</bdi>", "").Replace(page.Text), want) {
			t.Errorf("the consent page lacks %q", want)
		}
	}
	if strings.Contains(page.Text, "unasked") {
		t.Errorf("the consent page has a link or a picture that the client has named: %s", page.Text)
	}
	answer := s.Customer(t).Allow(t, request)
	token, err := config.Exchange(ctx, answer.Get("code"), oauth2.VerifierOption(verifier))
	must(t, err)
	s.Secrets.Add(token.AccessToken, token.RefreshToken)
	if fetched.Load() != 1 {
		t.Errorf("%d fetches, want 1", fetched.Load())
	}

	s.Kill()
	s.Run()
	refreshed, err := integration.Post(t.Context(), s.Client(t), s.TokenURL(), integration.RefreshRequest(id, token.RefreshToken))
	must(t, err)
	s.Secrets.Add(refreshed.AccessToken, refreshed.RefreshToken)
	if refreshed.Status != http.StatusOK || fetched.Load() != 1 {
		t.Errorf("after a crash: %+v with %d fetches", refreshed, fetched.Load())
	}

	for _, metadata := range []string{`"client_id_metadata_document_supported":true`, `"none"`, `"S256"`} {
		if text := s.Customer(t).Open(t, s.URL+"/.well-known/oauth-authorization-server").Text; !strings.Contains(text, metadata) {
			t.Errorf("the metadata lacks %s: %s", metadata, text)
		}
	}
}

func TestClientsThatAreDescribedAreNotForEveryIssuer(t *testing.T) {
	id, fetched := describedClient(t, map[string]any{"client_name": "Agent", "redirect_uris": []string{"http://127.0.0.1/callback"}})
	for name, settings := range map[string]string{
		"without mcp":  "",
		"cimd off":     "mcp\ncimd off",
		"another host": "cimd {\nallow agent.example\n}",
	} {
		t.Run(name, func(t *testing.T) {
			s := integration.Start(t, integration.ShopWith(settings))
			config := s.AppClient()
			config.ClientID = id
			page := s.Customer(t).Open(t, config.AuthCodeURL("state", oauth2.S256ChallengeOption(oauth2.GenerateVerifier())))
			if page.Status < 400 || !strings.Contains(page.Text, "This app is not known here") || fetched.Load() > 0 {
				t.Errorf("status %d, %d fetches: %s", page.Status, fetched.Load(), page.Text)
			}
		})
	}
}
