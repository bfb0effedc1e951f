package authserver

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// tokenRequest returns a request with headers, given as names and values.
func tokenRequest(headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/oauth/token", nil)
	for pair := range slices.Chunk(headers, 2) {
		r.Header.Add(pair[0], pair[1])
	}
	return r
}

// A server can be set to take the secret from a header of its own; that is one more way, of which there is to be one.
func TestSecretHeader(t *testing.T) {
	s := newTestServer(t, func(c *Config) {
		c.Clients = map[string]*storage.Client{
			"shop": {ID: "shop", SecretHashes: []string{HashSecret("key")}},
			"spa":  {ID: "spa"},
		}
		c.Wire.SecretHeader = "X-Api-Key"
	})
	id := url.Values{"client_id": {"shop"}}
	for _, c := range []struct {
		name string
		r    *http.Request
		form url.Values
		code string
	}{
		{"the secret", tokenRequest("X-Api-Key", "key"), id, ""},
		{"the name in another case", tokenRequest("x-api-KEY", "key"), id, ""},
		{"another secret", tokenRequest("X-Api-Key", "other"), id, grants.InvalidClient},
		{"nothing in it", tokenRequest("X-Api-Key", ""), id, grants.InvalidClient},
		{"no client_id", tokenRequest("X-Api-Key", "key"), nil, grants.InvalidClient},
		{"a public client without it", tokenRequest(), url.Values{"client_id": {"spa"}}, ""},
		{"a public client with a secret", tokenRequest("X-Api-Key", "key"), url.Values{"client_id": {"spa"}}, grants.InvalidClient},
		{"RFC 6749 §2.3 twice", tokenRequest("X-Api-Key", "key", "X-Api-Key", "key"), id, grants.InvalidRequest},
		{"RFC 6749 §2.3 and Basic", tokenRequest("X-Api-Key", "key", "Authorization", "Basic c2hvcDprZXk="), id, grants.InvalidRequest},
		{"RFC 6749 §2.3 and in the body", tokenRequest("X-Api-Key", "key"), url.Values{"client_id": {"shop"}, "client_secret": {"key"}}, grants.InvalidRequest},
		{"RFC 6749 §2.3.1 without it, Basic", tokenRequest("Authorization", "Basic c2hvcDprZXk="), nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, err := s.clients.authenticate(newCall(t.Context(), c.r, "192.0.2.1"), c.form)
			if (client == nil) == (err == nil) {
				t.Fatalf("got %v and error %v", client, err)
			}
			if err == nil && c.code != "" || err != nil && asRefusal(err).Code != c.code {
				t.Errorf("got error %v, want %q", err, c.code)
			}
		})
	}
}

func TestValidHash(t *testing.T) {
	secrets := Secrets{"$slow$": slowHash{new([]string)}}
	sum := strings.TrimPrefix(HashSecret("secret"), hashPrefix)
	for hash, want := range map[string]bool{
		hashPrefix + sum:                  true,
		"$slow$terces":                    true,
		"":                                false,
		sum:                               false,
		hashPrefix:                        false,
		hashPrefix + sum[:62]:             false,
		hashPrefix + sum + "00":           false,
		hashPrefix + strings.ToUpper(sum): false,
		hashPrefix + strings.Repeat("-", len(sum)): false, // that of a client nobody knows
		"SHA256:" + sum:            false,
		hashPrefix + " " + sum[1:]: false,
		"secret":                   false,
		"$fast$secret":             false,
	} {
		if got := secrets.ValidHash(hash); got != want {
			t.Errorf("%q is valid: %v, want %v", hash, got, want)
		}
	}
}
