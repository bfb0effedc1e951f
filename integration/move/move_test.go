package move

import (
	"bytes"
	"context"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// setup is a configuration with a store: settings of the issuer, and the storage of Caddy.
type setup struct{ name, settings, storage string }

var (
	files = setup{"files", "", "{$STORAGE}"}
	other = setup{"other files, encrypted", "encryption_key {env.OAUTH_KEY}", "{$STORAGE}-2"}
)

const (
	key      = "Zm9yIHRoaXMgdGVzdCwgYW5kIGFzIGxvbmcgYXMgaXQgbXVzdCBiZQ=="
	otherKey = "YW5vdGhlciBrZXkgZm9yIHRoaXMgdGVzdCBvbmx5LCBubyBtb3Jl"
)

// readOnly returns the setups with a read-only issuer.
func readOnly(setups []setup) (all []setup) {
	for _, p := range setups {
		all = append(all, setup{p.readOnly(), p.settings + "\nread_only", p.storage})
	}
	return all
}

// readOnly returns the name of the setup with a read-only issuer.
func (p setup) readOnly() string { return p.name + ", read-only" }

// mover is a server whose store moves.
type mover struct {
	*integration.Server
	t     *testing.T
	files map[string]string // Caddyfiles by the name of the setup
}

func start(t *testing.T, setups ...setup) *mover {
	t.Helper()
	m := &mover{t: t, files: map[string]string{}}
	dir := t.TempDir()
	for _, p := range slices.Concat(setups, readOnly(setups)) {
		shop := integration.ShopWith("refresh_token {\n retry 2m\n }\n" + p.settings)
		text := `{
	admin {$ADMIN}
	persist_config off
	auto_https off
	storage file_system ` + p.storage + `
	log {
		output stderr
		format json
		level DEBUG
	}
` + shop.Global + "}\n" + shop.Sites
		// bob has the same password as alice.
		text = regexp.MustCompile(`(?m)^\s*alice (\S+)$`).ReplaceAllString(text, "alice $1\nbob $1")
		name := filepath.Join(dir, strings.ReplaceAll(p.name, " ", "-")+".Caddyfile")
		must(t, os.WriteFile(name, []byte(text), 0o600))
		m.files[p.name] = name
	}
	config := integration.Shop()
	config.Env = append(config.Env, "OAUTH_KEY="+key, "OAUTH_KEY_2="+otherKey)
	config.Secrets.Add(key, otherKey)
	config.Leaky = true // The access log has 503 as an error, see checkLog.
	config.Caddyfile = func(*integration.Server) string {
		text, err := os.ReadFile(m.files[setups[0].name])
		must(t, err)
		return string(text)
	}
	m.Server = integration.Start(t, config)
	return m
}

// checkLog reports secrets, panics, data races and errors in the log, except requests that got 503, which are errors in the access
// log.
func (m *mover) checkLog() {
	m.t.Helper()
	log := m.Log()
	for _, leak := range m.Secrets.In(log) {
		m.t.Errorf("a secret is in the log: %s", leak)
	}
	for line := range bytes.Lines(log) {
		for _, bad := range []string{"DATA RACE", "panic", `"level":"error"`, `"level":"fatal"`, "family revoked"} {
			if bytes.Contains(line, []byte(bad)) && !bytes.Contains(line, []byte(`"status":503,`)) {
				m.t.Errorf("an error in the log: %s", line)
			}
		}
	}
}

func (m *mover) oauth(args ...string) string {
	m.t.Helper()
	return m.Do(m.t, append([]string{"oauth"}, append(args, "--address", m.Admin)...)...)
}

// copyTo copies the records to the store of a setup, as docs/operate/backup.md says.
func (m *mover) copyTo(p setup) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 2*integration.Patience)
	defer cancel()
	printed, err := m.Pipe(ctx,
		[]string{"oauth", "export", "--address", m.Admin},
		[]string{"oauth", "import", "--config", m.files[p.name], "--adapter", "caddyfile"})
	if err != nil {
		m.t.Fatalf("export | import: %v\n%s", err, printed)
	}
	m.t.Log(printed)
}

func (m *mover) reload(name string) {
	m.t.Helper()
	m.Do(m.t, "reload", "--config", m.files[name], "--adapter", "caddyfile", "--address", m.Admin)
}

// move moves the server from one store to another.
func (m *mover) move(from, to setup, meanwhile func()) {
	m.t.Helper()
	m.copyTo(to)
	meanwhile()
	began := time.Now()
	m.reload(from.readOnly())
	m.copyTo(to)
	m.reload(to.name)
	m.t.Logf("to %s: the issuer was read-only for at most %s", to.name, time.Since(began).Round(time.Millisecond))
}

// Clients refresh all the time while the server moves to other stores and back. None of them is logged out, and tokens that were
// revoked between the copies stay revoked.
func TestMoveUnderLoad(t *testing.T) {
	t.Parallel()
	redis := setup{"Redis", integration.StartRedis(t).Store(), "{$STORAGE}"}
	m := start(t, files, other, redis)
	load := begin(t, m.Server, 10)
	load.goOn(t)
	kid := m.oauth("keys", "list", "--json")

	revoked := m.NewTokens(t)
	m.approve(t, "bob")
	from := files
	for _, p := range []setup{redis, files, other, files} {
		m.move(from, p, func() {
			load.goOn(t) // so that the copy is outdated
			m.revoke(t, revoked.RefreshToken)
			m.oauth("revoke", "--user", "bob")
		})
		load.goOn(t)
		m.refused(t, revoked.RefreshToken)
		if grants := m.oauth("grants", "bob"); strings.Contains(grants, "app") {
			t.Errorf("%s: a removed consent is back:\n%s", p.name, grants)
		}
		m.approve(t, "bob")
		if now := m.oauth("keys", "list", "--json"); now != kid {
			t.Errorf("%s: the keys are\n%s\nwant\n%s", p.name, now, kid)
		}
		revoked, from = m.NewTokens(t), p
	}
	load.end()
	for _, one := range load.all {
		one.check(t)
	}
	if load.refusals() == 0 {
		t.Error("no request got 503, so the issuer was never read-only")
	}
	m.checkLog()
	if n := grep(t, m.Storage+"-2/oauth", integration.Customer); n > 0 {
		t.Errorf("%d records of the encrypted store contain the customer in clear", n)
	}
	if n := grep(t, m.Storage+"/oauth", integration.Customer); n == 0 {
		t.Error("no record of the plain store contains the customer")
	}
}

func (m *mover) approve(t *testing.T, name string) {
	t.Helper()
	person := &integration.Person{Name: name, Password: integration.Password, Browser: m.Client(t)}
	verifier := oauth2.GenerateVerifier()
	if person.Allow(t, m.AppClient().AuthCodeURL("a-state", oauth2.S256ChallengeOption(verifier))).Get("code") == "" {
		t.Fatalf("the authorization response for %s has no code", name)
	}
	if grants := m.oauth("grants", name); !strings.Contains(grants, "app") {
		t.Errorf("the grants of %s lack the client:\n%s", name, grants)
	}
}

func (m *mover) revoke(t *testing.T, token string) {
	t.Helper()
	resp, err := m.Client(t).PostForm(m.URL+"/oauth/revoke", url.Values{"client_id": {"app"}, "token": {token}}) //nolint:noctx // the client has a timeout
	must(t, err)
	if resp.Body.Close(); resp.StatusCode != http.StatusOK {
		t.Fatalf("a revocation: %d", resp.StatusCode)
	}
}

func (m *mover) refused(t *testing.T, refreshToken string) {
	t.Helper()
	answer, err := integration.Post(t.Context(), m.Client(t), m.TokenURL(), integration.RefreshRequest("app", refreshToken))
	must(t, err)
	if !answer.Refused("invalid_grant") {
		t.Errorf("a revoked refresh token: %d %s, want 400 invalid_grant", answer.Status, answer.Error)
	}
}

// grep returns how many files contain a text.
func grep(t *testing.T, dir, text string) (n int) {
	t.Helper()
	root := os.DirFS(dir)
	must(t, fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(root, name)
		if bytes.Contains(content, []byte(text)) {
			n++
		}
		return err
	}))
	return n
}
