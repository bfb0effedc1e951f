package caddyoauth

import (
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// The owner knows the clients of the configuration, and the apps that are added at run time ask every server for the same scopes.
func TestUnknownScopesByDefault(t *testing.T) {
	for _, tt := range []struct {
		setting           string
		configured, added bool // whether unknown scopes are dropped
	}{
		{"", false, true},
		{"drop", true, true},
		{"refuse", false, false},
	} {
		issuer := &Issuer{URL: "https://example.com", UnknownScopes: tt.setting}
		if got := new(Client).client("app", issuer).DropUnknownScopes; got != tt.configured {
			t.Errorf("%q: a client of the configuration has %v", tt.setting, got)
		}
		settings := []byte(`{"redirect_uris":["https://app.example.com/callback"]}`)
		client, err := issuer.resolver(time.Hour, nil)(&storage.AddedClient{ID: "app", Settings: settings}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if client.DropUnknownScopes != tt.added {
			t.Errorf("%q: a client that was added at run time has %v", tt.setting, client.DropUnknownScopes)
		}
	}
}

// Who may add clients at run time may not read files with them.
func TestClientOfRunTimeHasNoFile(t *testing.T) {
	_, err := decodeClient([]byte(`{"redirect_uris":["https://app.example.com/callback"],"logo":"/etc/passwd"}`))
	if err == nil || !strings.Contains(err.Error(), "logo: expected none") {
		t.Errorf("got %v", err)
	}
}
