package guides

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// TestFAPI signs a person in with the program of the guide, at the site of the guide, which is also an example.
func TestFAPI(t *testing.T) {
	const guide = "fapi.md"
	text := snippet(t, guide, "caddyfile")
	example, err := os.ReadFile(filepath.Join("..", "..", "examples", "fapi2.Caddyfile"))
	must(t, err)
	if text != strings.ReplaceAll(string(example), "\r\n", "\n") {
		t.Fatal("the guide does not show examples/fapi2.Caddyfile")
	}
	node, dir := nodeProject(t)
	set := writeKey(t, filepath.Join(dir, "budget.pem"))
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch name, password, _ := r.BasicAuth(); {
		case r.URL.Path == "/jwks.json":
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(set))
		case r.URL.Path == "/whoami" && (name != integration.Customer || password != integration.Password):
			w.Header().Set("WWW-Authenticate", `Basic realm="site"`)
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/whoami":
			w.Header().Set("Remote-User", name)
		}
	}))
	t.Cleanup(site.Close)
	secrets := new(integration.Secrets)
	secrets.Add(integration.Password)
	s := integration.Start(t, integration.Config{
		Sites: strings.NewReplacer("https://bank.example.com", "{$ISSUER}", "bank.example.com {", "{$SITE} {", "app:8080", "{$APP}",
			"https://budget.example.net/jwks.json", site.URL+"/jwks.json", "https://budget.example.net/callback", "http://127.0.0.1/callback").Replace(text),
		Secrets: secrets, Env: []string{"APP=" + site.URL},
	})
	program := strings.Replace(snippet(t, guide, "js"), // the issuer of the test has no https
		"{ algorithm: 'oauth2' }", "{ algorithm: 'oauth2', execute: [client.allowInsecureRequests] }", 1)
	must(t, os.WriteFile(filepath.Join(dir, "main.mjs"), []byte(program), 0o600))
	app := "http://" + integration.NewAddress(t)
	server := exec.CommandContext(t.Context(), node, "main.mjs")
	server.Dir, server.Env, server.Stderr = dir, append(os.Environ(), "ISSUER="+s.URL, "APP="+app), t.Output()
	must(t, server.Start())
	t.Cleanup(func() {
		_ = server.Process.Kill() // it may have exited
		_ = server.Wait()
	})
	browser := s.Client(t)
	browser.Jar, err = cookiejar.New(nil)
	must(t, err)
	person := &integration.Person{Name: integration.Customer, Password: integration.Password, Browser: browser}
	var page *integration.Page
	integration.Eventually(t, "the program", func() bool {
		page, err = person.SignIn(t.Context(), app+"/", s.URL)
		return err == nil
	})
	if got := strings.ToLower(page.Text); got != "dpop 200" {
		t.Errorf("the program says %s", page.Text)
	}
	page = person.Open(t, s.URL+"/oauth/authorize?response_type=code&client_id=budget-app&redirect_uri=http://127.0.0.1/callback")
	if !strings.Contains(page.Location, "error=invalid_request") {
		t.Errorf("a request that was not pushed: %d %s", page.Status, page.Location)
	}
}

// writeKey makes a key, writes the private one in PEM, and returns a JWK set with the public one.
func writeKey(t *testing.T, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	must(t, os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	point, err := key.PublicKey.Bytes() // SEC 1: 4, x, y
	must(t, err)
	encode := base64.RawURLEncoding.EncodeToString
	return fmt.Sprintf(`{"keys":[{"kty":"EC","crv":"P-256","x":%q,"y":%q}]}`, encode(point[1:33]), encode(point[33:]))
}
