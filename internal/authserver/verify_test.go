package authserver

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

func encode64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// signedWith returns a token with that header, signed with the key that signs for k.
func signedWith(t *testing.T, k *Keys, header string) string {
	t.Helper()
	key := *k.state.Load().signer(k.now())
	key.header = encode64(header)
	token, err := key.sign([]byte(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestRFC8725VerifyRefuses(t *testing.T) {
	k := newTestKeys(t, KeyPolicy{}, storage.OpenMemory(), newTestClock())
	good := sign(t, k, `{"sub":"alice"}`)
	kid := kidOf(t, good)
	part := strings.Split(good, ".")
	jwks, _, err := k.JWKS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// forged is signed by a key of the attacker's, with a header that claims to be ours.
	forged := func(alg, secret string) string {
		t.Helper()
		jwk := encode(map[string]any{"kty": "oct", "k": encode64(secret)})
		key, err := parseKey([]byte(jwk), kid, alg)
		if err != nil {
			t.Fatal(err)
		}
		token, err := key.sign([]byte(`{"sub":"mallory"}`))
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	head := func(members string) string {
		return `{"alg":"ES256","kid":"` + kid + `","typ":"at+jwt"` + members + `}`
	}

	tests := []struct {
		name, token string
		want        error
	}{
		{"§3.2 alg none without signature", encode64(`{"alg":"none","kid":"`+kid+`","typ":"at+jwt"}`) + "." + part[1] + ".", ErrTokenAlgorithm},
		{"§3.2 alg none with the signature", signedWith(t, k, `{"alg":"none","kid":"`+kid+`","typ":"at+jwt"}`), ErrTokenAlgorithm},
		{"§3.1 HS256 with the public key as the secret", forged("HS256", string(jwks)), ErrTokenAlgorithm},
		{"§3.1 another algorithm in the header", signedWith(t, k, `{"alg":"ES384","kid":"`+kid+`","typ":"at+jwt"}`), ErrTokenAlgorithm},
		{"§3.1 no algorithm", signedWith(t, k, `{"kid":"`+kid+`","typ":"at+jwt"}`), ErrTokenAlgorithm},
		{"a foreign key", foreignToken(t), ErrTokenKey},
		{"no kid", signedWith(t, k, `{"alg":"ES256","typ":"at+jwt"}`), ErrTokenKey},
		{"§3.10 a kid with a path", signedWith(t, k, `{"alg":"ES256","kid":"../../../dev/null","typ":"at+jwt"}`), ErrTokenKey},
		{"§3.10 jku", signedWith(t, k, head(`,"jku":"https://attacker.example/keys"`)), ErrTokenHeader},
		{"§3.10 jwk", signedWith(t, k, head(`,"jwk":{"kty":"oct","k":"AA"}`)), ErrTokenHeader},
		{"§3.10 x5u", signedWith(t, k, head(`,"x5u":"https://attacker.example/chain"`)), ErrTokenHeader},
		{"§3.10 x5c", signedWith(t, k, head(`,"x5c":["AA"]`)), ErrTokenHeader},
		{"RFC 7515 §4.1.11 crit", signedWith(t, k, head(`,"crit":["b64"],"b64":false`)), ErrTokenHeader},
		{"§3.11 typ JWT", signedWith(t, k, `{"alg":"ES256","kid":"`+kid+`","typ":"JWT"}`), ErrTokenType},
		{"§3.11 no typ", signedWith(t, k, `{"alg":"ES256","kid":"`+kid+`"}`), ErrTokenType},
		{"another payload", part[0] + "." + encode64(`{"sub":"mallory"}`) + "." + part[2], ErrTokenSignature},
		{"another header of the same key", encode64(head(" ")) + "." + part[1] + "." + part[2], ErrTokenSignature},
		{"no signature", part[0] + "." + part[1] + ".", ErrTokenSignature},
		{"a signature of zeros", part[0] + "." + part[1] + "." + encode64(strings.Repeat("\x00", 64)), ErrTokenSignature},
		{"a line break in the signature", good[:len(good)-4] + "\n" + good[len(good)-4:], ErrTokenMalformed},
		{"another spelling of the signature", part[0] + "." + part[1] + "." + respell(part[2]), ErrTokenMalformed},
		{"padding", good + "=", ErrTokenMalformed},
		{"empty", "", ErrTokenMalformed},
		{"two parts", part[0] + "." + part[1], ErrTokenMalformed},
		{"four parts", good + ".AA", ErrTokenMalformed},
		{"a header that is no JSON", encode64("{") + "." + part[1] + "." + part[2], ErrTokenMalformed},
		{"too long", strings.Repeat("a", maxTokenLength) + "." + part[1] + "." + part[2], ErrTokenMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			payload, err := k.Verify(t.Context(), tt.token)
			if !errors.Is(err, tt.want) || payload != nil {
				t.Errorf("Verify returns %s, %v; want %v", payload, err, tt.want)
			}
			if _, ok := errors.AsType[InvalidToken](err); !ok {
				t.Errorf("%v is no InvalidToken", err)
			}
		})
	}
}

// respell changes bits of the last character that no decoded byte has.
func respell(encoded string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, encoded[len(encoded)-1])
	return encoded[:len(encoded)-1] + string(alphabet[last^1])
}

func TestRFC9068HeadersOfTheSameMeaningAreAccepted(t *testing.T) {
	k := newTestKeys(t, KeyPolicy{}, storage.OpenMemory(), newTestClock())
	kid := kidOf(t, sign(t, k, `{}`))
	for _, header := range []string{
		`{"typ":"at+jwt","kid":"` + kid + `","alg":"ES256"}`,
		`{"alg":"ES256","kid":"` + kid + `","typ":"application/at+jwt"}`,
		`{"alg":"ES256","kid":"` + kid + `","typ":"AT+JWT","cty":"x"}`,
	} {
		if _, err := k.Verify(t.Context(), signedWith(t, k, header)); err != nil {
			t.Errorf("%s: %v", header, err)
		}
	}
}

func TestSignRefusesWhatVerifyWould(t *testing.T) {
	k := newTestKeys(t, KeyPolicy{}, storage.OpenMemory(), newTestClock())
	if token, err := k.Sign(t.Context(), []byte(strings.Repeat(" ", maxTokenLength))); err == nil {
		t.Errorf("a token of %d bytes is signed", len(token))
	}
}

const validClaims = `{"iss":"https://example.com","sub":"alice","aud":["https://api.example.com","other"],` +
	`"exp":1772323500,"iat":1772323200,"nbf":1772323200,"jti":"j","client_id":"app","scope":"a b","family":"f","family_iat":1772323100,"big":12345678901234567890}`

func TestClaims(t *testing.T) {
	now := epoch // 1772323200
	tests := []struct {
		name    string
		change  map[string]any // nil deletes
		at      time.Duration
		want    error
		verdict string // in the error's text
	}{
		{name: "a valid token"},
		{name: "one audience as a string", change: map[string]any{"aud": "https://api.example.com"}},
		{name: "RFC 7519 §2 a time with a fraction", change: map[string]any{"exp": 1772323200.5}},
		{name: "optional claims absent", change: map[string]any{"nbf": nil, "iat": nil, "jti": nil, "scope": nil, "client_id": nil, "family": nil, "family_iat": nil}},
		{name: "RFC 7519 §4.1.4 the last moment of leeway", at: 5*time.Minute + 30*time.Second - time.Nanosecond},
		{name: "RFC 7519 §4.1.4 expired", at: 5*time.Minute + 30*time.Second, want: ErrTokenExpired},
		{name: "RFC 7519 §4.1.5 nbf within the leeway", at: -30 * time.Second},
		{name: "RFC 7519 §4.1.5 nbf ahead", change: map[string]any{"nbf": 1772323231}, want: ErrTokenNotYet},
		{name: "RFC 7519 §4.1.6 iat ahead", change: map[string]any{"iat": 1772323231}, want: ErrTokenNotYet},
		{name: "exp missing", change: map[string]any{"exp": nil}, want: ErrTokenClaims, verdict: "exp"},
		{name: "exp a string", change: map[string]any{"exp": "1772323500"}, want: ErrTokenClaims, verdict: "exp"},
		{name: "exp negative", change: map[string]any{"exp": -1}, want: ErrTokenClaims, verdict: "exp"},
		{name: "exp beyond all calendars", change: map[string]any{"exp": 1e300}, want: ErrTokenClaims, verdict: "exp"},
		{name: "nbf a string", change: map[string]any{"nbf": "0"}, want: ErrTokenClaims, verdict: "nbf"},
		{name: "iat an object", change: map[string]any{"iat": map[string]any{}}, want: ErrTokenClaims, verdict: "iat"},
		{name: "RFC 8725 §3.8 another issuer", change: map[string]any{"iss": "https://example.com/"}, want: ErrTokenIssuer},
		{name: "RFC 8725 §3.8 no issuer", change: map[string]any{"iss": nil}, want: ErrTokenIssuer},
		{name: "RFC 8725 §3.9 another audience", change: map[string]any{"aud": []string{"other"}}, want: ErrTokenAudience},
		{name: "RFC 8725 §3.9 no audience", change: map[string]any{"aud": nil}, want: ErrTokenAudience},
		{name: "aud a number", change: map[string]any{"aud": 1}, want: ErrTokenClaims, verdict: "aud"},
		{name: "aud with a number", change: map[string]any{"aud": []any{"https://api.example.com", 1}}, want: ErrTokenClaims, verdict: "aud"},
		{name: "sub missing", change: map[string]any{"sub": nil}, want: ErrTokenClaims, verdict: "sub"},
		{name: "sub empty", change: map[string]any{"sub": ""}, want: ErrTokenClaims, verdict: "sub"},
		{name: "a claim of another case is another claim", change: map[string]any{"sub": nil, "SUB": "root"}, want: ErrTokenClaims, verdict: "sub"},
		{name: "scope a list", change: map[string]any{"scope": []string{"a"}}, want: ErrTokenClaims, verdict: "scope"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			claims := object(validClaims)
			for name, value := range tt.change {
				claims[name] = value
				if value == nil {
					delete(claims, name)
				}
			}
			v := Verifier{
				Issuer: "https://example.com", Audience: []string{"x", "https://api.example.com"},
				Now: func() time.Time { return now.Add(tt.at) },
			}
			c, err := v.Check([]byte(encode(claims)))
			if !errors.Is(err, tt.want) || (c == nil) != (tt.want != nil) {
				t.Fatalf("Check returns %v, %v; want %v", c, err, tt.want)
			}
			if err != nil && !strings.Contains(err.Error(), tt.verdict) {
				t.Errorf("error %q does not name %s", err, tt.verdict)
			}
		})
	}
}

func TestClaimsAreRead(t *testing.T) {
	clock := newTestClock()
	k := newTestKeys(t, KeyPolicy{}, storage.OpenMemory(), clock)
	v := Verifier{Keys: k, Issuer: "https://example.com", Now: clock.Now}
	c, err := v.Verify(t.Context(), sign(t, k, validClaims))
	if err != nil {
		t.Fatal(err)
	}
	if c.Issuer != "https://example.com" || c.Subject != "alice" || c.ClientID != "app" || c.Scope != "a b" ||
		len(c.Audience) != 2 || c.Audience[1] != "other" || c.ID != "j" || c.Family != "f" ||
		!c.Expires.Equal(at(5*time.Minute)) || !c.IssuedAt.Equal(epoch) || !c.NotBefore.Equal(epoch) {
		t.Errorf("claims are %+v", c)
	}
	if c.Raw["big"] != json.Number("12345678901234567890") {
		t.Errorf("a large number became %v", c.Raw["big"])
	}
	if c, err := v.Verify(t.Context(), foreignToken(t)); !errors.Is(err, ErrTokenKey) || c != nil {
		t.Errorf("a foreign token gives %v, %v", c, err)
	}
	for _, payload := range []string{"", "null", "[]", "{", validClaims + "{}", validClaims + "x", `"x"`} {
		if c, err := v.Check([]byte(payload)); !errors.Is(err, ErrTokenMalformed) || c != nil {
			t.Errorf("Check of %.20q returns %v, %v", payload, c, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	clock := newTestClock()
	k := newTestKeys(f, KeyPolicy{Algorithm: "EdDSA"}, storage.OpenMemory(), clock)
	v := Verifier{Keys: k, Issuer: "https://example.com", Now: clock.Now}
	good := sign(f, k, validClaims)
	f.Add(good, []byte(validClaims))
	f.Add(strings.Replace(good, ".", "..", 1), []byte(`{"exp":1e999}`))
	f.Add(encode64(`{"alg":"none","typ":"at+jwt"}`)+".e30.", []byte(`{"aud":[[]],"exp":null}`))
	f.Fuzz(func(t *testing.T, token string, payload []byte) {
		claims, err := v.Verify(t.Context(), token)
		if (claims == nil) == (err == nil) {
			t.Errorf("Verify returns %v, %v", claims, err)
		}
		// The key is new in each run, so that no input but the seed can have its signature.
		if err == nil && token != good {
			t.Errorf("a forged token is accepted: %q", token)
		}
		claims, err = v.Check(payload)
		if (claims == nil) == (err == nil) {
			t.Errorf("Check returns %v, %v", claims, err)
		}
		var invalid InvalidToken
		if err != nil && !errors.As(err, &invalid) {
			t.Errorf("%v is no InvalidToken", err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	for _, alg := range []string{"ES256", "EdDSA", "RS256", "HS256"} {
		b.Run(alg, func(b *testing.B) {
			clock := newTestClock()
			k := newTestKeys(b, KeyPolicy{Algorithm: alg}, storage.OpenMemory(), clock)
			token := sign(b, k, validClaims)
			v := Verifier{Keys: k, Issuer: "https://example.com", Now: clock.Now}
			b.Run("signature", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := k.Verify(b.Context(), token); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("signature and claims", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := v.Verify(b.Context(), token); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
