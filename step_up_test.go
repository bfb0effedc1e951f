package caddyoauth_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A token of a login by password opens the API, but not the payments; one of a login with a second factor opens both.
func TestStepUpExample(t *testing.T) {
	t.Setenv("APP_SECRET", "app-secret")
	s := newServer(t)
	signedIn := func(acr string, at time.Time) {
		s.run(t, "", strings.NewReplacer(
			"vars person alice", "vars {\n\t\tperson alice\n\t\tacr "+acr+"\n\t\ttime "+strconv.FormatInt(at.Unix(), 10)+"\n\t}",
			"{rp.header.Remote-Acr}", "{vars.acr}", "{rp.header.Remote-Auth-Time}", "{vars.time}",
		).Replace(example(t, "step-up", "pay.example.com")))
	}
	signedIn("password", time.Now())
	issuer := s.url("example.localhost")
	call := func(path, token string) answer { return s.get(t, issuer+path, "Authorization", "Bearer "+token) }
	token := s.signIn(t, issuer).AccessToken
	if a := call("/api/orders", token); a.status != http.StatusOK {
		t.Errorf("the API: %d %s", a.status, a.body)
	}
	a := call("/api/payments/1", token)
	challenge := a.header.Get("WWW-Authenticate")
	if a.status != http.StatusUnauthorized || !strings.Contains(challenge, `error="insufficient_user_authentication"`) ||
		!strings.Contains(challenge, `acr_values="mfa"`) || !strings.Contains(challenge, `max_age="900"`) {
		t.Errorf("the payments: %d %s", a.status, challenge)
	}
	signedIn("mfa", time.Now())
	if a := call("/api/payments/1", s.signIn(t, issuer).AccessToken); a.status != http.StatusOK {
		t.Errorf("the payments after a login with a second factor: %d %v %s", a.status, a.header, a.body)
	}
	signedIn("mfa", time.Now().Add(-time.Hour))
	if a := call("/api/payments/1", s.signIn(t, issuer).AccessToken); a.status != http.StatusUnauthorized {
		t.Errorf("the payments after a login an hour ago: %d", a.status)
	}
}
