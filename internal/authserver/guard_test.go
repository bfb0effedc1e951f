package authserver

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// state checks that a token of the server is valid, or that it is refused with an error.
func (s *testServer) state(t *testing.T, token any, want error) {
	t.Helper()
	claims, err := s.AccessToken(t.Context(), token.(string), jwt.Leeway)
	if !errors.Is(err, want) || (claims == nil) != (want != nil) {
		t.Errorf("the token gives %v, %v; want %v", claims, err, want)
	}
}

func TestOwnTokens(t *testing.T) {
	for name, edit := range map[string]func(*Config){"JWT": func(*Config) {}, "opaque": opaque("acc_", 0)} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, edit)
			token := s.tokens(t)["access_token"].(string)
			for range 2 { // from the keys or the store, and from memory
				claims, err := s.AccessToken(t.Context(), token, jwt.Leeway)
				if err != nil || claims.Subject != "alice" || claims.ClientID != "webapp" || claims.Scope != "profile orders" ||
					claims.Issuer != testIssuer || claims.Raw["sub"] != "alice" || claims.Raw["client_id"] != "webapp" {
					t.Fatalf("%+v, %v", claims, err)
				}
			}
			s.clock.Advance(10*time.Minute + jwt.Leeway)
			s.state(t, token, jwt.ErrExpired)
		})
	}
}

// RFC 8725 §3.12: a token that was made for another use is no access token.
func TestOwnTokensOfAnotherKind(t *testing.T) {
	for name, edit := range map[string]func(*Config){"JWT": func(*Config) {}, "opaque": opaque("acc_", 0)} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, edit)
			code := s.code(t, asks("webapp"))
			refreshToken := s.tokens(t)["refresh_token"].(string)
			signer, err := s.keys.Load(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			idToken, err := signer.SignAs("JWT", []byte(`{"sub":"alice","iss":"`+testIssuer+`","exp":9999999999}`))
			if err != nil {
				t.Fatal(err)
			}
			answer, err := signer.SignAs(introspectionType, []byte(`{"sub":"alice","iss":"`+testIssuer+`","exp":9999999999}`))
			if err != nil {
				t.Fatal(err)
			}
			for what, token := range map[string]string{
				"authorization code": code, "refresh token": refreshToken, "ID token": idToken, "introspection": answer,
				"code with the prefix": "acc_" + code, "refresh token with the prefix": "acc_" + refreshToken,
			} {
				var invalid jwt.InvalidToken
				if _, err := s.AccessToken(t.Context(), token, jwt.Leeway); !errors.As(err, &invalid) {
					t.Errorf("the %s gives %v", what, err)
				}
			}
		})
	}
}

func TestOpaqueTokenThatWasChanged(t *testing.T) {
	s := newTestServer(t, opaque("acc_", 0))
	good := s.tokens(t)["access_token"].(string)
	body := strings.TrimPrefix(good, "acc_")
	later := string(storage.BucketFor(s.clock.Now().Add(1000 * time.Hour)))
	for name, token := range map[string]string{
		"without its prefix":  body,
		"with another prefix": "ref_" + body,
		"in another bucket":   "acc_" + later + body[len(later):],
		"one letter short":    good[:len(good)-1],
		"one letter more":     good + "a",
		"another last letter": jwttest.Respell(good),
		"no bucket":           "acc_" + strings.Repeat("!", len(body)),
		"a path":              "acc_../../" + body,
		"empty":               "",
		"the prefix alone":    "acc_",
		"10 kB":               "acc_" + strings.Repeat("a", 10<<10),
	} {
		var invalid jwt.InvalidToken
		if _, err := s.AccessToken(t.Context(), token, jwt.Leeway); !errors.As(err, &invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.state(t, good, nil)
}

// RFC 8725 §3.8: an issuer refuses tokens of another one in the same process, even if they share a key.
func TestTokenOfAnotherIssuerHere(t *testing.T) {
	s := newTestServer(t)
	other := newTestServer(t, func(c *Config) { c.URL = "https://other.example" })
	token := other.tokens(t)["access_token"]
	other.state(t, token, nil)
	s.state(t, token, jwt.ErrKey)

	shared := newTestServer(t, func(c *Config) { c.URL, c.Store = "https://other.example", s.store })
	shared.state(t, s.tokens(t)["access_token"], jwt.ErrIssuer)
}

// A token that cannot be checked is not reported as invalid.
func TestOwnTokensWithoutAStore(t *testing.T) {
	s := newTestServer(t, opaque("acc_", 0))
	token, fresh := s.tokens(t)["access_token"].(string), s.tokens(t)["access_token"].(string)
	s.state(t, token, nil)
	s.store.Err = errors.New("the store is away")
	s.state(t, token, nil) // known from before
	s.state(t, fresh, s.store.Err)

	s = newTestServer(t)
	token = s.tokens(t)["access_token"].(string)
	s.restart(t, s.config)
	s.store.Err = errors.New("the store is away")
	s.state(t, token, s.store.Err) // it may have been revoked
}
