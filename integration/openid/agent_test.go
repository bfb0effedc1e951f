package openid

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/internal/testneeds"
)

// deviceSite has a command line tool that signs people in on another device, and an API.
const deviceSite = `
{$SITE} {
	oauth {$ISSUER} {
		login {
			forward_auth {$LOGIN} {
				uri /whoami
			}
		}
		user {rp.header.Remote-User}
		openid
		client agent {
			grant_types device_code refresh_token
			scopes openid profile offline_access
		}
	}
	oauth_guard /api/*
	respond /api/* "orders of {http.auth.user.id}"
	respond "the site"
}
`

// TestOIDCAgent has oidc-agent, which keeps tokens for command line tools as ssh-agent keeps keys, get them with the device flow
// (RFC 8628), renew them, and revoke them.
func TestOIDCAgent(t *testing.T) {
	t.Parallel()
	agent, gen, token := testneeds.Program(t, "oidc-agent", "oidc-agent-cli"), testneeds.Program(t, "oidc-gen", "oidc-agent-cli"), testneeds.Program(t, "oidc-token", "oidc-agent-cli")
	s := serve(t, deviceSite)
	home := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(home, ".config", "oidc-agent"), 0o700))
	socket := filepath.Join(home, "agent")
	ctx, cancel := context.WithTimeout(t.Context(), integration.Patience)
	defer cancel()
	command := func(program string, args ...string) *exec.Cmd {
		c := exec.CommandContext(ctx, program, args...)
		c.Env = append(os.Environ(), "HOME="+home, "OIDC_SOCK="+socket, "OIDC_ENCRYPTION_PW=of the test")
		return c
	}
	running := command(agent, "--console", "--quiet", "--socket-path="+socket)
	must(t, running.Start())
	t.Cleanup(func() {
		_ = running.Process.Kill() // it may have exited
		_ = running.Wait()
	})
	integration.Eventually(t, "oidc-agent", func() bool {
		_, err := os.Stat(socket)
		return err == nil
	})

	signIn := command(gen, "--flow=device", "--issuer="+s.URL, "--client-id=agent", "--client-secret=", "--scope=openid profile offline_access",
		"--prompt=none", "--confirm-default", "--pw-env", "--no-url-call", "orders")
	printed, err := signIn.StdoutPipe()
	must(t, err)
	signIn.Stderr = signIn.Stdout
	must(t, signIn.Start())
	code, output := userCode(t, printed)
	newAlice(t, s, integration.Password).Connect(t, s.URL+"/oauth/device", code)
	rest, err := io.ReadAll(output)
	must(t, err)
	if err := signIn.Wait(); err != nil {
		t.Fatalf("oidc-gen: %v\n%s", err, rest)
	}

	renewed := ""
	for range 2 {
		text, err := command(token, "--force-new", "orders").Output()
		must(t, err)
		access := strings.TrimSpace(string(text))
		if access == "" || access == renewed {
			t.Fatalf("oidc-token prints %q", text)
		}
		renewed = access
		s.Secrets.Add(access)
		if status, _ := s.CallAPI(t, access); status != http.StatusOK {
			t.Errorf("the API answers %d", status)
		}
	}
	text, err := command(gen, "--delete", "--pw-env", "--confirm-yes", "orders").CombinedOutput()
	if err != nil {
		t.Fatalf("oidc-gen --delete: %v\n%s", err, text)
	}
	if status, _ := s.CallAPI(t, renewed); status != http.StatusUnauthorized {
		t.Errorf("after the account was deleted, the API answers %d", status)
	}
}

// userCode reads what oidc-gen prints until it has the code that a person must type, and returns the rest.
func userCode(t *testing.T, printed io.Reader) (code string, rest io.Reader) {
	t.Helper()
	wanted := regexp.MustCompile(`enter the code: (\S+)`)
	lines := bufio.NewReader(printed)
	var seen strings.Builder
	for {
		line, err := lines.ReadString('\n')
		seen.WriteString(line)
		if found := wanted.FindStringSubmatch(line); found != nil {
			return found[1], lines
		}
		if err != nil {
			t.Fatalf("oidc-gen shows no code: %v\n%s", err, seen.String())
		}
	}
}
