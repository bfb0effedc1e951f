package authserver

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// few sets low limits.
func few(c *Config) {
	c.Limits = throttle.Limits{
		Clients:   throttle.Limit{Burst: 3, Every: time.Minute},
		Addresses: throttle.Limit{Burst: 5, Every: time.Minute},
		Tokens:    throttle.Limit{Burst: 3, Every: time.Minute},
	}
}

// from sets the client address of the requests.
func (s *testServer) from(address string) { s.site.address = address }

func wrong(id string) url.Values { return asBilling("client_id", id, "client_secret", "wrong") }

// slow checks that a response is the refusal after too many failures (RFC 6585 §4).
func (a answer) slow(t *testing.T) {
	t.Helper()
	a.check(t, http.StatusTooManyRequests, "temporarily_unavailable")
	if got := a.Header().Get("Retry-After"); got != "60" {
		t.Errorf("Retry-After %q, want 60", got)
	}
}

func TestWrongSecretsAreThrottledByClient(t *testing.T) {
	for _, path := range []string{"/oauth/token", "/oauth/introspect", "/oauth/revoke"} {
		t.Run(path, func(t *testing.T) {
			s := newTestServer(t, few)
			ask := func(form url.Values) answer {
				t.Helper()
				return s.do(t, postRequest(path, merge(form, "token", "x").Encode()))
			}
			s.from("192.0.2.1")
			ask(asBilling()).check(t, http.StatusOK, "")
			for n := range 3 {
				s.from("198.51.100." + strconv.Itoa(n))
				ask(wrong("billing")).check(t, http.StatusUnauthorized, "invalid_client")
			}
			s.from("198.51.100.9")
			ask(wrong("billing")).slow(t)
			ask(asBilling()).slow(t)
			ask(merge(wrong("webapp"))).check(t, http.StatusUnauthorized, "invalid_client")

			s.from("192.0.2.1")
			ask(asBilling()).check(t, http.StatusOK, "")
			s.clock.Advance(time.Minute)
			s.from("198.51.100.9")
			ask(asBilling()).check(t, http.StatusOK, "")
		})
	}
}

func TestWrongSecretsAreThrottledByAddress(t *testing.T) {
	s := newTestServer(t, few)
	s.from("2001:db8:1:2::1")
	s.token(t, asBilling()).check(t, http.StatusOK, "")
	for n := range 5 {
		s.from("2001:db8:1:2::" + strconv.Itoa(n+2))
		s.token(t, wrong("nobody"+strconv.Itoa(n))).check(t, http.StatusUnauthorized, "invalid_client")
	}
	s.token(t, wrong("nobody")).slow(t)
	s.token(t, wrong("webapp")).slow(t)
	t.Run("a client that is known there goes on", func(t *testing.T) {
		s.token(t, asBilling()).check(t, http.StatusOK, "")
	})
	t.Run("but guesses of its secret are bounded", func(t *testing.T) {
		for range 3 {
			s.token(t, wrong("billing")).check(t, http.StatusUnauthorized, "invalid_client")
		}
		s.token(t, asBilling()).slow(t)
	})
	t.Run("a public client has no secret to guess", func(t *testing.T) {
		s.token(t, redeems("x", "client_id", "spa")).check(t, http.StatusBadRequest, "invalid_grant")
	})
	t.Run("another network is another address", func(t *testing.T) {
		s.from("2001:db8:1:3::1")
		s.token(t, wrong("webapp")).check(t, http.StatusUnauthorized, "invalid_client")
	})
}

// Invalid codes and tokens of a client or from an address do not lock out clients with valid ones.
func TestBadCodesAndTokensAreThrottled(t *testing.T) {
	for name, bad := range map[string]url.Values{"code": redeems("garbage"), "refresh token": refreshes("garbage")} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, few, withoutConsent("webapp"))
			for range 3 {
				s.token(t, bad).check(t, http.StatusBadRequest, "invalid_grant")
			}
			s.token(t, bad).slow(t)
			s.tokens(t)
			s.token(t, asBilling("grant_type", "refresh_token")).check(t, http.StatusBadRequest, "unauthorized_client")
			s.clock.Advance(time.Minute)
			s.token(t, bad).check(t, http.StatusBadRequest, "invalid_grant")
		})
	}
}

func TestOtherRefusalsAreNoGuesses(t *testing.T) {
	s := newTestServer(t, few)
	for range 20 {
		s.token(t, redeems("")).check(t, http.StatusBadRequest, "invalid_request")
		s.token(t, asBilling("scope", "magic")).check(t, http.StatusBadRequest, "invalid_scope")
		s.token(t, redeems("x"), header("Authorization", "")).check(t, http.StatusUnauthorized, "invalid_client")
	}
	s.token(t, wrong("billing")).check(t, http.StatusUnauthorized, "invalid_client")
}

// aliceOnly is a password grant with one account.
type aliceOnly struct{}

func (aliceOnly) Type() string { return "password" }

func (aliceOnly) ProvideVerifier() grants.Verifier { return aliceOnly{} }

func (aliceOnly) Verify(_ context.Context, username, password string) (*grants.Person, error) {
	if username != "alice" || password != "right" {
		return nil, grants.ErrBadUser
	}
	return &grants.Person{Subject: username}, nil
}

func (aliceOnly) Exchange(ctx context.Context, req *grants.Request) (*grants.Authorization, error) {
	person, err := req.Verifier.Verify(ctx, req.Form.Get("username"), req.Form.Get("password"))
	if err != nil {
		return nil, err
	}
	return &grants.Authorization{Subject: person.Subject}, nil
}

// RFC 6749 §4.3.2
func TestPasswordGuessesElsewhereLockNobodyOut(t *testing.T) {
	s := newTestServer(t, few, func(c *Config) {
		c.Grants = append(c.Grants, aliceOnly{})
		c.Limits.Passwords = throttle.Limit{Burst: 3, Every: time.Minute}
		c.Clients["billing"].GrantTypes = []string{"password"}
	})
	logIn := func(password string) answer {
		return s.token(t, asBilling("grant_type", "password", "username", "alice", "password", password))
	}
	logIn("right").check(t, http.StatusOK, "")
	s.from("198.51.100.1")
	for range 3 {
		logIn("wrong").check(t, http.StatusBadRequest, "invalid_grant")
	}
	logIn("right").slow(t)
	s.from("198.51.100.2")
	logIn("right").slow(t)
	s.from("")
	logIn("right").check(t, http.StatusOK, "")
	s.clock.Advance(time.Minute)
	s.from("198.51.100.2")
	logIn("right").check(t, http.StatusOK, "")
}

func TestBadTokensAtAGuardAreThrottled(t *testing.T) {
	s := newTestServer(t, few)
	good, _ := s.token(t, asBilling()).json(t)["access_token"].(string)
	address := "192.0.2.1"
	resource := &bearer.Resource{
		Source: s.Server, Audience: []string{testIssuer}, Monitor: s.Monitor(),
	}
	check := func(token string, want int) {
		t.Helper()
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		_, err := resource.Check(r, new(bearer.Tokens), address)
		refusal, _ := err.(*bearer.Error) //nolint:errorlint // never wrapped
		if status := statusOf(refusal); status != want {
			t.Errorf("%d, want %d", status, want)
		}
		if want == http.StatusTooManyRequests && refusal.RetryAfter != time.Minute {
			t.Errorf("retry after %s", refusal.RetryAfter)
		}
	}
	for range 3 {
		check("garbage", http.StatusUnauthorized)
	}
	check("garbage", http.StatusTooManyRequests)
	check(good, http.StatusOK)
	address = "192.0.2.2"
	check("garbage", http.StatusUnauthorized)
}

func statusOf(refusal *bearer.Error) int {
	if refusal == nil {
		return http.StatusOK
	}
	return refusal.Status
}

func TestThrottleOff(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.Limits.Off = true })
	for range 1000 {
		s.token(t, wrong("billing")).check(t, http.StatusUnauthorized, "invalid_client")
		s.token(t, redeems("x", "client_id", "spa")).check(t, http.StatusBadRequest, "invalid_grant")
	}
	s.token(t, asBilling()).check(t, http.StatusOK, "")
}

func TestThrottleOutlivesTheServer(t *testing.T) {
	s := newTestServer(t, few, func(c *Config) { c.Throttle = throttle.New() })
	for range 3 {
		s.token(t, wrong("billing")).check(t, http.StatusUnauthorized, "invalid_client")
	}
	s.restart(t, s.config)
	s.token(t, wrong("billing")).slow(t)
}

// The throttle keeps account names, which a request can make as long as its body, as hashes.
func TestLongAccountNamesAreShortened(t *testing.T) {
	long := strings.Repeat("a", 60<<10)
	if key := accountKey(long); len(key) > 64 || key == accountKey(long+"b") || key != accountKey(" "+strings.ToUpper(long)) {
		t.Errorf("%d bytes: %.100s", len(key), key)
	}
}

// What one user can make the server store is bounded: a browser that is sent back again and again gets no more codes.
func TestCodesOfOneUserAreBounded(t *testing.T) {
	s := newTestServer(t, withoutConsent("webapp"), withoutConsent("spa"))
	ask := func() string { return s.get(t, asks("webapp")).location().Get("error") }
	got := 0
	for range 100 {
		if ask() == "" {
			got++
		}
	}
	if n := s.store.Count(t, storage.KindFamily); got != 20 || n != 20 {
		t.Errorf("100 requests within a moment give %d codes and %d records", got, n)
	}
	refused := s.get(t, asks("webapp"))
	refused.check(t, http.StatusSeeOther, "temporarily_unavailable") // RFC 6749 §4.1.2.1
	if refused.location().Get("state") != "xyz" {
		t.Errorf("the refusal goes to %s", refused.Header().Get("Location"))
	}
	line := s.logs.FilterField(zap.String("error_id", refused.location().Get("error_id"))).All()
	if len(line) != 1 || line[0].ContextMap()["setting"] != "throttle: codes" || line[0].ContextMap()["expected"] != "20 in 1m0s, 200 in 24h0m0s" {
		t.Errorf("the log says %v", line)
	}

	t.Run("at another client", func(t *testing.T) { s.code(t, asks("spa")) })
	t.Run("another user", func(t *testing.T) {
		s.site.user = &User{Subject: "bob"}
		s.code(t, asks("webapp"))
		s.site.user = &User{Subject: "alice"}
	})
	t.Run("a moment later", func(t *testing.T) {
		s.clock.Advance(3 * time.Second)
		if err := ask(); err != "" {
			t.Error(err)
		}
		if err := ask(); err != "temporarily_unavailable" {
			t.Errorf("a second code: %q", err)
		}
	})
	t.Run("within a day", func(t *testing.T) {
		s.clock.Advance(24 * time.Hour)
		got := 0
		for range 24 * 30 {
			if ask() == "" {
				got++
			}
			s.clock.Advance(2 * time.Minute)
		}
		if got < 200 || got > 400 { // 200 at once, and each again after its share of the day
			t.Errorf("%d codes", got)
		}
	})
}

// A script that logs in with a password for each of its jobs always gets an access token, and its user gets codes. But what the
// user can make the server store is bounded.
func TestPasswordLoginsOfOneUserAreBounded(t *testing.T) {
	s := newPasswordServer(t, new(testPasswords), withoutConsent("webapp"))
	refreshable := 0
	for range 50 {
		a := s.login(t, here, "alice", wonderland)
		a.check(t, http.StatusOK, "")
		if body := a.json(t); body["refresh_token"] != nil {
			refreshable++
		} else if body["access_token"] == nil {
			t.Fatalf("no access token: %v", body)
		}
	}
	if n := s.store.Count(t, storage.KindFamily); refreshable != 20 || n != 20 {
		t.Errorf("50 logins within a moment give %d refresh tokens and %d records", refreshable, n)
	}
	lines := s.logs.FilterMessage("no refresh token: too many for this user and client").All()
	if len(lines) != 30 || lines[0].ContextMap()["setting"] != "throttle: codes" {
		t.Errorf("the log says it %d times: %v", len(lines), lines)
	}
	s.code(t, asks("webapp"))
}

// Codes that could not be stored cost nothing.
func TestCodesThatFailAreNotCounted(t *testing.T) {
	s := newTestServer(t, withoutConsent("webapp"))
	s.tokens(t) // the keys are loaded
	s.store.Err = errDown
	for range 100 {
		s.get(t, asks("webapp")).check(t, http.StatusSeeOther, "temporarily_unavailable")
	}
	s.store.Err = nil
	s.code(t, asks("webapp"))
}

func TestCodesWithoutLimits(t *testing.T) {
	s := newTestServer(t, withoutConsent("webapp"), func(c *Config) { c.Limits.Off = true })
	for range 250 {
		s.code(t, asks("webapp"))
	}
}

// RFC 6749 §4.3.3: a login with a password starts a family too. Beyond the limit it still gets an access token.
func TestRefreshTokensOfPasswordsAreBounded(t *testing.T) {
	s := newTestServer(t, func(c *Config) {
		c.Grants = append(c.Grants, offlineAlice{})
		c.Limits.Codes = []throttle.Limit{{Burst: 5, Every: time.Hour}}
		c.Clients["billing"].GrantTypes = []string{"password", "refresh_token"}
	})
	refreshable := 0
	for range 20 {
		a := s.token(t, asBilling("grant_type", "password", "username", "alice", "password", "right"))
		a.check(t, http.StatusOK, "")
		if body := a.json(t); body["refresh_token"] != nil {
			refreshable++
			s.token(t, asBilling("grant_type", "refresh_token", "refresh_token", body["refresh_token"].(string))).check(t, http.StatusOK, "")
		}
	}
	if n := s.store.Count(t, storage.KindFamily); refreshable != 5 || n != 5 {
		t.Errorf("20 logins give %d refresh tokens and %d records", refreshable, n)
	}
}

// offlineAlice is aliceOnly with refresh tokens.
type offlineAlice struct{ aliceOnly }

func (offlineAlice) Exchange(ctx context.Context, req *grants.Request) (*grants.Authorization, error) {
	auth, err := aliceOnly{}.Exchange(ctx, req)
	if err == nil {
		auth.Offline = true
	}
	return auth, err
}
