package caddyoauth_test

import (
	"bufio"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A login is shown step by step to somebody who watches, without secrets, codes and tokens, and over a reload.
func TestWatchALogin(t *testing.T) {
	s := runShop(t)
	issuer := s.url("shop.localhost")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "oauth", "watch", "--address", "127.0.0.1:"+s.admin)
	cmd.Env = append(os.Environ(), asCaddy+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	notes, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill() // it ends by a signal only
		_ = cmd.Wait()
	}()
	begun := bufio.NewScanner(notes)
	until := func(lines *bufio.Scanner, text string) (all string) {
		t.Helper()
		for lines.Scan() {
			if all += lines.Text() + "\n"; strings.Contains(lines.Text(), text) {
				return all
			}
		}
		t.Fatalf("expected %q after\n%s", text, all)
		return ""
	}
	until(begun, "Watching.")
	steps := bufio.NewScanner(out)
	login := func() {
		t.Helper()
		got := s.signIn(t, issuer)
		s.get(t, issuer+"/api", "Authorization", "Bearer "+got.AccessToken)
		s.get(t, issuer+"/api", "Authorization", "Bearer wrong-token")
		id := s.refused(t, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"stolen-token"}, "client_id": {"app"}, "client_secret": {"wrong-secret"}})
		shown := until(steps, "(caddy oauth explain "+id+")") + until(steps, "client_secret=(12 characters)")
		for _, want := range []string{
			`(?m)^\S+  authorize  client app  user alice: sends the browser back to the app with a code: ` + callback + `$`,
			`redirect_uri=` + callback,
			`(?m)^\S+  token  client app: gives tokens for authorization_code$`,
			`code=\(\d+ characters\)`,
			`(?m)^\S+  guard  client app  user alice: passes$`,
			`path=/api`,
			`(?m)^\S+  guard: refused: invalid_token, status 401 \(caddy oauth explain `,
			`(?m)^\S+  token  client app: refused: invalid_client, status 401`,
		} {
			expect(t, shown, want)
		}
		for _, secret := range []string{got.AccessToken, got.RefreshToken, "app-secret", "wrong-secret", "stolen-token", "wrong-token"} {
			if strings.Contains(shown, secret) {
				t.Errorf("the secret %s is in\n%s", secret, shown)
			}
		}
	}
	login()
	s.run(t, strings.Replace(shop, "scope orders", "scope orders\nscope more", 1), strings.Replace(shopSite, "respond", "oauth_guard /api\nrespond", 1))
	until(begun, "The configuration has changed.")
	until(begun, "Watching.")
	login()
}
