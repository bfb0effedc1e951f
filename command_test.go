package caddyoauth_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// command runs caddy oauth in a process of its own, and returns its output.
func (s *server) command(t *testing.T, stdin string, args ...string) (printed string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{"oauth"}, args...)...)
	cmd.Env = append(os.Environ(), asCaddy+"=1")
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String() + errs.String(), err
}

// must runs a command that uses the admin API and must succeed.
func (s *server) must(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	out, err := s.command(t, stdin, append(args, "--address", "127.0.0.1:"+s.admin)...)
	if err != nil {
		t.Fatalf("caddy oauth %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// expect fails the test unless the text matches.
func expect(t *testing.T, text, pattern string) {
	t.Helper()
	if !regexp.MustCompile(`(?m)` + pattern).MatchString(text) {
		t.Errorf("expected %s in\n%s", pattern, text)
	}
}

func TestCommandClients(t *testing.T) {
	s := runShop(t)
	added := s.must(t, `{"access_token": {"lifetime": "9m"}}`, "clients", "add", "stock", "--name", "Stock room",
		"--grant-type", "client_credentials", "--scope", "orders", "--audience", s.url("shop.localhost"), "--settings", "-")
	expect(t, added, `^access_token +\{"lifetime":540000000000\}$`)
	secret := regexp.MustCompile(`(?m)^New secret +(\w{43,})`).FindStringSubmatch(added)
	if secret == nil {
		t.Fatalf("no secret in\n%s", added)
	}
	token := s.script(t, secret[1]).AccessToken
	expect(t, s.must(t, "", "clients", "list"), `^stock +Stock room +store +enabled +client_credentials +orders$`)
	expect(t, s.must(t, "", "clients", "list"), `^app +- +config +enabled +authorization_code refresh_token +orders$`)

	var shown struct {
		ID   string `json:"client_id"`
		Name string `json:"name"`
	}
	out := s.must(t, "", "clients", "change", "stock", "--name", "\x1b[31mred", "--json")
	if err := json.Unmarshal([]byte(out), &shown); err != nil || shown.ID != "stock" || shown.Name != "\x1b[31mred" {
		t.Errorf("%v in %s", err, out)
	}
	expect(t, s.must(t, "", "clients", "show", "stock"), `^Name +\?\[31mred$`)

	expect(t, s.must(t, token+"\n", "token", "inspect", "--issuer", "default"), `^valid +yes, according to the issuer$`)
	expect(t, s.must(t, "", "clients", "disable", "stock"), `^Status +disabled$`)
	expect(t, s.must(t, token+"\n", "token", "inspect", "--issuer", "default"), `^valid +no, according to the issuer: revoked$`)
	expect(t, s.must(t, "", "clients", "enable", "stock"), `^Status +enabled$`)
	expect(t, s.must(t, "", "clients", "secret", "stock", "--grace", "1h"), `^Secret .* expires 2`)
	s.must(t, "", "clients", "delete", "stock")
	out, err := s.command(t, "", "clients", "show", "stock", "--address", "127.0.0.1:"+s.admin)
	if err == nil {
		t.Error("a deleted client is shown")
	}
	expect(t, out, `^Error: no such client$`)
}

func TestCommandKeysAndRevocation(t *testing.T) {
	s := runShop(t)
	issuer := s.url("shop.localhost")
	got := s.signIn(t, issuer)
	list := s.must(t, "", "keys", "list")
	expect(t, list, `^\w+ +ES256 +signing +(\d{4}-\S+ \S+ *){4}$`)
	expect(t, list, `^The key \w+ signs until 2\d{3}-`)
	expect(t, list, `A new key\s+takes\s+over\s+then`)
	list = s.must(t, "", "keys", "rotate")
	expect(t, list, `^\w+ +ES256 +next `)
	expect(t, list, `Then\s+\w+\s+takes\s+over`)
	kid := s.kidOf(t, got.AccessToken)
	if out := s.must(t, "", "keys", "retire", kid); strings.Contains(out, kid) {
		t.Errorf("the key is still there:\n%s", out)
	}
	got = s.refresh(t, issuer, got.RefreshToken)
	expect(t, s.must(t, got.AccessToken, "revoke", "--token"), `^Revoked the access token\.$`)
	expect(t, s.must(t, got.RefreshToken, "revoke", "--token"), `^Revoked the family of tokens\.$`)
	expect(t, s.must(t, got.RefreshToken, "revoke", "--token"), `^Nothing to revoke`)
	expect(t, s.must(t, "", "revoke", "--user", "alice", "--client", "app"), `^Revoked all tokens\.$`)
	expect(t, s.must(t, "", "stats"), `^token +authorization_code +ok +1$`)
	expect(t, s.must(t, "", "grants", "nobody"), `^CLIENT +SCOPES`)
}

func TestCommandHashSecret(t *testing.T) {
	s := new(server)
	for _, tt := range []struct{ algorithm, want string }{
		{"sha256", `^sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b$`},
		{"argon2id", `^\$argon2id\$`},
	} {
		out, err := s.command(t, "secret\n", "hash-secret", "--algorithm", tt.algorithm)
		if err != nil {
			t.Error(err)
		}
		expect(t, out, tt.want)
	}
	out, err := s.command(t, "\n", "hash-secret")
	if err == nil {
		t.Error("the hash of nothing")
	}
	expect(t, out, `expected a line on standard input`)
}

func TestCommandVersion(t *testing.T) {
	out, err := new(server).command(t, "", "version")
	if err != nil {
		t.Error(err)
	}
	expect(t, out, `^caddy-oauth +\S+`)
	expect(t, out, `^caddy +\S+`)
	expect(t, out, `^go +go1\.`)
}

func TestCommandTokenInspectAlone(t *testing.T) {
	s := new(server)
	// {"alg":"none"} . {"sub":"alice","exp":1700000000}
	out, err := s.command(t, "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6MTcwMDAwMDAwMH0.\n", "token", "inspect")
	if err != nil {
		t.Error(err)
	}
	expect(t, out, `^sub +alice$`)
	expect(t, out, `^exp +1700000000 \(2023-11-1`)
	expect(t, out, `^valid +unknown`)
	if out, err := s.command(t, "nonsense\n", "token", "inspect"); err == nil {
		t.Errorf("nonsense is a token: %s", out)
	}
}

func TestCommandHelpAndCompletion(t *testing.T) {
	s := runShop(t)
	out, err := s.command(t, "", "clients", "--help")
	if err != nil {
		t.Error(err)
	}
	for _, name := range []string{"list", "show", "add", "change", "secret", "disable", "enable", "delete"} {
		expect(t, out, `^  `+name+` +[A-Z]`)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "__complete", "oauth", "clients", "show", "--address", "127.0.0.1:"+s.admin, "")
	cmd.Env = append(os.Environ(), asCaddy+"=1")
	completed, err := cmd.Output()
	if err != nil {
		t.Error(err)
	}
	expect(t, string(completed), `^app$`)
}

func TestUnknownCommandIsAnError(t *testing.T) {
	s := new(server)
	for args, want := range map[string]string{
		"bogus":        `^Error: unknown command "bogus", expected one of: clients, `,
		"revoek":       `^Error: unknown command "revoek"; did you mean: \S+ oauth revoke$`,
		"keys rotaet":  `^Error: unknown command "rotaet"; did you mean: \S+ oauth keys rotate$`,
		"explain code": `accepts 1 arg`,
	} {
		out, err := s.command(t, "", strings.Fields(args)...)
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
			t.Errorf("%s: %v", args, err)
		}
		expect(t, out, want)
	}
	for _, args := range []string{"", "keys"} {
		if out, err := s.command(t, "", strings.Fields(args)...); err != nil || !strings.Contains(out, "Usage:") {
			t.Errorf("%q: %v\n%s", args, err, out)
		}
	}
}

func TestStoppedCaddyIsNamed(t *testing.T) {
	s := newServer(t)
	out, err := s.command(t, "", "keys", "list", "--address", "127.0.0.1:"+s.admin)
	if err == nil {
		t.Error("keys of no Caddy")
	}
	expect(t, out, `^Error: no Caddy answers at 127\.0\.0\.1:`+s.admin+`: is it running\?`)
}
