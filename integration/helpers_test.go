package integration_test

import (
	"context"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// Secrets.In, on which every other test relies, finds secrets in logs.
func TestSecretsAreFound(t *testing.T) {
	const token = "3q2-7wAAd0eXJ6aWg5Q2hGc1RxS1pBbk9yWGp5TmVtUnZsb0Jt"
	secrets := new(integration.Secrets)
	secrets.Add(token, `pa"ss wörd`, "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9."+strings.Repeat("sIgNaTuRe", 9))
	secrets.AddFrom(url.Values{"state": {"no-secret-at-all"}, "code_verifier": {"short"}})
	for _, c := range []struct {
		name, line string
		found      bool
	}{
		{"a token", `{"token":"` + token + `"}`, true},
		{"in a query", "/callback?code=" + token + "&state=x", true},
		{"most of a token", token[3:37] + "...", true},
		{"a password in JSON", `{"password":"pa\"ss wörd"}`, true},
		{"a password in a form", "password=pa%22ss+w%C3%B6rd", true},
		{"the signature of a JWT", strings.Repeat("sIgNaTuRe", 5), true},
		{"a short secret", "verifier short", true},
		{"the start of a token", token[:12], false},
		{"the payload of a JWT", "eyJzdWIiOiJhbGljZSJ9", false},
		{"no secret", "state=no-secret-at-all", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := len(secrets.In([]byte("before\n"+c.line+"\nafter\n"))) == 1; got != c.found {
				t.Errorf("found: %v, want %v", got, c.found)
			}
		})
	}
}

// The log of a site with log_credentials, which makes Caddy log them, is found to have secrets.
func TestLoggedCredentialsAreFound(t *testing.T) {
	shop := integration.Shop()
	shop.Leaky = true
	shop.Global += "servers {\n log_credentials\n }\n"
	s := integration.Start(t, shop)
	page := s.Customer(t).Open(t, s.URL+"/oauth/authorize")
	if page.Status != http.StatusBadRequest || page.Location != "" { // RFC 6749 §4.1.2.1
		t.Errorf("authorize without client_id: %d, redirect to %q", page.Status, page.Location)
	}
	s.Stop()
	leaks := s.Secrets.In(s.Log())
	if len(leaks) == 0 || !strings.Contains(leaks[0], "Authorization") {
		t.Errorf("%d leaks found, want the Authorization header", len(leaks))
	}
}

// The tests of all users of a directory of libraries wait for each other, and say for what.
func TestLockLibraries(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), ".m2") // Maven has not made it yet
	held, err := integration.LockLibraries(t.Context(), dir)
	must(t, err)
	t.Cleanup(func() { _ = held.Close() }) // it may be unlocked
	if filepath.Dir(held.Path()) != dir {
		t.Errorf("the lock is %s, want one in %s", held.Path(), dir)
	}
	soon, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err = integration.LockLibraries(soon, dir)
	if err == nil || !strings.Contains(err.Error(), held.Path()) {
		t.Errorf("while it is locked: %v", err)
	}
	must(t, held.Unlock())
	again, err := integration.LockLibraries(t.Context(), dir)
	must(t, err)
	must(t, again.Close())
}
