package openid

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// goOIDC runs an application with the library that most programs in Go use, and returns its URL.
func goOIDC(t *testing.T, issuer string, client *oauth2.Config, path string) string {
	t.Helper()
	provider, err := oidc.NewProvider(t.Context(), issuer)
	must(t, err)
	verifier := provider.Verifier(&oidc.Config{ClientID: client.ClientID})
	mux := http.NewServeMux()
	app := httptest.NewServer(mux)
	t.Cleanup(app.Close)
	appURL := strings.Replace(app.URL, "127.0.0.1", "localhost", 1)
	client.Endpoint, client.RedirectURL = provider.Endpoint(), appURL+path
	const state, nonce = "a-state", "a-nonce"
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, client.AuthCodeURL(state, oidc.Nonce(nonce)), http.StatusFound)
	})
	callback := func(r *http.Request) (got identity, err error) {
		if r.FormValue("state") != state {
			t.Errorf("the state is %q", r.FormValue("state"))
		}
		tokens, err := client.Exchange(r.Context(), r.FormValue("code"))
		if err != nil {
			return got, err
		}
		read := func(tokens *oauth2.Token, claims *claims) (*oidc.IDToken, error) {
			raw, _ := tokens.Extra("id_token").(string)
			idToken, err := verifier.Verify(r.Context(), raw)
			if err != nil {
				return nil, err
			}
			if err := idToken.VerifyAccessToken(tokens.AccessToken); err != nil {
				return nil, err
			}
			return idToken, idToken.Claims(claims)
		}
		idToken, err := read(tokens, &got.Claims)
		if err != nil {
			return got, err
		}
		if idToken.Nonce != nonce {
			t.Errorf("the nonce is %q", idToken.Nonce)
		}
		refreshed, err := client.TokenSource(r.Context(), &oauth2.Token{RefreshToken: tokens.RefreshToken}).Token()
		if err != nil {
			return got, err
		}
		if _, err := read(refreshed, &got.Refreshed); err != nil {
			return got, err
		}
		userinfo, err := provider.UserInfo(r.Context(), oauth2.StaticTokenSource(refreshed))
		if err != nil {
			return got, err
		}
		return got, userinfo.Claims(&got.UserInfo)
	}
	mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		got, err := callback(r)
		if err != nil {
			got.Error = err.Error()
		}
		if err := json.NewEncoder(w).Encode(got); err != nil {
			t.Error(err)
		}
	})
	return appURL
}

func TestGoOIDC(t *testing.T) {
	t.Parallel()
	s := start(t, `
		client go-oidc {
			secret {env.CLIENT_SECRET}
			redirect_uris http://localhost/callback
			scopes openid profile email groups
		}
`)
	app := goOIDC(t, s.URL, &oauth2.Config{
		ClientID: "go-oidc", ClientSecret: secret, Scopes: []string{oidc.ScopeOpenID, "profile", "email", "groups"},
	}, "/callback")
	check(t, "go-oidc", signIn(t, s, app+"/login").Text)
}

// TestExample signs alice in at an application in the place of Grafana.
func TestExample(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "examples", "openid.Caddyfile"))
	must(t, err)
	s := integration.Start(t, integration.Config{Caddyfile: func(s *integration.Server) string {
		return strings.NewReplacer(
			"admin localhost:2032", "admin {$ADMIN}\n\tpersist_config off\n\tstorage file_system {$STORAGE}\n\tlog {\n\t\toutput stderr\n\t\tformat json\n\t}",
			"localhost:8092", "localhost:"+integration.Port(s.Address),
		).Replace(string(text))
	}})
	s.URL = "http://localhost:" + integration.Port(s.Address)
	app := goOIDC(t, s.URL, &oauth2.Config{
		ClientID: "grafana", ClientSecret: "only-for-trying-it-out", Scopes: []string{oidc.ScopeOpenID, "profile", "email"},
	}, "/login/generic_oauth")
	var got identity
	must(t, json.Unmarshal([]byte(visit(t, s, "wonderland", app+"/login").Text), &got))
	idToken := claims{Subject: "alice", Audience: "grafana"}
	want := identity{idToken, claims{Subject: "alice", Username: "alice", Email: "alice@example.com"}, idToken, nil}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	report := strings.Join(strings.Fields(s.Do(t, "oauth", "check", "--url", s.URL)), " ") // its lines are wrapped
	if !strings.Contains(report, "applications find the endpoints, the keys of ID tokens (RS256) and userinfo") {
		t.Errorf("caddy oauth check says %s", report)
	}
}
