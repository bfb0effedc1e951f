package mcp

import (
	"bytes"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// TestChangesWhileAgentsAreConnected switches mcp off and on, rotates the keys and restarts the server, whose store is encrypted. Agents
// that nobody configured are shut out only while mcp is off.
func TestChangesWhileAgentsAreConnected(t *testing.T) {
	t.Parallel()
	const key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	document, certificate := document(t)
	s := &site{T: t, Server: startWith(t, "\n\t\tencryption_key {env.OAUTH_KEY}\n"+clients, "log\n\t", "OAUTH_KEY="+key, "SSL_CERT_FILE="+certificate)}
	s.client = s.Client(t)
	s.client.Transport = s.Secrets.Record(&http.Transport{DisableKeepAlives: true}) // a reload closes connections
	s.alice = &integration.Person{Name: "alice", Password: "wonderland", Browser: s.client}
	on := s.Adapted(t)
	off := bytes.Replace(on, []byte(`"mcp":true,`), nil, 1)
	if bytes.Equal(on, off) {
		t.Fatalf("no mcp in %s", on)
	}

	registered := s.register(`{"client_name":"A name that is in the store","redirect_uris":["` + callback + `"],"token_endpoint_auth_method":"none",` +
		`"grant_types":["authorization_code","refresh_token"]}`).text("client_id")
	agents := map[string]*response{"inspector": nil, registered: nil, document: nil}
	for id := range agents {
		agents[id] = s.token(redeems(s.code(s.asks("client_id", id)), "client_id", id))
	}
	// each calls a tool, and refreshes.
	work := func(after string) {
		t.Helper()
		for id, tokens := range agents {
			if got := s.call(tokens.text("access_token"), readOrder); got.status != 200 {
				t.Errorf("%s, %s: a call: %v", after, id, got)
			}
			next := s.token(refreshes(tokens.text("refresh_token"), "client_id", id))
			if !next.is(200, "") {
				t.Fatalf("%s, %s: a refresh: %v", after, id, next)
			}
			agents[id] = next
		}
	}
	work("at first")

	must(t, s.Load(t.Context(), off))
	for id, tokens := range agents {
		if id == "inspector" {
			s.expect(s.token(refreshes(tokens.text("refresh_token"))), 200, "")
			continue
		}
		s.expect(s.token(refreshes(tokens.text("refresh_token"), "client_id", id)), 401, "invalid_client")
		if got := s.refused(s.asks("client_id", id)); got != nil {
			t.Errorf("%s gets a redirect: %v", id, got)
		}
	}
	if got := s.register(`{"redirect_uris":["` + callback + `"]}`); got.status == 201 || got.status >= 500 { // the site answers
		t.Errorf("a registration: %v", got)
	}

	must(t, s.Load(t.Context(), on))
	work("with mcp again")
	s.Do(t, "oauth", "keys", "rotate", "--now", "--address", s.Admin)
	work("with other keys")
	s.Server.Stop()
	s.Server.Run()
	work("after a restart")

	metrics := s.send(http.MethodGet, "http://"+s.Admin+"/metrics", "").body
	if !strings.Contains(metrics, "caddy_oauth_requests_total") {
		t.Error("no metrics")
	}
	for _, id := range []string{registered, document} {
		if strings.Contains(metrics, id) {
			t.Errorf("%s is in the metrics", id)
		}
	}
	must(t, filepath.WalkDir(s.Storage, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		record, err := os.ReadFile(path) // #nosec G304 -- of the test
		for _, text := range []string{"A name that is in the store", document} {
			if bytes.Contains(record, []byte(text)) {
				t.Errorf("%s has %q", path, text)
			}
		}
		return err
	}))
}
