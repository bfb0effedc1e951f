package mcp

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/internal/testneeds"
)

// connections are the ways in which clients get a client ID, and what a client gets for it: an ID, the URL of a document, or nothing to
// register.
func connections(document string) map[string]string {
	return map[string]string{"preregistered": "inspector", "registered": "", "document": document}
}

// lastLine reads the last line that a program printed, which is JSON.
func lastLine(t *testing.T, output string, into any) {
	t.Helper()
	last := output[strings.LastIndex(strings.TrimSpace(output), "\n")+1:]
	if err := json.Unmarshal([]byte(last), into); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
}

// sequence is what a program prints that has an SDK: it reads an order, refreshes its token, lists the tools and deletes the order, for
// which it needs another scope.
type sequence struct {
	Read, First   string
	Tools         int
	Refreshed     bool
	Deleted, Then string
	Client        string
}

// check checks what a program printed that connected in one of the ways.
func (got sequence) check(t *testing.T, way, id string) {
	t.Helper()
	if want := (sequence{"Order 7 belongs to alice.", "orders:read", 2, true, "alice has deleted order 7.", "orders:read orders:write", got.Client}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	checkID(t, way, id, got.Client)
}

// checkID checks the client ID that a client used.
func checkID(t *testing.T, way, want, got string) {
	t.Helper()
	if way == "registered" && !strings.HasPrefix(got, "d.") || way != "registered" && got != want {
		t.Errorf("the client ID is %q", got)
	}
}

// TestSDKs connects with SDKs for JavaScript that clients are made of, down to the call of a tool and a refresh.
func TestSDKs(t *testing.T) { //nolint:tparallel // its subtests share a server
	t.Parallel()
	node, dir := project(t)
	id, certificate := document(t)
	s := start(t, clients, "SSL_CERT_FILE="+certificate)
	for _, sdk := range []string{"1.x", "2.x"} {
		for way, client := range connections(id) {
			t.Run(sdk+", "+way, func(t *testing.T) {
				output, err := run(t.Context(), dir, nil, node, "client.mjs", sdk, s.URL+"/mcp", client)
				if err != nil {
					t.Fatalf("%v: %s", err, output)
				}
				var got sequence
				lastLine(t, output, &got)
				got.check(t, way, client)
			})
		}
	}
}

// TestGoSDKs connects with SDKs for Go. They are in a module of their own.
func TestGoSDKs(t *testing.T) { //nolint:tparallel // its subtests share a server
	t.Parallel()
	program := filepath.Join(t.TempDir(), "gosdks.exe")
	module := filepath.Join("testdata", "gosdks")
	if output, err := run(t.Context(), module, nil, "go", "build", "-o", program, "."); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	id, certificate := document(t)
	s := start(t, clients, "SSL_CERT_FILE="+certificate)
	for _, sdk := range []string{"go-sdk", "mcp-go"} {
		for way, client := range connections(id) {
			t.Run(sdk+", "+way, func(t *testing.T) {
				output, err := exec.CommandContext(t.Context(), program, sdk, s.URL+"/mcp", client).CombinedOutput() // #nosec G204 -- built here
				if err != nil {
					t.Fatalf("%v: %s", err, output)
				}
				var got sequence
				lastLine(t, string(output), &got)
				got.check(t, way, client)
			})
		}
	}
}

// TestPythonSDK connects with the SDK for Python. It is in a directory of its own.
func TestPythonSDK(t *testing.T) { //nolint:tparallel // its subtests share a server
	t.Parallel()
	dir := t.TempDir()
	output, err := run(t.Context(), "testdata", nil, "python3", "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
		"--no-deps", "--only-binary", ":all:", "--target", dir, "--requirement", "requirements.txt")
	if err != nil {
		testneeds.Missing(t, "install python3 and python3-pip to run this test: "+err.Error()+"\n"+output)
	}
	id, certificate := document(t)
	s := start(t, clients, "SSL_CERT_FILE="+certificate)
	for way, client := range connections(id) {
		t.Run(way, func(t *testing.T) {
			output, err := run(t.Context(), "testdata", []string{"PYTHONPATH=" + dir, "PYTHONDONTWRITEBYTECODE=1"}, "python3", "client.py", s.URL+"/mcp", client)
			if err != nil {
				t.Fatalf("%v: %s", err, output)
			}
			var got sequence
			lastLine(t, output, &got)
			got.check(t, way, client)
		})
	}
}

// TestJavaSDK connects with the SDK for Java, as a program with a secret, behind which there is no person. What needs a scope that this client
// may not have is refused.
func TestJavaSDK(t *testing.T) {
	t.Parallel()
	program, err := integration.BuildJava(t, filepath.Join("testdata", "java"))
	if err != nil {
		testneeds.Missing(t, err.Error())
	}
	s := start(t, clients)
	output, err := program.Command(t.Context(), "Client", s.URL+"/mcp", "script", scriptSecret).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	var got struct {
		Read, Deleted, Asked string
		Tools                int
		Refused              bool
	}
	lastLine(t, string(output), &got)
	if want := "Order 7 belongs to ."; got.Read != want || got.Tools != 2 || got.Deleted != "" || !got.Refused {
		t.Errorf("got %+v, want %s", got, want)
	}
	if got.Asked != "orders:read, orders:write orders:read" {
		t.Errorf("the server asked for %s", got.Asked)
	}
}

// TestPrograms connects with programs that people use. They keep their tokens: alice is asked once for two calls.
func TestPrograms(t *testing.T) { //nolint:tparallel // its subtests share a server
	t.Parallel()
	node, dir := project(t)
	id, certificate := document(t)
	s := start(t, clients, "SSL_CERT_FILE="+certificate)
	for _, program := range []string{"inspector", "mcp-remote"} {
		for way, client := range connections(id) {
			t.Run(program+", "+way, func(t *testing.T) {
				port, env := integration.Port(integration.NewAddress(t)), []string{"KEEP=" + t.TempDir()}
				output, err := run(t.Context(), dir, env, node, "programs.mjs", program, s.URL+"/mcp", port, client)
				if err != nil {
					t.Fatalf("%v: %s", err, output)
				}
				var got struct {
					First, Second, Client string
					Asked                 int
				}
				lastLine(t, output, &got)
				const want = "Order 7 belongs to alice."
				if got.First != want || got.Second != want || got.Asked != 1 {
					t.Errorf("got %+v", got)
				}
				checkID(t, way, client, got.Client)
			})
		}
	}
}
