package caddyoauth_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-oauth/caddy-oauth"
	"github.com/caddy-oauth/caddy-oauth/internal/testport"
)

// server is Caddy in this process. There can be only one at a time.
type server struct {
	port, admin, dir string // ports and a directory of its own, for the storage and the log
}

// newServer returns a server without a configuration. It stops when the test is over.
func newServer(tb testing.TB) *server {
	tb.Helper()
	s := &server{port: testport.New(tb), admin: testport.New(tb), dir: tb.TempDir()} // all are free after the server was stopped
	tb.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// adapt returns the configuration of a Caddyfile, in which PORT is the port of the sites. Caddy does not clean its storage: that
// would go on for a while after it was stopped.
func (s *server) adapt(tb testing.TB, global, sites string) []byte {
	tb.Helper()
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(s.caddyfile(global, sites)), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return config
}

// caddyfile returns the text of a Caddyfile for this server.
func (s *server) caddyfile(global, sites string) string {
	text := `{
		admin 127.0.0.1:` + s.admin + `
		default_bind 127.0.0.1
		persist_config off
		storage file_system ` + filepath.Join(s.dir, "storage") + `
		storage_check off
		storage_clean_interval off
		log {
			output file ` + s.logFile() + `
			format json
			level DEBUG
		}
		` + global + `
	}
	` + sites
	return strings.ReplaceAll(text, "PORT", s.port)
}

// run loads the Caddyfile.
func (s *server) run(tb testing.TB, global, sites string) {
	tb.Helper()
	if err := caddy.Load(s.adapt(tb, global, sites), true); err != nil {
		tb.Fatal(err)
	}
}

// runJSON runs the sites of a Caddyfile twice. The second time, Caddy knows them as JSON only.
func (s *server) runJSON(t *testing.T, global, sites string) {
	t.Helper()
	config := s.adapt(t, global, sites)
	for range 2 {
		if err := caddy.Load(config, true); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *server) logFile() string { return filepath.Join(s.dir, "log.json") }

// withUnknownIssuer returns a configuration whose sites serve an issuer that is not there. Caddy refuses it when it starts it.
func withUnknownIssuer(config []byte) []byte {
	return bytes.ReplaceAll(config, []byte(`"handler":"oauth"`), []byte(`"handler":"oauth","issuer":"nobody"`))
}

// logged returns the log entries with this message.
func (s *server) logged(t *testing.T, message string) (entries []map[string]any) {
	t.Helper()
	return s.logEntries(t, func(entry map[string]any) bool { return entry["msg"] == message })
}

// errorsLogged returns how many errors are in the log.
func (s *server) errorsLogged(t *testing.T) int {
	t.Helper()
	return len(s.logEntries(t, func(entry map[string]any) bool { return entry["level"] == "error" }))
}

// logEntries returns the log entries for which wanted is true.
func (s *server) logEntries(t *testing.T, wanted func(entry map[string]any) bool) (entries []map[string]any) {
	t.Helper()
	log, err := os.ReadFile(s.logFile())
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(log) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // it is being written
		}
		var entry map[string]any
		if err := json.Unmarshal(line, &entry); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		if wanted(entry) {
			entries = append(entries, entry)
		}
	}
	return entries
}

// patience ends what hangs, and not what is slow because other programs keep the machine busy.
const patience = 2 * time.Minute

// eventually waits until the condition is true.
func eventually(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("expected %s", what)
		}
	}
}

// answer is a response that was read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request to the server, for whatever host the URL has. The header is a list of names and values.
func (s *server) do(tb testing.TB, method, target, contentType, body string, header ...string) answer {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), method, target, strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for ; len(header) > 0; header = header[2:] {
		req.Header.Set(header[0], header[1])
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+port)
		},
	}
	// When a reload closes a listener, connections that it has not accepted or read from yet are reset or closed. Nobody has seen
	// the request then.
	var resp *http.Response
	eventually(tb, method+" "+target+" to be answered", func() bool {
		req.Body = io.NopCloser(strings.NewReader(body))
		resp, err = transport.RoundTrip(req) //nolint:bodyclose // closed below
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			tb.Fatal(err)
		}
		return err == nil
	})
	defer resp.Body.Close()
	read, err := io.ReadAll(resp.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(read)}
}

func (s *server) get(t *testing.T, target string, header ...string) answer {
	t.Helper()
	return s.do(t, http.MethodGet, target, "", "", header...)
}

func (s *server) url(host string) string { return "http://" + host + ":" + s.port }

// askAdmin sends JSON to the admin API, and returns the answer.
func (s *server) askAdmin(t *testing.T, method, path, body string) answer {
	t.Helper()
	return s.do(t, method, "http://127.0.0.1:"+s.admin+path, "application/json", body)
}

const (
	callback = "https://app.example.com/callback"
	// shop is an issuer with a client that needs no consent of alice, who is always signed in.
	shop = `oauth {
		issuer http://shop.localhost:PORT {
			store memory
			scope orders
			` + shopClient + `
		}
	}`
	shopClient = `client app {
		secret app-secret
		redirect_uris ` + callback + `
		grant_types authorization_code refresh_token
		scopes orders
		consent never
	}`
	shopSite = `http://shop.localhost:PORT {
		vars person alice
		oauth {
			user {vars.person}
		}
		respond "the site's own"
	}`
)

// authorize asks the issuer at the URL for a code and returns the answer.
func (s *server) authorize(t *testing.T, issuer, redirectURI string, header ...string) answer {
	t.Helper()
	return s.get(t, issuer+"/oauth/authorize?"+url.Values{
		"response_type": {"code"}, "client_id": {"app"}, "redirect_uri": {redirectURI},
	}.Encode(), header...)
}

// tokens has the members of a token response that tests check.
type tokens struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	Error        string `json:"error"`
}

// signIn gets a code and exchanges it.
func (s *server) signIn(t *testing.T, issuer string, header ...string) tokens {
	t.Helper()
	answer := s.authorize(t, issuer, callback, header...)
	location, err := url.Parse(answer.header.Get("Location"))
	if err != nil || location.Query().Get("code") == "" {
		t.Fatalf("authorize: expected a code, got %d %v\n%s", answer.status, answer.header, answer.body)
	}
	got := s.token(t, issuer, url.Values{
		"grant_type": {"authorization_code"}, "code": {location.Query().Get("code")}, "redirect_uri": {callback},
	})
	if got.AccessToken == "" || got.RefreshToken == "" {
		t.Fatalf("expected an access token and a refresh token, got error %q", got.Error)
	}
	return got
}

func (s *server) refresh(t *testing.T, issuer, refreshToken string) tokens {
	t.Helper()
	return s.token(t, issuer, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refreshToken}})
}

func (s *server) token(t *testing.T, issuer string, form url.Values) (got tokens) {
	t.Helper()
	form.Set("client_id", "app")
	form.Set("client_secret", "app-secret")
	answer := s.do(t, http.MethodPost, issuer+"/oauth/token", "application/x-www-form-urlencoded", form.Encode())
	if err := json.Unmarshal([]byte(answer.body), &got); err != nil {
		t.Fatalf("token: %d %s: %v", answer.status, answer.body, err)
	}
	return got
}

// claims returns the claims of an access token.
func claims(t *testing.T, token string) (claims map[string]any) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("expected a JWT, got %q", token)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// asCaddy is the environment variable that makes the test binary run as the caddy command, with this module in it.
const asCaddy = "CADDY_OAUTH_TEST_AS_CADDY"

// asValidator makes it validate the Caddyfiles that its arguments name, one after the other.
const asValidator = "CADDY_OAUTH_TEST_AS_VALIDATOR"

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(asCaddy) != "":
		caddycmd.Main()
	case os.Getenv(asValidator) != "":
		for _, name := range os.Args[1:] {
			fmt.Fprintln(os.Stderr, outcomeOf(name, validateFile(name)))
		}
	default:
		// Parallel tests wait most of the time. The flag -parallel still decides.
		if err := flag.Set("test.parallel", "8"); err != nil {
			panic(err)
		}
		os.Exit(m.Run())
	}
}
