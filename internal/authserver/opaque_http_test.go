package authserver

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// opaque returns an edit that makes access tokens opaque.
func opaque(prefix string, length int) func(*Config) {
	return func(c *Config) { c.AccessToken = AccessTokenShape{Opaque: true, Prefix: prefix, Length: length} }
}

// access returns the record of an opaque access token, or nil.
func (s *testServer) access(t *testing.T, token, prefix string) *storage.Access {
	t.Helper()
	key, ok := storage.AccessKey(strings.TrimPrefix(token, prefix))
	if !ok || !strings.HasPrefix(token, prefix) {
		t.Fatalf("access token %q", token)
	}
	record, err := s.store.Get(t.Context(), key)
	if err != nil {
		return nil
	}
	a, err := storage.DecodeAccess(record)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestOpaqueAccessTokens(t *testing.T) {
	for _, tt := range []struct {
		prefix      string
		length, all int
	}{{"", 0, 53}, {"access_", 0, 60}, {"", 30, 30}, {"a-", 128, 130}, {"1", 91, 92}} {
		s := newTestServer(t, opaque(tt.prefix, tt.length))
		body := s.tokens(t)
		token := body["access_token"].(string)
		if len(token) != tt.all || !strings.HasPrefix(token, tt.prefix) || strings.Contains(token, ".") {
			t.Errorf("length %d with %q: %q", tt.length, tt.prefix, token)
		}
		if body["token_type"] != "Bearer" || body["expires_in"] != 600.0 || body["scope"] != "profile orders" {
			t.Errorf("RFC 6749 §5.1: %v", body)
		}
		if again := s.token(t, refreshes(body["refresh_token"].(string))).json(t)["access_token"]; again == token {
			t.Errorf("a refresh yields %q again", token)
		}
	}
}

func TestRecordOfAnOpaqueToken(t *testing.T) {
	s := newTestServer(t, opaque("access_", 30))
	s.site.user.Claims = map[string]any{"email": "alice@example.com", "iss": "https://evil.example", "client_id": "evil"}
	body := s.token(t, redeems(s.code(t, asks("webapp", "scope", "orders", "resource", testAPI)))).json(t)
	now := s.clock.Now()
	got := s.access(t, body["access_token"].(string), "access_")
	if got == nil || !got.IssuedAt.Equal(now) || !got.Started.Equal(now) || !got.Expires.Equal(now.Add(10*time.Minute)) {
		t.Fatalf("record %+v", got)
	}
	refresh, _ := storage.RefreshKey(body["refresh_token"].(string))
	want := &storage.Access{
		Client: "webapp", Subject: "alice", Scopes: []string{"orders"}, Audience: []string{testAPI},
		Claims: map[string]any{"email": "alice@example.com"}, IssuedAt: got.IssuedAt, Expires: got.Expires,
		Family: refresh.ID, Started: got.Started,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("record %+v, want %+v", got, want)
	}
	t.Run("the store is asked for the token without its prefix", func(t *testing.T) {
		s := newTestServer(t, opaque("", 0))
		if s.access(t, s.token(t, asBilling()).json(t)["access_token"].(string), "") == nil {
			t.Error("no record")
		}
	})
	t.Run("RFC 9068 §2.2 a client's own token speaks for the client, and has no family", func(t *testing.T) {
		a := s.access(t, s.token(t, asBilling()).json(t)["access_token"].(string), "access_")
		if a.Subject != "billing" || a.Client != "billing" || a.Family != "" || !a.AuthTime.IsZero() {
			t.Errorf("record %+v", a)
		}
	})
	t.Run("it expires with the token", func(t *testing.T) {
		token := s.token(t, asBilling()).json(t)["access_token"].(string)
		s.clock.Advance(10*time.Minute - time.Second)
		if s.access(t, token, "access_") == nil {
			t.Error("it expires a second too early")
		}
		s.clock.Advance(time.Second)
		if a := s.access(t, token, "access_"); a != nil {
			t.Errorf("still there: %+v", a)
		}
	})
}

// A reader of the store finds no token that works.
func TestStoreHoldsNoOpaqueToken(t *testing.T) {
	s := newTestServer(t, opaque("access_", 0))
	secrets := make([]string, 0, 6)
	for range 3 {
		body := s.tokens(t)
		secrets = append(secrets, body["access_token"].(string)[len("access_")+4:], body["refresh_token"].(string)[4:])
	}
	for _, kind := range []storage.Kind{storage.KindAccess, storage.KindFamily} {
		for id, err := range s.store.List(t.Context(), kind) {
			if err != nil {
				t.Fatal(err)
			}
			record, err := s.store.Get(t.Context(), storage.Key{Kind: kind, ID: id})
			if err != nil {
				t.Fatal(err)
			}
			for _, secret := range secrets {
				if strings.Contains(id+string(record), secret) || strings.Contains(id+string(record), secret[:12]) {
					t.Errorf("record %s %s has %q", id, record, secret)
				}
			}
		}
	}
	if n := s.store.Count(t, storage.KindAccess); n != 3 {
		t.Errorf("%d records", n)
	}
}

func TestOpaqueTokenIsNotHandedOutUnstored(t *testing.T) {
	s := newTestServer(t, opaque("", 0))
	s.store.Err = errDown
	a := s.token(t, asBilling())
	a.check(t, http.StatusServiceUnavailable, "temporarily_unavailable")
	if strings.Contains(a.Body.String(), "access_token") {
		t.Errorf("got %s", a.Body)
	}
}

// The numbers of a password verifier keep their digits in the records of the family and of the token.
func TestClaimsOfOpaqueTokensKeepTheirDigits(t *testing.T) {
	const id = json.Number("9007199254740993")
	s := newPasswordServer(t, &testPasswords{person: &grants.Person{Subject: "17", Claims: map[string]any{"id": id}}}, opaque("", 0))
	body := s.login(t, here, "hatter", wonderland).json(t)
	for range 2 {
		if a := s.access(t, body["access_token"].(string), ""); a == nil || a.Claims["id"] != id {
			t.Errorf("record %+v", a)
		}
		body = s.token(t, refreshes(body["refresh_token"].(string))).json(t)
	}
}

func TestClaimsOfAccessTokens(t *testing.T) {
	user := map[string]any{
		"email": "alice@example.com", "name": "Alice", "iss": "evil", "sub": "root", "aud": "evil", "exp": 9e9, "nbf": 9e9, "iat": 1,
		"jti": "x", "client_id": "evil", "scope": "admin", "auth_time": 1, "family": "x", "family_iat": 1, "cnf": "x", "act": "x", "nonce": "x",
	}
	now := float64(epoch.Unix())
	for _, tt := range []struct {
		name  string
		shape AccessTokenShape
		want  map[string]any // nil is none; others than these are not looked at
		only  bool           // there are no others
	}{
		{
			"RFC 9068 §2.2 no claim takes the place of the server's",
			AccessTokenShape{},
			map[string]any{
				"iss": testIssuer, "sub": "alice", "client_id": "webapp", "scope": "profile orders", "exp": now + 600, "iat": now,
				"email": "alice@example.com", "name": "Alice", "nbf": nil, "cnf": nil, "act": nil, "nonce": nil, "auth_time": nil,
			},
			false,
		},
		{
			"minimal",
			AccessTokenShape{Minimal: true},
			map[string]any{"sub": "alice", "exp": now + 600, "iat": now, "email": "alice@example.com", "name": "Alice"},
			true,
		},
		{
			"rename",
			AccessTokenShape{Minimal: true, Rename: map[string]string{"email": "mail", "sub": "id", "nothing": "x"}},
			map[string]any{"sub": "alice", "id": "alice", "exp": now + 600, "iat": now, "mail": "alice@example.com", "name": "Alice"},
			true,
		},
		{
			"a new name that is there already",
			AccessTokenShape{Minimal: true, Rename: map[string]string{"email": "name"}},
			map[string]any{"sub": "alice", "exp": now + 600, "iat": now, "name": "alice@example.com"},
			true,
		},
		{
			"names that change places",
			AccessTokenShape{Minimal: true, Rename: map[string]string{"email": "name", "name": "email"}},
			map[string]any{"sub": "alice", "exp": now + 600, "iat": now, "name": "alice@example.com", "email": "Alice"},
			true,
		},
		{
			"a second name of sub wins",
			AccessTokenShape{Minimal: true, Rename: map[string]string{"sub": "name"}},
			map[string]any{"sub": "alice", "exp": now + 600, "iat": now, "name": "alice", "email": "alice@example.com"},
			true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t, func(c *Config) { c.AccessToken = tt.shape })
			s.site.user.Claims = user
			body := s.tokens(t)
			for range 10 { // the order of the claims is not to matter
				got := s.claims(t, body["access_token"])
				for name, want := range tt.want {
					if !equalJSON(got[name], want) {
						t.Errorf("%s is %v, want %v", name, got[name], want)
					}
				}
				if tt.only && len(got) != len(tt.want) {
					t.Errorf("claims %v, want %v", got, tt.want)
				}
				body = s.token(t, refreshes(body["refresh_token"].(string))).json(t)
			}
		})
	}
}
