package caddyoauth_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// runShop runs the shop, with a route that requires an access token.
func runShop(t *testing.T) *server {
	t.Helper()
	s := newServer(t)
	s.run(t, shop, strings.Replace(shopSite, "respond", "oauth_guard /api\nrespond", 1))
	return s
}

// api sends JSON to the admin API about the shop, and returns the JSON of the response.
func (s *server) api(t *testing.T, method, path, body string, status int) map[string]any {
	t.Helper()
	answer := s.askAdmin(t, method, "/oauth/default"+path, body)
	if answer.status != status {
		t.Fatalf("%s %s %s: status %d, expected %d: %s", method, path, body, answer.status, status, answer.body)
	}
	if answer.body == "" {
		return nil
	}
	var object map[string]any
	if strings.HasPrefix(answer.body, "[") {
		answer.body = `{"list":` + answer.body + `}`
	}
	if err := json.Unmarshal([]byte(answer.body), &object); err != nil {
		t.Fatalf("%s %s: %s: %v", method, path, answer.body, err)
	}
	return object
}

// script gets a token with the grant client_credentials.
func (s *server) script(t *testing.T, secret string) (got tokens) {
	t.Helper()
	answer := s.do(t, http.MethodPost, s.url("shop.localhost")+"/oauth/token", "application/x-www-form-urlencoded",
		url.Values{"grant_type": {"client_credentials"}, "client_id": {"stock"}, "client_secret": {secret}}.Encode())
	if err := json.Unmarshal([]byte(answer.body), &got); err != nil {
		t.Fatalf("%d %s", answer.status, answer.body)
	}
	return got
}

// passes reports whether the guard accepts a token.
func (s *server) passes(t *testing.T, token string) bool {
	t.Helper()
	answer := s.get(t, s.url("shop.localhost")+"/api", "Authorization", "Bearer "+token)
	return answer.status == http.StatusOK
}

const stock = `{"client_id": "stock", "grant_types": ["client_credentials"], "scopes": ["orders"], "audience": ["PORT"]}`

// addStock adds a client for the grant client_credentials, and returns its secret.
func (s *server) addStock(t *testing.T) string {
	t.Helper()
	body := strings.Replace(stock, "PORT", s.url("shop.localhost"), 1)
	secret, _ := s.api(t, http.MethodPost, "/clients", body, http.StatusCreated)["client_secret"].(string)
	if len(secret) < 43 {
		t.Fatalf("the secret %q has less than 256 random bits", secret)
	}
	return secret
}

func TestClientAddedAtRunTime(t *testing.T) {
	s := runShop(t)
	secret := s.addStock(t)
	got := s.script(t, secret)
	if !s.passes(t, got.AccessToken) {
		t.Errorf("its token does not pass: %+v", got)
	}
	if got := s.script(t, "wrong"); got.Error != "invalid_client" {
		t.Errorf("a wrong secret: %+v", got)
	}
	shown := s.api(t, http.MethodGet, "/clients/stock", "", http.StatusOK)
	if shown["source"] != "store" || shown["status"] != "enabled" || shown["client_secret"] != nil {
		t.Errorf("shown as %v", shown)
	}
	s.run(t, shop, shopSite)
	if got := s.script(t, secret); got.AccessToken == "" {
		t.Errorf("after a reload: %+v", got)
	}
}

func TestClientSecretsAreNotShown(t *testing.T) {
	s := newServer(t)
	hash := "secret app-secret\nsecret_hash sha256:" + strings.Repeat("0", 64)
	s.run(t, strings.Replace(shop, "secret app-secret", hash, 1), shopSite)
	secret := s.addStock(t)
	answer := s.askAdmin(t, http.MethodGet, "/oauth/default/clients", "")
	for _, word := range []string{secret, "sha256:", "app-secret", "secret_hash"} {
		if strings.Contains(answer.body, word) {
			t.Errorf("the list of clients has %q: %s", word, answer.body)
		}
	}
	if !strings.Contains(answer.body, `"client_id":"app"`) || !strings.Contains(answer.body, `"client_id":"stock"`) {
		t.Errorf("expected both clients: %s", answer.body)
	}
}

func TestClientChange(t *testing.T) {
	s := runShop(t)
	secret := s.addStock(t)
	shown := s.api(t, http.MethodPatch, "/clients/stock", `{"name": "Stock", "access_token": {"lifetime": "1m"}}`, http.StatusOK)
	if shown["name"] != "Stock" || shown["scopes"] == nil {
		t.Errorf("changed to %v", shown)
	}
	token := claims(t, s.script(t, secret).AccessToken)
	if lived := token["exp"].(float64) - token["iat"].(float64); lived != 60 {
		t.Errorf("an access token lives %v seconds, expected 60", lived)
	}
	shown = s.api(t, http.MethodPatch, "/clients/stock", `{"name": null}`, http.StatusOK)
	if shown["name"] != nil || shown["access_token"] == nil {
		t.Errorf("changed to %v", shown)
	}
	s.api(t, http.MethodPatch, "/clients/stock", `{"scopes": []}`, http.StatusOK)
	if token := claims(t, s.script(t, secret).AccessToken); token["scope"] != nil {
		t.Errorf("without scopes its token has %v", token["scope"])
	}
}

func TestClientRefusals(t *testing.T) {
	s := runShop(t)
	s.addStock(t)
	for _, tt := range []struct {
		method, path, body string
		status             int
		message            string
	}{
		{"POST", "/clients", `{"client_id": "x", "redirect_uris": ["javascript:alert(1)"]}`, 400, "redirect_uris: expected https"},
		{"POST", "/clients", `{"client_id": "x", "redirect_uris": ["{env.HOME}"]}`, 400, "redirect_uris: expected a value without braces"},
		{"POST", "/clients", `{"client_id": "x", "grant_types": ["client_credentials"], "scopes": ["admin"]}`, 400, "scopes: expected scopes of the issuer"},
		{"POST", "/clients", `{"client_id": "x", "grant_types": ["nonsense"]}`, 400, "grant_types: expected some of"},
		{"POST", "/clients", `{"client_id": "x", "grant_types": ["client_credentials"], "public": true}`, 400, "client_credentials needs a client with secret"},
		{"POST", "/clients", `{"client_id": "x", "public": true, "secret_hashes": ["sha256:"]}`, 400, "public: expected without"},
		{"POST", "/clients", `{"client_id": "x", "grant_types": ["client_credentials"], "secret_hashes": ["sha256:12"]}`, 400, "secret_hashes: expected sha256:"},
		{"POST", "/clients", `{"client_id": "x", "grant_types": ["client_credentials"], "secrets": ["clear"]}`, 400, "secrets: expected secret_hashes instead"},
		{"POST", "/clients", `{"client_id": "x", "grant_types": ["client_credentials"], "access_token": {"lifetime": "1h"}}`, 400, "expected at most 10m"},
		{"POST", "/clients", `{"client_id": "", "grant_types": ["client_credentials"]}`, 400, "expected a client ID"},
		{"POST", "/clients", `{"client_id": "x", "nonsense": 1}`, 400, `unknown field`},
		{"POST", "/clients", `{"client_id": "x"} {}`, 400, "more than one value"},
		{"POST", "/clients", `{"client_id": "` + strings.Repeat("x", 70<<10) + `"}`, 413, "too large"},
		{"POST", "/clients", strings.Replace(stock, "stock", "x", 1), 400, "audience: expected absolute URIs"},
		{"POST", "/clients", strings.Replace(stock, "PORT", "https://a.example", 1), 409, "a client with this ID exists"},
		{"POST", "/clients", `{"client_id": "app", "grant_types": ["client_credentials"]}`, 409, "part of the configuration"},
		{"PATCH", "/clients/app", `{"name": "x"}`, 409, "part of the configuration"},
		{"POST", "/clients/app/disable", "", 409, "part of the configuration"},
		{"POST", "/clients/app/secret", "", 409, "part of the configuration"},
		{"DELETE", "/clients/app", "", 409, "part of the configuration"},
		{"PATCH", "/clients/stock", `{"redirect_uris": ["https://a.example/"]}`, 400, "redirect_uris: expected authorization_code"},
		{"PATCH", "/clients/stock", `{"secret_hashes": ["sha256:"]}`, 400, "expected no secrets"},
		{"PATCH", "/clients/nobody", `{}`, 404, "no such client"},
		{"GET", "/clients/nobody", "", 404, "no such client"},
		{"DELETE", "/clients/nobody", "", 404, "no such client"},
		{"PUT", "/clients/stock", "", 405, "expected one of: DELETE, GET, PATCH"},
		{"POST", "/clients/stock/secret", `{"grace": "-1h"}`, 400, "grace: expected a duration"},
		{"GET", "/nothing", "", 404, "there is nothing at"},
		{"POST", "/revoke", `{}`, 400, "expected sub, client_id or both"},
		{"POST", "/revoke", `{"sub": "alice", "token": "x"}`, 400, "expected sub, client_id or both"},
		{"POST", "/revoke", `{"family": "../../keys"}`, 400, "family: expected"},
		{"POST", "/inspect", `{}`, 400, "expected a token"},
		{"POST", "/keys/nothing/retire", "", 404, "there is no such key"},
	} {
		answer := s.askAdmin(t, tt.method, "/oauth/default"+tt.path, tt.body)
		if answer.status != tt.status || !strings.Contains(answer.body, strings.ReplaceAll(tt.message, `"`, `\"`)) {
			t.Errorf("%s %s %.80s: %d %s, expected %d with %q", tt.method, tt.path, tt.body, answer.status, answer.body, tt.status, tt.message)
		}
	}
	if answer := s.askAdmin(t, http.MethodGet, "/oauth/nobody/clients", ""); answer.status != http.StatusNotFound {
		t.Errorf("an unknown issuer: %d %s", answer.status, answer.body)
	}
	if answer := s.askAdmin(t, http.MethodGet, "/oauth", ""); !strings.Contains(answer.body, `[{"name":"default"`) {
		t.Errorf("the issuers: %d %s", answer.status, answer.body)
	}
}

func TestClientDisabledEnabledDeleted(t *testing.T) {
	s := runShop(t)
	secret := s.addStock(t)
	before := s.script(t, secret)
	s.api(t, http.MethodPost, "/clients/stock/disable", "", http.StatusOK)
	if got := s.script(t, secret); got.Error != "invalid_client" {
		t.Errorf("while it is disabled: %+v", got)
	}
	if s.passes(t, before.AccessToken) {
		t.Error("its token passes while it is disabled")
	}
	s.api(t, http.MethodPost, "/clients/stock/enable", "", http.StatusOK)
	after := s.script(t, secret)
	if !s.passes(t, after.AccessToken) || s.passes(t, before.AccessToken) {
		t.Error("expected new tokens to pass, and those from before not to")
	}
	s.api(t, http.MethodDelete, "/clients/stock", "", http.StatusNoContent)
	s.api(t, http.MethodGet, "/clients/stock", "", http.StatusNotFound)
	if got := s.script(t, secret); got.Error != "invalid_client" || s.passes(t, after.AccessToken) {
		t.Errorf("when it is deleted: %+v", got)
	}
	again := s.addStock(t)
	if got := s.script(t, again); !s.passes(t, got.AccessToken) {
		t.Errorf("when it is added again: %+v", got)
	}
	if got := s.script(t, secret); got.Error != "invalid_client" {
		t.Errorf("its old secret: %+v", got)
	}
	var audited []any
	for _, entry := range s.logged(t, "client changed") {
		audited = append(audited, entry["client_id"], entry["reason"])
	}
	want := []any{"stock", "added", "stock", "disabled", "stock", "enabled", "stock", "deleted", "stock", "added"}
	if !slices.Equal(audited, want) {
		t.Errorf("in the audit log: %v, expected %v", audited, want)
	}
}

func TestDisabledClientGetsNoCode(t *testing.T) {
	s := runShop(t)
	s.api(t, http.MethodPost, "/clients", `{"client_id": "partner", "redirect_uris": ["`+callback+`"], "scopes": ["orders"], "consent": "never"}`, http.StatusCreated)
	ask := s.url("shop.localhost") + "/oauth/authorize?response_type=code&client_id=partner&redirect_uri=" + url.QueryEscape(callback)
	if answer := s.get(t, ask); !strings.HasPrefix(answer.header.Get("Location"), callback+"?code=") {
		t.Fatalf("expected a code: %d %v", answer.status, answer.header)
	}
	s.api(t, http.MethodPost, "/clients/partner/disable", "", http.StatusOK)
	if answer := s.get(t, ask); answer.status != http.StatusBadRequest || answer.header.Get("Location") != "" {
		t.Errorf("RFC 6749 §4.1.2.1: expected a page, got %d %v", answer.status, answer.header)
	}
}

func TestClientSecretReplaced(t *testing.T) {
	s := runShop(t)
	first := s.addStock(t)
	second := s.api(t, http.MethodPost, "/clients/stock/secret", "", http.StatusOK)["client_secret"].(string)
	for name, secret := range map[string]string{"old": first, "new": second} {
		if got := s.script(t, secret); got.AccessToken == "" {
			t.Errorf("the %s secret within the grace time: %+v", name, got)
		}
	}
	third := s.api(t, http.MethodPost, "/clients/stock/secret", `{"grace": "0s"}`, http.StatusOK)["client_secret"].(string)
	for _, secret := range []string{first, second} {
		if got := s.script(t, secret); got.Error != "invalid_client" {
			t.Errorf("a secret without grace: %+v", got)
		}
	}
	if got := s.script(t, third); got.AccessToken == "" {
		t.Errorf("the newest secret: %+v", got)
	}
}

func TestAdminBeforeAnyIssuer(t *testing.T) {
	s := newServer(t)
	s.run(t, "", "")
	if answer := s.askAdmin(t, http.MethodGet, "/oauth", ""); answer.status != http.StatusNotFound {
		t.Errorf("%d %s", answer.status, answer.body)
	}
	// A configuration that failed to load is not the one that runs.
	if err := caddy.Load(withUnknownIssuer(s.adapt(t, shop, shopSite)), true); err == nil {
		t.Fatal("expected an error")
	}
	if answer := s.askAdmin(t, http.MethodGet, "/oauth", ""); answer.status != http.StatusNotFound {
		t.Errorf("after a failed reload: %d %s", answer.status, answer.body)
	}
}

// kidOf returns the kid of the key that signed a token.
func (s *server) kidOf(t *testing.T, token string) string {
	t.Helper()
	encoded, _, _ := strings.Cut(token, ".")
	var header struct {
		KeyID string `json:"kid"`
	}
	decoded, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil || json.Unmarshal(decoded, &header) != nil {
		t.Fatalf("%v in the header of %s", err, token)
	}
	return header.KeyID
}

func TestKeysRotateAndRetire(t *testing.T) {
	s := runShop(t)
	issuer := s.url("shop.localhost")
	before := s.signIn(t, issuer)
	first := s.kidOf(t, before.AccessToken)

	s.api(t, http.MethodPost, "/keys/rotate", "", http.StatusOK)
	next := s.refresh(t, issuer, before.RefreshToken)
	if kid := s.kidOf(t, next.AccessToken); kid != first {
		t.Errorf("a key that is only published signs: %s", kid)
	}
	s.api(t, http.MethodPost, "/keys/rotate", `{"now": true}`, http.StatusOK)
	rotated := next // if the first key has signed only from this second on, the new one signs from the next
	eventually(t, "the new key to sign", func() bool {
		rotated = s.refresh(t, issuer, rotated.RefreshToken)
		return s.kidOf(t, rotated.AccessToken) != first
	})
	if !s.passes(t, next.AccessToken) || !s.passes(t, rotated.AccessToken) {
		t.Error("expected tokens of both keys to pass")
	}
	s.api(t, http.MethodPost, "/keys/"+first+"/retire", "", http.StatusOK)
	if s.passes(t, next.AccessToken) || !s.passes(t, rotated.AccessToken) {
		t.Error("expected tokens of the retired key not to pass, and others to")
	}
	s.api(t, http.MethodPost, "/keys/"+s.kidOf(t, rotated.AccessToken)+"/retire", "", http.StatusOK)
	if s.passes(t, rotated.AccessToken) {
		t.Error("a token of the key that signed passes after it was retired")
	}
	if last := s.refresh(t, issuer, rotated.RefreshToken); !s.passes(t, last.AccessToken) {
		t.Errorf("a token of the next key: %+v", last)
	}
}

func TestRevokeByAdmin(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		refused    bool
	}{
		{"the user", `{"sub": "alice"}`, true},
		{"the client", `{"client_id": "app"}`, true},
		{"the user at the client", `{"sub": "alice", "client_id": "app"}`, true},
		{"the family", `{"family": "FAMILY"}`, true},
		{"the refresh token", `{"token": "REFRESH"}`, true},
		{"the access token", `{"token": "ACCESS"}`, true},
		{"another user", `{"sub": "bob"}`, false},
		{"another client", `{"client_id": "stock"}`, false},
		{"an unknown token", `{"token": "nonsense"}`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := runShop(t)
			got := s.signIn(t, s.url("shop.localhost"))
			if !s.passes(t, got.AccessToken) {
				t.Fatal("the token does not pass")
			}
			body := strings.NewReplacer("REFRESH", got.RefreshToken, "ACCESS", got.AccessToken,
				"FAMILY", claims(t, got.AccessToken)["family"].(string)).Replace(tt.body)
			s.api(t, http.MethodPost, "/revoke", body, http.StatusOK)
			if passes := s.passes(t, got.AccessToken); passes == tt.refused {
				t.Errorf("the access token passes: %v", passes)
			}
			inspected := s.api(t, http.MethodPost, "/inspect", `{"token": "`+got.AccessToken+`"}`, http.StatusOK)
			if inspected["active"] == tt.refused {
				t.Errorf("inspected: %v", inspected)
			}
		})
	}
}

// A client that has registered itself has refresh tokens with the issuer's prefix, which no other client need have.
func TestRevokeTokenOfRegisteredClient(t *testing.T) {
	s := newServer(t)
	s.run(t, `oauth {
		issuer http://shop.localhost:PORT {
			store memory
			scope orders
			mcp
			refresh_token {
				prefix described_
			}
		}
	}`, shopSite)
	issuer := s.url("shop.localhost")
	var client struct {
		ID string `json:"client_id"`
	}
	answer := s.do(t, http.MethodPost, issuer+"/oauth/register", "application/json",
		`{"redirect_uris":["`+callback+`"],"token_endpoint_auth_method":"none","grant_types":["authorization_code","refresh_token"]}`)
	if err := json.Unmarshal([]byte(answer.body), &client); err != nil || client.ID == "" {
		t.Fatalf("%d %s", answer.status, answer.body)
	}
	verifier := strings.Repeat("v", 43)
	challenge := sha256.Sum256([]byte(verifier))
	page := s.get(t, issuer+"/oauth/authorize?"+url.Values{
		"response_type": {"code"}, "client_id": {client.ID}, "redirect_uri": {callback},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}.Encode())
	sealed := regexp.MustCompile(`name="request" value="([^"]+)"`).FindStringSubmatch(page.body)
	if sealed == nil {
		t.Fatalf("%d %s", page.status, page.body)
	}
	answer = s.do(t, http.MethodPost, issuer+"/oauth/authorize", "application/x-www-form-urlencoded",
		url.Values{"request": {html.UnescapeString(sealed[1])}, "decision": {"allow"}}.Encode(), "Origin", issuer)
	location, err := url.Parse(answer.header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	answer = s.do(t, http.MethodPost, issuer+"/oauth/token", "application/x-www-form-urlencoded", url.Values{
		"grant_type": {"authorization_code"}, "code": {location.Query().Get("code")}, "redirect_uri": {callback},
		"client_id": {client.ID}, "code_verifier": {verifier},
	}.Encode())
	var got tokens
	if err := json.Unmarshal([]byte(answer.body), &got); err != nil || !strings.HasPrefix(got.RefreshToken, "described_") {
		t.Fatalf("%d %s", answer.status, answer.body)
	}
	if what := s.api(t, http.MethodPost, "/revoke", `{"token": "`+got.RefreshToken+`"}`, http.StatusOK)["revoked"]; what != "family" {
		t.Errorf("revoked: %v", what)
	}
}

func TestUserGrantsAndStats(t *testing.T) {
	s := newServer(t)
	s.run(t, strings.Replace(shop, "consent never", "consent once", 1), shopSite)
	if list := s.api(t, http.MethodGet, "/users/alice/grants", "", http.StatusOK)["list"].([]any); len(list) != 0 {
		t.Errorf("before any: %v", list)
	}
	s.refresh(t, s.url("shop.localhost"), "nonsense")
	stats := s.api(t, http.MethodGet, "/stats", "", http.StatusOK)
	requests := stats["requests"].([]any)
	if len(requests) != 1 || requests[0].(map[string]any)["result"] != "invalid_grant" || stats["configured_clients"] != 1.0 {
		t.Errorf("statistics: %v", stats)
	}
}

// Caddy opens its admin API before its first configuration runs.
func TestAdminBeforeAConfigurationRuns(t *testing.T) {
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	info, err := caddy.GetModule("admin.api.oauth")
	if err != nil {
		t.Fatal(err)
	}
	for _, route := range info.New().(caddy.AdminRouter).Routes() {
		for _, path := range []string{"/oauth", "/oauth/default/stats"} {
			err := route.Handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil))
			refusal, ok := errors.AsType[caddy.APIError](err)
			if !ok || refusal.HTTPStatus != http.StatusServiceUnavailable {
				t.Errorf("%s: got %v, want status 503", path, err)
			}
		}
	}
}
