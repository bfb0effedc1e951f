package caddyoauth

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// A client that authenticates may repeat a lost refresh until it has used the new token, a public one for a minute.
func TestRetryByDefault(t *testing.T) {
	set := func(retry Retry) *RefreshTokenSettings { return &RefreshTokenSettings{Retry: &retry} }
	for _, c := range []struct {
		name   string
		client *Client
		issuer *RefreshTokenSettings
		want   time.Duration
	}{
		{name: "confidential", client: &Client{Secrets: []string{"s"}}, want: storage.RetryUntilUsed},
		{name: "confidential, by a hash", client: &Client{SecretHashes: []string{"h"}}, want: storage.RetryUntilUsed},
		{name: "public", client: &Client{}, want: time.Minute},
		{name: "public, set by the issuer", client: &Client{}, issuer: set(RetryUnused), want: storage.RetryUntilUsed},
		{name: "confidential, set by the issuer", client: &Client{Secrets: []string{"s"}}, issuer: set(0), want: 0},
		{
			name: "set by the client", client: &Client{Secrets: []string{"s"}, RefreshToken: set(Retry(5 * time.Second))},
			issuer: set(0), want: 5 * time.Second,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			issuer := &Issuer{URL: "https://example.com", RefreshToken: c.issuer}
			if got := c.client.client("app", issuer).RefreshToken.Retry; got != c.want {
				t.Errorf("retry is %v, want %v", got, c.want)
			}
		})
	}
}

func TestRetryInJSON(t *testing.T) {
	for text, want := range map[string]Retry{`"unused"`: RetryUnused, `"10s"`: Retry(10 * time.Second), `0`: 0, `"0"`: 0, `5000000000`: Retry(5 * time.Second)} {
		var got Retry
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", text, got, err, want)
		}
		written, err := json.Marshal(got)
		var again Retry
		if err != nil || json.Unmarshal(written, &again) != nil || again != want {
			t.Errorf("%s is written as %s", text, written)
		}
	}
	for _, text := range []string{`"never"`, `"6m"`, `"-1s"`, `-1`, `"500ms"`, `true`, `null`, `{}`} {
		var got Retry
		if err := json.Unmarshal([]byte(text), &got); err == nil {
			t.Errorf("%s is taken for %v", text, got)
		}
	}
}
