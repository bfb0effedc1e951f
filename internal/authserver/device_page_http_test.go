package authserver

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

func TestDeviceIsDenied(t *testing.T) {
	s := newTestServer(t, withDevices)
	d := s.startDevice(t, "cli")
	a := s.decideDevice(t, s.typeCode(t, d.user), "deny")
	a.check(t, http.StatusSeeOther, "")
	if done := s.openDevice(t, strings.TrimPrefix(a.Header().Get("Location"), "/oauth/device")); !strings.Contains(text(done), "did not get access") {
		t.Errorf("the page after the denial: %s", text(done))
	}
	for range 2 {
		s.poll(t, d).check(t, http.StatusBadRequest, "access_denied")
	}
	if page := s.typeCode(t, d.user); !strings.Contains(text(page), "wrong, or it has expired") {
		t.Errorf("somebody could decide again: %s", text(page))
	}
	if n := s.store.Count(t, storage.KindConsent) + s.store.Count(t, storage.KindFamily); n != 0 {
		t.Errorf("%d records of a denial", n)
	}
}

// RFC 8628 §3.3.1, §5.4: a link fills in the code, and the person decides on a page that says who asks, from where and since when.
func TestDeviceLinkApprovesNothing(t *testing.T) {
	writes := 0
	s := newTestServer(t, withDevices, func(c *Config) { c.Store = countedWrites{c.Store, &writes} })
	s.openDevice(t, "") // which makes a key
	s.site.address = "203.0.113.9"
	d := s.startDevice(t, "cli", "scope", "orders")
	s.clock.Advance(3 * time.Minute)
	s.site.address = "192.0.2.7"
	writes = 0
	page := s.openDevice(t, "?user_code="+d.user)
	page.check(t, http.StatusOK, "")
	checkNotFramed(t, page)
	if !strings.Contains(page.Body.String(), `value="`+d.user+`"`) || strings.Contains(text(page), "The cli") {
		t.Errorf("the code is not filled in, or the page says more than it should: %s", page.Body)
	}
	for _, query := range []string{"&decision=allow", "&decision=allow&request=" + page.sealed(t)} {
		s.openDevice(t, "?user_code="+d.user+query).check(t, http.StatusOK, "")
	}
	if writes != 0 {
		t.Errorf("%d writes for GETs", writes)
	}
	ask := s.do(t, postRequest("/oauth/device", url.Values{"request": {page.sealed(t)}, "user_code": {d.user}}.Encode()))
	ask.check(t, http.StatusOK, "")
	for _, want := range []string{"The cli", "your orders", d.user, "203.0.113.9", "192.0.2.7", "3 minutes ago", "alice", "only if you have just started it yourself"} {
		if !strings.Contains(text(ask), want) {
			t.Errorf("the page lacks %q: %s", want, text(ask))
		}
	}
	s.poll(t, d).check(t, http.StatusBadRequest, "authorization_pending")
	if a := s.decideDevice(t, page, "allow"); a.Code == http.StatusSeeOther && a.location().Get("done") != "" {
		t.Error("the form for the code approves")
	}
	s.poll(t, d)
	s.decideDevice(t, ask, "allow").check(t, http.StatusSeeOther, "")
	s.poll(t, d).check(t, http.StatusOK, "")
}

// RFC 8628 §6.1: case and punctuation do not matter.
func TestUserCodeAsPeopleTypeIt(t *testing.T) {
	s := newTestServer(t, withDevices)
	d := s.startDevice(t, "cli")
	bare := strings.ReplaceAll(d.user, "-", "")
	for _, typed := range []string{strings.ToLower(d.user), bare, " " + bare[:2] + " " + bare[2:] + ".", bare[:4] + "–" + strings.ToLower(bare[4:])} {
		if page := s.typeCode(t, typed); !strings.Contains(text(page), "The cli") {
			t.Errorf("%q is not the code: %s", typed, text(page))
		}
	}
	for _, typed := range []string{bare[:7], bare + "B", bare[:7] + "1", bare[:7] + "A", strings.Repeat("B", 10_000), "", "\x00"} {
		if page := s.typeCode(t, typed); page.Code == http.StatusOK && strings.Contains(text(page), "The cli") {
			t.Errorf("%q is taken for the code", typed)
		}
		s.clock.Advance(10 * time.Minute / 5)
	}
}

// RFC 8628 §5.1.
func TestUserCodesCannotBeGuessed(t *testing.T) {
	s := newTestServer(t, withDevices)
	d := s.startDevice(t, "cli")
	for range 5 {
		if page := s.typeCode(t, "BBBB-BBBB"); page.Code != http.StatusOK || !strings.Contains(text(page), "wrong, or it has expired") {
			t.Fatalf("%d %s", page.Code, text(page))
		}
	}
	s.typeCode(t, d.user).check(t, http.StatusTooManyRequests, "temporarily_unavailable")
	s.site.address = "198.51.100.4" // the limit is one of the person
	s.typeCode(t, d.user).check(t, http.StatusTooManyRequests, "temporarily_unavailable")
	s.site.user = &User{Subject: "bob"}
	if page := s.typeCode(t, d.user); !strings.Contains(text(page), "The cli") {
		t.Errorf("somebody else cannot type the code: %s", text(page))
	}
	s.site.user = &User{Subject: "alice"}
	s.clock.Advance(2 * time.Minute)
	for range 10 { // right codes do not count
		if page := s.typeCode(t, d.user); !strings.Contains(text(page), "The cli") {
			t.Fatalf("%d %s", page.Code, text(page))
		}
	}
	t.Run("many people at one address", func(t *testing.T) {
		s := newTestServer(t, withDevices)
		refused := 0
		for n := range 60 {
			s.site.user = &User{Subject: fmt.Sprint("user", n)}
			if s.typeCode(t, "BBBB-BBBB").Code == http.StatusTooManyRequests {
				refused++
			}
		}
		if refused != 30 {
			t.Errorf("%d of 60 guesses were refused, want those beyond the limit of an address", refused)
		}
	})
}

func TestDeviceFormIsOfThePerson(t *testing.T) {
	s := newTestServer(t, withDevices)
	d := s.startDevice(t, "cli")
	ask, page := s.typeCode(t, d.user), s.openDevice(t, "")
	post := func(page answer, pairs ...string) *http.Request {
		return postRequest("/oauth/device", merge(url.Values{"request": {page.sealed(t)}}, pairs...).Encode())
	}
	t.Run("another site posts it", func(t *testing.T) {
		for _, r := range []*http.Request{post(ask, "decision", "allow"), post(page, "user_code", d.user)} {
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			if a := s.do(t, r); strings.Contains(text(a), "The cli") || a.location().Has("done") {
				t.Errorf("accepted: %d %s", a.Code, text(a))
			}
		}
	})
	t.Run("another person posts it", func(t *testing.T) {
		s.site.user = &User{Subject: "bob"}
		defer func() { s.site.user = &User{Subject: "alice"} }()
		s.do(t, post(ask, "decision", "allow")).check(t, http.StatusForbidden, "invalid_request")
		s.do(t, post(page, "user_code", d.user)).leadsTo(t, "/oauth/device?user_code="+d.user)
	})
	t.Run("nobody is signed in", func(t *testing.T) {
		s.site.user, s.site.login = nil, "https://example.com/login"
		defer func() { s.site.user, s.site.login = &User{Subject: "alice"}, "" }()
		s.do(t, post(ask, "decision", "allow")).leadsTo(t, "https://example.com/login?return_to="+url.QueryEscape("/oauth/device"))
		s.openDevice(t, "?user_code="+strings.ToLower(d.user)).
			leadsTo(t, "https://example.com/login?return_to="+url.QueryEscape("/oauth/device?user_code="+d.user))
		s.site.login = ""
		s.openDevice(t, "").check(t, http.StatusUnauthorized, "login_required")
	})
	t.Run("a consent form is no answer", func(t *testing.T) {
		s.do(t, post(s.get(t, asks("webapp")), "decision", "allow")).check(t, http.StatusForbidden, "invalid_request")
		s.do(t, post(page, "decision", "allow")).check(t, http.StatusForbidden, "invalid_request")
	})
	s.poll(t, d).check(t, http.StatusBadRequest, "authorization_pending")
	t.Run("posted twice", func(t *testing.T) {
		s.do(t, post(ask, "decision", "allow")).check(t, http.StatusSeeOther, "")
		s.do(t, post(ask, "decision", "allow")).check(t, http.StatusForbidden, "invalid_request")
		s.do(t, post(ask, "decision", "deny")).check(t, http.StatusForbidden, "invalid_request")
	})
	s.clock.Advance(5 * time.Second)
	s.poll(t, d).check(t, http.StatusOK, "")
}

func TestDeviceClientChanges(t *testing.T) {
	s := newTestServer(t, withDevices)
	d := s.startDevice(t, "cli")
	page := s.typeCode(t, d.user)
	grantTypes := s.config.Clients["cli"].GrantTypes
	s.config.Clients["cli"].GrantTypes = []string{"refresh_token"}
	s.decideDevice(t, page, "allow").check(t, http.StatusForbidden, "invalid_request")
	s.typeCode(t, d.user).check(t, http.StatusForbidden, "invalid_request")
	s.poll(t, d).check(t, http.StatusBadRequest, "unauthorized_client")
	s.config.Clients["cli"].GrantTypes = grantTypes
	s.decideDevice(t, page, "allow").check(t, http.StatusSeeOther, "")
	s.config.Clients["cli"].Scopes = []string{"profile"} // fewer than were approved
	a := s.poll(t, d)
	a.check(t, http.StatusOK, "")
	if scope := a.json(t)["scope"]; scope != "profile" {
		t.Errorf("scope is %v", scope)
	}
}

// A device stays connected when the person signs out of the browser in which the approval was given: the session is not its own.
func TestDeviceHasNoSession(t *testing.T) {
	s := newTestServer(t, openID(), withDevices, func(c *Config) {
		c.Clients["cli"].OpenID, c.Clients["cli"].Scopes = c.Clients["webapp"].OpenID, c.Clients["webapp"].Scopes
	})
	s.site.user.Session = storage.SiteSession{ID: "browser", ACR: "high"}
	d := s.startDevice(t, "cli", "scope", "openid")
	s.approveDevice(t, d)
	a := s.poll(t, d)
	a.check(t, http.StatusOK, "")
	if claims := s.idToken(t, "RS256", a.json(t)["id_token"]); claims["sid"] != nil || claims["acr"] != "high" {
		t.Errorf("claims: %v", claims)
	}
}

// A program that signs people in demands the same of a login as a website does.
func TestDeviceDemandsOnTheLogin(t *testing.T) {
	minute := time.Minute
	always := time.Duration(0)
	for _, tt := range []struct {
		name   string
		policy storage.OpenIDPolicy
		age    time.Duration // of the login, when the program asks; negative: not known
		want   string        // "ask", "login" or the error
	}{
		{"nothing", storage.OpenIDPolicy{}, -1, "ask"},
		{"a time", storage.OpenIDPolicy{RequireAuthTime: true}, time.Hour, "ask"},
		{"a time that the site does not tell", storage.OpenIDPolicy{RequireAuthTime: true}, -1, "login_required"},
		{"a recent login", storage.OpenIDPolicy{DefaultMaxAge: &minute}, 30 * time.Second, "ask"},
		{"a recent login, and this one is old", storage.OpenIDPolicy{DefaultMaxAge: &minute}, 61 * time.Second, "login"},
		{"a recent login that the site does not tell", storage.OpenIDPolicy{DefaultMaxAge: &minute}, -1, "login_required"},
		{"a new login", storage.OpenIDPolicy{DefaultMaxAge: &always}, time.Second, "login"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t, openID(), withDevices, client("cli", func(c *storage.Client) {
				tt.policy.IDTokenAlgorithm = "RS256"
				c.OpenID, c.Scopes = &tt.policy, append(c.Scopes, "openid")
			}))
			s.site.login, s.site.again = "/login", "/fresh"
			user := *s.site.user
			if tt.age >= 0 {
				user.AuthTime = s.clock.Now().Add(-tt.age)
			}
			s.site.user = &user

			orders := s.startDevice(t, "cli", "scope", "orders")
			s.approveDevice(t, orders) // which signs nobody in
			d := s.startDevice(t, "cli", "scope", "openid")
			switch page := s.typeCode(t, d.user); tt.want {
			case "ask":
				s.approveDevice(t, d)
			case "login":
				to := page.Header().Get("Location")
				if page.Code != http.StatusSeeOther || !strings.HasPrefix(to, "/fresh?") || page.location().Get("prompt") != "login" {
					t.Fatalf("%d to %s: %s", page.Code, to, page.Body)
				}
				s.clock.Advance(time.Second)
				user.AuthTime = s.clock.Now()
				s.clock.Advance(2 * time.Second)
				if back := page.location().Get("return_to"); !strings.Contains(text(s.do(t, httptest.NewRequest(http.MethodGet, back, nil))), "code") {
					t.Errorf("the way back %s", back)
				}
				s.approveDevice(t, d)
			default:
				page.check(t, http.StatusBadRequest, tt.want)
				checkErrorPage(t, page)
				s.poll(t, d).check(t, http.StatusBadRequest, "authorization_pending")
				return
			}
			if claims := s.idToken(t, "RS256", s.poll(t, d).json(t)["id_token"]); (claims["auth_time"] != nil) != !user.AuthTime.IsZero() {
				t.Errorf("ID token %v", claims)
			}
		})
	}

	// A page that was opened before the login was too old approves nothing.
	s := newTestServer(t, openID(), withDevices, client("cli", func(c *storage.Client) {
		c.OpenID, c.Scopes = &storage.OpenIDPolicy{IDTokenAlgorithm: "RS256", DefaultMaxAge: &minute}, append(c.Scopes, "openid")
	}))
	user := *s.site.user
	user.AuthTime = s.clock.Now()
	s.site.user = &user
	s.clock.Advance(2 * time.Second)
	d := s.startDevice(t, "cli", "scope", "openid")
	page := s.typeCode(t, d.user)
	s.clock.Advance(minute)
	s.decideDevice(t, page, "allow").check(t, http.StatusBadRequest, "login_required")
	s.poll(t, d).check(t, http.StatusBadRequest, "authorization_pending")
}
