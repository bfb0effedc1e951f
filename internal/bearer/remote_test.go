package bearer

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
)

func TestRemoteClaims(t *testing.T) {
	r := newRemote(t)
	token := r.token(t, "big", json.Number("12345678901234567890"))
	for range 2 { // from the issuer's keys, and from memory
		claims, err := r.source().AccessToken(t.Context(), token, jwt.Leeway)
		if err != nil || claims.Subject != "alice" || claims.ClientID != "app" || claims.Scope != "orders" ||
			claims.Raw["big"] != json.Number("12345678901234567890") {
			t.Fatalf("the claims are %+v, %v", claims, err)
		}
	}
	r.clock.Advance(10*time.Minute + jwt.Leeway)
	r.check(t, token, jwt.ErrExpired)
}

// RFC 8725 §3: none of these is accepted, and none makes the server fetch a URL in the token.
func TestRemoteForgedTokens(t *testing.T) {
	var fetched atomic.Int32
	attacker := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { fetched.Add(1) }))
	defer attacker.Close()

	r := newRemote(t)
	good := r.token(t)
	r.check(t, good, nil)
	part := strings.Split(good, ".")
	mallory := jwttest.NewKey(t, "ES256")
	kid := r.key.ID
	head := func(members string) string {
		return `{"alg":"ES256","kid":"` + kid + `","typ":"at+jwt"` + members + `}`
	}
	for _, tt := range []struct {
		name, token string
		want        error
	}{
		{"§3.2 alg none", jwttest.Encode(`{"alg":"none","kid":"`+kid+`","typ":"at+jwt"}`) + "." + part[1] + ".", jwt.ErrAlgorithm},
		{"§3.2 alg nOnE", jwttest.Encode(`{"alg":"nOnE","kid":"`+kid+`","typ":"at+jwt"}`) + "." + part[1] + "." + part[2], jwt.ErrAlgorithm},
		{"§3.1 HS256 with the public key as the secret", jwttest.NewSecret(t, kid, string(r.key.Public)).Sign(t, r.claims()), jwt.ErrAlgorithm},
		{"§3.1 another algorithm of the same kind", forged(t, r.key, `{"alg":"ES384","kid":"`+kid+`","typ":"at+jwt"}`, r.claims()), jwt.ErrAlgorithm},
		{"a foreign kid", forged(t, mallory, `{"alg":"ES256","kid":"mallory","typ":"at+jwt"}`, r.claims()), jwt.ErrKey},
		{"§3.10 a path as kid", forged(t, mallory, `{"alg":"ES256","kid":"../../../etc/passwd","typ":"at+jwt"}`, r.claims()), jwt.ErrKey},
		{"§3.10 a URL as kid", forged(t, mallory, `{"alg":"ES256","kid":"`+attacker.URL+`","typ":"at+jwt"}`, r.claims()), jwt.ErrKey},
		{"a foreign key under this kid", forged(t, mallory, head(""), r.claims()), jwt.ErrSignature},
		{"a foreign key under no kid", forged(t, mallory, `{"alg":"ES256","typ":"at+jwt"}`, r.claims()), jwt.ErrSignature},
		{"§3.10 jku", forged(t, mallory, head(`,"jku":"`+attacker.URL+`"`), r.claims()), jwt.ErrHeader},
		{"§3.10 x5u", forged(t, mallory, head(`,"x5u":"`+attacker.URL+`"`), r.claims()), jwt.ErrHeader},
		{"§3.10 jwk", forged(t, mallory, head(`,"jwk":`+string(mallory.Public)), r.claims()), jwt.ErrHeader},
		{"RFC 7515 §4.1.11 crit", forged(t, r.key, head(`,"crit":["b64"]`), r.claims()), jwt.ErrHeader},
		{"another payload", part[0] + "." + jwttest.Encode(string(r.claims("sub", "root"))) + "." + part[2], jwt.ErrSignature},
		{"RFC 9068 §4 typ of an ID token", forged(t, r.key, `{"alg":"ES256","kid":"`+kid+`","typ":"JWT"}`, r.claims()), jwt.ErrType},
		{"RFC 9068 §4 no typ", forged(t, r.key, `{"alg":"ES256","kid":"`+kid+`"}`, r.claims()), jwt.ErrType},
		{"expired", r.token(t, "exp", r.clock.Now().Add(-jwt.Leeway).Unix()), jwt.ErrExpired},
		{"not valid yet", r.token(t, "nbf", r.clock.Now().Add(time.Hour).Unix()), jwt.ErrNotYet},
		{"RFC 8725 §3.8 an issuer of another spelling", r.token(t, "iss", r.URL+"/"), jwt.ErrIssuer},
		{"another issuer", r.token(t, "iss", attacker.URL), jwt.ErrIssuer},
		{"no issuer", r.token(t, "iss", nil), jwt.ErrIssuer},
		{"no subject", r.token(t, "sub", nil), jwt.ErrClaims},
		{"no end", r.token(t, "exp", nil), jwt.ErrClaims},
		{"opaque", "2bc4e0d2a8f14e7b9d3c5a6f7e8091a2", jwt.ErrMalformed},
		{"empty", "", jwt.ErrMalformed},
		{"garbage", strings.Repeat("x.", 5000), jwt.ErrMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) { r.check(t, tt.token, tt.want) })
	}
	if fetched.Load() != 0 || r.count("") != 2 {
		t.Errorf("URLs in tokens were fetched %d times, and the issuer got the requests %v", fetched.Load(), r.asked)
	}
}

// A token that no key could make valid is refused before the keys are fetched.
func TestRemoteGarbageBeforeThereAreKeys(t *testing.T) {
	r := newRemote(t)
	r.answer(remoteMetadata, http.NotFound)
	for _, token := range []string{"x", "a.b.c", jwttest.Encode(`{"alg":"none","typ":"at+jwt"}`) + ".e30.", jwttest.Encode(`{"alg":"ES256","typ":"JWT"}`) + ".e30.AA"} {
		var invalid jwt.InvalidToken
		if _, err := r.source().AccessToken(t.Context(), token, jwt.Leeway); !errors.As(err, &invalid) {
			t.Errorf("%q: %v", token, err)
		}
	}
	if r.count("") != 0 {
		t.Errorf("the issuer is asked %v", r.asked)
	}
}

func TestRemoteTypes(t *testing.T) {
	r := newRemote(t)
	for _, tt := range []struct {
		typ   string
		types []string
		want  error
	}{
		{"at+jwt", nil, nil},
		{"application/at+jwt", nil, nil},
		{"AT+JWT", nil, nil},
		{"JWT", nil, jwt.ErrType},
		{"JWT", []string{"JWT"}, nil},
		{"jwt", []string{"application/JWT"}, nil},
		{"at+jwt", []string{"JWT"}, nil},
		{"logout+jwt", []string{"JWT"}, jwt.ErrType},
	} {
		token := forged(t, r.key, `{"alg":"ES256","kid":"`+r.key.ID+`","typ":"`+tt.typ+`"}`, r.claims())
		if _, err := r.source(tt.types...).AccessToken(t.Context(), token, jwt.Leeway); !errors.Is(err, tt.want) {
			t.Errorf("typ %s beside %v: %v, want %v", tt.typ, tt.types, err, tt.want)
		}
	}
	// A token that a guard with more types accepted is not in the cache of one with fewer.
	token := forged(t, r.key, `{"alg":"ES256","kid":"`+r.key.ID+`","typ":"JWT"}`, r.claims("jti", "other"))
	if _, err := r.source("JWT").AccessToken(t.Context(), token, jwt.Leeway); err != nil {
		t.Fatal(err)
	}
	r.check(t, token, jwt.ErrType)
}

func TestRFC7517KeysOfSomebodyElse(t *testing.T) {
	r := newRemote(t)
	rsa := jwttest.NewKey(t, "RS256")
	without := func(key jwttest.Key, drop string, add ...string) json.RawMessage {
		var jwk map[string]any
		if err := json.Unmarshal(key.Public, &jwk); err != nil {
			t.Fatal(err)
		}
		delete(jwk, drop)
		for ; len(add) > 0; add = add[2:] {
			jwk[add[0]] = add[1]
		}
		encoded, _ := json.Marshal(jwk) // it was JSON
		return encoded
	}
	signs := func(key jwttest.Key, alg string) string {
		as, err := jwt.ParseKey(key.JWK, key.ID, alg)
		if err != nil {
			t.Fatal(err)
		}
		token, err := as.Sign(r.claims())
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	oct := json.RawMessage(`{"kty":"oct","kid":"` + rsa.ID + `","k":"` + jwttest.Encode(strings.Repeat("k", 64)) + `"}`)
	for _, tt := range []struct {
		name  string
		keys  []json.RawMessage
		token string
		want  error
	}{
		{"RFC 7517 §4.4 no alg: one that fits", []json.RawMessage{without(rsa, "alg")}, signs(rsa, "PS256"), nil},
		{"RFC 8725 §3.1 alg RS256: no other", []json.RawMessage{rsa.Public}, signs(rsa, "PS256"), jwt.ErrAlgorithm},
		{"no alg: none that does not fit", []json.RawMessage{without(rsa, "alg")}, r.token(t), jwt.ErrKey},
		{"RFC 7517 §5 unknown kinds are passed over", []json.RawMessage{
			json.RawMessage(`{"kty":"AKP","alg":"ML-DSA-44","kid":"x","pub":"AA"}`), json.RawMessage(`7`), oct, rsa.Public,
		}, signs(rsa, "RS256"), nil},
		{"RFC 7517 §4.2 for encryption", []json.RawMessage{without(rsa, "use", "use", "enc")}, signs(rsa, "RS256"), jwt.ErrKey},
		{"RFC 7517 §4.5 a kid of two keys", []json.RawMessage{without(r.key, "kid", "kid", rsa.ID), rsa.Public}, signs(rsa, "RS256"), nil},
		{"RFC 7515 §4.1.4 no kid in the token", []json.RawMessage{rsa.Public, r.key.Public}, forged(t, r.key, `{"alg":"ES256","typ":"at+jwt"}`, r.claims()), nil},
		{"no kid in the key", []json.RawMessage{without(r.key, "kid")}, forged(t, r.key, `{"alg":"ES256","typ":"at+jwt"}`, r.claims()), nil},
		{"none", nil, r.token(t), jwt.ErrKey},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.publish(tt.keys...)
			r.keys = NewRemoteKeys(r.URL, r.clock.Now)
			r.check(t, tt.token, tt.want)
		})
	}
}

// Tokens of a key are not in the cache any more when another key replaces it under the same kid.
func TestRemoteKeyReplacedUnderItsKid(t *testing.T) {
	r := newRemote(t)
	token := r.token(t)
	r.check(t, token, nil)
	other := jwttest.NewKey(t, "ES256")
	r.publish(json.RawMessage(strings.Replace(string(other.Public), other.ID, r.key.ID, 1)))
	r.clock.Advance(46 * time.Minute)
	token = r.token(t)
	r.check(t, token, nil)
	eventually(t, "the other key", func() bool { return r.count(remoteJWKS) == 2 && r.keys.set.Load().renew.After(r.clock.Now()) })
	r.check(t, token, jwt.ErrSignature)
}

// Names below localhost are this machine, for the URL of an issuer as well as for that of its keys, and whatever the resolver says.
func TestRemoteIssuerBelowLocalhost(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	r := newRemote(t)
	_, port, err := net.SplitHostPort(r.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	r.URL = "http://auth.localhost:" + port
	r.keys = NewRemoteKeys(r.URL, r.clock.Now)
	r.answer(remoteMetadata, body(`{"issuer":"`+r.URL+`","jwks_uri":"http://keys.auth.localhost:`+port+remoteJWKS+`"}`))
	r.check(t, r.token(t), nil)
}

// A scope that no token of the issuer can have is noticed as soon as the issuer says which scopes it has.
func TestRemoteIssuerWithoutARequiredScope(t *testing.T) {
	for _, tt := range []struct{ name, supported, want string }{
		{"not said", "", ""},
		{"all", `,"scopes_supported":["orders","admin"]`, ""},
		{"misspelled", `,"scopes_supported":["orders","amdin"]`, "admin"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRemote(t)
			r.answer(remoteMetadata, body(`{"issuer":"`+r.URL+`","jwks_uri":"`+r.URL+remoteJWKS+`"`+tt.supported+`}`))
			core, logged := observer.New(zap.WarnLevel)
			source := r.source()
			source.Scopes, source.Log = []string{"orders", "admin"}, zap.New(core)
			for range 3 {
				if _, err := source.AccessToken(t.Context(), r.token(t), jwt.Leeway); err != nil {
					t.Fatal(err)
				}
			}
			got := ""
			for _, entry := range logged.All() {
				got += entry.ContextMap()["scope"].(string)
			}
			if got != tt.want {
				t.Errorf("warned of %q, want %q", got, tt.want)
			}
		})
	}
}
