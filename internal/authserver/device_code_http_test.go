package authserver

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

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
			if n := s.store.Count(t, storage.KindFamily); n != 1 {
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
