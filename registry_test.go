package caddyoauth_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/internal/testport"
)

const aliceIsSignedIn = "login {\nvars person alice\n}\nuser {vars.person}"

// A site defines its issuer in place. It is called by the host and the port of its URL in the storage, the admin API, the metrics
// and the commands.
func TestIssuerOfASite(t *testing.T) {
	s := newServer(t)
	site := strings.Replace(oneBlock(aliceIsSignedIn), "store memory", "store caddy", 1)
	site = strings.Replace(site, "respond", "oauth_guard /api {\nscopes orders\n}\nrespond", 1)
	s.run(t, "metrics", site)
	issuer, name := s.url("shop.localhost"), "shop.localhost-"+s.port
	kid, got := s.kid(t, issuer), s.signIn(t, issuer)
	api := func() int { return s.get(t, issuer+"/api", "Authorization", "Bearer "+got.AccessToken).status }
	if status := api(); status != http.StatusOK {
		t.Errorf("the guard answers %d", status)
	}
	if status := s.get(t, issuer+"/api").status; status != http.StatusUnauthorized {
		t.Errorf("without a token, the guard answers %d", status)
	}

	s.run(t, "metrics", strings.Replace(site, "scope orders", `scope orders "your orders"`, 1))
	if after := s.kid(t, issuer); after != kid {
		t.Errorf("after a reload the key is %s, expected %s", after, kid)
	}
	if got = s.refresh(t, issuer, got.RefreshToken); got.AccessToken == "" {
		t.Errorf("after a reload a refresh gives %+v", got)
	}
	if answer := s.askAdmin(t, http.MethodGet, "/oauth", ""); strings.TrimSpace(answer.body) != `[{"name":"`+name+`","url":"`+issuer+`"}]` {
		t.Errorf("the issuers are %s", answer.body)
	}
	labels := `{endpoint="token",grant_type="refresh_token",issuer="` + name + `",result="ok"}`
	eventually(t, labels+" in the metrics", func() bool {
		return strings.Contains(s.askAdmin(t, http.MethodGet, "/metrics", "").body, "caddy_oauth_requests_total"+labels)
	})
	if found, err := os.ReadDir(filepath.Join(s.dir, "storage", "oauth")); err != nil || len(found) != 1 || found[0].Name() != strings.ReplaceAll(name, ".", "=2e") {
		t.Errorf("the storage has %v, expected %s: %v", found, name, err)
	}
	expect(t, s.must(t, "", "clients", "list"), `^app +- +config +enabled +authorization_code refresh_token +orders$`)
	s.must(t, "", "revoke", "--user", "alice")
	if status := api(); status != http.StatusUnauthorized {
		t.Errorf("after the revocation, the guard answers %d", status)
	}

	dump, config := filepath.Join(t.TempDir(), "dump"), filepath.Join(t.TempDir(), "Caddyfile")
	s.must(t, "", "export", "--file", dump)
	other := "{\nstorage file_system " + t.TempDir() + "\n}\n" + strings.ReplaceAll(site, "PORT", s.port)
	if err := os.WriteFile(config, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := s.command(t, "", "import", "--file", dump, "--config", config)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	expect(t, out, `^Imported \d+ records into issuer `+name+`: [1-9]\d* written`)
}

// Guards may stand before the site that defines their issuer: Caddy provisions the sites of a server in the order of their hosts, and
// servers in any order.
func TestGuardsThatComeBeforeTheirIssuer(t *testing.T) {
	for _, guard := range []string{"oauth_guard shop", "oauth_guard http://shop.localhost:PORT {\naudience http://shop.localhost:PORT\n}", "oauth_guard"} {
		t.Run(strings.Fields(guard + " -")[1], func(t *testing.T) {
			s := newServer(t)
			other := testport.New(t)
			site := strings.Replace(oneBlock(aliceIsSignedIn), "oauth http", "oauth shop http", 1)
			s.run(t, "", site+"\nhttp://longer.shop.localhost:PORT {\n"+guard+"\nrespond \"behind the guard\"\n}\n"+
				"http://:"+other+" {\n"+guard+"\nrespond \"behind the guard\"\n}")
			token := s.signIn(t, s.url("shop.localhost")).AccessToken
			for _, behind := range []string{s.url("longer.shop.localhost"), "http://127.0.0.1:" + other} {
				if answer := s.get(t, behind, "Authorization", "Bearer "+token); answer.body != "behind the guard" {
					t.Errorf("%s: with a token: %d %v", behind, answer.status, answer.header)
				}
				if answer := s.get(t, behind); answer.status != http.StatusUnauthorized {
					t.Errorf("%s: without a token: %d", behind, answer.status)
				}
			}
		})
	}
}

// A guard without a name is for the issuer of its site.
func TestGuardsOfSeveralSites(t *testing.T) {
	s := newServer(t)
	site := strings.Replace(oneBlock(aliceIsSignedIn), "respond", "oauth_guard /api\nrespond", 1)
	s.run(t, "", site+"\n"+strings.ReplaceAll(site, "shop.localhost", "other.localhost"))
	for _, host := range []string{"shop.localhost", "other.localhost"} {
		token := s.signIn(t, s.url(host)).AccessToken
		for _, asked := range []string{"shop.localhost", "other.localhost"} {
			answer := s.get(t, s.url(asked)+"/api", "Authorization", "Bearer "+token)
			if passed := answer.status == http.StatusOK; passed != (asked == host) {
				t.Errorf("a token of %s at %s: %d", host, asked, answer.status)
			}
		}
	}
	config := s.adapt(t, "", site+"\n"+strings.ReplaceAll(site, "shop.localhost", "other.localhost")+"\nhttp://third.localhost:PORT {\noauth_guard\n}")
	if err := caddy.Load(config, true); err == nil || !strings.Contains(err.Error(), "oauth_guard: expected the name of an issuer, one of: other.localhost-") {
		t.Errorf("a guard of a third site: %v", err)
	}
}

// So is one of a site that has a port and no host name, in a block too.
func TestGuardsOfSitesWithoutHosts(t *testing.T) {
	s := newServer(t)
	port := testport.New(t)
	site := func(port, guard string) string {
		site := strings.NewReplacer("http://shop.localhost:PORT {\n\t\toauth", "http://:"+port+" {\noauth", "shop.localhost:PORT", "shop.localhost:"+port).Replace(oneBlock(aliceIsSignedIn))
		return strings.Replace(site, "respond", guard+"\nrespond", 1)
	}
	s.run(t, "", site("PORT", "oauth_guard /api")+"\n"+site(port, "handle /api {\noauth_guard\nrespond \"behind the guard\"\n}"))
	issuers := []string{s.url("shop.localhost"), "http://shop.localhost:" + port}
	for _, issuer := range issuers {
		token := s.signIn(t, issuer).AccessToken
		for _, asked := range issuers {
			answer := s.get(t, asked+"/api", "Authorization", "Bearer "+token)
			if passed := answer.status == http.StatusOK; passed != (asked == issuer) {
				t.Errorf("a token of %s at %s: %d", issuer, asked, answer.status)
			}
		}
	}
}

// A site with several addresses is on several servers, which all have the handler.
func TestSiteWithSeveralAddresses(t *testing.T) {
	s := newServer(t)
	other := testport.New(t)
	site := strings.Replace(oneBlock(aliceIsSignedIn), "http://shop.localhost:PORT {", "http://shop.localhost:PORT, http://www.localhost:PORT, http://shop.localhost:"+other+" {", 1)
	s.run(t, "", strings.Replace(site, "respond", "oauth_guard /api\nrespond", 1))
	token := s.signIn(t, s.url("shop.localhost"))
	for _, address := range []string{s.url("www.localhost"), "http://shop.localhost:" + other} {
		if got := s.get(t, address+"/api", "Authorization", "Bearer "+token.AccessToken); got.status != http.StatusOK {
			t.Errorf("%s: %d %v", address, got.status, got.header)
		}
		if got := s.refresh(t, address, token.RefreshToken); got.RefreshToken == "" {
			t.Errorf("%s: %+v", address, got)
		}
	}
	config := string(s.adapt(t, "", site))
	for edited, want := range map[string]string{
		strings.Replace(config, `"scopes":[{"name":"orders"}]`, `"scopes":[{"name":"orders"},{"name":"other"}]`, 1): "issuer shop.localhost-" + s.port + ": another site defines the issuer with other settings",
		strings.Replace(config, `"handler":"oauth"`, `"handler":"oauth","issuer":"another"`, 1):                     "expected another URL than that of issuer ",
	} {
		if err := caddy.Load([]byte(edited), true); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// A site can serve the issuer of a site below it, and a guard can ask for its tokens.
func TestIssuerOfASiteBelow(t *testing.T) {
	s := newServer(t)
	above := "http://api.localhost:PORT {\noauth_guard shop {\nscopes orders\n}\nrespond api\n}\nhttp://www.localhost:PORT {\noauth shop\n}\n"
	below := strings.Replace(oneBlock(aliceIsSignedIn), "oauth http", "oauth shop http", 1)
	_, config := adapt(t, write(t, s.dir, "Caddyfile", s.caddyfile("", above+below)))
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	issuer := s.url("shop.localhost")
	token := s.signIn(t, issuer).AccessToken
	if answer := s.get(t, s.url("api.localhost"), "Authorization", "Bearer "+token); answer.status != http.StatusOK || answer.body != "api" {
		t.Errorf("the guard: %d %s", answer.status, answer.body)
	}
	if answer := s.get(t, s.url("www.localhost")+"/oauth/jwks"); answer.status != http.StatusOK {
		t.Errorf("the other site: %d %s", answer.status, answer.body)
	}
}

// A login that runs the directive oauth would run itself.
func TestLoginWithoutOAuth(t *testing.T) {
	s := newServer(t)
	config := s.adapt(t, "", oneBlock("login {\nforward_auth 127.0.0.1:1 {\nuri /\n}\n}"))
	inner := `{"handler":"subroute","routes":[{"handle":[{"handler":"oauth","settings":{"url":"https://other.example"}}]}]}`
	changed := bytes.Replace(config, []byte(`"routes":[{"handle":[{"handle_response"`), []byte(`"routes":[{"handle":[`+inner+`]},{"handle":[{"handle_response"`), 1)
	if bytes.Equal(changed, config) {
		t.Fatalf("no login in %s", config)
	}
	if err := caddy.Load(changed, true); err == nil || !strings.Contains(err.Error(), "login: expected handlers that find out who a person is, and not the handler oauth") {
		t.Errorf("got %v", err)
	}
}

// The settings of an issuer in a site can be edited by their @id, and an edit that fails leaves the server as it was.
func TestEditOfAnIssuerByID(t *testing.T) {
	s := newServer(t)
	config := bytes.Replace(s.adapt(t, "", oneBlock(aliceIsSignedIn)), []byte(`"settings":{`), []byte(`"settings":{"@id":"the-shop",`), 1)
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	issuer := s.url("shop.localhost")
	before := s.signIn(t, issuer)
	if answer := s.askAdmin(t, http.MethodPatch, "/id/the-shop/clients/app/scopes", `["nothing"]`); answer.status < 400 ||
		!strings.Contains(answer.body, "client app: scopes: expected scopes of the issuer") {
		t.Errorf("an impossible edit: %d %s", answer.status, answer.body)
	}
	const moved = "https://moved.example.com/callback"
	if answer := s.askAdmin(t, http.MethodPatch, "/id/the-shop/clients/app/redirect_uris", `["`+moved+`"]`); answer.status != http.StatusOK {
		t.Fatalf("%d %s", answer.status, answer.body)
	}
	if answer := s.authorize(t, issuer, moved); !strings.HasPrefix(answer.header.Get("Location"), moved+"?code=") {
		t.Errorf("the new redirect URI: %d %v", answer.status, answer.header)
	}
	if got := s.refresh(t, issuer, before.RefreshToken); got.AccessToken == "" {
		t.Errorf("the client's refresh token: %+v", got)
	}
}

// A URL may come from the environment, when the Caddyfile is read or when the configuration is loaded.
func TestIssuerOfTheEnvironment(t *testing.T) {
	for _, placeholder := range []string{"{$SHOP_URL}", "{env.SHOP_URL}"} {
		t.Run(placeholder[1:5], func(t *testing.T) {
			s := newServer(t)
			t.Setenv("SHOP_URL", s.url("shop.localhost"))
			site := strings.Replace(oneBlock(aliceIsSignedIn), "oauth http://shop.localhost:PORT", "oauth "+placeholder, 1)
			s.run(t, "", strings.Replace(site, "respond", "oauth_guard /api\nrespond", 1))
			token := s.signIn(t, s.url("shop.localhost")).AccessToken
			if iss := claims(t, token)["iss"]; iss != s.url("shop.localhost") {
				t.Errorf("the issuer is %v", iss)
			}
			if answer := s.get(t, s.url("shop.localhost")+"/api", "Authorization", "Bearer "+token); answer.status != http.StatusOK {
				t.Errorf("%d %v", answer.status, answer.header)
			}
		})
	}
}

// A warning says that clients cannot reach an issuer, as no site has its host.
func TestWarningOfTheHost(t *testing.T) {
	other := testport.New(t)
	for name, tt := range map[string]struct {
		address string
		warns   bool
	}{
		"the host":            {"http://shop.localhost:PORT", false},
		"another port":        {"http://shop.localhost:" + other, false},
		"every host":          {"http://:PORT", false},
		"a wildcard":          {"http://*.localhost:PORT", false},
		"two hosts":           {"http://www.shop.localhost:PORT, http://shop.localhost:PORT", false},
		"two servers":         {"http://www.shop.localhost:" + other + ", http://shop.localhost:PORT", false},
		"www":                 {"http://www.shop.localhost:PORT", true},
		"two hosts of others": {"http://www.shop.localhost:PORT, http://localhost:PORT", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.runJSON(t, "", strings.Replace(oneBlock(aliceIsSignedIn), "http://shop.localhost:PORT {", tt.address+" {", 1))
			warnings := s.logged(t, mistakeMessage)
			if warned := len(warnings) == 1 && strings.HasPrefix(warnings[0]["seen"].(string), "the host of the issuer"); warned != tt.warns || len(warnings) > 1 {
				t.Errorf("the warnings are %v", warnings)
			}
		})
	}
}

// A configuration that comes as JSON gets the warnings about places of handlers when it starts.
func TestWarningsOfThePlace(t *testing.T) {
	const site = "http://shop.localhost:PORT {\n"
	oauth := func(settings string) string {
		return "oauth http://shop.localhost:PORT {\nscope orders \"see your orders\"\nclient app {\nredirect_uris https://app.example/cb\nscopes orders\n}\n" + settings + "}\n"
	}
	const basic = "basic_auth {\nalice " + aliceHash + "\n}\n"
	for name, tt := range map[string]struct{ caddyfile, want string }{
		"no login":         {site + oauth("") + "}", "nobody can sign in: oauth has no login, and clients have authorization_code"},
		"a login":          {site + oauth("login {\n"+basic+"}\n") + "}", ""},
		"a login beside":   {site + basic + oauth("") + "}", ""},
		"another user":     {site + "vars user alice\n" + oauth("user {vars.user}\n") + "}", ""},
		"respond before":   {site + "route {\nrespond hello\n" + oauth("login {\n"+basic+"}\n") + "}\n}", "respond stands before oauth, and answers all requests"},
		"a path before":    {site + "route {\nrespond /hello hello\n" + oauth("login {\n"+basic+"}\n") + "}\n}", ""},
		"respond after it": {site + "route {\n" + oauth("login {\n"+basic+"}\n") + "respond hello\n}\n}", ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.runJSON(t, "", tt.caddyfile)
			var seen string
			for _, warning := range s.logged(t, mistakeMessage) {
				seen += warning["seen"].(string)
			}
			if seen != tt.want {
				t.Errorf("the warnings are %q, want %q", seen, tt.want)
			}
		})
	}
}
