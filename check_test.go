package caddyoauth_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// found is what `caddy oauth check --json` prints.
type found struct {
	Findings []struct{ Verdict, Check, Issuer, Client, Seen, Why, Paste string }
}

// check runs caddy oauth check, and returns what it found and its exit status.
func (s *server) check(t *testing.T, args ...string) (found, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{"oauth", "check", "--json"}, args...)...)
	cmd.Env = append(os.Environ(), asCaddy+"=1")
	out, err := cmd.Output()
	exit, failed := errors.AsType[*exec.ExitError](err)
	if err != nil && !failed {
		t.Fatal(err)
	}
	var report found
	if err := json.Unmarshal(out, &report); err != nil && (!failed || exit.ExitCode() != 2) {
		t.Fatalf("%v: %s", err, out)
	}
	if failed {
		return report, exit.ExitCode()
	}
	return report, 0
}

// has reports whether there is a finding with this verdict and text.
func (f *found) has(verdict, text string) bool {
	for _, finding := range f.Findings {
		if finding.Verdict == verdict && strings.Contains(finding.Check+": "+finding.Seen, text) {
			return true
		}
	}
	return false
}

func TestExamplesPassTheCheck(t *testing.T) {
	s := new(server)
	for _, name := range examples(t) {
		if name == "examples/more-than-one-machine.Caddyfile" {
			continue // this program has no Redis store
		}
		report, status := s.check(t, "--offline", "--config", name)
		if status != 0 || report.has("fail", "") || len(report.Findings) == 0 {
			t.Errorf("%s: status %d, %+v", name, status, report)
		}
	}
}

// writeCaddyfile writes a Caddyfile that this server can run, and returns its name.
func (s *server) writeCaddyfile(t *testing.T, global, sites string) string {
	t.Helper()
	name := filepath.Join(s.dir, "Caddyfile")
	text := strings.ReplaceAll("{\nadmin 127.0.0.1:"+s.admin+"\nstorage file_system "+filepath.Join(s.dir, "storage")+"\n"+global+"\n}\n"+sites, "PORT", s.port)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

const (
	checked = `oauth {
		issuer http://127.0.0.1:PORT {
			scope orders "your orders"
			client app {
				redirect_uris https://app.example/cb
				grant_types authorization_code refresh_token
				scopes orders
			}
			client job {
				secret ` + "only-for-this-test-0123456789abcdef" + `
				grant_types client_credentials
				scopes orders
			}
			client api {
				secret ` + "only-for-this-test-0123456789abcdef" + `
				grant_types client_credentials
				introspects https://api.example
			}
		}
	}`
	checkedSite = `http://127.0.0.1:PORT {
		oauth {
			login {
				basic_auth {
					alice $2a$10$hZXuaFeiO.l1vqgnMGGKpuPhIxvCXsaCdzm6ECT1UgOJ9mL03gniC
				}
			}
		}
		oauth_guard /api/* {
			scopes orders
		}
		respond ok
	}`
)

func TestCheckARunningSite(t *testing.T) {
	s := newServer(t)
	file := s.writeCaddyfile(t, checked, checkedSite)
	report, status := s.check(t, "--config", file)
	if status != 0 || !report.has("not checked", "nobody answers at http://127.0.0.1:"+s.port) {
		t.Errorf("before it runs: status %d, %+v", status, report)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "storage")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the check has left something in the storage: %v", err)
	}

	s.run(t, checked, checkedSite)
	report, status = s.check(t, "--config", file)
	for _, want := range []string{
		"config: Caddy loads", "addresses: Caddy sees this machine as 127.0.0.1", "served: ", "metadata: ", "keys: 1 public", "cors: ", "404: ", "guard /api/*: it refuses requests without a token",
		"as a browser app: it would connect, finds the endpoints, gets to the login dialog of the browser, and is refused with a code",
		"as a script: it would connect", "as an API that introspects: it would connect",
	} {
		if !report.has("ok", want) {
			t.Errorf("expected %q to be ok: %+v", want, report)
		}
	}
	if status != 0 || report.has("fail", "") || report.has("not checked", "") {
		t.Errorf("status %d, %+v", status, report)
	}
	if text, _ := json.Marshal(report); strings.Contains(string(text), "only-for-this-test") {
		t.Errorf("a secret is in %s", text)
	}
	if _, status := s.check(t, "--config", file, "--fail-on", "warn"); status != 1 {
		t.Errorf("with a warning, as it is on this machine, --fail-on warn has the status %d", status)
	}
	report, status = s.check(t, "--url", "http://127.0.0.1:"+s.port)
	if status != 0 || !report.has("ok", "metadata") {
		t.Errorf("by its URL: status %d, %+v", status, report)
	}
	report, _ = s.check(t, "--config", file, "--client", "job")
	if report.has("ok", "as a browser app") || !report.has("ok", "as a script") {
		t.Errorf("one client: %+v", report)
	}
	for _, args := range [][]string{{"--config", "/nonexistent"}, {"--config", file, "--issuer", "nobody"}, {"--config", file, "--fail-on", "x"}, {"--config", file, "--from-outside", "nowhere"}} {
		if _, status := s.check(t, args...); status != 2 {
			t.Errorf("%v: status %d", args, status)
		}
	}
}

// With the headers of somebody who is signed in, the check goes on from the login: to the consent page, the tokens, and the guards.
func TestCheckAsAPerson(t *testing.T) {
	s := newServer(t)
	file := s.writeCaddyfile(t, checked, checkedSite)
	s.run(t, checked, checkedSite)
	headers := func(text string) string {
		t.Helper()
		return write(t, t.TempDir(), "headers", text)
	}
	report, status := s.check(t, "--config", file, "--as-user", headers("Authorization: "+aliceCredentials+"\n\nAccept-Language: de\n"))
	const all = "as a browser app: it would connect, finds the endpoints, gets to the login dialog of the browser, and is refused with a code that nobody issued; " +
		"as a person, gets to the consent page, and with it a code, gets its tokens, gets past the guard /api/* (status 200); the tokens are revoked again"
	if status != 0 || !report.has("ok", all) {
		t.Errorf("status %d, %+v", status, report)
	}
	text, _ := json.Marshal(report)
	if strings.Contains(string(text), aliceCredentials) || strings.Contains(string(text), "eyJ") {
		t.Errorf("a secret is in %s", text)
	}
	if revoked := s.logEntries(t, func(e map[string]any) bool { return e["event"] == "revoked" && e["sub"] == "alice" }); len(revoked) == 0 {
		t.Error("the log has no revocation")
	}
	// She is remembered, so there is no consent page the second time.
	if report, _ = s.check(t, "--config", file, "--client", "app", "--as-user", headers("Authorization: "+aliceCredentials)); !report.has("ok", "as a person, gets to a code, gets its tokens") {
		t.Errorf("the second time: %+v", report)
	}

	report, status = s.check(t, "--config", file, "--as-user", headers("Authorization: Basic YWxpY2U6d3Jvbmc="))
	if status != 1 || !report.has("fail", "as a browser app: it stops at the login: the headers of --as-user do not sign anybody in: /oauth/authorize answers with status 401") {
		t.Errorf("with a wrong password: status %d, %+v", status, report)
	}
	for _, text := range []string{"", "nothing", "a b: c", "Cookie: a\x00b"} {
		if _, status := s.check(t, "--config", file, "--as-user", headers(text)); status != 2 {
			t.Errorf("%q: status %d", text, status)
		}
	}

	// A guard that needs a better login than the site has.
	sites := strings.Replace(checkedSite, "oauth_guard /api/*", "oauth_guard /safe/* {\nacr gold\n}\noauth_guard /api/*", 1)
	file = s.writeCaddyfile(t, checked, sites)
	s.run(t, checked, sites)
	report, status = s.check(t, "--config", file, "--as-user", headers("Authorization: "+aliceCredentials))
	if status != 1 || !report.has("fail", "as a browser app: it stops at the guard /safe/*: http://127.0.0.1:"+s.port+"/safe/caddy-oauth-check answers with status 401 to its token") {
		t.Errorf("with a guard that lets nobody in: status %d, %+v", status, report)
	}
}

// A login that a stranger can forge, and a guard that is not in effect.
func TestCheckFindsWhatIsOpen(t *testing.T) {
	s := newServer(t)
	start, end := strings.Index(checkedSite, "login {"), strings.Index(checkedSite, "oauth_guard")
	site := checkedSite[:start] + "user {header.Remote-User}\n}\n" + checkedSite[end:]
	file := s.writeCaddyfile(t, checked, site)
	s.run(t, checked, strings.Replace(site, "oauth_guard /api/*", "oauth_guard /other/*", 1))
	report, status := s.check(t, "--config", file)
	for _, want := range []string{
		"as a browser app: it stops at the login: a request that brings the login's header itself is signed in",
		"guard /api/*: http://127.0.0.1:" + s.port + "/api/caddy-oauth-check answers with status 200 to a request without a token",
	} {
		if !report.has("fail", want) {
			t.Errorf("expected to fail: %s\n%+v", want, report)
		}
	}
	if status != 1 || !report.has("warning", "every browser can forge it") {
		t.Errorf("status %d, %+v", status, report)
	}
}

func TestCheckABrokenConfiguration(t *testing.T) {
	s := newServer(t)
	for text, want := range map[string]string{
		"{\n\toauth {\n\t\tissuer http://x {\n\t\t}\n\t}\n}\n":                                               "expected",
		"{\n\toauth {\n\t\tissuer https://x.example {\n\t\t}\n\t}\n}\n:" + s.port + " {\n\toauth staff\n}\n": "staff",
		"{\n\toauth {\n\t\tissuer https://x.example {\n\t\t\tclient a {\n\t\t\t\tsecret {env.OAUTH_NOT_SET}\n\t\t\t\tgrant_types client_credentials\n\t\t\t}\n\t\t}\n\t}\n}\n:" + s.port + " {\n\toauth\n}\n": "OAUTH_NOT_SET",
	} {
		name := filepath.Join(s.dir, "Caddyfile")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		report, status := s.check(t, "--offline", "--config", name)
		verdict := "fail"
		if want == "OAUTH_NOT_SET" { // Caddy may have the variable
			verdict = "not checked"
		}
		if !report.has(verdict, want) || (verdict == "fail") != (status == 1) {
			t.Errorf("%s: status %d, %+v", text, status, report)
		}
	}
}
