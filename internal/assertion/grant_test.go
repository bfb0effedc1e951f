package assertion

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
	"github.com/caddy-oauth/caddy-oauth/internal/testclock"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
)

// Whatever somebody sends, only what the issuer has signed is an assertion of it.
func FuzzGrant(f *testing.F) {
	key := jwttest.NewKey(f, "ES256")
	payload := []byte(`{"iss":"https://idp.example","sub":"bob","aud":"https://example.com","exp":1772323260,"jti":"1","client_id":"app"}`)
	seeds := []string{
		"", ".", "..", "e30.e30.", jwttest.Encode(`{"alg":"none","typ":"JWT"}`) + "." + jwttest.Encode(string(payload)) + ".",
		jwttest.Encode(`{"alg":"ES256","typ":"oauth-id-jag+jwt","jku":"https://evil.example"}`) + "." + jwttest.Encode(string(payload)) + ".AA",
		jwttest.Encode(`{"alg":"ES256"}`) + "." + jwttest.Encode(`{"iss":["a"],"sub":{},"aud":[[]],"exp":1e999,"cnf":[]}`) + ".AA",
	}
	prefixes := make([]string, 0, 2)
	for _, typ := range []string{"JWT", typeIDJAG} {
		signed, err := key.SignAs(typ, payload)
		if err != nil {
			f.Fatal(err)
		}
		seeds = append(seeds, signed, jwttest.Respell(signed), signed+"=")
		prefixes = append(prefixes, signed[:strings.LastIndexByte(signed, '.')+1])
	}
	for _, seed := range seeds {
		f.Add(seed)
	}
	clock := testclock.New()
	c := &Checker{Config: Config{
		Issuer: "https://example.com", TokenEndpoint: "https://example.com/oauth/token", Store: memory.New(), Keys: NewKeys(nil, clock.Now), Now: clock.Now,
	}}
	f.Fuzz(func(t *testing.T, text string) {
		g, err := ParseGrant(text)
		if err != nil {
			if _, refused := errors.AsType[*Error](err); !refused || g != nil {
				t.Fatalf("got %v and %v", g, err)
			}
			return
		}
		good := 0
		for _, jag := range []bool{false, true} {
			from := &Trusted{Issuer: "https://idp.example", JWKS: json.RawMessage(setOf(key)), IDJAG: jag}
			claims, err := c.CheckGrant(t.Context(), g, from)
			if _, refused := errors.AsType[*Error](err); err != nil && !refused {
				t.Fatal(err)
			}
			if err != nil {
				continue
			}
			good++
			if claims.Issuer != from.Issuer || claims.Subject == "" || claims.ID == "" {
				t.Errorf("an assertion with the claims %v", claims.Raw)
			}
		}
		if signed := strings.HasPrefix(text, prefixes[0]) || strings.HasPrefix(text, prefixes[1]); good > 1 || good == 1 && !signed {
			t.Errorf("the issuer has not signed %q, or it is good for both kinds", text)
		}
	})
}
