package caddyoauth_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// kid returns the one key that the issuer publishes.
func (s *server) kid(t *testing.T, issuer string) string {
	t.Helper()
	answer := s.get(t, issuer+"/oauth/jwks")
	var set struct {
		Keys []struct {
			ID string `json:"kid"`
		} `json:"keys"`
	}
	if err := json.Unmarshal([]byte(answer.body), &set); err != nil || len(set.Keys) != 1 || set.Keys[0].ID == "" {
		t.Fatalf("expected one key, got %d %s", answer.status, answer.body)
	}
	return set.Keys[0].ID
}

func TestReloadKeepsRecordsAndKeys(t *testing.T) {
	for _, store := range []string{"memory", "caddy"} {
		t.Run(store, func(t *testing.T) {
			s := newServer(t)
			global := strings.Replace(shop, "store memory", "store "+store, 1)
			s.run(t, global, shopSite)
			issuer := s.url("shop.localhost")
			kid, before := s.kid(t, issuer), s.signIn(t, issuer)

			s.run(t, strings.Replace(global, "scope orders", `scope orders "your orders"`, 1), shopSite)
			if got := s.kid(t, issuer); got != kid {
				t.Errorf("after the reload the key is %s, expected %s", got, kid)
			}
			after := s.refresh(t, issuer, before.RefreshToken)
			if after.AccessToken == "" || after.RefreshToken == before.RefreshToken {
				t.Errorf("after the reload a refresh yields %+v", after)
			}
		})
	}
}

// The memory store lives until the last configuration that uses it ends, however many others fail to load.
func TestMemoryEndsWithTheConfig(t *testing.T) {
	s := newServer(t)
	issuer := s.url("shop.localhost")
	s.run(t, shop, shopSite)
	got := s.signIn(t, issuer)

	failing := s.adapt(t, strings.Replace(shop, "store memory", "store memory\nsigning {\njwks_file /no/such/file\n}", 1), shopSite)
	alsoFailing := withUnknownIssuer(s.adapt(t, shop, shopSite))
	for range 3 {
		for _, config := range [][]byte{failing, alsoFailing} {
			if err := caddy.Load(config, true); err == nil {
				t.Fatal("expected an error")
			}
		}
	}
	s.run(t, shop, shopSite)
	if got = s.refresh(t, issuer, got.RefreshToken); got.RefreshToken == "" {
		t.Fatalf("after failed reloads the refresh token is refused: %q", got.Error)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	s.run(t, shop, shopSite)
	if again := s.refresh(t, issuer, got.RefreshToken); again.Error != "invalid_grant" {
		t.Errorf("the store in memory outlived its config: %+v", again)
	}
}

func TestFailedReloadLeavesTheOldConfig(t *testing.T) {
	dir := t.TempDir()
	badTemplate := filepath.Join(dir, "bad.html")
	if err := os.WriteFile(badTemplate, []byte("{{.Nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(issuer map[string]any){
		"issuer URL":      func(issuer map[string]any) { issuer["url"] = "http://example.com" },
		"unknown setting": func(issuer map[string]any) { issuer["nonsense"] = true },
		"unknown store":   func(issuer map[string]any) { issuer["store"] = map[string]any{"store": "nonsense"} },
		"unknown grant":   func(issuer map[string]any) { issuer["grants"] = map[string]any{"nonsense": map[string]any{}} },
		"no such file": func(issuer map[string]any) {
			issuer["page"] = map[string]any{"logo": filepath.Join(dir, "no such file")}
		},
		"bad template": func(issuer map[string]any) {
			issuer["page"] = map[string]any{"templates": map[string]any{"consent": badTemplate}}
		},
		"empty secret": func(issuer map[string]any) {
			issuer["clients"].(map[string]any)["app"].(map[string]any)["secrets"] = []string{"{env.CADDY_OAUTH_NO_SUCH_VARIABLE}"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			s.run(t, shop, shopSite)
			before := s.signIn(t, s.url("shop.localhost"))

			var config map[string]any
			if err := json.Unmarshal(s.adapt(t, shop, shopSite), &config); err != nil {
				t.Fatal(err)
			}
			apps := config["apps"].(map[string]any)
			change(apps["oauth"].(map[string]any)["issuers"].(map[string]any)["default"].(map[string]any))
			body, err := json.Marshal(config)
			if err != nil {
				t.Fatal(err)
			}
			if answer := s.askAdmin(t, http.MethodPost, "/load", string(body)); answer.status != http.StatusBadRequest {
				t.Fatalf("expected the config to be refused, got %d %s", answer.status, answer.body)
			}
			if got := s.refresh(t, s.url("shop.localhost"), before.RefreshToken); got.AccessToken == "" {
				t.Errorf("the old config does not serve: %+v", got)
			}
		})
	}
}

func TestEditOfAClientByID(t *testing.T) {
	s := newServer(t)
	config := strings.Replace(string(s.adapt(t, shop, shopSite)), `"app":{`, `"app":{"@id":"the-app",`, 1)
	if err := caddy.Load([]byte(config), true); err != nil {
		t.Fatal(err)
	}
	issuer := s.url("shop.localhost")
	before := s.signIn(t, issuer)

	const moved = "https://moved.example.com/callback"
	if answer := s.askAdmin(t, http.MethodPatch, "/id/the-app/redirect_uris", `["`+moved+`"]`); answer.status != http.StatusOK {
		t.Fatalf("%d %s", answer.status, answer.body)
	}
	if answer := s.authorize(t, issuer, moved); !strings.HasPrefix(answer.header.Get("Location"), moved+"?code=") {
		t.Errorf("the new redirect URI: %d %v", answer.status, answer.header)
	}
	if answer := s.authorize(t, issuer, callback); answer.status != http.StatusBadRequest || answer.header.Get("Location") != "" {
		t.Errorf("the old redirect URI: %d %v", answer.status, answer.header)
	}
	if got := s.refresh(t, issuer, before.RefreshToken); got.AccessToken == "" {
		t.Errorf("the client's refresh token: %+v", got)
	}
	if answer := s.askAdmin(t, http.MethodPatch, "/id/the-app/redirect_uris", `["javascript:alert(1)"]`); answer.status < 400 ||
		!strings.Contains(answer.body, "client app: redirect_uris: expected https") {
		t.Errorf("an impossible redirect URI: %d %s", answer.status, answer.body)
	}
	if answer := s.askAdmin(t, http.MethodDelete, "/id/the-app", ""); answer.status != http.StatusOK {
		t.Fatalf("%d %s", answer.status, answer.body)
	}
	if got := s.refresh(t, issuer, before.RefreshToken); got.Error != "invalid_client" {
		t.Errorf("a deleted client: %+v", got)
	}
}

func TestRemovalOfAnIssuer(t *testing.T) {
	s := newServer(t)
	const other = "http://other.localhost:PORT {\noauth other\nrespond \"the site's own\"\n}\n"
	s.run(t, strings.Replace(shop, "oauth {", "oauth {\nissuer other http://other.localhost:PORT", 1), shopSite+"\n"+other)
	jwks := s.url("other.localhost") + "/oauth/jwks"

	answer := s.askAdmin(t, http.MethodDelete, "/config/apps/oauth/issuers/other", "")
	if answer.status < 400 || !strings.Contains(answer.body, `there is no issuer \"other\", expected default`) {
		t.Errorf("while a site serves it: %d %s", answer.status, answer.body)
	}
	if answer := s.get(t, jwks); answer.status != http.StatusOK {
		t.Errorf("after that: %d %s", answer.status, answer.body)
	}
	s.run(t, shop, shopSite+"\n"+strings.Replace(other, "oauth other\n", "", 1))
	if answer := s.get(t, jwks); answer.body != "the site's own" {
		t.Errorf("after the deletion: %d %s", answer.status, answer.body)
	}
}

// Caddy starts apps in any order, so http may serve before oauth has started.
func TestServesBeforeItIsStarted(t *testing.T) {
	s := newServer(t)
	global := strings.Replace(strings.Replace(shop, "issuer http", "issuer early http", 1), "store memory", "store caddy", 1)
	var config caddy.Config
	if err := json.Unmarshal(s.adapt(t, global, shopSite), &config); err != nil {
		t.Fatal(err)
	}
	ctx, err := caddy.ProvisionContext(&config)
	if err != nil {
		t.Fatal(err)
	}
	issuers, err := ctx.App("oauth")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // only this cancels the context of the configuration
		if err := issuers.(caddy.CleanerUpper).Cleanup(); err != nil {
			t.Error(err)
		}
	})
	app, err := ctx.App("http")
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, s.url("shop.localhost")+"/oauth/jwks", nil)
	app.(*caddyhttp.App).Servers["srv0"].ServeHTTP(w, r)
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"kid"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestMetricsAcrossReloads(t *testing.T) {
	s := newServer(t)
	global := strings.Replace(shop, "oauth {", "oauth {\nissuer other http://other.localhost:PORT", 1) + "\nmetrics"
	for range 3 {
		s.run(t, global, shopSite+"\nhttp://other.localhost:PORT {\noauth other\n}")
		s.signIn(t, s.url("shop.localhost"))
		s.kid(t, s.url("other.localhost"))
		for _, labels := range []string{
			`{endpoint="token",grant_type="authorization_code",issuer="default",result="ok"}`,
			`{endpoint="jwks",grant_type="",issuer="other",result="ok"}`,
		} {
			// A request is counted a moment after it is answered.
			eventually(t, labels+" in the metrics", func() bool {
				return strings.Contains(s.askAdmin(t, http.MethodGet, "/metrics", "").body, "caddy_oauth_requests_total"+labels)
			})
		}
	}
}

func TestTwoIssuersOnOneSite(t *testing.T) {
	s := newServer(t)
	s.run(t, `oauth {
		issuer one http://shop.localhost:PORT {
			store memory
			`+shopClient+`
			scope orders
		}
		issuer two http://shop.localhost:PORT/two {
			store memory
			`+shopClient+`
			scope orders
		}
	}`, `http://shop.localhost:PORT {
		vars person alice
		oauth one {
			user {vars.person}
		}
		oauth two {
			user {vars.person}
		}
		respond "the site's own"
	}`)
	one, two := s.url("shop.localhost"), s.url("shop.localhost")+"/two"
	for _, issuer := range []string{one, two} {
		got := claims(t, s.signIn(t, issuer).AccessToken)
		if got["iss"] != issuer || got["aud"] != issuer {
			t.Errorf("issuer and audience are %v and %v, expected %s", got["iss"], got["aud"], issuer)
		}
	}
	if s.kid(t, one) == s.kid(t, two) {
		t.Error("two issuers have one key")
	}
	if got := s.refresh(t, two, s.signIn(t, one).RefreshToken); got.Error != "invalid_grant" {
		t.Errorf("a refresh token of the other issuer: %+v", got)
	}
	if answer := s.get(t, one+"/"); answer.body != "the site's own" {
		t.Errorf("%d %s", answer.status, answer.body)
	}
}

func TestOneIssuerOnTwoSites(t *testing.T) {
	s := newServer(t)
	s.run(t, shop, shopSite+"\n"+strings.ReplaceAll(shopSite, "shop.localhost", "www.localhost"))
	www, issuer := s.url("www.localhost"), s.url("shop.localhost")
	got := s.signIn(t, www)
	if iss := claims(t, got.AccessToken)["iss"]; iss != issuer {
		t.Errorf("the issuer is %v on the other site, expected %s as configured", iss, issuer)
	}
	if got := s.refresh(t, issuer, got.RefreshToken); got.AccessToken == "" {
		t.Errorf("a refresh at the issuer: %+v", got)
	}
}
