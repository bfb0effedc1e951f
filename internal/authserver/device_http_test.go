package authserver

import (
	"context"
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
			if n := s.store.Count(t, storage.KindDevice) + s.store.Count(t, storage.KindUserCode); n != 0 {
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
	if n := s.store.Count(t, storage.KindDevice); n != 61 {
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
