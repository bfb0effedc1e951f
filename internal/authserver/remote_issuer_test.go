package authserver

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestRemoteClaims(t *testing.T) {
	r := newRemote(t)
	token := r.token(t, "big", json.Number("12345678901234567890"))
	for range 2 { // from the issuer's keys, and from memory
		claims, err := r.source().AccessToken(t.Context(), token)
		if err != nil || claims.Subject != "alice" || claims.ClientID != "app" || claims.Scope != "orders" ||
			claims.Raw["big"] != json.Number("12345678901234567890") {
			t.Fatalf("the claims are %+v, %v", claims, err)
		}
	}
	r.clock.Advance(10*time.Minute + defaultLeeway)
	r.works(t, token, ErrTokenExpired)
}

// RFC 8725 §3: none of these passes, and none makes the server fetch what the token names.
func TestRemoteForgedTokens(t *testing.T) {
	var fetched atomic.Int32
	attacker := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { fetched.Add(1) }))
	defer attacker.Close()

	r := newRemote(t)
	good := r.token(t)
	r.works(t, good, nil)
	part := strings.Split(good, ".")
	mallory := newRemoteKey(t, "ES256")
	kid := r.key.id
	head := func(members string) string {
		return `{"alg":"ES256","kid":"` + kid + `","typ":"at+jwt"` + members + `}`
	}
	hmac := func(secret []byte) string {
		key, err := newSigningKey(secret, kid, "HS256")
		if err != nil {
			t.Fatal(err)
		}
		token, err := key.sign(r.claims())
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	for _, tt := range []struct {
		name, token string
		want        error
	}{
		{"§3.2 alg none", encode64(`{"alg":"none","kid":"`+kid+`","typ":"at+jwt"}`) + "." + part[1] + ".", ErrTokenAlgorithm},
		{"§3.2 alg nOnE", encode64(`{"alg":"nOnE","kid":"`+kid+`","typ":"at+jwt"}`) + "." + part[1] + "." + part[2], ErrTokenAlgorithm},
		{"§3.1 HS256 with the public key as the secret", hmac(r.key.published), ErrTokenAlgorithm},
		{"§3.1 another algorithm of the same kind", r.key.withHeader(t, `{"alg":"ES384","kid":"`+kid+`","typ":"at+jwt"}`, r.claims()), ErrTokenAlgorithm},
		{"a foreign kid", mallory.withHeader(t, `{"alg":"ES256","kid":"mallory","typ":"at+jwt"}`, r.claims()), ErrTokenKey},
		{"§3.10 a path as kid", mallory.withHeader(t, `{"alg":"ES256","kid":"../../../etc/passwd","typ":"at+jwt"}`, r.claims()), ErrTokenKey},
		{"§3.10 a URL as kid", mallory.withHeader(t, `{"alg":"ES256","kid":"`+attacker.URL+`","typ":"at+jwt"}`, r.claims()), ErrTokenKey},
		{"a foreign key under this kid", mallory.withHeader(t, head(""), r.claims()), ErrTokenSignature},
		{"a foreign key under no kid", mallory.withHeader(t, `{"alg":"ES256","typ":"at+jwt"}`, r.claims()), ErrTokenSignature},
		{"§3.10 jku", mallory.withHeader(t, head(`,"jku":"`+attacker.URL+`"`), r.claims()), ErrTokenHeader},
		{"§3.10 x5u", mallory.withHeader(t, head(`,"x5u":"`+attacker.URL+`"`), r.claims()), ErrTokenHeader},
		{"§3.10 jwk", mallory.withHeader(t, head(`,"jwk":`+string(mallory.published)), r.claims()), ErrTokenHeader},
		{"RFC 7515 §4.1.11 crit", r.key.withHeader(t, head(`,"crit":["b64"]`), r.claims()), ErrTokenHeader},
		{"another payload", part[0] + "." + encode64(string(r.claims("sub", "root"))) + "." + part[2], ErrTokenSignature},
		{"RFC 9068 §4 typ of an ID token", r.key.withHeader(t, `{"alg":"ES256","kid":"`+kid+`","typ":"JWT"}`, r.claims()), ErrTokenType},
		{"RFC 9068 §4 no typ", r.key.withHeader(t, `{"alg":"ES256","kid":"`+kid+`"}`, r.claims()), ErrTokenType},
		{"expired", r.token(t, "exp", r.clock.Now().Add(-defaultLeeway).Unix()), ErrTokenExpired},
		{"not valid yet", r.token(t, "nbf", r.clock.Now().Add(time.Hour).Unix()), ErrTokenNotYet},
		{"another issuer", r.token(t, "iss", attacker.URL), ErrTokenIssuer},
		{"no issuer", r.token(t, "iss", nil), ErrTokenIssuer},
		{"no subject", r.token(t, "sub", nil), ErrTokenClaims},
		{"no end", r.token(t, "exp", nil), ErrTokenClaims},
		{"opaque", "2bc4e0d2a8f14e7b9d3c5a6f7e8091a2", ErrTokenMalformed},
		{"empty", "", ErrTokenMalformed},
		{"garbage", strings.Repeat("x.", 5000), ErrTokenMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) { r.works(t, tt.token, tt.want) })
	}
	if fetched.Load() != 0 || r.count("") != 2 {
		t.Errorf("what tokens name was fetched %d times, and the issuer asked %v", fetched.Load(), r.asked)
	}
}

// Without keys, a token that can be none is the client's fault still, and nobody is asked.
func TestRemoteGarbageBeforeThereAreKeys(t *testing.T) {
	r := newRemote(t)
	r.answer(remoteMetadata, http.NotFound)
	for _, token := range []string{"x", "a.b.c", encode64(`{"alg":"none","typ":"at+jwt"}`) + ".e30.", encode64(`{"alg":"ES256","typ":"JWT"}`) + ".e30.AA"} {
		var invalid InvalidToken
		if _, err := r.source().AccessToken(t.Context(), token); !errors.As(err, &invalid) {
			t.Errorf("%q gives %v", token, err)
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
		{"JWT", nil, ErrTokenType},
		{"JWT", []string{"JWT"}, nil},
		{"jwt", []string{"application/JWT"}, nil},
		{"at+jwt", []string{"JWT"}, nil},
		{"logout+jwt", []string{"JWT"}, ErrTokenType},
	} {
		token := r.key.withHeader(t, `{"alg":"ES256","kid":"`+r.key.id+`","typ":"`+tt.typ+`"}`, r.claims())
		if _, err := r.source(tt.types...).AccessToken(t.Context(), token); !errors.Is(err, tt.want) {
			t.Errorf("typ %s beside %v: %v, want %v", tt.typ, tt.types, err, tt.want)
		}
	}
	// What a guard with more types has let pass is not remembered for one with fewer.
	token := r.key.withHeader(t, `{"alg":"ES256","kid":"`+r.key.id+`","typ":"JWT"}`, r.claims("jti", "other"))
	if _, err := r.source("JWT").AccessToken(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	r.works(t, token, ErrTokenType)
}

func TestRFC7517KeysOfSomebodyElse(t *testing.T) {
	r := newRemote(t)
	rsa := newRemoteKey(t, "RS256")
	without := func(key *signingKey, drop string, add ...string) json.RawMessage {
		var jwk map[string]any
		if err := json.Unmarshal(key.published, &jwk); err != nil {
			t.Fatal(err)
		}
		delete(jwk, drop)
		for ; len(add) > 0; add = add[2:] {
			jwk[add[0]] = add[1]
		}
		encoded, _ := json.Marshal(jwk) // it was JSON
		return encoded
	}
	signs := func(key *signingKey, alg string) string {
		as, err := newSigningKey(key.private, key.id, alg)
		if err != nil {
			t.Fatal(err)
		}
		token, err := as.sign(r.claims())
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	oct := json.RawMessage(`{"kty":"oct","kid":"` + rsa.id + `","k":"` + encode64(strings.Repeat("k", 64)) + `"}`)
	for _, tt := range []struct {
		name  string
		keys  []json.RawMessage
		token string
		want  error
	}{
		{"RFC 7517 §4.4 no alg: one that fits", []json.RawMessage{without(rsa, "alg")}, signs(rsa, "PS256"), nil},
		{"RFC 8725 §3.1 alg RS256: no other", []json.RawMessage{rsa.published}, signs(rsa, "PS256"), ErrTokenAlgorithm},
		{"no alg: none that does not fit", []json.RawMessage{without(rsa, "alg")}, r.token(t), ErrTokenKey},
		{"RFC 7517 §5 unknown kinds are passed over", []json.RawMessage{
			json.RawMessage(`{"kty":"AKP","alg":"ML-DSA-44","kid":"x","pub":"AA"}`), json.RawMessage(`7`), oct, rsa.published,
		}, signs(rsa, "RS256"), nil},
		{"RFC 7517 §4.2 for encryption", []json.RawMessage{without(rsa, "use", "use", "enc")}, signs(rsa, "RS256"), ErrTokenKey},
		{"RFC 7517 §4.5 a kid of two keys", []json.RawMessage{without(r.key, "kid", "kid", rsa.id), rsa.published}, signs(rsa, "RS256"), nil},
		{"RFC 7515 §4.1.4 no kid in the token", []json.RawMessage{rsa.published, r.key.published}, r.key.withHeader(t, `{"alg":"ES256","typ":"at+jwt"}`, r.claims()), nil},
		{"no kid in the key", []json.RawMessage{without(r.key, "kid")}, r.key.withHeader(t, `{"alg":"ES256","typ":"at+jwt"}`, r.claims()), nil},
		{"none", nil, r.token(t), ErrTokenKey},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.publish(tt.keys...)
			r.keys = NewRemoteKeys(r.URL, r.clock.Now)
			r.works(t, tt.token, tt.want)
		})
	}
}

// Even though no header can ask for it, a secret that somebody publishes is no key.
func TestRFC8725PublishedSecretIsNoKey(t *testing.T) {
	keys, err := parsePublicKeys([]byte(`{"keys":[{"kty":"oct","kid":"k","k":"` + encode64(strings.Repeat("k", 64)) + `"}]}`))
	if err != nil || len(keys) != 0 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
}

// What a key has signed is not remembered when another takes its place under the same kid.
func TestRemoteKeyReplacedUnderItsKid(t *testing.T) {
	r := newRemote(t)
	token := r.token(t)
	r.works(t, token, nil)
	other := newRemoteKey(t, "ES256")
	r.publish(json.RawMessage(strings.Replace(string(other.published), other.id, r.key.id, 1)))
	r.clock.Advance(46 * time.Minute)
	token = r.token(t)
	r.works(t, token, nil)
	eventually(t, "the other key", func() bool { return r.count(remoteJWKS) == 2 && r.keys.set.Load().renew.After(r.clock.Now()) })
	r.works(t, token, ErrTokenSignature)
}
