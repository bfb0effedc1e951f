package caddyoauth_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
)

// privateKey is a key of nobody.
const privateKey = `{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`

// keyedClient makes requests of a client with a key.
type keyedClient struct {
	id, issuer string
	key        jwttest.Key
	n          int
}

// request returns a token request, with changes of the claims as pairs of names and values.
func (c *keyedClient) request(t *testing.T, pairs ...any) url.Values {
	t.Helper()
	c.n++
	claims := map[string]any{
		"iss": c.id, "sub": c.id, "aud": c.issuer, "exp": time.Now().Add(time.Minute).Unix(), "jti": fmt.Sprint(c.n),
	}
	for pair := range slices.Chunk(pairs, 2) {
		claims[pair[0].(string)] = pair[1]
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := c.key.SignAs("JWT", payload)
	if err != nil {
		t.Fatal(err)
	}
	return url.Values{
		"grant_type": {"client_credentials"}, "client_assertion": {signed},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
	}
}

// A client with keys in a file, or added at run time, is confidential without a secret. The owner can read why it is refused.
func TestClientsWithKeys(t *testing.T) {
	s := newServer(t)
	issuer := s.url("shop.localhost")
	billing := &keyedClient{id: "billing", issuer: issuer, key: jwttest.NewKey(t, "ES256")}
	stock := &keyedClient{id: "stock", issuer: issuer, key: jwttest.NewKey(t, "EdDSA")}
	keys := func(c *keyedClient) string { return `{"keys":[` + string(c.key.Public) + `]}` }
	file := write(t, s.dir, "billing.jwks", keys(billing))
	s.run(t, strings.Replace(shop, "scope orders", "scope orders\nclient billing {\njwks "+file+"\nscopes orders\n}", 1), shopSite)

	added := s.must(t, "", "clients", "add", "stock", "--scope", "orders", "--jwks", write(t, s.dir, "stock.jwks", keys(stock)))
	if strings.Contains(added, "secret") {
		t.Errorf("a client with keys needs no secret: %s", added)
	}
	for _, c := range []*keyedClient{billing, stock} {
		answer := s.do(t, http.MethodPost, issuer+"/oauth/token", "application/x-www-form-urlencoded", c.request(t).Encode())
		if answer.status != http.StatusOK {
			t.Errorf("%s: %d %s", c.id, answer.status, answer.body)
		}
		shown := s.api(t, http.MethodGet, "/clients/"+c.id, "", http.StatusOK)
		if types := fmt.Sprint(shown["grant_types"]); shown["public"] != false || types != "[client_credentials]" {
			t.Errorf("%s is shown as %v", c.id, shown)
		}
	}
	for name, tt := range map[string]struct {
		form url.Values
		want []string
	}{
		"another audience": {billing.request(t, "aud", "https://other.example"), []string{"https://other.example", issuer}},
		"used before":      {billing.request(t, "jti", "1"), []string{"used before", "jti"}},
		"another key": {
			(&keyedClient{id: "stock", issuer: issuer, key: billing.key}).request(t), []string{"alg ES256", "public keys"},
		},
		"no key": {
			url.Values{"grant_type": {"client_credentials"}, "client_id": {"stock"}}, []string{"private_key_jwt"},
		},
	} {
		said := s.must(t, "", "explain", s.refused(t, tt.form))
		for _, want := range tt.want {
			if !strings.Contains(said, want) {
				t.Errorf("%s: expected %q in\n%s", name, want, said)
			}
		}
	}
	if out, err := s.command(t, "", "clients", "add", "other", "--jwks", write(t, s.dir, "private.jwks", privateKey)); err == nil ||
		!strings.Contains(out, "a private key") || strings.Contains(out, "nWGxne") {
		t.Errorf("a private key is accepted: %v %s", err, out)
	}
}
