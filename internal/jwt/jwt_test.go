package jwt

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

func encode64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// verify returns the payload of a token if everything that this package checks is right.
func verify(token string, key *Key) ([]byte, error) {
	t, err := Split(token)
	if err != nil {
		return nil, err
	}
	if _, err := t.ParseHeader(); err != nil {
		return nil, err
	}
	return t.Verify(key)
}

func TestRFC8725VerifyRefuses(t *testing.T) {
	key := newTestKey(t, "ES256")
	good := sign(t, key, `{"sub":"alice"}`)
	part := strings.Split(good, ".")
	signed := func(members string) string {
		t.Helper()
		token, err := key.join(encode64(`{"alg":"ES256","kid":"`+key.ID+`","typ":"at+jwt"`+members+`}`), []byte(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	for _, tt := range []struct {
		name, token string
		want        error
	}{
		{"§3.10 jku", signed(`,"jku":"https://attacker.example/keys"`), ErrHeader},
		{"§3.10 jwk", signed(`,"jwk":{"kty":"oct","k":"AA"}`), ErrHeader},
		{"§3.10 x5u", signed(`,"x5u":"https://attacker.example/chain"`), ErrHeader},
		{"§3.10 x5c", signed(`,"x5c":["AA"]`), ErrHeader},
		{"RFC 7515 §4.1.11 crit", signed(`,"crit":["b64"],"b64":false`), ErrHeader},
		{"another payload", part[0] + "." + encode64(`{"sub":"mallory"}`) + "." + part[2], ErrSignature},
		{"another header of the same key", encode64(`{"alg":"ES256","kid":"`+key.ID+`","typ":"at+jwt" }`) + "." + part[1] + "." + part[2], ErrSignature},
		{"another key's signature", sign(t, newTestKey(t, "ES256"), `{"sub":"alice"}`), ErrSignature},
		{"no signature", part[0] + "." + part[1] + ".", ErrSignature},
		{"a signature of zeros", part[0] + "." + part[1] + "." + encode64(strings.Repeat("\x00", 64)), ErrSignature},
		{"a line break in the signature", good[:len(good)-4] + "\n" + good[len(good)-4:], ErrMalformed},
		{"another spelling of the signature", part[0] + "." + part[1] + "." + respell(part[2]), ErrMalformed},
		{"padding", good + "=", ErrMalformed},
		{"empty", "", ErrMalformed},
		{"two parts", part[0] + "." + part[1], ErrMalformed},
		{"four parts", good + ".AA", ErrMalformed},
		{"a header that is no JSON", encode64("{") + "." + part[1] + "." + part[2], ErrMalformed},
		{"too long", strings.Repeat("a", maxLength) + "." + part[1] + "." + part[2], ErrMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			payload, err := verify(tt.token, key)
			if !errors.Is(err, tt.want) || payload != nil {
				t.Errorf("the token: %s, %v; want %v", payload, err, tt.want)
			}
			if _, ok := errors.AsType[InvalidToken](err); !ok {
				t.Errorf("%v is no InvalidToken", err)
			}
		})
	}
	if _, err := verify(good, key); err != nil {
		t.Error(err)
	}
}

// respell changes those bits of the last character that no decoded byte contains.
func respell(encoded string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, encoded[len(encoded)-1])
	return encoded[:len(encoded)-1] + string(alphabet[last^1])
}

func FuzzVerify(f *testing.F) {
	key := newTestKey(f, "EdDSA")
	good := sign(f, key, validClaims)
	f.Add(good, []byte(validClaims))
	f.Add(strings.Replace(good, ".", "..", 1), []byte(`{"exp":1e999}`))
	f.Add(encode64(`{"alg":"none","typ":"at+jwt"}`)+".e30.", []byte(`{"aud":[[]],"exp":null}`))
	f.Fuzz(func(t *testing.T, token string, payload []byte) {
		verified, err := verify(token, key)
		if (verified == nil) == (err == nil) {
			t.Errorf("the token: %s, %v", verified, err)
		}
		// The key is new in each run, so that no input but the seed can have its signature.
		if err == nil && token != good {
			t.Errorf("a forged token is accepted: %q", token)
		}
		claims, claimsErr := ParseClaims(payload)
		if (claims == nil) == (claimsErr == nil) {
			t.Errorf("ParseClaims returns %v, %v", claims, claimsErr)
		}
		for _, err := range []error{err, claimsErr} {
			if _, invalid := errors.AsType[InvalidToken](err); err != nil && !invalid {
				t.Errorf("%v is no InvalidToken", err)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	for _, alg := range []string{"ES256", "EdDSA", "RS256", "HS256"} {
		b.Run(alg, func(b *testing.B) {
			key := newTestKey(b, alg)
			token := sign(b, key, validClaims)
			b.ReportAllocs()
			for b.Loop() {
				payload, err := verify(token, key)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := ParseClaims(payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
