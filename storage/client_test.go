package storage_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

func TestRegisteredSecrets(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r := &storage.AddedClient{ID: "app", Secrets: []storage.Secret{{Hash: "one", Created: start}}}
	r.ReplaceSecret("two", start, time.Hour)
	r.ReplaceSecret("three", start.Add(time.Minute), 24*time.Hour)
	for _, tt := range []struct {
		after time.Duration
		want  []string
		until time.Duration
	}{
		{0, []string{"one", "two", "three"}, time.Hour}, // a longer grace time does not extend older secrets
		{time.Hour - 1, []string{"one", "two", "three"}, time.Hour},
		{time.Hour, []string{"two", "three"}, 24*time.Hour + time.Minute},
		{24*time.Hour + time.Minute, []string{"three"}, 0},
	} {
		hashes, until := r.Hashes(start.Add(tt.after))
		if !slices.Equal(hashes, tt.want) {
			t.Errorf("after %s: %v, expected %v", tt.after, hashes, tt.want)
		}
		if want := start.Add(tt.until); tt.until != 0 && !until.Equal(want) || tt.until == 0 && !until.IsZero() {
			t.Errorf("after %s: until %s, expected %s", tt.after, until, want)
		}
	}
	r.ReplaceSecret("four", start.Add(2*time.Hour), 0)
	if hashes, _ := r.Hashes(start.Add(2 * time.Hour)); !slices.Equal(hashes, []string{"four"}) || len(r.Secrets) != 1 {
		t.Errorf("without grace: %v", r.Secrets)
	}
}

func TestAddedClientRecord(t *testing.T) {
	for _, id := range []string{"app", "https://app.example/client?x=1", "A", "a", "..", string(make([]byte, 300))} {
		if err := storage.AddedClientKey(id).Check(); err != nil {
			t.Error(err)
		}
	}
	if storage.AddedClientKey("A") == storage.AddedClientKey("a") {
		t.Error("client IDs have case, and their keys have not")
	}
	for _, record := range []string{"", "null", "{}", `{"client_id": 1}`, `[]`, `{"client_id": "app", "secrets": "hash"}`} {
		if r, err := storage.DecodeAddedClient([]byte(record)); err == nil {
			t.Errorf("%s is read as %+v", record, r)
		}
	}
}

func TestClientsThatAuthenticate(t *testing.T) {
	secret, set := []string{"sha256:00"}, json.RawMessage(`{"keys":[]}`)
	for _, tt := range []struct {
		name                  string
		client                storage.Client
		public, keys, secrets bool
	}{
		{"nothing", storage.Client{}, true, false, false},
		{"a secret", storage.Client{SecretHashes: secret}, false, false, true},
		{"keys", storage.Client{JWKS: set}, false, true, false},
		{"a URL of keys", storage.Client{JWKSURI: "https://app.example.com/jwks"}, false, true, false},
		{"both", storage.Client{JWKS: set, SecretHashes: secret}, false, true, true},
		{"none, by its own word", storage.Client{AuthMethods: []string{storage.MethodNone}}, true, false, false},
		{"none or a key", storage.Client{JWKS: set, AuthMethods: []string{storage.MethodNone, storage.MethodKey}}, true, true, false},
		{"a key only", storage.Client{JWKS: set, SecretHashes: secret, AuthMethods: []string{storage.MethodKey}}, false, true, false},
		{"a secret only", storage.Client{JWKS: set, SecretHashes: secret, AuthMethods: []string{storage.MethodPost}}, false, false, true},
		{"a key that it does not have", storage.Client{AuthMethods: []string{storage.MethodKey}}, false, false, false},
	} {
		c := &tt.client
		if c.Public() != tt.public || c.HasKeys() != tt.keys || c.HasSecrets() != tt.secrets {
			t.Errorf("%s: public %v, keys %v, secrets %v", tt.name, c.Public(), c.HasKeys(), c.HasSecrets())
		}
	}
}
