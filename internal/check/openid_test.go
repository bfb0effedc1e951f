package check

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestOpenID checks what applications need of an issuer that signs people in.
func TestOpenID(t *testing.T) {
	const (
		keys   = `{"keys":[{"kty":"EC","kid":"a","alg":"ES256"},{"kty":"RSA","kid":"b","alg":"RS256","n":"` + rsaModulus + `"}]}`
		client = `"wiki": {"redirect_uris": ["https://wiki.example/cb"], "scopes": ["openid", "profile", "email", "groups"]}`
	)
	for _, tt := range []struct {
		name     string
		metadata map[string]any // other values than those of a good issuer
		keys     string
		userinfo int // a status instead of 401
		want     Verdict
		seen     string
	}{
		{name: "good", want: OK, seen: "applications find the endpoints, the keys of ID tokens (ES256, RS256) and userinfo"},
		{name: "a page at the discovery document", metadata: map[string]any{"issuer": "https://other.example"}, want: Fail, seen: "/.well-known/openid-configuration has no metadata of this issuer"},
		{name: "no key for RS256", keys: `{"keys":[{"kty":"EC","kid":"a","alg":"ES256"}]}`, want: Fail, seen: "no key for RS256 is at"},
		{name: "keys without alg", keys: strings.NewReplacer(`"alg":"RS256",`, "", `,"alg":"ES256"`, "").Replace(keys), want: OK, seen: "applications find"},
		{name: "a page instead of userinfo", userinfo: http.StatusOK, want: Fail, seen: "/userinfo does not ask for a token: status 200"},
		{name: "an older configuration", metadata: map[string]any{"id_token_signing_alg_values_supported": nil}, want: Fail, seen: "the issuer that runs has no OpenID Connect"},
		{name: "no email", metadata: map[string]any{"claims_supported": []string{"sub", "name", "groups"}}, want: Warning, seen: "the scope email tells it nothing, as the site has no claim email"},
		{name: "no claim of the owner's", metadata: map[string]any{"claims_supported": []string{"sub", "name", "email"}}, want: Warning, seen: "the scope groups tells it nothing, as the site has no claim groups"},
		{name: "nothing of a profile", metadata: map[string]any{"claims_supported": []string{"sub", "groups", "email"}}, want: Warning, seen: "the scope profile tells it nothing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mux := http.NewServeMux()
			server := httptest.NewServer(mux)
			defer server.Close()
			document := map[string]any{
				"issuer": server.URL, "authorization_endpoint": server.URL + "/authorize", "token_endpoint": server.URL + "/token", "jwks_uri": server.URL + "/jwks",
				"userinfo_endpoint": server.URL + "/userinfo", "id_token_signing_alg_values_supported": []string{"ES256", "RS256"},
				"claims_supported": []string{"sub", "name", "email", "groups"},
			}
			serve := func(path string, document map[string]any) {
				mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
					if err := json.NewEncoder(w).Encode(document); err != nil {
						t.Error(err)
					}
				})
			}
			changed := maps.Clone(document)
			maps.Copy(changed, tt.metadata)
			serve("/.well-known/openid-configuration", changed)
			changed = maps.Clone(changed)
			changed["issuer"] = server.URL
			serve("/.well-known/oauth-authorization-server", changed)
			mux.HandleFunc("/jwks", func(w http.ResponseWriter, _ *http.Request) {
				if tt.keys == "" {
					tt.keys = keys
				}
				fmt.Fprint(w, tt.keys)
			})
			mux.HandleFunc("/userinfo", func(w http.ResponseWriter, _ *http.Request) {
				if tt.userinfo == 0 {
					w.Header().Set("WWW-Authenticate", `Bearer error="invalid_request"`)
					tt.userinfo = http.StatusUnauthorized
				}
				w.WriteHeader(tt.userinfo)
			})
			config := fmt.Sprintf(`{"apps": {"oauth": {"issuers": {"shop": {"url": %q, "openid": {},
				"scopes": [{"name": "groups", "description": "your groups", "claims": ["groups"]}], "clients": {%s}}}}}}`, server.URL, client)
			c := &Checker{Config: json.RawMessage(config)}
			report, err := c.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var of []Finding
			for _, f := range report.Findings {
				if strings.HasPrefix(f.Check, "openid") && (f.Verdict != OK || tt.want == OK) {
					of = append(of, f)
				}
			}
			if len(of) != 1 || of[0].Verdict != tt.want || !strings.Contains(of[0].Seen, tt.seen) {
				t.Errorf("expected %s: %s, got %+v", tt.want, tt.seen, of)
			}
		})
	}
}

// rsaModulus has 2048 bits.
const rsaModulus = "u1W_A6Sj3Tn2g-7d5Vq8xWm1xk0qk3hJ9lYl2Qv5m0N1b9b0d8oJ2l4pZr7uC6nH5wS3fT8kX1vB4mE7gR2yQ9aJ6zD5cL8oP3iU1tK4xN7bM2vF6hG9jS5rW8qA3dE1yT4uI7pO2kL6mC9nV5bX8zR3fH1gJ4sW7tQ2yU6iE9oP5aK8dL3xM1cN4vB7hF2jG6rS9wT5qY8uA3iD1eO4pZ7kX2mL6nC9bV5fR8gH3tJ1yS4wU7qI2oE6aP9dK5xL8zM3cN1vB4hF7jG2rS6wT9qY5uA8iD3eO1pZ4kX7mL2nC6bV9fR5gH8tJ3yS1wU4qI7oE2aP6dK9xL5zM8cN3vB1hF4jG7rS2wT6qY9uA5iD8eO3pZ1kX4"
