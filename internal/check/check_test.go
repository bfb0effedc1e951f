package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// fakeSite is a site with an issuer, as the checks see it. Each field that is set breaks something.
type fakeSite struct {
	everything200  bool // a page for whatever is asked
	otherIssuer    bool
	signedIn       bool // everybody
	believesHeader bool // Remote-User
	noLogin        bool
	loginGone      bool
	noCORS         bool
	weakKey        bool
	privateKey     bool
	openGuard      bool
	guardBelieves  bool // whatever token comes
	noScopes       bool
	wrongClock     bool

	url     string
	secrets []string // what came in requests
}

func (s *fakeSite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.wrongClock {
		w.Header().Set("Date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
	}
	if s.everything200 {
		fmt.Fprint(w, "<html>")
		return
	}
	if !s.noCORS {
		w.Header().Set("Access-Control-Allow-Origin", "*")
	}
	_ = r.ParseForm()
	if r.Form.Has("client_secret") || r.Header.Get("Authorization") != "" && !strings.Contains(r.Header.Get("Authorization"), "made-up") {
		s.secrets = append(s.secrets, r.URL.Path)
	}
	refuse := func(status int, code string) {
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"error":%q}`, code)
	}
	switch r.URL.Path {
	case "/.well-known/oauth-authorization-server":
		issuer, scopes := s.url, "orders"
		if s.otherIssuer {
			issuer = "https://other.example"
		}
		if s.noScopes {
			scopes = "other"
		}
		fmt.Fprintf(w, `{"issuer":%q,"authorization_endpoint":"%[2]s/authorize","token_endpoint":"%[2]s/token","jwks_uri":"%[2]s/jwks",
			"introspection_endpoint":"%[2]s/introspect","scopes_supported":[%[3]q],
			"grant_types_supported":["authorization_code","refresh_token","client_credentials","urn:ietf:params:oauth:grant-type:device_code"]}`, issuer, s.url, scopes)
	case "/jwks":
		switch {
		case s.weakKey:
			fmt.Fprint(w, `{"keys":[{"kty":"RSA","kid":"weak","n":"`+strings.Repeat("A", 100)+`9"}]}`)
		case s.privateKey:
			fmt.Fprint(w, `{"keys":[{"kty":"EC","kid":"leak","d":"secret"}]}`)
		default:
			fmt.Fprint(w, `{"keys":[{"kty":"EC","kid":"a"}]}`)
		}
	case "/authorize":
		switch {
		case s.signedIn || s.believesHeader && r.Header.Get("Remote-User") != "":
			fmt.Fprint(w, `<button name="decision" value="allow">`)
		case s.noLogin:
			refuse(http.StatusUnauthorized, "login_required")
		default:
			http.Redirect(w, r, "/login?next="+url.QueryEscape(r.URL.String()), http.StatusSeeOther)
		}
	case "/login":
		if s.loginGone {
			http.NotFound(w, r)
		}
	case "/token":
		if r.Method == http.MethodPost {
			refuse(http.StatusBadRequest, "invalid_grant")
		}
	case "/introspect":
		refuse(http.StatusUnauthorized, "invalid_client")
	case "/api/caddy-oauth-check":
		token := r.Header.Get("Authorization") != ""
		if s.openGuard || s.guardBelieves && token {
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer resource_metadata="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	default:
		http.NotFound(w, r)
	}
}

const fakeConfig = `{"apps": {
	"oauth": {"issuers": {"shop": {"url": "URL", "scopes": [{"name": "orders", "description": "see orders"}], "clients": {
		"app": {"redirect_uris": ["https://app.example/cb"], "grant_types": ["authorization_code", "refresh_token", "device_code"], "scopes": ["orders"]},
		"job": {"secrets": ["top-secret-value"], "grant_types": ["client_credentials"]},
		"api": {"secrets": ["top-secret-value"], "introspects": ["https://api.example"]}
	}}}},
	"http": {"servers": {"s": {"routes": [
		{"handle": [{"handler": "oauth", "issuer": "shop", "user": "{http.reverse_proxy.header.Remote-User}"}]},
		{"match": [{"path": ["/api/*"]}], "handle": [{"handler": "oauth_guard", "issuer": "shop"}]}
	]}}}
}}`

func TestClientsWithoutGrantTypes(t *testing.T) {
	for settings, want := range map[string]string{
		`{"secrets": ["x"]}`: "[client_credentials]",
		`{"secrets": ["x"], "redirect_uris": ["https://a.example"]}`:   "[authorization_code refresh_token]",
		`{"secrets": ["x"], "introspects": ["https://api.example"]}`:   "[]",
		`{"secrets": ["x"], "revokes_users": {"email": true}}`:         "[]",
		`{"secrets": ["x"], "ends_sessions": true}`:                    "[]",
		`{"redirect_uris": [], "grant_types": ["authorization_code"]}`: "[authorization_code]",
	} {
		var c client
		if err := json.Unmarshal([]byte(settings), &c); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(c.grantTypes()); got != want {
			t.Errorf("%s: %s, want %s", settings, got, want)
		}
	}
}

func TestLiveChecks(t *testing.T) {
	for _, tt := range []struct {
		name    string
		site    fakeSite
		verdict Verdict
		seen    string // in the finding with that verdict
	}{
		{"all is well", fakeSite{}, OK, "gets to the login page http://127.0.0.1:"},
		{"no metadata", fakeSite{everything200: true}, Fail, "no metadata"},
		{"other issuer", fakeSite{otherIssuer: true}, Fail, "names the issuer https://other.example"},
		{"everybody is signed in", fakeSite{signedIn: true}, Fail, "sent no cookie"},
		{"forged header", fakeSite{believesHeader: true}, Fail, "brings the login's header itself"},
		{"no login", fakeSite{noLogin: true}, Fail, "shows no login"},
		{"login page is gone", fakeSite{loginGone: true}, Fail, "/login answers with status 404"},
		{"no CORS", fakeSite{noCORS: true}, Fail, "scripts of other origins cannot call"},
		{"weak key", fakeSite{weakKey: true}, Fail, "the RSA key weak has"},
		{"private key", fakeSite{privateKey: true}, Fail, "with its private part"},
		{"open guard", fakeSite{openGuard: true}, Fail, "status 200 to a request without a token"},
		{"guard believes every token", fakeSite{guardBelieves: true}, Fail, "a token that nobody issued"},
		{"another configuration runs", fakeSite{noScopes: true}, Fail, "does not have its scope orders"},
		{"clock", fakeSite{wrongClock: true}, Warning, "differ by 1h"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(&tt.site)
			defer server.Close()
			tt.site.url = server.URL
			checker := &Checker{Config: []byte(strings.ReplaceAll(fakeConfig, "URL", server.URL))}
			report, err := checker.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, f := range report.Findings {
				found = found || f.Verdict == tt.verdict && strings.Contains(f.Seen, tt.seen)
				if (f.Verdict == Fail || f.Verdict == Warning) && f.Why == "" {
					t.Errorf("%s: nothing says why it matters", f.Seen)
				}
				if text := fmt.Sprint(f); strings.Contains(text, "top-secret-value") {
					t.Errorf("a secret is in %s", text)
				}
			}
			worst := report.Worst()
			if tt.verdict == OK { // but that it is this machine
				worst = OK
				for _, f := range report.Findings {
					if f.Verdict != OK && f.Check != "url" {
						t.Errorf("%+v", f)
					}
				}
			}
			if !found || worst != tt.verdict {
				t.Errorf("expected %s with %q, worst is %s:\n%+v", tt.verdict, tt.seen, report.Worst(), report.Findings)
			}
			if len(tt.site.secrets) > 0 {
				t.Errorf("secrets were sent to %v", tt.site.secrets)
			}
		})
	}
}

// find returns the first finding with this text.
func (r *Report) find(seen string) *Finding {
	for i := range r.Findings {
		if strings.Contains(r.Findings[i].Seen, seen) {
			return &r.Findings[i]
		}
	}
	return nil
}

// What stands before Caddy, and whether Caddy believes the addresses that requests say they come from.
func TestAddresses(t *testing.T) {
	for _, tt := range []struct {
		name    string
		via     string
		trusts  string // trusted_proxies of the configuration
		own     string // as Caddy sees this machine
		forged  string // as Caddy sees it with a forged header
		err     error
		verdict Verdict
		seen    string
	}{
		{name: "well", own: "127.0.0.1", forged: "127.0.0.1", verdict: OK, seen: "does not believe"},
		{name: "everybody is believed", own: "198.51.100.2", forged: strangerAddress, verdict: Fail, seen: "believes whatever X-Forwarded-For says"},
		{name: "this machine is a proxy", own: "127.0.0.1", forged: strangerAddress, verdict: NotChecked, seen: "takes this machine, 127.0.0.1, for a trusted proxy"},
		{name: "no admin API", err: errors.New("nobody answers"), verdict: NotChecked, seen: "nobody answers"},
		{name: "unknown proxy", own: "127.0.0.1", forged: "127.0.0.1", via: "1.1 cache", verdict: Warning, seen: "no server has trusted_proxies"},
		{name: "known proxy", own: "127.0.0.1", forged: "127.0.0.1", via: "1.1 cache", trusts: `"trusted_proxies": {"source": "static", "ranges": ["192.0.2.1"]}, `, verdict: OK, seen: "trusted_proxies is set"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			site := new(fakeSite)
			noted := make(map[string]string)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if tt.via != "" {
					w.Header().Set("Via", tt.via)
				}
				if r.Method == http.MethodGet && r.URL.Path == "/token" {
					id, address := fmt.Sprint("id", len(noted)), tt.own
					if r.Header.Get("X-Forwarded-For") != "" {
						address = tt.forged
					}
					noted[id] = address
					w.WriteHeader(http.StatusMethodNotAllowed)
					fmt.Fprintf(w, `{"error_id":%q}`, id)
					return
				}
				site.ServeHTTP(w, r)
			}))
			defer server.Close()
			site.url = server.URL
			config := strings.Replace(strings.ReplaceAll(fakeConfig, "URL", server.URL), `"routes"`, tt.trusts+`"routes"`, 1)
			checker := &Checker{Config: []byte(config), Noted: func(id string) (string, error) { return noted[id], tt.err }}
			report, err := checker.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if f := report.find(tt.seen); f == nil || f.Verdict != tt.verdict {
				t.Errorf("expected %s: %s, got %+v", tt.verdict, tt.seen, report.Findings)
			}
		})
	}
}

// An upstream that answers past Caddy needs no token.
func TestUpstreamPastCaddy(t *testing.T) {
	open := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer open.Close()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for _, tt := range []struct {
		name, dial string
		own        []string
		outside    bool
		verdict    Verdict
		seen       string
	}{
		{"listens on all addresses", open.Listener.Addr().String(), []string{"127.0.0.1"}, false, Warning, "past Caddy and its guard"},
		{"listens on loopback", closed.Listener.Addr().String(), []string{"127.0.0.1"}, false, OK, "does not answer past Caddy"},
		{"is elsewhere", "app.example:8080", nil, false, NotChecked, "whether others than Caddy reach the upstream app.example:8080"},
		{"answers others", "app.example:8080", nil, true, Warning, "past Caddy and its guard"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			site := new(fakeSite)
			server := httptest.NewServer(site)
			defer server.Close()
			site.url = server.URL
			config := strings.Replace(strings.ReplaceAll(fakeConfig, "URL", server.URL), `{"handler": "oauth_guard"`, `{"handler": "reverse_proxy", "upstreams": [{"dial": "`+tt.dial+`"}]}, {"handler": "oauth_guard"`, 1)
			checker := &Checker{Config: []byte(config), OwnAddresses: func() []string { return tt.own }}
			if tt.outside { // the proxy knows both hosts
				proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Host != "app.example:8080" {
						site.ServeHTTP(w, r)
					}
				}))
				defer proxy.Close()
				checker.Outside, _ = url.Parse(proxy.URL)
				config = strings.ReplaceAll(config, server.URL, "http://shop.example")
				site.url = "http://shop.example"
				checker.Config = []byte(config)
			}
			report, err := checker.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if f := report.find(tt.seen); f == nil || f.Verdict != tt.verdict {
				t.Errorf("expected %s: %s, got %+v", tt.verdict, tt.seen, report.Findings)
			}
		})
	}
}

func TestNobodyAnswers(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	report, err := (&Checker{Config: []byte(strings.ReplaceAll(fakeConfig, "URL", server.URL))}).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	last := report.Findings[len(report.Findings)-1]
	if last.Verdict != NotChecked || last.Check != "site" || report.Worst() == Fail {
		t.Errorf("%+v", report.Findings)
	}
}

// A certificate that only this machine trusts is a failure, and what comes after it is checked nevertheless.
func TestCertificateOfNobody(t *testing.T) {
	site := new(fakeSite)
	server := httptest.NewUnstartedServer(site)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // the first handshake fails
	server.StartTLS()
	defer server.Close()
	site.url = server.URL
	report, err := (&Checker{URLs: []string{server.URL}}).Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	checks := make(map[string]Verdict)
	for _, f := range report.Findings {
		checks[f.Check] = f.Verdict
	}
	if checks["certificate"] != Fail || checks["keys"] != OK {
		t.Errorf("%v", checks)
	}
}

func TestStaticChecks(t *testing.T) {
	const issuer = `"url": "https://shop.example", "scopes": [{"name": "orders", "description": "x"}]`
	config := func(admin, issuer, route string) string {
		if route == "" {
			route = `{"match": [{"host": ["shop.example"]}], "handle": [{"handler": "subroute", "routes": [{"handle": [{"handler": "oauth"}]}]}]}`
		}
		return `{"admin": {"listen": "` + admin + `"}, "apps": {"oauth": {"issuers": {"shop": {` + issuer + `}}}, "http": {"servers": {"s": {"routes": [` + route + `]}}}}}`
	}
	client := func(settings string) string { return config("", issuer+`, "clients": {"app": {`+settings+`}}`, "") }
	guard := func(settings string) string {
		return config("", issuer, `{"handle": [{"handler": "oauth"}, {"handler": "oauth_guard"`+settings+`}]}`)
	}
	for _, tt := range []struct {
		name, config string
		verdict      Verdict
		seen         string
	}{
		{"well", config("", issuer, ""), OK, "the settings of the issuer"},
		{"admin for everybody", config("0.0.0.0:2019", issuer, ""), Fail, "admin API listens on 0.0.0.0:2019"},
		{"admin on loopback", config("127.0.0.1:2019", issuer, ""), OK, ""},
		{"nobody serves it", config("", issuer, `{"handle": []}`), Fail, "no site serves https://shop.example"},
		{"another host", config("", issuer, `{"match": [{"host": ["www.shop.example"]}], "handle": [{"handler": "oauth"}]}`), Fail, "has another host"},
		{"this machine", config("", `"url": "http://localhost:8080"`, `{"handle": [{"handler": "oauth"}]}`), Warning, "is this machine"},
		{"memory", config("", issuer+`, "store": {"store": "memory"}`, ""), Warning, "store memory"},
		{"read-only", config("", issuer+`, "read_only": true`, ""), Warning, "read-only"},
		{"no throttle", config("", issuer+`, "throttle": {"off": true}`, ""), Warning, "throttle off"},
		{"HS256", config("", issuer+`, "signing": {"algorithm": "HS256"}`, ""), Warning, "shared secret"},
		{"minimal", config("", issuer+`, "access_token": {"claims": "minimal"}`, ""), Warning, "no audience"},
		{"password", config("", issuer+`, "grants": {"password": {}}`, ""), Warning, "grant password"},
		{"scope without words", config("", `"url": "https://shop.example", "scopes": [{"name": "orders"}]`, ""), Warning, "orders has no words"},
		{"insecure redirects", client(`"allow_insecure_redirects": true, "redirect_uris": ["a:b"]`), Warning, "may be insecure"},
		{"iss off", client(`"iss": "off", "redirect_uris": ["https://a.example"]`), Warning, "iss off"},
		{"rotate never", client(`"refresh_token": {"rotate": "never"}, "redirect_uris": ["https://a.example"]`), Warning, "never changes"},
		{"introspects all", client(`"introspects": ["*"], "secrets": ["x"]`), Warning, "every API"},
		{"revokes users", client(`"revokes_users": {"email": true}, "secrets": ["x"]`), OK, ""},
		{"long access token", config("", issuer+`, "access_token": {"lifetime": 90000000000000}`, ""), Warning, "longer than a day"},
		{"a day", config("", issuer+`, "access_token": {"lifetime": 86400000000000}`, ""), OK, ""},
		{"refresh tokens for ever", config("", issuer+`, "refresh_token": {"rotate": "never", "lifetime": "never"}`, ""), Warning, "never change and never end"},
		{"Redis in clear", config("", issuer+`, "store": {"store": "redis", "addresses": ["redis.example:6379"]}`, ""), Warning, "not encrypted"},
		{"Redis here", config("", issuer+`, "store": {"store": "redis", "addresses": ["127.0.0.1:6379"]}`, ""), OK, ""},
		{"a matcher", config("", issuer, `{"match": [{"path": ["/oauth/*"]}], "handle": [{"handler": "oauth"}]}`), Warning, "for the paths /oauth/* only"},
		{"PKCE", client(`"pkce": "optional", "secrets": ["x"], "redirect_uris": ["https://a.example"]`), Warning, "without PKCE"},
		{"nobody is asked", client(`"consent": "never", "redirect_uris": ["https://a.example"]`), Warning, "nobody is asked"},
		{"localhost", client(`"redirect_uris": ["http://localhost/"]`), Warning, "the name localhost"},
		{"useless client", client(``), Warning, "can do nothing"},
		{"no refresh", client(`"redirect_uris": ["https://a.example"], "grant_types": ["authorization_code"]`), Warning, "no refresh token"},
		{"token passes on", guard(`, "authorization": "pass"`), Warning, "authorization pass"},
		{"machines", guard(`, "machines": "as_user"`), Warning, "as_user"},
		{"JWT", guard(`, "types": ["JWT"]`), Warning, "types JWT"},
		{"header", guard(`, "token_header": "X-Token"`), Warning, "X-Token"},
		{"one path", guard(`, "match": [{"path": ["/api"]}]`), Warning, "nothing below it"},
		{"path and all below", guard(`, "match": [{"path": ["/api", "/api/*"]}]`), OK, ""},
		{
			"an issuer that its handler brings", `{"apps": {"http": {"servers": {"s": {"routes": [{"handle": [{"handler": "oauth", "settings": {` +
				issuer + `, "read_only": true}}]}]}}}}}`, Warning, "read-only",
		},
	} {
		report, err := (&Checker{Config: []byte(tt.config), Offline: true}).Run(t.Context())
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		found := false
		for _, f := range report.Findings {
			found = found || f.Verdict == tt.verdict && strings.Contains(f.Seen, tt.seen)
			if (f.Verdict == Fail || f.Verdict == Warning) && (f.Why == "" || f.Paste == "") {
				t.Errorf("%s: expected why it matters, and what to paste: %+v", tt.name, f)
			}
		}
		if !found || report.Worst() != tt.verdict {
			t.Errorf("%s: expected %s with %q:\n%+v", tt.name, tt.verdict, tt.seen, report.Findings)
		}
	}
	const proxy = `{"handler": "reverse_proxy", "upstreams": [{"dial": "app:8080"}]}`
	guarded := `{"match": [{"host": ["shop.example"]}], "handle": [{"handler": "oauth"}, {"handler": "oauth_guard", "match": [{"path": ["/api/*"]}]}, ` + proxy + `]}`
	// policy adds what the server does about certificates.
	policy := func(config, auth string) string {
		return strings.Replace(config, `{"s": {`, `{"s": {"tls_connection_policies": [{"client_authentication": {`+auth+`}}], `, 1)
	}
	const certified, ownCert = `"tls_client_auth_san_dns": "app.example"`, `"self_signed_tls_client_auth": {"certificate_files": ["a.pem"]}`
	forHost := func(name string) string {
		return strings.Replace(policy(client(certified), `"ca": {"provider": "file"}`), `"client_authentication"`, `"match": {"sni": ["`+name+`"]}, "client_authentication"`, 1)
	}
	behind := config("", issuer+`, "client_cert_header": "unverified", "clients": {"app": {`+ownCert+`}}`, "")
	for name, tt := range map[string]struct {
		config string
		seen   string
	}{
		"certificates are not asked for":         {client(certified), "no site checks TLS certificates"},
		"certificates are not checked":           {policy(client(certified), `"mode": "request"`), "no site checks TLS certificates"},
		"certificates are checked":               {policy(client(certified), `"ca": {"provider": "file"}`), ""},
		"certificates are checked there":         {forHost("shop.example"), ""},
		"certificates are checked elsewhere":     {forHost("other.example"), "no site checks TLS certificates"},
		"certificates of all CAs":                {policy(client(certified), `"mode": "verify_if_given"`), "a site trusts the certificates of all CAs"},
		"own certificates are refused":           {policy(client(ownCert), `"mode": "verify_if_given", "ca": {"provider": "file"}`), "no site takes TLS certificates that are of no CA"},
		"own certificates are asked for":         {policy(client(ownCert), `"mode": "request"`), ""},
		"tokens are bound, and nobody asks":      {client(`"secrets": ["x"], "tls_client_certificate_bound_access_tokens": true`), "no site asks for TLS certificates"},
		"a header of a proxy that nobody trusts": {behind, "Client-Cert headers (client_cert_header) are ignored"},
		"a header of a proxy that is trusted":    {strings.Replace(behind, `{"s": {`, `{"s": {"trusted_proxies": {"source": "static", "ranges": ["10.0.0.5/32"]}, `, 1), ""},

		"a header of any container": {
			strings.Replace(strings.Replace(behind, "unverified", "verified", 1), `{"s": {`, `{"s": {"trusted_proxies": {"source": "static", "ranges": ["172.16.0.0/12", "fd00::/8", "10.0.0.5/32"]}, `, 1),
			"everybody in a private network is believed who sends Client-Cert (172.16.0.0/12 fd00::/8)",
		},
		"a header of any container, of unverified certificates": {
			strings.Replace(behind, `{"s": {`, `{"s": {"trusted_proxies": {"source": "static", "ranges": ["172.16.0.0/12"]}, `, 1), "",
		},

		"another site without a guard": {config("", issuer, guarded+`, {"match": [{"host": ["old.example"]}], "handle": [`+proxy+`]}`), "the site old.example passes requests to app:8080 without a guard"},
		"one site":                     {config("", issuer, guarded), ""},
		"a login":                      {config("", issuer, guarded+`, {"match": [{"host": ["x.example"]}], "handle": [`+strings.Replace(proxy, `{`, `{"rewrite": {"method": "GET"}, `, 1)+`]}`), ""},
		"everybody is a proxy":         {strings.Replace(config("", issuer, ""), `{"s": {`, `{"s": {"trusted_proxies": {"source": "static", "ranges": ["0.0.0.0/0"]}, `, 1), "everybody is a trusted proxy"},
	} {
		report, err := (&Checker{Config: []byte(tt.config), Offline: true}).Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if found := report.find(tt.seen); (report.Worst() != OK) != (tt.seen != "") || found == nil {
			t.Errorf("%s: %+v", name, report.Findings)
		}
	}
	for _, bad := range []string{`[]`, `{"apps": {}}`} {
		if _, err := (&Checker{Config: []byte(bad), Offline: true}).Run(t.Context()); err == nil {
			t.Errorf("no error for %s", bad)
		}
	}
}
