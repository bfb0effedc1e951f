package authserver

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

const wonderland = "wonderland is the password"

// testPasswords is the password grant, with a Verifier that accepts one password, for everybody but mallory.
type testPasswords struct {
	*grants.Password
	person *grants.Person // the result; nil for one with the user name as subject
	err    error          // the result instead
	hold   chan struct{}  // the result waits until this is closed
	asked  func()         // what happens while the site is asked; nil: nothing
}

func (p *testPasswords) ProvideVerifier() grants.Verifier { return p }

func (p *testPasswords) Verify(_ context.Context, username, password string) (*grants.Person, error) {
	if p.hold != nil {
		<-p.hold
	}
	if p.asked != nil {
		p.asked()
	}
	switch {
	case p.err != nil:
		return nil, p.err
	case password != wonderland || username == "mallory":
		return nil, grants.ErrBadUser
	case p.person != nil:
		return p.person, nil
	}
	return &grants.Person{Subject: username}, nil
}

// newPasswordServer returns a server with the password grant, which webapp may use.
func newPasswordServer(t *testing.T, passwords *testPasswords, edits ...func(*Config)) *testServer {
	t.Helper()
	s := newTestServer(t, append([]func(*Config){
		func(c *Config) { c.Grants = append(c.Grants, passwords) },
		client("webapp", func(c *storage.Client) { c.GrantTypes = append(c.GrantTypes, "password") }),
	}, edits...)...)
	s.seen = append(s.seen, wonderland, "hatter", "mallory", "guess")
	return s
}

// login requests tokens with user name and password from an address.
func (s *testServer) login(t *testing.T, address, username, password string, more ...string) answer {
	t.Helper()
	form := merge(url.Values{"grant_type": {"password"}, "username": {username}, "password": {password}}, more...)
	r := postRequest("/oauth/token", form.Encode())
	r.SetBasicAuth("webapp", url.QueryEscape(webSecret))
	a := answer{recorder: newRecorder()}
	if err := serveAt(s.Server, a, r, s.site, address); err != nil {
		t.Errorf("ServeHTTP: %v", err)
	}
	return a
}

const here = "192.0.2.7"

// A site may take long to answer. If the owner retires the key in that time, the token is signed with the next one.
func TestKeyIsRetiredDuringALogin(t *testing.T) {
	passwords := new(testPasswords)
	s := newPasswordServer(t, passwords)
	parts, err := jwt.Split(s.tokens(t)["access_token"].(string))
	if err != nil {
		t.Fatal(err)
	}
	header, err := parts.ParseHeader()
	if err != nil {
		t.Fatal(err)
	}
	passwords.asked = func() {
		_, err1 := s.keys.RotateNow(t.Context(), true)
		err2 := s.keys.RetireNow(t.Context(), header.KeyID)
		if err1 != nil || err2 != nil {
			t.Errorf("%v, %v", err1, err2)
		}
	}
	a := s.login(t, here, "hatter", wonderland)
	a.check(t, http.StatusOK, "")
	if _, err := s.AccessToken(t.Context(), a.json(t)["access_token"].(string), 0); err != nil {
		t.Errorf("the new token is refused: %v", err)
	}
}

func TestPasswordGrant(t *testing.T) {
	t.Run("RFC 9700 §2.4 off by default", func(t *testing.T) {
		s := newTestServer(t)
		s.login(t, here, "hatter", wonderland).check(t, http.StatusBadRequest, "unsupported_grant_type")
	})
	t.Run("RFC 6749 §5.2 not for every client", func(t *testing.T) {
		s := newPasswordServer(t, new(testPasswords), client("webapp", func(c *storage.Client) { c.GrantTypes = []string{"refresh_token"} }))
		s.login(t, here, "hatter", wonderland).check(t, http.StatusBadRequest, "unauthorized_client")
	})
	t.Run("RFC 6749 §4.3.3 tokens, which can be refreshed", func(t *testing.T) {
		s := newPasswordServer(t, &testPasswords{person: &grants.Person{Subject: "17", Claims: map[string]any{"n": json.Number("9007199254740993")}}})
		a := s.login(t, here, "hatter", wonderland, "scope", "orders")
		a.check(t, http.StatusOK, "")
		checkJSONHeaders(t, a)
		for range 3 {
			body := a.json(t)
			claims := s.claims(t, body["access_token"])
			if claims["sub"] != "17" || claims["scope"] != "orders" || claims["client_id"] != "webapp" || claims["auth_time"] == nil {
				t.Errorf("claims %v", claims)
			}
			if payload := jwtPayload(t, body["access_token"]); !strings.Contains(payload, `"n":9007199254740993`) {
				t.Errorf("a number beyond 2^53 has other digits: %s", payload)
			}
			a = s.token(t, refreshes(body["refresh_token"].(string)))
			a.check(t, http.StatusOK, "")
		}
		s.token(t, refreshes(a.json(t)["refresh_token"].(string), "scope", "profile")).check(t, http.StatusBadRequest, "invalid_scope")
	})
	t.Run("RFC 6749 §4.3.2 a wrong password and an unknown user get the same answer", func(t *testing.T) {
		s := newPasswordServer(t, new(testPasswords))
		wrong, nobody := s.login(t, here, "hatter", "x"), s.login(t, here, "mallory", wonderland)
		wrong.check(t, http.StatusBadRequest, "invalid_grant")
		nobody.check(t, http.StatusBadRequest, "invalid_grant")
		if one, two := withoutID(t, wrong), withoutID(t, nobody); one != two {
			t.Errorf("%s and %s", one, two)
		}
	})
}

// withoutID returns the body of an error without its ID.
func withoutID(t *testing.T, a answer) string {
	t.Helper()
	return strings.ReplaceAll(a.Body.String(), a.json(t)["error_id"].(string), "ID")
}

// jwtPayload returns the claims of a JWT as they are encoded.
func jwtPayload(t *testing.T, token any) string {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token.(string), ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	return string(payload)
}

func TestNobodyKnowsThePassword(t *testing.T) {
	s := newPasswordServer(t, &testPasswords{err: fmt.Errorf("asking the site about a password: %w", context.DeadlineExceeded)})
	for range 40 { // which does not count as failures
		a := s.login(t, here, "hatter", wonderland)
		a.check(t, http.StatusServiceUnavailable, "temporarily_unavailable")
		if after := a.Header().Get("Retry-After"); after != "2" {
			t.Fatalf("Retry-After %q", after)
		}
	}
	entry := s.logs.All()[s.logs.Len()-1]
	if cause := fmt.Sprint(entry.ContextMap()["cause"]); entry.Level != zap.ErrorLevel || !strings.Contains(cause, "deadline exceeded") {
		t.Errorf("logged as %v with the cause %s", entry.Level, cause)
	}
}

func TestWhoThePasswordIsOf(t *testing.T) {
	for _, tt := range []struct{ name, subject string }{
		{"RFC 9700 §4.15 the ID of a client with client_credentials", "billing"},
		{"control characters", "hatter\x00"},
		{"256 bytes", strings.Repeat("a", 256)},
		{"not UTF-8", "hatter\xff"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newPasswordServer(t, &testPasswords{person: &grants.Person{Subject: tt.subject}})
			s.login(t, here, "hatter", wonderland).check(t, http.StatusForbidden, "access_denied")
			if n := s.store.Count(t, storage.KindFamily); n != 0 {
				t.Errorf("there are %d families", n)
			}
		})
	}
}

func TestThrottleOfPasswords(t *testing.T) {
	// The defaults.
	accountLimit, addressLimit := throttle.Limit{Burst: 10, Every: time.Minute}, throttle.Limit{Burst: 30, Every: 10 * time.Second}
	// refused reports whether the answer is 429. This answer is the same for all accounts.
	refused := func(t *testing.T, a answer) bool {
		t.Helper()
		if a.Code != http.StatusTooManyRequests {
			return false
		}
		a.check(t, http.StatusTooManyRequests, "temporarily_unavailable")
		if after := a.Header().Get("Retry-After"); after == "" || after == "0" || strings.HasPrefix(after, "-") {
			t.Errorf("RFC 6585 §4: Retry-After %q", after)
		}
		return true
	}
	address := func(n int) string { return fmt.Sprintf("198.51.100.%d", n) }

	for name, account := range map[string]string{"one that is": "hatter", "one that is not": "mallory"} {
		t.Run("RFC 6749 §4.3.2 an account, "+name, func(t *testing.T) {
			s := newPasswordServer(t, new(testPasswords))
			names := []string{account, strings.ToUpper(account), " " + account, account + "\t"} // many sites treat these as one
			for n := range accountLimit.Burst {
				s.login(t, address(n), names[n%len(names)], "guess").check(t, http.StatusBadRequest, "invalid_grant")
			}
			a := s.login(t, address(100), account, wonderland)
			if !refused(t, a) || a.Header().Get("Retry-After") != "60" {
				t.Errorf("%d, Retry-After %q", a.Code, a.Header().Get("Retry-After"))
			}
			s.login(t, here, "bob", wonderland).check(t, http.StatusOK, "")
			s.clock.Advance(accountLimit.Every - time.Second)
			if !refused(t, s.login(t, address(101), account, wonderland)) {
				t.Error("let through a second too early")
			}
			s.clock.Advance(time.Second)
			s.login(t, address(101), account, "guess").check(t, http.StatusBadRequest, "invalid_grant")
			if !refused(t, s.login(t, address(102), account, "guess")) {
				t.Error("a minute allows two tries, want one")
			}
		})
	}
	for name, of := range map[string]func(n int) string{
		"an address":  func(int) string { return here },
		"IPv6 /64":    func(n int) string { return fmt.Sprintf("2001:db8:1:2::%x", n) },
		"mapped IPv4": func(n int) string { return []string{here, "::ffff:" + here}[n%2] },
	} {
		t.Run("RFC 6749 §4.3.2 "+name, func(t *testing.T) {
			s := newPasswordServer(t, new(testPasswords))
			for n := range addressLimit.Burst {
				s.login(t, of(n), fmt.Sprint("user", n), "guess").check(t, http.StatusBadRequest, "invalid_grant")
			}
			if !refused(t, s.login(t, of(1000), "hatter", wonderland)) {
				t.Error("let through")
			}
			s.login(t, "2001:db8:1:3::1", "hatter", wonderland).check(t, http.StatusOK, "")
			s.clock.Advance(addressLimit.Every)
			s.login(t, of(1001), "hatter", wonderland).check(t, http.StatusOK, "")
		})
	}
	t.Run("right passwords are not counted", func(t *testing.T) {
		s := newPasswordServer(t, new(testPasswords))
		for range 5 * addressLimit.Burst {
			s.login(t, here, "hatter", wonderland).check(t, http.StatusOK, "")
		}
		for range accountLimit.Burst {
			s.login(t, here, "hatter", "guess").check(t, http.StatusBadRequest, "invalid_grant")
		}
	})
	t.Run("guesses at once are no way past it", func(t *testing.T) {
		p := &testPasswords{hold: make(chan struct{})}
		s := newPasswordServer(t, p)
		codes := make(chan int, 50)
		next := func() int {
			select {
			case code := <-codes:
				return code
			case <-time.After(2 * time.Minute):
				t.Error("more guesses wait for the site than the account has")
			}
			return 0
		}
		var crowd sync.WaitGroup
		for n := range 50 {
			crowd.Go(func() { codes <- s.login(t, address(n), "hatter", fmt.Sprint("guess", n)).Code })
		}
		for range 50 - accountLimit.Burst { // these are refused without asking the site
			if code := next(); code != http.StatusTooManyRequests {
				t.Errorf("status %d", code)
				break
			}
		}
		close(p.hold)
		crowd.Wait()
		for range accountLimit.Burst {
			if code := next(); code != http.StatusBadRequest {
				t.Errorf("status %d", code)
			}
		}
	})
	t.Run("another server with the same throttle goes on", func(t *testing.T) {
		shared := throttle.New()
		share := func(c *Config) { c.Throttle = shared }
		fails := func(s *testServer) {
			for n := range accountLimit.Burst {
				s.login(t, address(n), "hatter", "guess")
			}
		}
		fails(newPasswordServer(t, new(testPasswords), share))
		if !refused(t, newPasswordServer(t, new(testPasswords), share).login(t, here, "hatter", wonderland)) {
			t.Error("it has forgotten")
		}
		other := newPasswordServer(t, new(testPasswords), share, func(c *Config) { c.Name = "other" })
		other.login(t, here, "hatter", wonderland).check(t, http.StatusOK, "") // another issuer has other accounts
	})
}

// vouched is a second grant with a Verifier.
type vouched struct{ *testPasswords }

func (vouched) Type() string { return "urn:example:vouched" }

func TestEveryGrantHasItsOwnVerifier(t *testing.T) {
	down := vouched{&testPasswords{err: errors.New("the directory does not answer")}}
	s := newPasswordServer(t, new(testPasswords), func(c *Config) { c.Grants = append(c.Grants, down) })
	s.login(t, here, "hatter", wonderland).check(t, http.StatusOK, "")
}
