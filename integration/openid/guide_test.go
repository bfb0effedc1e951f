package openid

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/internal/testneeds"
)

const (
	siteGuide         = "openid.md"
	applicationsGuide = "openid-applications.md"
)

func guide(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "guides", name))
	must(t, err)
	return strings.ReplaceAll(string(text), "\r\n", "\n")
}

// snippet returns the first block of a language in the section of a guide with a heading; "" is its beginning.
func snippet(t *testing.T, name, heading, language string) string {
	t.Helper()
	text := guide(t, name)
	if heading != "" {
		_, text, _ = strings.Cut(text, "\n## "+heading+"\n")
	}
	text, _, _ = strings.Cut(text, "\n## ")
	block := regexp.MustCompile("(?s)```" + language + "\n(.*?)```").FindStringSubmatch(text)
	if block == nil {
		t.Fatalf("%s has no block of %s about %q", name, language, heading)
	}
	return block[1]
}

var (
	wiki        = "https://wiki.example.com"
	onlyClient  = regexp.MustCompile(`(?ms)^\t\tclient .*?^\t\t}\n`)
	clientBlock = regexp.MustCompile("(?s)```caddyfile-part\n(client .*?)```")
	variable    = regexp.MustCompile(`\{env\.\w+\}`)
	application = regexp.MustCompile(`https://\w+\.example\.com`)
)

// guideSite is the site of the guide, with what it knows of a login, and all clients of the other guide. Only its addresses and secrets are
// others: an application that learns of logouts is at a URL of the test.
func guideSite(t *testing.T, app, appURL string) *integration.Server {
	t.Helper()
	var clients strings.Builder
	for _, block := range clientBlock.FindAllStringSubmatch(guide(t, applicationsGuide), -1) {
		clients.WriteString(block[1])
	}
	const sid = "sid {rp.header.Remote-Session}\n" // which stands beside the page for signing out in another section
	session := snippet(t, siteGuide, "What your site knows of the login", "caddyfile-part")
	if !strings.Contains(session, sid) {
		t.Fatalf("no %q in %s", sid, session)
	}
	clients.WriteString(strings.Replace(session, sid, sid+"logout /logout return_to\n", 1))
	text := snippet(t, siteGuide, "", "caddyfile")
	if n := len(onlyClient.FindAllString(text, -1)); n != 1 {
		t.Fatalf("%s has %d clients, want one", siteGuide, n)
	}
	text = onlyClient.ReplaceAllLiteralString(text, strings.ReplaceAll(clients.String(), app, appURL))
	text = strings.NewReplacer("oauth https://example.com", "oauth {$ISSUER}", "example.com {", "{$SITE} {", "app:8080", "{$LOGIN}").
		Replace(application.ReplaceAllString(text, "http://127.0.0.1"))
	return serve(t, variable.ReplaceAllString(text, "{env.CLIENT_SECRET}"))
}

// settings returns the settings of an application in the guide, for the issuer and the application at these URLs.
func settings(t *testing.T, s *integration.Server, heading, language, appURL string, more ...string) string {
	t.Helper()
	text := application.ReplaceAllString(snippet(t, applicationsGuide, heading, language), appURL)
	return strings.NewReplacer(append([]string{"https://example.com", s.URL}, more...)...).Replace(text)
}

// backend is what stands behind a proxy. It answers with headers of the request, as they are named.
func backend(t *testing.T, names ...string) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, name := range names {
			_, _ = fmt.Fprintf(w, "%s=%s\n", name, strings.Join(r.Header[name], ";"))
		}
	}))
	t.Cleanup(server.Close)
	return server
}

// wants compares the last page of an application with what it should be.
func wants(t *testing.T, page *integration.Page, want string) {
	t.Helper()
	if page.Status != http.StatusOK || page.Text != want {
		t.Errorf("%s: got %d and\n%s\nwant\n%s", page.URL, page.Status, page.Text, want)
	}
}

// TestGuide signs alice in at applications with the settings of the guide.
func TestGuide(t *testing.T) {
	t.Parallel()
	wikiAddress := integration.NewAddress(t)
	s := guideSite(t, wiki, "http://"+wikiAddress)
	t.Run("oauth2-proxy", func(t *testing.T) { oauth2Proxy(t, s) })
	t.Run("mod_auth_openidc", func(t *testing.T) { modAuthOpenIDC(t, s, wikiAddress) })
	t.Run("next-auth", func(t *testing.T) { nextAuth(t, s) })
}

func oauth2Proxy(t *testing.T, s *integration.Server) {
	t.Helper()
	proxy := tool(t, "oauth2-proxy")
	app := backend(t, "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Preferred-Username")
	address := integration.NewAddress(t)
	config := filepath.Join(t.TempDir(), "oauth2-proxy.cfg")
	must(t, os.WriteFile(config, []byte(settings(t, s, "oauth2-proxy", "toml", "http://"+address,
		"127.0.0.1:4180", address, "http://127.0.0.1:8080", app.URL)), 0o600))
	command := exec.CommandContext(t.Context(), proxy, "--config", config, "--cookie-secure=false")
	command.Env = append(os.Environ(), "OAUTH2_PROXY_CLIENT_SECRET="+secret, "OAUTH2_PROXY_COOKIE_SECRET="+secret)
	runs(t, "http://"+address+"/ping", command)
	wants(t, signIn(t, s, "http://"+address+"/"), `X-Forwarded-User=alice
X-Forwarded-Email=alice@example.com
X-Forwarded-Groups=admins,staff
X-Forwarded-Preferred-Username=alice
`)
}

// apache is the configuration around the lines of the guide.
const apache = `
ServerRoot %[1]q
ServerName 127.0.0.1
Listen %[2]s
PidFile apache.pid
DefaultRuntimeDir .
ErrorLog /dev/stderr
LogLevel warn
%[3]s
LoadModule mpm_event_module %[4]s/mod_mpm_event.so
LoadModule authn_core_module %[4]s/mod_authn_core.so
LoadModule authz_core_module %[4]s/mod_authz_core.so
LoadModule authz_user_module %[4]s/mod_authz_user.so
LoadModule proxy_module %[4]s/mod_proxy.so
LoadModule proxy_http_module %[4]s/mod_proxy_http.so
LoadModule auth_openidc_module %[4]s/mod_auth_openidc.so
ProxyPass / %[5]s/
%[6]s
`

func modAuthOpenIDC(t *testing.T, s *integration.Server, address string) {
	t.Helper()
	const modules = "/usr/lib/apache2/modules"
	apache2 := testneeds.Program(t, "apache2", "apache2-bin")
	if _, err := os.Stat(modules + "/mod_auth_openidc.so"); err != nil {
		testneeds.Missing(t, "install libapache2-mod-auth-openidc to run this test")
	}
	account := "" // Apache does not serve as root
	if current, err := user.Current(); err == nil && current.Uid == "0" {
		account = "User www-data\nGroup www-data"
	}
	app := backend(t, "Oidc_claim_sub", "Oidc_claim_email", "Oidc_claim_groups")
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "apache.conf"), fmt.Appendf(nil, apache, dir, address, account, modules, app.URL,
		settings(t, s, "mod_auth_openidc", "apache", "http://"+address)), 0o600))
	command := exec.CommandContext(t.Context(), apache2, "-X", "-f", filepath.Join(dir, "apache.conf"))
	command.Env = append(os.Environ(), "WIKI_SECRET="+secret, "WIKI_PASSPHRASE="+secret)
	runs(t, "http://"+address+"/", command)
	const text = `Oidc_claim_sub=alice
Oidc_claim_email=alice@example.com
Oidc_claim_groups=admins,staff
`
	signedIn := func() *integration.Person {
		alice := newAlice(t, s, integration.Password)
		page, err := alice.SignIn(t.Context(), "http://"+address+"/", s.URL)
		must(t, err)
		wants(t, page, text)
		return alice
	}
	open := func(alice *integration.Person, path string) *integration.Page {
		browser := *alice
		browser.Name = "" // the password is not for Apache
		return browser.Open(t, "http://"+address+path)
	}

	// She signs out at the application.
	alice := signedIn()
	bye := "http://" + address + "/bye"
	page, err := alice.SignIn(t.Context(), "http://"+address+"/oidc/callback?logout="+url.QueryEscape(bye), s.URL)
	must(t, err)
	if page.URL.String() != bye {
		t.Errorf("signing out ends at %s: %d\n%s", page.URL, page.Status, page.Text)
	}

	// The site ends her session, and the application learns of it.
	alice = signedIn()
	wants(t, open(alice, "/"), text)
	s.Do(t, "oauth", "sessions", "end", "session-of-alice", "--address", s.Admin)
	integration.Eventually(t, "the application to end its session", func() bool {
		return strings.HasPrefix(open(alice, "/").Location, s.URL+"/oauth/authorize")
	})
}

// nextServer calls the page of the guide as Next.js does.
const nextServer = `
import express from 'express'
import page from './page.mjs'

const app = express()
app.use(express.urlencoded({ extended: false }))
app.all('/api/auth/*nextauth', (req, res) => {
  const query = { ...req.query, nextauth: req.params.nextauth }
  Object.defineProperty(req, 'query', { value: query })
  req.cookies = Object.fromEntries((req.headers.cookie ?? '').split('; ').map((c) => c.split(/=(.*)/s).slice(0, 2).map(decodeURIComponent)))
  return page(req, res)
})
app.get('/', (req, res) => res.redirect('/api/auth/session'))
app.listen(new URL(process.env.NEXTAUTH_URL).port, '127.0.0.1')
`

func nextAuth(t *testing.T, s *integration.Server) {
	t.Helper()
	node, dir := project(t)
	appURL := "http://" + integration.NewAddress(t)
	page := settings(t, s, "next-auth", "js", appURL,
		"import NextAuth from 'next-auth'", "import module from 'next-auth'\nconst NextAuth = module.default // as Next.js reads it")
	must(t, os.WriteFile(filepath.Join(dir, "page.mjs"), []byte(page), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "next.mjs"), []byte(nextServer), 0o600))
	server := exec.CommandContext(t.Context(), node, "next.mjs")
	server.Dir = dir
	server.Env = append(os.Environ(), "NEXTAUTH_URL="+appURL, "NEXTAUTH_SECRET="+secret, "NEXT_SECRET="+secret)
	runs(t, appURL, server)
	session := signIn(t, s, appURL+"/api/auth/signin")
	if !strings.Contains(session.Text, `"user":{"name":"Alice Liddell","email":"alice@example.com"}`) {
		t.Errorf("%s: got %d and\n%s", session.URL, session.Status, session.Text)
	}
}

// tool builds a program that has a file in the directory tools, and returns its path.
func tool(t *testing.T, name string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "tool", "-modfile=tools/"+name+".mod", "-n", name)
	command.Dir = filepath.Join("..", "..")
	output, err := command.Output()
	if err != nil {
		testneeds.Missing(t, "Go cannot build "+name+": "+err.Error())
	}
	return strings.TrimSpace(string(output))
}
