package keyring

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
	"github.com/caddy-oauth/caddy-oauth/internal/testclock"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
)

// signedWith returns a token with that header, signed with the key that signs for k.
func signedWith(t *testing.T, k *Ring, header string) string {
	t.Helper()
	line := k.current.Load().lines[k.Algorithm()]
	return jwttest.Forge(t, line[signerAt(line, k.now())].JWK, header, []byte(`{}`))
}

func TestRFC8725VerifyRefuses(t *testing.T) {
	k := newTestKeys(t, Policy{}, memory.New(), testclock.New())
	good := sign(t, k, `{"sub":"alice"}`)
	kid := kidOf(t, good)
	part := strings.Split(good, ".")
	jwks, err := k.JWKS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, token string
		want        error
	}{
		{"§3.2 alg none without signature", jwttest.Encode(`{"alg":"none","kid":"`+kid+`","typ":"at+jwt"}`) + "." + part[1] + ".", jwt.ErrAlgorithm},
		{"§3.2 alg none with the signature", signedWith(t, k, `{"alg":"none","kid":"`+kid+`","typ":"at+jwt"}`), jwt.ErrAlgorithm},
		{"§3.1 HS256 with the public key as the secret", jwttest.NewSecret(t, kid, string(jwks)).Sign(t, []byte(`{"sub":"mallory"}`)), jwt.ErrAlgorithm},
		{"§3.1 another algorithm in the header", signedWith(t, k, `{"alg":"ES384","kid":"`+kid+`","typ":"at+jwt"}`), jwt.ErrAlgorithm},
		{"§3.1 no algorithm", signedWith(t, k, `{"kid":"`+kid+`","typ":"at+jwt"}`), jwt.ErrAlgorithm},
		{"a foreign key", foreignToken(t), jwt.ErrKey},
		{"no kid", signedWith(t, k, `{"alg":"ES256","typ":"at+jwt"}`), jwt.ErrKey},
		{"§3.10 a kid with a path", signedWith(t, k, `{"alg":"ES256","kid":"../../../dev/null","typ":"at+jwt"}`), jwt.ErrKey},
		{"§3.10 jku", signedWith(t, k, `{"alg":"ES256","kid":"`+kid+`","typ":"at+jwt","jku":"https://attacker.example/keys"}`), jwt.ErrHeader},
		{"§3.11 typ JWT", signedWith(t, k, `{"alg":"ES256","kid":"`+kid+`","typ":"JWT"}`), jwt.ErrType},
		{"§3.11 no typ", signedWith(t, k, `{"alg":"ES256","kid":"`+kid+`"}`), jwt.ErrType},
		{"another payload", part[0] + "." + jwttest.Encode(`{"sub":"mallory"}`) + "." + part[2], jwt.ErrSignature},
		{"another spelling of the signature", part[0] + "." + part[1] + "." + jwttest.Respell(part[2]), jwt.ErrMalformed},
		{"empty", "", jwt.ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			payload, err := k.Verify(t.Context(), tt.token)
			if !errors.Is(err, tt.want) || payload != nil {
				t.Errorf("Verify returns %s, %v; want %v", payload, err, tt.want)
			}
			if _, ok := errors.AsType[jwt.InvalidToken](err); !ok {
				t.Errorf("%v is no jwt.InvalidToken", err)
			}
		})
	}
}

func TestRFC9068HeadersOfTheSameMeaningAreAccepted(t *testing.T) {
	k := newTestKeys(t, Policy{}, memory.New(), testclock.New())
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

func TestRFC7517JWKSHasPublicMembersOnly(t *testing.T) {
	ktys := map[any]any{"ES256": "EC", "EdDSA": "OKP", "RS256": "RSA", "PS256": "RSA"}
	allowed := []string{"kty", "kid", "use", "alg", "crv", "x", "y", "n", "e"}
	store, clock := memory.New(), testclock.New()
	for _, alg := range []string{"ES256", "EdDSA", "RS256", "PS256", "HS256"} { // each a change of the configuration
		if err := newTestKeys(t, Policy{Algorithm: alg}, store, clock).Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	k := newTestKeys(t, Policy{Algorithm: "HS256"}, store, clock)
	body, err := k.JWKS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(body, &set); err != nil || len(set.Keys) != 4 {
		t.Fatalf("%v in %s", err, body)
	}
	kids := map[any]bool{}
	for _, key := range set.Keys {
		for member := range key {
			if !slices.Contains(allowed, member) {
				t.Errorf("the JWKS has the member %q", member)
			}
		}
		if key["use"] != "sig" || ktys[key["alg"]] != key["kty"] {
			t.Errorf("use is %v, alg is %v for kty %v", key["use"], key["alg"], key["kty"])
		}
		if kids[key["kid"]] || key["kid"] == "" {
			t.Errorf("kid %v is not unique", key["kid"])
		}
		kids[key["kid"]] = true
	}
}
