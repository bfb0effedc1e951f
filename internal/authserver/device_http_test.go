package authserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
	"github.com/caddy-oauth/caddy-oauth/internal/pages/pagestest"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// withDevices adds clients that ask for access on other devices: the public cli, and the confidential tv.
func withDevices(c *Config) {
	for _, id := range []string{"cli", "tv"} {
		client := *c.Clients["spa"]
		client.ID, client.Name, client.RedirectURIs = id, "The "+id, nil
		client.GrantTypes = []string{grants.DeviceCodeType, "refresh_token"}
		client.RefreshToken.Retry = time.Minute
		if id == "tv" {
			client.SecretHashes = []string{clients.HashSecret(webSecret)}
			client.RefreshToken.Retry = storage.RetryUntilUsed
		}
		c.Clients[id] = &client
	}
}

// device is what a program got from the device authorization endpoint.
type device struct{ client, code, user string }

// startDevice asks for a device code.
func (s *testServer) startDevice(t *testing.T, client string, pairs ...string) device {
	t.Helper()
	a := s.askDevice(t, client, pairs...)
	a.check(t, http.StatusOK, "")
	body := a.json(t)
	d := device{client, body["device_code"].(string), body["user_code"].(string)}
	s.seen = append(s.seen, d.code, d.user, strings.ReplaceAll(d.user, "-", ""))
	return d
}

func (s *testServer) askDevice(t *testing.T, client string, pairs ...string) answer {
	t.Helper()
	form := merge(url.Values{"client_id": {client}}, pairs...)
	if client == "tv" {
		form.Set("client_secret", webSecret)
	}
	return s.do(t, postRequest("/oauth/device_authorization", form.Encode()))
}

// poll asks for the tokens.
func (s *testServer) poll(t *testing.T, d device, pairs ...string) answer {
	t.Helper()
	form := merge(url.Values{"grant_type": {grants.DeviceCodeType}, "device_code": {d.code}, "client_id": {d.client}}, pairs...)
	if d.client == "tv" && !form.Has("client_secret") {
		form.Set("client_secret", webSecret)
	}
	return s.token(t, form)
}

// openDevice opens the page.
func (s *testServer) openDevice(t *testing.T, query string) answer {
	t.Helper()
	return s.do(t, httptest.NewRequest(http.MethodGet, "/oauth/device"+query, nil))
}

// typeCode types a code on the page.
func (s *testServer) typeCode(t *testing.T, code string) answer {
	t.Helper()
	page := s.openDevice(t, "")
	return s.do(t, postRequest("/oauth/device", url.Values{"request": {page.sealed(t)}, "user_code": {code}}.Encode()))
}

func (s *testServer) decideDevice(t *testing.T, page answer, decision string) answer {
	t.Helper()
	return s.do(t, postRequest("/oauth/device", url.Values{"request": {page.sealed(t)}, "decision": {decision}}.Encode()))
}

// approveDevice has the person approve a program.
func (s *testServer) approveDevice(t *testing.T, d device) {
	t.Helper()
	a := s.decideDevice(t, s.typeCode(t, d.user), "allow")
	a.check(t, http.StatusSeeOther, "")
	if done := s.openDevice(t, strings.TrimPrefix(a.Header().Get("Location"), "/oauth/device")); !strings.Contains(text(done), "now has access") {
		t.Fatalf("the page after the approval: %s", text(done))
	}
}

// text returns the text of a page.
func text(a answer) string {
	_, text := pagestest.Parts(strings.NewReader(strings.ReplaceAll(a.Body.String(), "</d", " </d")))
	return strings.Join(strings.Fields(text), " ")
}

func TestDeviceAuthorizationResponse(t *testing.T) {
	s := newTestServer(t, withDevices)
	for _, client := range []string{"cli", "tv"} {
		a := s.askDevice(t, client, "scope", "orders")
		a.check(t, http.StatusOK, "")
		body := a.json(t)
		user, _ := body["user_code"].(string)
		if !regexp.MustCompile(`^[BCDFGHJKLMNPQRSTVWXZ]{4}-[BCDFGHJKLMNPQRSTVWXZ]{4}$`).MatchString(user) { // RFC 8628 §6.1
			t.Errorf("user_code is %q", user)
		}
		delete(body, "user_code")
		if code, _ := body["device_code"].(string); len(code) != 53 {
			t.Errorf("device_code is %q", code)
		}
		delete(body, "device_code")
		want := fmt.Sprint(map[string]any{ // RFC 8628 §3.2
			"verification_uri": testIssuer + "/oauth/device", "verification_uri_complete": testIssuer + "/oauth/device?user_code=" + user,
			"expires_in": float64(600), "interval": float64(5),
		})
		if got := fmt.Sprint(body); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got := a.Header().Get("Cache-Control"); got != "no-store" {
			t.Errorf("Cache-Control is %q", got)
		}
	}
}

func TestDeviceAuthorizationRefusals(t *testing.T) {
	tests := []struct {
		name, client string
		pairs        []string
		status       int
		code         string
	}{
		{"RFC 8628 §3.1 client authentication", "tv", []string{"client_id", "webapp"}, http.StatusUnauthorized, "invalid_client"},
		{"unknown client", "nobody", nil, http.StatusUnauthorized, "invalid_client"},
		{"a client without the grant type", "spa", nil, http.StatusBadRequest, "unauthorized_client"},
		{"a scope that the client may not have", "cli", []string{"scope", "admin"}, http.StatusBadRequest, "invalid_scope"},
		{"RFC 8707 §2 a resource that the client may not have", "cli", []string{"resource", "https://other.example.com"}, http.StatusBadRequest, "invalid_target"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t, withDevices)
			if tt.client == "tv" {
				a := s.do(t, postRequest("/oauth/device_authorization", "client_id=tv&client_secret=wrong"))
				a.check(t, tt.status, tt.code)
				return
			}
			s.askDevice(t, tt.client, tt.pairs...).check(t, tt.status, tt.code)
			if n := s.store.count(t, storage.KindDevice) + s.store.count(t, storage.KindUserCode); n != 0 {
				t.Errorf("a refused request left %d records", n)
			}
		})
	}
}

func TestDeviceGetsTokensOnceApproved(t *testing.T) {
	for _, client := range []string{"cli", "tv"} {
		t.Run(client, func(t *testing.T) {
			s := newTestServer(t, withDevices)
			s.site.user.Claims = map[string]any{"name": "Alice"}
			d := s.startDevice(t, client, "scope", "orders", "resource", testAPI)
			s.poll(t, d).check(t, http.StatusBadRequest, "authorization_pending")
			s.approveDevice(t, d)
			s.clock.Advance(5 * time.Second)
			a := s.poll(t, d)
			a.check(t, http.StatusOK, "")
			tokens := a.json(t)
			claims := s.claims(t, tokens["access_token"])
			if claims["sub"] != "alice" || claims["client_id"] != client || claims["scope"] != "orders" || claims["name"] != "Alice" || claims["aud"] != testAPI {
				t.Errorf("claims: %v", claims)
			}
			refreshed := s.token(t, merge(refreshes(tokens["refresh_token"].(string)), "client_id", client, "client_secret", map[string]string{"tv": webSecret}[client]))
			refreshed.check(t, http.StatusOK, "")
			if _, text := s.openApps(t, ""); !strings.Contains(text, "The "+client) {
				t.Errorf("the page of apps lacks it: %s", text)
			}
		})
	}
}

func TestDeviceIDToken(t *testing.T) {
	s := newTestServer(t, openID(), withDevices, func(c *Config) {
		c.Clients["cli"].OpenID, c.Clients["cli"].Scopes = c.Clients["webapp"].OpenID, c.Clients["webapp"].Scopes
	})
	s.site.user.AuthTime = s.clock.Now().Add(-time.Hour)
	d := s.startDevice(t, "cli", "scope", "openid")
	s.approveDevice(t, d)
	a := s.poll(t, d)
	a.check(t, http.StatusOK, "")
	claims := s.idToken(t, "RS256", a.json(t)["id_token"])
	if claims["sub"] != "alice" || claims["aud"] != "cli" || claims["auth_time"] != float64(s.site.user.AuthTime.Unix()) {
		t.Errorf("claims: %v", claims)
	}
}

// RFC 8628 §3.5.
func TestDevicePolls(t *testing.T) {
	s := newTestServer(t, withDevices)
	d := s.startDevice(t, "cli")
	after := func(wait time.Duration, code string) {
		t.Helper()
		s.clock.Advance(wait)
		s.poll(t, d).check(t, http.StatusBadRequest, code)
	}
	after(0, "authorization_pending")
	after(5*time.Second, "authorization_pending")
	after(2*time.Second, "slow_down")
	after(5*time.Second, "slow_down") // the interval is 10 seconds now, and then 15
	after(15*time.Second, "authorization_pending")
	after(14*time.Second, "authorization_pending") // a second of jitter
	s.approveDevice(t, d)
	s.poll(t, d).check(t, http.StatusOK, "") // whoever has waited for a person need not wait more
}

func TestDevicePollsAreNoFailures(t *testing.T) {
	s := newTestServer(t, withDevices)
	d := s.startDevice(t, "cli")
	s.poll(t, d) // which makes a key
	before := s.logs.Len()
	for range 3 {
		a := s.poll(t, d)
		if body := a.json(t); body["error_id"] != nil {
			t.Errorf("a poll has an error ID: %s", a.Body)
		}
	}
	for _, entry := range s.logs.All()[before:] {
		if entry.Level > zapcore.DebugLevel {
			t.Errorf("a poll is in the log: %s", entry.Message)
		}
	}
}

func TestDevicePollsWriteLittle(t *testing.T) {
	writes := 0
	s := newTestServer(t, withDevices, func(c *Config) { c.Store = countedWrites{c.Store, &writes} })
	d := s.startDevice(t, "cli")
	s.poll(t, d)
	writes = 0
	for range 20 {
		s.clock.Advance(5 * time.Second)
		s.poll(t, d).check(t, http.StatusBadRequest, "authorization_pending")
	}
	if writes != 0 {
		t.Errorf("%d writes for polls in time", writes)
	}
	for range 100 {
		s.poll(t, d).check(t, http.StatusBadRequest, "slow_down")
	}
	if writes != 11 { // from 5 to 60 seconds
		t.Errorf("%d writes for polls that come too often", writes)
	}
}

// countedWrites counts the writes to a store.
type countedWrites struct {
	storage.Store
	n *int
}

func (c countedWrites) Put(ctx context.Context, key storage.Key, value []byte, expires time.Time) error {
	*c.n++
	return c.Store.Put(ctx, key, value, expires)
}

func (c countedWrites) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	return c.Store.Update(ctx, key, func(old []byte) ([]byte, time.Time, error) {
		value, expires, err := change(old)
		if err == nil {
			*c.n++
		}
		return value, expires, err
	})
}

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
	if n := s.store.count(t, storage.KindConsent) + s.store.count(t, storage.KindFamily); n != 0 {
		t.Errorf("%d records of a denial", n)
	}
}

func TestDeviceExpires(t *testing.T) {
	s := newTestServer(t, withDevices)
	d := s.startDevice(t, "cli")
	page := s.typeCode(t, d.user)
	s.clock.Advance(10 * time.Minute)
	s.poll(t, d).check(t, http.StatusBadRequest, "expired_token")
	s.decideDevice(t, page, "allow").check(t, http.StatusForbidden, "invalid_request")
	if page := s.typeCode(t, d.user); !strings.Contains(text(page), "wrong, or it has expired") {
		t.Errorf("the code is still good: %s", text(page))
	}
	s.poll(t, d).check(t, http.StatusBadRequest, "expired_token")
	s.clock.Advance(time.Hour) // the record is gone
	s.poll(t, d).check(t, http.StatusBadRequest, "expired_token")
}

func TestDeviceCodesOfOthers(t *testing.T) {
	s := newTestServer(t, withDevices)
	d := s.startDevice(t, "cli")
	s.approveDevice(t, d)
	for name, code := range map[string]string{
		"invented": strings.Repeat("a", 53), "short": "abc", "damaged": d.code[:20] + "x" + d.code[21:], "user code": d.user,
	} {
		if name == "damaged" && d.code[20] == 'x' {
			continue
		}
		t.Run(name, func(t *testing.T) {
			s.poll(t, device{client: "cli", code: code}).check(t, http.StatusBadRequest, "invalid_grant")
		})
	}
	s.poll(t, device{client: "tv", code: d.code}).check(t, http.StatusBadRequest, "invalid_grant")
	s.poll(t, d, "device_code", "").check(t, http.StatusBadRequest, "invalid_request")
	s.poll(t, d).check(t, http.StatusOK, "")
}

// An answer with tokens that is lost can be had again under the conditions of a refresh, and nobody else gets a second one.
func TestDeviceCodeIsUsedOnce(t *testing.T) {
	get := func(t *testing.T, s *testServer, d device) map[string]any {
		t.Helper()
		a := s.poll(t, d)
		a.check(t, http.StatusOK, "")
		return a.json(t)
	}
	refresh := func(d device, token any) url.Values {
		form := merge(refreshes(token.(string)), "client_id", d.client)
		if d.client == "tv" {
			form.Set("client_secret", webSecret)
		}
		return form
	}
	for _, client := range []string{"cli", "tv"} {
		t.Run("a lost answer, "+client, func(t *testing.T) {
			s := newTestServer(t, withDevices)
			d := s.startDevice(t, client)
			s.approveDevice(t, d)
			first := get(t, s, d)
			s.clock.Advance(30 * time.Second)
			again := get(t, s, d)
			if first["refresh_token"] != again["refresh_token"] {
				t.Error("another refresh token")
			}
			if n := s.store.count(t, storage.KindFamily); n != 1 {
				t.Errorf("%d families", n)
			}
			s.token(t, refresh(d, again["refresh_token"])).check(t, http.StatusOK, "")
		})
		t.Run("after the refresh token was used, "+client, func(t *testing.T) {
			s := newTestServer(t, withDevices)
			d := s.startDevice(t, client)
			s.approveDevice(t, d)
			a := s.token(t, refresh(d, get(t, s, d)["refresh_token"]))
			a.check(t, http.StatusOK, "")
			s.poll(t, d).check(t, http.StatusBadRequest, "invalid_grant")
			s.token(t, refresh(d, a.json(t)["refresh_token"])).check(t, http.StatusBadRequest, "invalid_grant")
			s.poll(t, d).check(t, http.StatusBadRequest, "invalid_grant")
		})
	}
	t.Run("too late", func(t *testing.T) {
		s := newTestServer(t, withDevices)
		d := s.startDevice(t, "cli")
		s.approveDevice(t, d)
		tokens := get(t, s, d)
		s.clock.Advance(time.Minute)
		s.poll(t, d).check(t, http.StatusBadRequest, "invalid_grant")
		s.token(t, refresh(d, tokens["refresh_token"])).check(t, http.StatusBadRequest, "invalid_grant")
	})
	t.Run("without refresh tokens", func(t *testing.T) {
		s := newTestServer(t, withDevices, func(c *Config) { c.Clients["cli"].GrantTypes = []string{grants.DeviceCodeType} })
		d := s.startDevice(t, "cli")
		s.approveDevice(t, d)
		if tokens := get(t, s, d); tokens["refresh_token"] != nil {
			t.Errorf("got a refresh token: %v", tokens)
		}
		s.clock.Advance(time.Minute)
		s.poll(t, d).check(t, http.StatusBadRequest, "invalid_grant")
	})
	t.Run("without refresh tokens, of a client that authenticates", func(t *testing.T) {
		s := newTestServer(t, withDevices, func(c *Config) { c.Clients["tv"].GrantTypes = []string{grants.DeviceCodeType} })
		d := s.startDevice(t, "tv")
		s.approveDevice(t, d)
		get(t, s, d)
		get(t, s, d) // a lost answer
		s.clock.Advance(time.Minute)
		s.poll(t, d).check(t, http.StatusBadRequest, "invalid_grant")
	})
	t.Run("with a key, and again without it", func(t *testing.T) {
		s := newTestServer(t, withDevices, func(c *Config) { c.Clients["cli"].GrantTypes = []string{grants.DeviceCodeType} })
		d := s.startDevice(t, "cli")
		s.approveDevice(t, d)
		p := jwttest.NewProver(t, "ES256", s.clock.Now)
		poll := func(edits ...func(*http.Request)) answer {
			return s.token(t, url.Values{"grant_type": {grants.DeviceCodeType}, "device_code": {d.code}, "client_id": {d.client}}, edits...)
		}
		poll(proof(t, p)).check(t, http.StatusOK, "")
		poll().check(t, http.StatusBadRequest, "invalid_grant")
		poll(proof(t, p)).check(t, http.StatusOK, "")
	})
	t.Run("at the same time", func(t *testing.T) {
		s := newTestServer(t, withDevices)
		d := s.startDevice(t, "cli")
		s.approveDevice(t, d)
		got := make(chan string, 8)
		for range cap(got) {
			go func() {
				w := httptest.NewRecorder()
				form := url.Values{"grant_type": {grants.DeviceCodeType}, "device_code": {d.code}, "client_id": {"cli"}}
				if err := s.ServeHTTP(w, postRequest("/oauth/token", form.Encode()), s.site); err != nil {
					t.Error(err)
				}
				got <- regexp.MustCompile(`"refresh_token":"\w+"`).FindString(w.Body.String())
			}()
		}
		first := <-got
		for range cap(got) - 1 {
			if other := <-got; other != first || other == "" {
				t.Errorf("got %q and %q", first, other)
			}
		}
		s.seen = append(s.seen, strings.Trim(strings.TrimPrefix(first, `"refresh_token":`), `"`))
	})
}

// The record of the device code says that it was used before the family has a record. If the process dies in between, or the store
// fails, the program polls again.
func TestDeviceSurvivesAFailureBetweenItsWrites(t *testing.T) {
	s := newTestServer(t, withDevices)
	d := s.startDevice(t, "cli")
	s.approveDevice(t, d)
	config := s.config
	config.Store = noFamilies{s.store}
	broken := *s
	broken.restart(t, config)
	broken.poll(t, d).check(t, http.StatusServiceUnavailable, "temporarily_unavailable")
	config.Store = s.store
	s.restart(t, config)
	a := s.poll(t, d)
	a.check(t, http.StatusOK, "")
	s.token(t, merge(refreshes(a.json(t)["refresh_token"].(string)), "client_id", "cli")).check(t, http.StatusOK, "")
}

// noFamilies is a store that cannot write families.
type noFamilies struct{ storage.Store }

func (s noFamilies) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	if key.Kind == storage.KindFamily {
		return errors.New("the store is away")
	}
	return s.Store.Update(ctx, key, change)
}

func TestDeviceOfARevokedUser(t *testing.T) {
	t.Run("between the approval and the poll", func(t *testing.T) {
		s := newTestServer(t, withDevices)
		d := s.startDevice(t, "cli")
		s.approveDevice(t, d)
		s.clock.Advance(time.Minute)
		if err := s.revoker.Revoke(t.Context(), "alice", "", "lost phone", ""); err != nil {
			t.Fatal(err)
		}
		s.poll(t, d).check(t, http.StatusBadRequest, "invalid_grant")
	})
	t.Run("between the page and its answer", func(t *testing.T) {
		s := newTestServer(t, withDevices)
		d := s.startDevice(t, "cli")
		page := s.typeCode(t, d.user)
		s.clock.Advance(time.Minute)
		if err := s.revoker.Revoke(t.Context(), "alice", "cli", "lost phone", ""); err != nil {
			t.Fatal(err)
		}
		s.decideDevice(t, page, "allow").check(t, http.StatusForbidden, "invalid_request")
		s.poll(t, d).check(t, http.StatusBadRequest, "authorization_pending")
	})
	t.Run("after an answer was lost", func(t *testing.T) {
		s := newTestServer(t, withDevices)
		d := s.startDevice(t, "cli")
		s.approveDevice(t, d)
		s.poll(t, d).check(t, http.StatusOK, "")
		s.clock.Advance(10 * time.Second)
		if err := s.revoker.Revoke(t.Context(), "alice", "cli", "lost phone", ""); err != nil {
			t.Fatal(err)
		}
		s.poll(t, d).check(t, http.StatusBadRequest, "invalid_grant")
	})
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

func TestDevicesAreBounded(t *testing.T) {
	s := newTestServer(t, withDevices)
	for range 60 {
		s.startDevice(t, "cli")
	}
	a := s.askDevice(t, "cli")
	a.check(t, http.StatusTooManyRequests, "temporarily_unavailable")
	if a.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	s.site.address = "198.51.100.4"
	s.startDevice(t, "cli")
	if n := s.store.count(t, storage.KindDevice); n != 61 {
		t.Errorf("%d records", n)
	}
	s.clock.Advance(10 * time.Minute)
	s.site.address = ""
	s.startDevice(t, "cli")
}

// A client with a secret that the owner has added may serve many people from one address.
func TestDevicesOfAKnownClientAreBounded(t *testing.T) {
	s := newTestServer(t, withDevices)
	for range 20 * 60 {
		s.startDevice(t, "tv")
	}
	s.site.address = "198.51.100.4"
	s.askDevice(t, "tv").check(t, http.StatusTooManyRequests, "temporarily_unavailable")
	s.startDevice(t, "cli")
}

func TestDeviceAtAReadOnlyIssuer(t *testing.T) {
	s := newTestServer(t, withDevices)
	d := s.startDevice(t, "cli")
	approved := s.startDevice(t, "tv")
	s.approveDevice(t, approved)
	page := s.typeCode(t, d.user)
	s.readOnly(t)
	putOff(t, "device authorization", s.askDevice(t, "cli"))
	putOff(t, "approval", s.decideDevice(t, page, "allow"))
	putOff(t, "poll of what was approved", s.poll(t, approved))
	s.poll(t, d).check(t, http.StatusBadRequest, "authorization_pending")
	putOff(t, "poll that comes too often", s.poll(t, d))
}

func TestDeviceStoreFails(t *testing.T) {
	s, store := newFaultyServer(t, time.Second, withDevices)
	d := s.startDevice(t, "cli")
	page, ask := s.openDevice(t, ""), s.typeCode(t, d.user)
	store.fail(full)
	putOff(t, "device authorization", s.askDevice(t, "cli"))
	putOff(t, "poll", s.poll(t, d))
	putOff(t, "approval", s.decideDevice(t, ask, "allow"))
	putOff(t, "code", s.do(t, postRequest("/oauth/device", url.Values{"request": {page.sealed(t)}, "user_code": {d.user}}.Encode())))
	store.mend()
	s.approveDevice(t, d)
	s.poll(t, d).check(t, http.StatusOK, "")
}

func TestDeviceMetadata(t *testing.T) {
	with, without := newTestServer(t, withDevices), newTestServer(t)
	for s, want := range map[*testServer]bool{with: true, without: false} {
		a := s.do(t, httptest.NewRequest(http.MethodGet, "/.well-known/oauth-authorization-server", nil))
		body := a.json(t)
		if got := body["device_authorization_endpoint"] == testIssuer+"/oauth/device_authorization"; got != want {
			t.Errorf("device_authorization_endpoint is %v", body["device_authorization_endpoint"])
		}
		if got := strings.Contains(fmt.Sprint(body["grant_types_supported"]), grants.DeviceCodeType); got != want {
			t.Errorf("grant_types_supported is %v", body["grant_types_supported"])
		}
	}
}

// RFC 9449 §5: the refresh token of a public client is bound to the key that got it.
func TestDeviceTokensAreBound(t *testing.T) {
	s := newTestServer(t, withDevices)
	p, thief := jwttest.NewProver(t, "ES256", s.clock.Now), jwttest.NewProver(t, "ES256", s.clock.Now)
	d := s.startDevice(t, "cli")
	s.approveDevice(t, d)
	poll := url.Values{"grant_type": {grants.DeviceCodeType}, "device_code": {d.code}, "client_id": {"cli"}}
	a := s.token(t, poll, proof(t, p))
	a.check(t, http.StatusOK, "")
	s.token(t, poll, proof(t, thief)).check(t, http.StatusBadRequest, "invalid_grant")
	s.token(t, poll).check(t, http.StatusBadRequest, "invalid_grant")
	s.token(t, poll, proof(t, p)).check(t, http.StatusOK, "")
	refresh := merge(refreshes(a.json(t)["refresh_token"].(string)), "client_id", "cli")
	s.token(t, refresh).check(t, http.StatusBadRequest, "invalid_grant")
	s.token(t, refresh, proof(t, p)).check(t, http.StatusOK, "")
}

// A device stays connected when the person signs out of the browser in which the approval was given: the session is not its own.
func TestDeviceHasNoSession(t *testing.T) {
	s := newTestServer(t, openID(), withDevices, func(c *Config) {
		c.Clients["cli"].OpenID, c.Clients["cli"].Scopes = c.Clients["webapp"].OpenID, c.Clients["webapp"].Scopes
	})
	s.site.user.Session = storage.Session{ID: "browser", ACR: "high"}
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
