package caddyoauth_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// accountSite answers with one status whatever account it is asked about, and counts how often.
type accountSite struct {
	*httptest.Server
	status, asked atomic.Int64
}

func newAccountSite(t *testing.T) *accountSite {
	t.Helper()
	a := new(accountSite)
	a.status.Store(http.StatusOK)
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.asked.Add(1)
		if err := r.ParseForm(); err != nil || r.URL.Path != "/account" || r.PostForm.Get("sub") != "alice" ||
			r.PostForm.Get("client_id") != "app" || r.PostForm.Get("scope") != "orders" {
			t.Errorf("asked %s %v, %v", r.URL, r.PostForm, err)
		}
		w.WriteHeader(int(a.status.Load()))
		_, _ = w.Write([]byte(`{"role":"admin","email":"new@example.com","other":1}`))
	}))
	t.Cleanup(a.Close)
	return a
}

// A Caddyfile with refresh_check: the claims of the site, an outage, and an account that is closed.
func TestAccountsOfTheSite(t *testing.T) {
	a := newAccountSite(t)
	s := newServer(t)
	check := "scope orders\nrefresh_check " + a.URL + "/account {\nevery 1s\nclaims role email\n}\n"
	s.run(t, strings.Replace(shop, "scope orders\n", check, 1),
		strings.Replace(shopSite, "oauth {", "oauth_guard /orders\noauth {\nclaim name {vars.person}\nclaim email {vars.person}", 1))
	issuer := s.url("shop.localhost")
	first := s.signIn(t, issuer)
	if a.asked.Load() != 0 {
		t.Error("the site was asked about a code")
	}
	// At most one refresh a second asks.
	latest := first
	eventually(t, "a refresh that asks the site", func() bool {
		latest = s.refresh(t, issuer, latest.RefreshToken)
		return a.asked.Load() == 1
	})
	token := claims(t, latest.AccessToken)
	for name, want := range map[string]any{"sub": "alice", "name": "alice", "role": "admin", "email": "new@example.com", "other": nil} {
		if token[name] != want {
			t.Errorf("%s is %v, want %v", name, token[name], want)
		}
	}

	a.status.Store(http.StatusInternalServerError)
	var away answer
	eventually(t, "a refresh during the outage of the site", func() bool {
		away = s.do(t, http.MethodPost, issuer+"/oauth/token", "application/x-www-form-urlencoded", url.Values{
			"grant_type": {"refresh_token"}, "refresh_token": {latest.RefreshToken}, "client_id": {"app"}, "client_secret": {"app-secret"},
		}.Encode())
		return away.status != http.StatusOK
	})
	if away.status != http.StatusServiceUnavailable || away.header.Get("Retry-After") == "" || !strings.Contains(away.body, "temporarily_unavailable") {
		t.Errorf("during the outage: %d %v %s", away.status, away.header, away.body)
	}
	failed := s.logged(t, "request failed")
	if len(failed) != 1 || failed[0]["setting"] != "refresh_check" || !strings.Contains(failed[0]["cause"].(string), "status 500") {
		t.Errorf("logged %v", failed)
	}
	a.status.Store(http.StatusOK)
	latest = s.refresh(t, issuer, latest.RefreshToken)
	call := func() int {
		return s.get(t, issuer+"/orders", "Authorization", "Bearer "+latest.AccessToken).status
	}
	if got := call(); got != http.StatusOK {
		t.Fatalf("after the outage: %+v and status %d", latest, got)
	}

	a.status.Store(http.StatusNotFound)
	eventually(t, "a refresh for the closed account", func() bool {
		next := s.refresh(t, issuer, latest.RefreshToken)
		if next.Error == "" {
			latest = next
			return false
		}
		if next.Error != "invalid_grant" {
			t.Fatalf("closed account: %+v", next)
		}
		return true
	})
	if got := call(); got != http.StatusUnauthorized {
		t.Errorf("the access token of a closed account gets %d", got)
	}
	if entries := s.logged(t, "account closed: family revoked"); len(entries) != 1 || entries[0]["sub"] != "alice" {
		t.Errorf("logged %v", entries)
	}
	if entries := s.logged(t, "revoked"); len(entries) != 1 || entries[0]["logger"] != "oauth.audit" || entries[0]["sub"] != "alice" ||
		entries[0]["reason"] != "no account at the site any more" {
		t.Errorf("audited %v", entries)
	}
	a.status.Store(http.StatusOK)
	if again := s.refresh(t, issuer, latest.RefreshToken); again.Error != "invalid_grant" {
		t.Errorf("the closed account can refresh: %+v", again)
	}
}
