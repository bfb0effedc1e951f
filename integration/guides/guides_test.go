// Package guides runs the programs that the guides in docs show: it takes their text from the guide, and changes only addresses.
package guides

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/internal/testneeds"
)

func TestMain(m *testing.M) {
	status := integration.Main(m)
	_ = os.RemoveAll(packages.dir) // a test that installs into it has failed
	os.Exit(status)
}

var must = integration.Must

const (
	billingSecret = "wq7Zk2Vb9sXn4Rt6Yp8Lm3Gd5Hf1Jc0Qa"
	apiSecret     = "Pz5Kx8Nc2Wv7Bq4Mt9Rf6Yg3Ls1Hd0Je"
)

// issuer runs the site of the guide about resource servers.
func issuer(t *testing.T) *integration.Server {
	t.Helper()
	site := strings.NewReplacer("https://example.com", "{$ISSUER}", "example.com {", "{$SITE} {").
		Replace(snippet(t, "resource-servers.md", "caddyfile"))
	secrets := new(integration.Secrets)
	secrets.Add(billingSecret, apiSecret)
	return integration.Start(t, integration.Config{
		Sites: site, Secrets: secrets,
		Env: []string{"BILLING_SECRET=" + billingSecret, "ORDERS_API_SECRET=" + apiSecret},
	})
}

// token returns an access token for the API of the guide, or for another resource.
func token(t *testing.T, s *integration.Server, resource string) string {
	t.Helper()
	answer, err := integration.Post(t.Context(), s.Client(t), s.TokenURL(), url.Values{
		"grant_type": {"client_credentials"}, "client_id": {"billing"}, "client_secret": {billingSecret}, "resource": {resource},
	})
	must(t, err)
	if answer.AccessToken == "" {
		t.Fatalf("no access token: %+v", answer)
	}
	s.Secrets.Add(answer.AccessToken)
	return answer.AccessToken
}

const api = "https://api.example.com"

// TestNginx plays requests against an nginx that asks the guard.
func TestNginx(t *testing.T) {
	program := testneeds.Program(t, "nginx", "nginx")
	s := issuer(t)
	orders := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "user="+r.Header.Get("X-User")+" authorization="+r.Header.Get("Authorization"))
	}))
	t.Cleanup(orders.Close)
	address := integration.NewAddress(t)
	server := strings.NewReplacer("listen 8080", "listen "+address, "http://127.0.0.1:9000", orders.URL, "https://example.com", s.URL).
		Replace(snippet(t, "resource-servers.md", "nginx"))
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "tmp"), 0o700))
	config := filepath.Join(dir, "nginx.conf")
	must(t, os.WriteFile(config, []byte(`
daemon off;
master_process off;
error_log stderr;
pid nginx.pid;
events {}
http {
	access_log off;
	client_body_temp_path tmp/body;
	proxy_temp_path       tmp/proxy;
	fastcgi_temp_path     tmp/fastcgi;
	uwsgi_temp_path       tmp/uwsgi;
	scgi_temp_path        tmp/scgi;
`+server+"}\n"), 0o600))
	nginx := exec.Command(program, "-p", dir, "-c", config) //nolint:noctx // the cleanup ends it
	nginx.Stderr = t.Output()
	must(t, nginx.Start())
	t.Cleanup(func() {
		_ = nginx.Process.Kill()
		_ = nginx.Wait()
	})

	get := func(token string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/orders", nil)
		must(t, err)
		req.Header.Set("X-User", "root")
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		return resp.StatusCode, string(body)
	}
	integration.Eventually(t, "nginx answers", func() bool {
		status, _ := get("")
		return status != 0
	})
	if status, _ := get(""); status != http.StatusUnauthorized {
		t.Errorf("without a token: got %d", status)
	}
	if status, body := get(token(t, s, api)); status != http.StatusOK || body != "user= authorization=" {
		t.Errorf("with a token of a client that acts for itself: got %d and %q", status, body)
	}
	if status, _ := get(token(t, s, s.URL)); status != http.StatusUnauthorized {
		t.Errorf("with a token for another audience: got %d", status)
	}
}

// TestNode checks tokens with the function for Node.
func TestNode(t *testing.T) {
	node, dir := nodeProject(t)
	must(t, os.WriteFile(filepath.Join(dir, "check.mjs"), []byte(snippet(t, "resource-servers.md", "js")), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "main.mjs"), []byte(`
import { check } from './check.mjs'
console.log(JSON.stringify(await check(process.env.TOKEN)))
`), 0o600))
	checksTokens(t, "aud", "signature", func(env ...string) (string, error) {
		return integration.Output(t.Context(), dir, env, node, "main.mjs")
	})
}

// TestPython checks tokens with the function for Python.
func TestPython(t *testing.T) {
	python, dir := testneeds.Program(t, "python3", "python3 and python3-pip"), t.TempDir()
	output, err := integration.Output(t.Context(), ".", nil, python, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--no-deps",
		"--target", dir, "--requirement", filepath.Join("testdata", "requirements.txt"))
	if err != nil {
		testneeds.Missing(t, "pip cannot install the packages: "+output)
	}
	must(t, os.WriteFile(filepath.Join(dir, "check.py"), []byte(snippet(t, "resource-servers.md", "python")), 0o600))
	checksTokens(t, "Audience", "Signature", func(env ...string) (string, error) {
		return integration.Output(t.Context(), dir, env, python, "-c", "import check, json, os; print(json.dumps(check.check(os.environ['TOKEN']), separators=(',', ':')))")
	})
}

// springProgram has the decoder of the guide in the place of DECODER.
const springProgram = `
import org.springframework.context.annotation.Bean;
import org.springframework.security.oauth2.jwt.*;

public class Check {
DECODER
	public static void main(String[] args) {
		Jwt token = new Check().jwtDecoder().decode(System.getenv("TOKEN"));
		System.out.println("\"client_id\":\"" + token.getClaimAsString("client_id") + "\"");
	}
}
`

// TestSpring checks tokens with the decoder for Spring.
func TestSpring(t *testing.T) {
	dir := t.TempDir()
	pom, err := os.ReadFile(filepath.Join("testdata", "spring", "pom.xml"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "pom.xml"), pom, 0o600))
	decoder := strings.Replace(snippet(t, "resource-servers.md", "java"), `"https://example.com"`, `System.getenv("ISSUER")`, 1)
	must(t, os.WriteFile(filepath.Join(dir, "Check.java"), []byte(strings.Replace(springProgram, "DECODER", decoder, 1)), 0o600))
	program, err := integration.BuildJava(t, dir)
	if err != nil {
		testneeds.Missing(t, err.Error())
	}
	checksTokens(t, "aud", "Invalid signature", func(env ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), integration.Patience)
		defer cancel()
		command := program.Command(ctx, "Check")
		command.Env = append(os.Environ(), env...)
		output, err := command.CombinedOutput()
		return string(output), err
	})
}

// checksTokens tries a program that prints the claims of the access token in its environment. It must fail with these words for a token
// of another audience, and for a forged one.
func checksTokens(t *testing.T, audience, signature string, program func(env ...string) (string, error)) {
	t.Helper()
	s := issuer(t)
	check := func(token string) (string, error) {
		return program("ISSUER="+s.URL, "AUDIENCE="+api, "TOKEN="+token)
	}
	good := token(t, s, api)
	if output, err := check(good); err != nil || !strings.Contains(output, `"client_id":"billing"`) {
		t.Errorf("a good token: got %v\n%s", err, output)
	}
	if output, err := check(token(t, s, s.URL)); err == nil || !strings.Contains(output, audience) {
		t.Errorf("a token for another audience: got %v\n%s", err, output)
	}
	if output, err := check(good[:len(good)-4] + "AAAA"); err == nil || !strings.Contains(output, signature) {
		t.Errorf("a forged token: got %v\n%s", err, output)
	}
}

// packages are those that the guides use from npm. All tests share them.
var packages struct {
	once    sync.Once
	dir     string
	problem string
}

// nodeProject returns the program node and a new directory with the packages that the guides use.
func nodeProject(t *testing.T) (node, dir string) {
	t.Helper()
	node, npm := testneeds.Program(t, "node", "nodejs"), testneeds.Program(t, "npm", "npm")
	packages.once.Do(func() {
		var err error
		packages.dir, err = os.MkdirTemp("", "caddy-oauth-npm-*") //nolint:usetesting // all tests share it
		must(t, err)
		for _, name := range []string{"package.json", "package-lock.json"} {
			content, err := os.ReadFile(filepath.Join("testdata", name))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(packages.dir, name), content, 0o600))
		}
		if output, err := integration.Output(t.Context(), packages.dir, nil, npm, "ci", "--no-audit", "--no-fund"); err != nil {
			packages.problem = "npm cannot install the packages: " + output
		}
	})
	if packages.problem != "" {
		testneeds.Missing(t, packages.problem)
	}
	dir = t.TempDir()
	must(t, os.Symlink(filepath.Join(packages.dir, "node_modules"), filepath.Join(dir, "node_modules")))
	return node, dir
}

// TestIntrospection sends the request of the guide.
func TestIntrospection(t *testing.T) {
	s := issuer(t)
	for _, test := range []struct {
		resource string
		want     string
	}{{api, `"active":true`}, {s.URL, `{"active":false}`}} {
		form := url.Values{"token": {token(t, s, test.resource)}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/oauth/introspect", strings.NewReader(form.Encode()))
		must(t, err)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.SetBasicAuth("orders-api", apiSecret)
		resp, err := s.Client(t).Do(req)
		must(t, err)
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		must(t, resp.Body.Close())
		if !strings.Contains(string(body), test.want) {
			t.Errorf("a token for %s: got %s", test.resource, body)
		}
	}
}

// snippet returns the first block of a language in a guide.
func snippet(t *testing.T, guide, language string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs/guides", guide))
	must(t, err)
	block := regexp.MustCompile("(?s)```" + language + "\r?\n(.*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatalf("%s has no block of %s", guide, language)
	}
	return string(block[1])
}
