package cimd

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/fetch"
	"github.com/caddy-oauth/caddy-oauth/internal/registration"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Documents and answers that make no client. The person is told nothing of them; the log says all.
func TestRefusedDocuments(t *testing.T) {
	const body = "WHAT-THE-SERVER-SENT"
	member := func(name string, value any) func(*node) {
		return func(n *node) {
			n.serve(func(document map[string]any) {
				if document["x"] = body; value == nil {
					delete(document, name)
				} else {
					document[name] = value
				}
			})
		}
	}
	answer := func(status int, contentType, text string) func(*node) {
		return func(n *node) {
			n.handle(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", contentType)
				w.Header().Set("Location", "http://127.0.0.1/")
				w.WriteHeader(status)
				fmt.Fprint(w, text)
			})
		}
	}
	for _, c := range []struct {
		name   string
		serve  func(*node)
		want   string // in what the owner is told
		reason fetch.Reason
	}{
		{"no ID", member("client_id", nil), "client_id", fetch.InvalidDocument},
		{"ID off by one character", func(n *node) { member("client_id", n.id()+"x")(n) }, "client_id", fetch.InvalidDocument},
		{"ID in another case", func(n *node) { member("client_id", strings.ToUpper(n.id()))(n) }, "client_id", fetch.InvalidDocument},
		{"ID with the default port", member("client_id", "https://example.com:443/client.json"), "client_id", fetch.InvalidDocument},
		{"secret", member("client_secret", "x"), "client_secret", fetch.InvalidDocument},
		{"expiry of a secret", member("client_secret_expires_at", 0), "client_secret", fetch.InvalidDocument},
		{"client_secret_post", member("token_endpoint_auth_method", "client_secret_post"), "token_endpoint_auth_method", fetch.InvalidDocument},
		{"client_secret_jwt", member("token_endpoint_auth_method", "client_secret_jwt"), "token_endpoint_auth_method", fetch.InvalidDocument},
		{"no name", member("client_name", nil), "client_name", fetch.InvalidDocument},
		{"a name of nothing to see", member("client_name", "\u200b\u202e"), "client_name", fetch.InvalidDocument},
		{"no redirect URI", member("redirect_uris", []string{}), "redirect_uris", fetch.InvalidDocument},
		{"javascript", member("redirect_uris", []string{"javascript:alert(1)"}), "redirect_uris", fetch.InvalidDocument},
		{"http on another host", member("redirect_uris", []string{"http://app.example.com/"}), "redirect_uris", fetch.InvalidDocument},
		{"keys twice", func(n *node) {
			n.serve(func(d map[string]any) {
				d["jwks"], d["jwks_uri"] = map[string]any{"keys": []any{}}, "https://example.com/jwks"
			})
		}, "jwks", fetch.InvalidDocument},
		{"no JSON", answer(200, "application/json", body), "JSON", fetch.InvalidDocument},
		{"a list", answer(200, "application/json", "[]"), "JSON", fetch.InvalidDocument},
		{"nothing", answer(200, "application/json", ""), "JSON", fetch.InvalidDocument},
		{"a member twice", answer(200, "application/json", `{"client_id":"a","client_id":"b"}`), "once", fetch.InvalidDocument},
		{"nested without end", answer(200, "application/json", `{"a":`+strings.Repeat("[", 15_000)), "JSON", fetch.InvalidDocument},
		{"HTML", answer(200, "text/html", body), "application/json", fetch.ContentType},
		{"17 KB", answer(200, "application/json", strings.Repeat(" ", 17<<10)), "16384", fetch.TooLarge},
		{"redirect", answer(302, "application/json", body), "redirect", fetch.Redirect},
		{"201", answer(201, "application/json", body), "201", fetch.Status},
		{"404", answer(404, "application/json", body), "404", fetch.Status},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t)
			c.serve(n)
			client, err := n.Fetch(t.Context(), n.id())
			e := refusal(t, err)
			var failure *fetch.Error
			if client != nil || !errors.As(err, &failure) || failure.Reason != c.reason || !strings.Contains(e.Expected, c.want) || e.Sent != n.id() {
				t.Errorf("%+v, cause %v", e, failure)
			}
			if strings.Contains(e.Description, body) || strings.Contains(e.Description, string(c.reason)) {
				t.Errorf("the client is told %q", e.Description)
			}
			n.found(t, false)
			n.asked(t, 1)
			if refusal(t, second(n.Fetch(t.Context(), n.id()))).RetryAfter == 0 {
				t.Error("no time to try again at")
			}
			n.asked(t, 0) // it backs off
			n.serve(nil)
			n.clock.Advance(time.Minute)
			n.fetched(t)
		})
	}
}

// What the settings do not allow is no fault of the document: it is not fetched again for that, and is accepted once the settings are
// other ones.
func TestRefusedBySettings(t *testing.T) {
	n := newNode(t)
	n.serve(func(document map[string]any) { document["token_endpoint_auth_method"] = "tls_client_auth" })
	for range 2 {
		client, err := n.Fetch(t.Context(), n.id())
		if e := refusal(t, err); client != nil || !strings.Contains(e.Expected, "tls_client_auth") {
			t.Errorf("%v, %+v", client, e)
		}
	}
	n.found(t, false)
	n.asked(t, 1)
	n.Describe = func(string, *registration.Metadata) (*storage.Client, error) { return new(storage.Client), nil }
	n.clock.Advance(time.Hour)
	n.fetched(t)
}

// The document that ChatGPT has: of what it lists, a server takes what it has.
func TestMethodIsChosen(t *testing.T) {
	n := newNode(t)
	n.serve(func(document map[string]any) {
		document["token_endpoint_auth_method"] = "private_key_jwt"
		document["token_endpoint_auth_methods_supported"] = []string{"none", "private_key_jwt", "client_secret_post"}
		document["jwks_uri"] = "https://example.com/jwks.json"
		document["grant_types"] = []string{"authorization_code", "urn:ietf:params:oauth:grant-type:device_code", "refresh_token"}
	})
	if client := n.fetched(t); !slices.Equal(client.AuthMethods, []string{"private_key_jwt", "none"}) || client.JWKSURI == "" {
		t.Errorf("%+v", client)
	}
}

// Only the port of a loopback redirect URI may differ.
func TestPortOfARedirect(t *testing.T) {
	n := newNode(t)
	n.serve(func(document map[string]any) {
		document["redirect_uris"] = []string{"http://localhost/callback", "http://127.0.0.1/callback", "https://app.example.com/callback"}
	})
	client := n.fetched(t)
	for uri, want := range map[string]bool{
		"http://localhost:3118/callback": true, "http://127.0.0.1:49152/callback": true, "https://app.example.com/callback": true,
		"https://app.example.com:8443/callback": false, "http://localhost:3118/other": false, "http://localhost.example:3118/callback": false,
	} {
		if got := uris.MatchRedirect(client.RedirectURIs, uri); got != want {
			t.Errorf("%s: %v", uri, got)
		}
	}
}
