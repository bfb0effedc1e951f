package authserver

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/pages/pagestest"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// signedInAt returns alice, who signed in at that time.
func signedInAt(at time.Time) *User { return &User{Subject: "alice", AuthTime: at} }

// sent returns the way back from the page where people sign in again.
func sent(t *testing.T, a answer) *url.URL {
	t.Helper()
	to, err := url.Parse(a.Header().Get("Location"))
	if err != nil || a.Code != http.StatusSeeOther || to.Path != "/fresh" && to.Path != "/login" {
		t.Fatalf("nobody is sent to sign in: %d %s", a.Code, a.Header().Get("Location"))
	}
	back, err := url.Parse(to.Query().Get("return_to"))
	if err != nil {
		t.Fatal(err)
	}
	return back
}

func newLoginServer(t *testing.T, edits ...func(*Config)) *testServer {
	t.Helper()
	s := newTestServer(t, append([]func(*Config){withoutConsent("webapp"), openID()}, edits...)...)
	s.site.login, s.site.again = "/login", "/fresh"
	s.site.user = signedInAt(s.clock.Now().Add(-time.Hour))
	return s
}

// What a site that tells when people sign in has to say of somebody who comes back from the page where they sign in again.
func TestNewLogin(t *testing.T) {
	const code = "a code"
	for name, tt := range map[string]struct {
		before func(now time.Time) *User
		after  func(now time.Time) *User // now is when the person was sent
		want   string
	}{
		"a login after it":                    {nil, func(now time.Time) *User { return signedInAt(now.Add(3 * time.Second)) }, code},
		"a login in the same second":          {nil, signedInAt, code},
		"the same login":                      {nil, func(now time.Time) *User { return signedInAt(now.Add(-time.Hour)) }, "login_required"},
		"another login of before":             {nil, func(now time.Time) *User { return signedInAt(now.Add(-time.Second)) }, "login_required"},
		"a login whose time is not told":      {nil, func(time.Time) *User { return &User{Subject: "alice"} }, "login_required"},
		"somebody else, who signed in before": {nil, func(now time.Time) *User { return &User{Subject: "bob", AuthTime: now.Add(-time.Minute)} }, "login_required"},
		"somebody else, who signed in":        {nil, func(now time.Time) *User { return &User{Subject: "bob", AuthTime: now.Add(time.Second)} }, code},
		"the same login, by a clock that is ahead": {
			func(now time.Time) *User { return signedInAt(now.Add(50 * time.Second)) },
			func(now time.Time) *User { return signedInAt(now.Add(50 * time.Second)) }, "login_required",
		},
		"a new login, by a clock that is ahead": {
			func(now time.Time) *User { return signedInAt(now.Add(50 * time.Second)) },
			func(now time.Time) *User { return signedInAt(now.Add(55 * time.Second)) }, code,
		},
		"nobody before, and an old login elsewhere": {
			func(time.Time) *User { return nil }, func(now time.Time) *User { return signedInAt(now.Add(-time.Second)) }, "login_required",
		},
		"nobody before, and a new login": {func(time.Time) *User { return nil }, func(now time.Time) *User { return signedInAt(now.Add(time.Second)) }, code},
	} {
		for _, demand := range [][2]string{{"prompt", "login"}, {"max_age", "0"}} {
			t.Run(name+", "+demand[0], func(t *testing.T) {
				s := newLoginServer(t)
				began := s.clock.Now()
				if tt.before != nil {
					s.site.user = tt.before(began)
				}
				back := sent(t, s.get(t, asks("webapp", "scope", "openid", demand[0], demand[1])))
				s.clock.Advance(10 * time.Second)
				s.site.user = tt.after(began)
				a := s.visit(t, back)
				got := a.location().Get("error")
				if a.location().Get("code") != "" {
					got = code
				}
				if got != tt.want {
					t.Errorf("%q, want %q: %d %s", got, tt.want, a.Code, a.Header().Get("Location"))
				}
			})
		}
	}
}

// Whoever comes back is not sent again: Duende's max_age=0 was a loop.
func TestNobodyIsSentTwice(t *testing.T) {
	for _, demand := range [][]string{
		{"prompt", "login"},
		{"max_age", "0"},
		{"max_age", "60"},
		{"prompt", "select_account"},
		{"acr_values", "mfa"},
		{"prompt", "login select_account consent"},
		{"claims", `{"id_token": {"acr": {"essential": true, "value": "mfa"}}}`},
		{"claims", `{"id_token": {"sub": {"value": "bob"}}}`},
	} {
		s := newLoginServer(t)
		s.site.user.ACRValues, s.site.user.Session.ACR = []string{"pwd", "mfa"}, "pwd"
		back := sent(t, s.get(t, asks("webapp", append([]string{"scope", "openid"}, demand...)...)))
		a := s.visit(t, back)
		if a.Code == http.StatusSeeOther && a.location().Has("return_to") {
			t.Errorf("%q: sent twice: %s", demand, a.Header().Get("Location"))
		}
	}
}

func TestMaxAge(t *testing.T) {
	params := func(age string) url.Values { return asks("webapp", "scope", "openid", "max_age", age) }
	s := newLoginServer(t)
	if a := s.get(t, params("3600")); a.location().Get("code") == "" {
		t.Errorf("a login an hour ago, max_age an hour: %s", a.Header().Get("Location"))
	}
	back := sent(t, s.get(t, params("3599")))
	s.site.user = signedInAt(s.clock.Now().Add(-3599 * time.Second))
	if a := s.visit(t, back); a.location().Get("code") == "" {
		t.Errorf("after a login that is new enough: %s", a.Header().Get("Location"))
	}
	for _, age := range []string{"-1", "x", "1.5", "99999999999"} {
		s.get(t, params(age)).check(t, http.StatusSeeOther, "invalid_request")
	}
	s.get(t, merge(params("60"), "prompt", "none")).check(t, http.StatusSeeOther, "login_required")
	s.site.user.AuthTime = time.Time{}
	s.get(t, params("100000")).check(t, http.StatusSeeOther, "login_required")

	// The ID token of somebody who has signed in again says when.
	s.site.user = signedInAt(s.clock.Now().Add(-time.Hour))
	back = sent(t, s.get(t, params("1")))
	s.clock.Advance(5 * time.Second)
	s.site.user = signedInAt(s.clock.Now())
	a := s.token(t, redeems(s.visit(t, back).location().Get("code")))
	a.check(t, http.StatusOK, "")
	if got := s.idToken(t, "RS256", a.json(t)["id_token"])["auth_time"]; got != float64(s.clock.Now().Unix()) {
		t.Errorf("auth_time %v", got)
	}
}

// A visit to the login page counts for the browser that was sent there, and once.
func TestVisitsBelongToABrowser(t *testing.T) {
	params := asks("webapp", "scope", "openid", "prompt", "login")
	for name, told := range map[string]bool{"the site tells when": true, "the site does not tell when": false} {
		t.Run(name+": begun where nobody is signed in, and ended where somebody is", func(t *testing.T) {
			s := newLoginServer(t)
			alice := s.site.user
			s.site.user, s.browser = nil, nil
			back := sent(t, s.get(t, params))
			s.clock.Advance(time.Minute)
			s.browser = nil
			if s.site.user = alice; told { // who has signed in meanwhile, for another reason
				s.site.user = signedInAt(s.clock.Now())
			} else {
				s.site.user.AuthTime = time.Time{}
			}
			s.visit(t, back).check(t, http.StatusSeeOther, "login_required")
		})
		t.Run(name+": used again", func(t *testing.T) {
			s := newLoginServer(t)
			alice := s.site.user
			s.site.user = nil
			back := sent(t, s.get(t, params))
			s.clock.Advance(time.Minute)
			if s.site.user = alice; told {
				s.site.user = signedInAt(s.clock.Now())
			} else {
				s.site.user.AuthTime = time.Time{}
			}
			if a := s.visit(t, back); a.location().Get("code") == "" {
				t.Fatalf("after the login: %s", a.Header().Get("Location"))
			}
			s.visit(t, back).check(t, http.StatusSeeOther, "login_required")
		})
	}
	t.Run("two windows", func(t *testing.T) {
		s := newLoginServer(t)
		reloaded := sent(t, s.get(t, params))
		first := sent(t, s.get(t, params))
		second := sent(t, s.get(t, merge(params, "state", "other")))
		s.clock.Advance(time.Minute)
		s.site.user = signedInAt(s.clock.Now())
		for name, back := range map[string]*url.URL{"first": first, "second": second} {
			if a := s.visit(t, back); a.location().Get("code") == "" {
				t.Errorf("the %s window: %s", name, a.Header().Get("Location"))
			}
		}
		for _, back := range []*url.URL{reloaded, first, second} {
			s.visit(t, back).check(t, http.StatusSeeOther, "login_required")
		}
		if len(s.browser) > 0 {
			t.Errorf("cookies are left: %v", s.browser)
		}
	})
	t.Run("too many windows", func(t *testing.T) {
		s := newLoginServer(t)
		first := sent(t, s.get(t, params))
		var last *url.URL
		for n := range 50 {
			last = sent(t, s.get(t, merge(params, "state", strconv.Itoa(n))))
		}
		for _, cookie := range s.browser {
			if len(cookie.Value) > 1000 {
				t.Errorf("the cookie has %d bytes", len(cookie.Value))
			}
		}
		s.clock.Advance(time.Minute)
		s.site.user = signedInAt(s.clock.Now())
		s.visit(t, first).check(t, http.StatusSeeOther, "login_required")
		if a := s.visit(t, last); a.location().Get("code") == "" {
			t.Errorf("the last window: %s", a.Header().Get("Location"))
		}
	})
	t.Run("the cookie", func(t *testing.T) {
		s := newLoginServer(t)
		got := s.get(t, params).Result().Cookies()
		if len(got) != 1 || !got[0].Secure || !got[0].HttpOnly || got[0].SameSite != http.SameSiteLaxMode || got[0].Path != "/oauth/authorize" {
			t.Errorf("cookies %v", got)
		}
	})
	t.Run("no cookie without need", func(t *testing.T) {
		s := newLoginServer(t)
		s.site.user = nil
		if got := s.get(t, asks("webapp")).Result().Cookies(); len(got) > 0 {
			t.Errorf("cookies %v", got)
		}
	})
}

// The way back from the login page has the request once.
func TestLoginURLIsShort(t *testing.T) {
	s := newLoginServer(t)
	long := strings.Repeat("s", 4000)
	back := sent(t, s.get(t, asks("webapp", "prompt", "login", "state", long)))
	if proof := back.Query().Get(afterLogin); proof == "" || len(proof) > 400 {
		t.Errorf("the proof has %d bytes", len(proof))
	}
	back = sent(t, s.get(t, s.pushed(t, asks("webapp", "prompt", "login", "state", long))))
	if len(back.Query()) != 3 || len(back.String()) > 800 {
		t.Errorf("the way back of a pushed request has %d bytes: %s", len(back.String()), back)
	}
	s.clock.Advance(time.Minute)
	s.site.user = signedInAt(s.clock.Now())
	changed := back.Query()
	changed.Set("request_uri", s.pushed(t, asks("webapp", "prompt", "login", "state", "other")).Get("request_uri"))
	if a := s.get(t, changed); a.location().Has("code") {
		t.Error("the proof counts for another request")
	}
	if a := s.visit(t, back); a.location().Get("code") == "" {
		t.Errorf("%d %s", a.Code, a.Header().Get("Location"))
	}
}

// Whoever signs in with another account from the consent page has signed in, and is not sent again.
func TestSwitchedAccountIsANewLogin(t *testing.T) {
	s := newLoginServer(t, client("webapp", func(c *storage.Client) { c.Consent = storage.ConsentAlways }))
	s.site.again = ""
	for _, demand := range [][2]string{{"prompt", "login"}, {"max_age", "0"}, {"prompt", "select_account"}} {
		s.site.user = signedInAt(s.clock.Now().Add(-time.Hour))
		back := sent(t, s.get(t, asks("webapp", demand[0], demand[1])))
		s.clock.Advance(time.Minute)
		s.site.user = signedInAt(s.clock.Now())
		page := s.visit(t, back)
		page.sealed(t)
		tags, _ := pagestest.Parts(strings.NewReader(page.Body.String()))
		var links []string
		for _, tag := range tags {
			for _, attr := range tag.Attr {
				if attr.Key == "href" && strings.HasPrefix(attr.Val, "/login?") {
					links = append(links, attr.Val)
				}
			}
		}
		if len(links) != 1 {
			t.Fatalf("links to the login: %q", links)
		}
		link, err := url.Parse(links[0])
		must(t, err)
		back, err = url.Parse(link.Query().Get("return_to"))
		must(t, err)
		s.clock.Advance(time.Minute)
		s.site.user = &User{Subject: "bob", AuthTime: s.clock.Now()}
		s.visit(t, back).sealed(t)
	}
}

// The consent page of a person who has signed in anew cannot be answered with an older session of the same person.
func TestConsentOfANewLogin(t *testing.T) {
	s := newLoginServer(t, client("webapp", func(c *storage.Client) { c.Consent = storage.ConsentAlways }))
	old := s.site.user
	back := sent(t, s.get(t, asks("webapp", "prompt", "login")))
	s.clock.Advance(time.Minute)
	fresh := signedInAt(s.clock.Now())
	s.site.user = fresh
	page := s.visit(t, back)
	page.sealed(t)
	s.site.user = old
	checkErrorPage(t, s.decide(t, page, "allow"))
	s.site.user = fresh
	if a := s.decide(t, page, "allow"); a.location().Get("code") == "" {
		t.Errorf("%d %s", a.Code, a.Header().Get("Location"))
	}
}

// A consent page that was left open is no way around max_age.
func TestConsentAfterMaxAge(t *testing.T) {
	for _, tt := range []struct {
		name    string
		age     string
		reading time.Duration
		want    string
	}{
		{"read for ten minutes", "300", 10 * time.Minute, ""},
		{"left open", "300", 11 * time.Minute, "login_required"},
		{"a login of the last seconds", "0", time.Minute, ""},
		{"a login of the last seconds, left open", "0", 11 * time.Minute, "login_required"},
		{"left open, and young enough", "3600", 50 * time.Minute, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newLoginServer(t, client("webapp", func(c *storage.Client) { c.Consent = storage.ConsentAlways }))
			s.site.user = signedInAt(s.clock.Now().Add(-4 * time.Minute))
			page := s.get(t, asks("webapp", "max_age", tt.age))
			if tt.age == "0" {
				s.site.user = signedInAt(s.clock.Now())
				page = s.visit(t, sent(t, page))
			}
			s.clock.Advance(tt.reading)
			got := s.decide(t, page, "allow").location()
			if got.Get("error") != tt.want || got.Has("code") != (tt.want == "") {
				t.Errorf("the client gets %v, want %q", got, tt.want)
			}
		})
	}
}

// RFC 9470 §5, OpenID Connect Core §3.1.2.1, §5.5.1.1.
func TestACRValues(t *testing.T) {
	essential := func(values string) []string {
		return []string{"claims", `{"id_token": {"acr": {"essential": true, "values": ` + values + `}}}`}
	}
	for name, tt := range map[string]struct {
		acr, after string // of the session; "": the person is not sent
		demand     []string
		want       string // error
	}{
		"wanted, and so it is":      {"mfa", "", []string{"acr_values", "mfa"}, ""},
		"wanted, and it is higher":  {"hw", "", []string{"acr_values", "mfa"}, ""},
		"one of several":            {"pwd", "", []string{"acr_values", "hw pwd"}, ""},
		"wanted, and reached":       {"pwd", "mfa", []string{"acr_values", "mfa"}, ""},
		"wanted, and not reached":   {"pwd", "pwd", []string{"acr_values", "mfa"}, ""},
		"wanted, and unknown here":  {"pwd", "", []string{"acr_values", "gold"}, ""},
		"wanted by claims":          {"pwd", "pwd", []string{"claims", `{"id_token": {"acr": {"values": ["mfa"]}}}`}, ""},
		"wanted without a page":     {"pwd", "", []string{"acr_values", "mfa", "prompt", "none"}, ""},
		"a must, and so it is":      {"mfa", "", essential(`["mfa"]`), ""},
		"a must, and it is another": {"hw", "hw", essential(`["mfa"]`), "unmet_authentication_requirements"},
		"a must, and reached":       {"pwd", "mfa", essential(`["mfa", "hw"]`), ""},
		"a must, and not reached":   {"pwd", "pwd", essential(`["mfa"]`), "unmet_authentication_requirements"},
		"a must without a page":     {"pwd", "", append(essential(`["mfa"]`), "prompt", "none"), "unmet_authentication_requirements"},
		"a must that is no text":    {"pwd", "pwd", essential(`[1]`), "unmet_authentication_requirements"},
		"a must without values":     {"pwd", "", []string{"claims", `{"id_token": {"acr": {"essential": true}}}`}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newLoginServer(t)
			s.site.user.ACRValues, s.site.user.Session.ACR = []string{"pwd", "mfa", "hw"}, tt.acr
			a := s.get(t, asks("webapp", append([]string{"scope", "openid"}, tt.demand...)...))
			if tt.after != "" {
				back := sent(t, a)
				if wanted := a.location().Get("acr_values"); len(wanted) == 0 && name != "a must that is no text" && name != "wanted by claims" {
					t.Errorf("the page does not learn what is wanted: %s", a.Header().Get("Location"))
				}
				s.site.user.Session.ACR = tt.after
				a = s.visit(t, back)
			}
			if got := a.location(); got.Get("error") != tt.want || (got.Get("code") == "") != (tt.want != "") {
				t.Errorf("%d %s, want %q", a.Code, a.Header().Get("Location"), tt.want)
			}
		})
	}
}

// The login page learns what the application suggests, and nothing that is long or has control characters.
func TestHintsForTheLoginPage(t *testing.T) {
	long := make([]byte, maxHint+1)
	for i := range long {
		long[i] = 'a'
	}
	for _, tt := range []struct {
		params []string
		want   url.Values
	}{
		{[]string{"login_hint", "alice@example.com", "ui_locales", "fr de", "acr_values", "mfa"}, url.Values{"login_hint": {"alice@example.com"}, "ui_locales": {"fr de"}, "acr_values": {"mfa"}}},
		{[]string{"login_hint", "a\r\nb", "ui_locales", string(long)}, url.Values{}},
		{[]string{"prompt", "login"}, url.Values{"prompt": {"login"}}},
		{[]string{"prompt", "login select_account"}, url.Values{"prompt": {"login select_account"}}},
		{[]string{"prompt", "select_account consent"}, url.Values{"prompt": {"select_account"}}},
		{[]string{"max_age", "60"}, url.Values{}},
	} {
		s := newLoginServer(t)
		s.site.user = nil
		got := s.get(t, asks("webapp", tt.params...)).location()
		got.Del("return_to")
		if got.Encode() != tt.want.Encode() {
			t.Errorf("%q: the login page gets %v, want %v", tt.params, got, tt.want)
		}
	}
	s := newLoginServer(t)
	if got := s.get(t, asks("webapp", "max_age", "60")).location().Get("prompt"); got != "login" {
		t.Errorf("prompt %q of somebody who must sign in again", got)
	}
}

func TestSelectAccount(t *testing.T) {
	params := asks("webapp", "prompt", "select_account")
	s := newLoginServer(t)
	back := sent(t, s.get(t, params))
	if a := s.visit(t, back); a.location().Get("code") == "" { // the account that was signed in may be the selected one
		t.Errorf("%s", a.Header().Get("Location"))
	}
	s = newLoginServer(t)
	s.site.login, s.site.again = "", ""
	s.get(t, params).check(t, http.StatusSeeOther, "account_selection_required")
}

// RFC 9470: a resource wants a better login, the client asks for it, and the token that it gets passes. Introspection tells as much.
func TestStepUp(t *testing.T) {
	for name, edit := range map[string]func(*Config){"JWT": func(*Config) {}, "opaque": opaque("acc_", 0)} {
		t.Run(name, func(t *testing.T) {
			s := newLoginServer(t, edit)
			s.site.user.ACRValues, s.site.user.Session.ACR = []string{"pwd", "mfa"}, "pwd"
			resource := &bearer.Resource{Source: s.Server, Audience: []string{testAPI}, ACR: []string{"mfa"}, Leeway: jwt.Leeway}
			check := func(token string) error {
				r := httptest.NewRequest(http.MethodGet, "/", nil)
				r.Header.Set("Authorization", "Bearer "+token)
				_, err := resource.Check(r, new(bearer.Tokens), "")
				return err
			}
			a := s.token(t, redeems(s.get(t, asks("webapp", "scope", "orders")).location().Get("code")))
			a.check(t, http.StatusOK, "")
			weak := a.json(t)
			refusal, ok := errors.AsType[*bearer.Error](check(weak["access_token"].(string)))
			if !ok || !strings.Contains(refusal.Challenge, `error="insufficient_user_authentication"`) || !strings.Contains(refusal.Challenge, `acr_values="mfa"`) {
				t.Fatalf("the challenge is %v", refusal)
			}
			back := sent(t, s.get(t, asks("webapp", "scope", "orders", "acr_values", "mfa")))
			s.clock.Advance(time.Minute)
			s.site.user.AuthTime, s.site.user.Session.ACR = s.clock.Now(), "mfa"
			a = s.token(t, redeems(s.visit(t, back).location().Get("code")))
			a.check(t, http.StatusOK, "")
			strong := a.json(t)["access_token"].(string)
			if err := check(strong); err != nil {
				t.Errorf("the new token: %v", err)
			}
			r := postRequest("/oauth/introspect", url.Values{"token": {strong}}.Encode())
			r.SetBasicAuth("webapp", url.QueryEscape(webSecret))
			if got := s.do(t, r).json(t); got["acr"] != "mfa" || got["auth_time"] != float64(s.clock.Now().Unix()) {
				t.Errorf("introspection: %v", got)
			}
			a = s.token(t, refreshes(weak["refresh_token"].(string))) // which is no new login
			a.check(t, http.StatusOK, "")
			if check(a.json(t)["access_token"].(string)) == nil {
				t.Error("a refresh makes an old login a better one")
			}
		})
	}
}
