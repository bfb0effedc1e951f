package caddyoauth_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

var sealedRequest = regexp.MustCompile(`name="request" value="([^"]+)"`)

// A person lets an app have access for an hour, and the responses say so.
func TestLimitedConsentExample(t *testing.T) {
	t.Setenv("APP_SECRET", "app-secret")
	s := newServer(t)
	s.run(t, "", strings.ReplaceAll(example(t, "limited-consent", "tax.example.com"), "\n\t\t\tconsent never", ""))
	issuer := s.url("example.localhost")
	page := s.authorize(t, issuer, callback)
	sealed := sealedRequest.FindStringSubmatch(page.body)
	if page.status != http.StatusOK || sealed == nil || !strings.Contains(page.body, "for 7 days") {
		t.Fatalf("%d %s", page.status, page.body)
	}
	allow := func(lifetime string) answer {
		form := url.Values{"request": {sealed[1]}, "decision": {"allow"}, "lifetime": {lifetime}}
		return s.do(t, http.MethodPost, issuer+"/oauth/authorize", "application/x-www-form-urlencoded", form.Encode(), "Origin", issuer)
	}
	if a := allow("86400"); a.status != http.StatusForbidden {
		t.Errorf("a choice that the page does not have: %d %v", a.status, a.header)
	}
	location, err := url.Parse(allow("3600").header.Get("Location"))
	if err != nil || location.Query().Get("code") == "" {
		t.Fatalf("the person is sent to %s: %v", location, err)
	}
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {location.Query().Get("code")}, "redirect_uri": {callback},
		"client_id": {"app"}, "client_secret": {"app-secret"},
	}
	a := s.do(t, http.MethodPost, issuer+"/oauth/token", "application/x-www-form-urlencoded", form.Encode())
	told := regexp.MustCompile(`"authorization_expires_in":(3600|3[0-5]\d\d)\b`)
	if a.status != http.StatusOK || !told.MatchString(a.body) {
		t.Errorf("%d %s", a.status, a.body)
	}
}
