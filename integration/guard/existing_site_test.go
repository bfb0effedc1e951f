package guard

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/oauth2"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// startSite runs examples/site until the test ends, and returns its address.
func startSite(t *testing.T) string {
	t.Helper()
	address := integration.NewAddress(t)
	site := exec.CommandContext(t.Context(), integration.Build(t, "./examples/site"), address)
	must(t, site.Start())
	t.Cleanup(func() {
		_ = site.Process.Kill() // it may have exited
		_ = site.Wait()         // the error says that it was killed
	})
	client := &http.Client{Timeout: integration.Patience}
	integration.Eventually(t, "the site", func() bool {
		resp, err := client.Get("http://" + address) //nolint:noctx // the client has a timeout
		return err == nil && resp.Body.Close() == nil
	})
	return address
}

// existingSite runs examples/existing-site.Caddyfile before examples/site.
func existingSite(t *testing.T) *integration.Server {
	t.Helper()
	address := startSite(t)
	text, err := os.ReadFile(filepath.Join("..", "..", "examples", "existing-site.Caddyfile"))
	must(t, err)
	s := integration.Start(t, integration.Config{Caddyfile: func(s *integration.Server) string {
		return "{\n\tadmin {$ADMIN}\n\tpersist_config off\n\tstorage file_system {$STORAGE}\n\tlog {\n\t\toutput stderr\n\t\tformat json\n\t}\n}\n" +
			strings.NewReplacer("localhost:8081", "localhost:"+integration.Port(s.Address), "127.0.0.1:9000", address).Replace(string(text))
	}})
	s.URL = "http://localhost:" + integration.Port(s.Address)
	s.Secrets.Add("wonderland")
	return s
}

// reply is a response whose body was read.
type reply struct {
	Status     string
	StatusCode int
	Location   string
}

func send(t *testing.T, client *http.Client, method, target string, form url.Values, header ...string) (reply, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(form.Encode()))
	must(t, err)
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for ; len(header) > 0; header = header[2:] {
		req.Header.Add(header[0], header[1])
	}
	resp, err := client.Do(req)
	must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	got := reply{Status: resp.Status, StatusCode: resp.StatusCode}
	if to, err := resp.Location(); err == nil {
		got.Location = to.String()
	}
	return got, string(text)
}

// The steps of docs/guides/existing-site.md: sign in at the site, allow the app, call the API, revoke the token.
func TestExistingSite(t *testing.T) {
	s := existingSite(t)
	browser := s.Client(t)
	jar, err := cookiejar.New(nil)
	must(t, err)
	browser.Jar = jar

	verifier := oauth2.GenerateVerifier()
	s.Secrets.Add(verifier)
	ask := s.URL + "/oauth/authorize?" + url.Values{
		"response_type": {"code"}, "client_id": {"shop-app"}, "redirect_uri": {"http://127.0.0.1:8090/callback"}, "state": {"xyz"},
		"code_challenge": {oauth2.S256ChallengeFromVerifier(verifier)}, "code_challenge_method": {"S256"},
	}.Encode()
	resp, _ := send(t, browser, http.MethodGet, ask, nil)
	login, err := url.Parse(resp.Location)
	must(t, err)
	if login.Path != "/login" || !strings.HasPrefix(login.Query().Get("return_to"), "/oauth/authorize?") {
		t.Fatalf("without a login, the browser is redirected to %s", login)
	}
	resp, _ = send(t, browser, http.MethodPost, s.URL+"/login", url.Values{
		"user": {"alice"}, "password": {"wonderland"}, "return_to": {login.Query().Get("return_to")},
	})
	_, page := send(t, browser, http.MethodGet, resp.Location, nil)
	sealed := regexp.MustCompile(`name="request" value="([^"]+)"`).FindStringSubmatch(page)
	if sealed == nil || !strings.Contains(page, "shop-app") || !strings.Contains(page, "your orders") {
		t.Fatalf("the consent page is %s", page)
	}
	resp, _ = send(t, browser, http.MethodPost, s.URL+"/oauth/authorize", url.Values{"request": {sealed[1]}, "decision": {"allow"}})
	app, err := url.Parse(resp.Location)
	must(t, err)

	client := s.Client(t)
	resp, text := send(t, client, http.MethodPost, s.URL+"/oauth/token", url.Values{
		"grant_type": {"authorization_code"}, "client_id": {"shop-app"}, "redirect_uri": {"http://127.0.0.1:8090/callback"},
		"code": {app.Query().Get("code")}, "code_verifier": {verifier},
	})
	var tokens struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
	}
	if err := json.Unmarshal([]byte(text), &tokens); err != nil || tokens.Refresh == "" {
		t.Fatalf("%s %s", resp.Status, text)
	}
	api := s.URL + "/api/orders"
	if resp, text := send(t, client, http.MethodGet, api, nil, "Authorization", "Bearer "+tokens.Access, "X-User", "root"); !strings.Contains(text, "The orders of alice") {
		t.Errorf("with the token: %s %s", resp.Status, text)
	}
	if resp, text := send(t, client, http.MethodGet, api, nil, "X-User", "root"); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without: %s %s", resp.Status, text)
	}
	if _, text := send(t, browser, http.MethodGet, s.URL+"/", nil); text != "Hello, alice!\n" {
		t.Errorf("the site itself: %s", text)
	}
	send(t, client, http.MethodPost, s.URL+"/oauth/revoke", url.Values{"client_id": {"shop-app"}, "token": {tokens.Refresh}})
	if resp, _ := send(t, client, http.MethodGet, api, nil, "Authorization", "Bearer "+tokens.Access); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("after the revocation: %s", resp.Status)
	}
}

// A browser that forges the header of the site's answer is not signed in.
func TestForgedRemoteUser(t *testing.T) {
	s := existingSite(t)
	ask := s.URL + "/oauth/authorize?response_type=code&client_id=shop-app&redirect_uri=http://127.0.0.1:8090/callback" +
		"&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256"
	for _, header := range [][]string{
		{"Remote-User", "alice"},
		{"remote-user", "alice", "Remote-User", "alice"},
		{"Remote_User", "alice"},
		{"X-Forwarded-User", "alice", "X-Remote-User", "alice"},
		{"Remote-User", "alice", "Connection", "Remote-User"},
		{"Cookie", "session=alice"},
		{"X-Forwarded-Uri", "/login", "X-Forwarded-Method", "POST", "Remote-User", "alice"},
	} {
		resp, page := send(t, s.Client(t), http.MethodGet, ask, nil, header...)
		if to := resp.Location; resp.StatusCode != http.StatusSeeOther || !strings.HasPrefix(to, s.URL+"/login?") {
			t.Errorf("%v: %s %s %s", header, resp.Status, to, page)
		}
	}
}
