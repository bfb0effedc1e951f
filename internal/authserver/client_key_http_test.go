package authserver

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/assertion"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

const testToken = testIssuer + "/oauth/token"

// keyed is a client with a key, at a server.
type keyed struct {
	*testServer
	key jwttest.Key
	n   int // assertions so far
}

// setOf returns the JWK set of keys.
func setOf(keys ...jwttest.Key) json.RawMessage {
	all := make([]string, 0, len(keys))
	for _, key := range keys {
		all = append(all, string(key.Public))
	}
	return json.RawMessage(`{"keys":[` + strings.Join(all, ",") + `]}`)
}

// withKeys gives a client these keys instead of its secrets.
func withKeys(id string, keys ...jwttest.Key) func(*Config) {
	return client(id, func(c *storage.Client) { c.SecretHashes, c.JWKS = nil, setOf(keys...) })
}

func newKeyed(t *testing.T, alg string, edits ...func(*Config)) *keyed {
	t.Helper()
	key := jwttest.NewKey(t, alg)
	return &keyed{testServer: newTestServer(t, append([]func(*Config){withKeys("billing", key)}, edits...)...), key: key}
}

// claimsOf returns good claims for a client, changed by pairs of names and values; nil removes one.
func (k *keyed) claimsOf(id string, pairs ...any) map[string]any {
	k.n++
	now := k.clock.Now().Unix()
	claims := map[string]any{"iss": id, "sub": id, "aud": testIssuer, "exp": now + 60, "iat": now, "jti": fmt.Sprint("jti", k.n)}
	for pair := range slices.Chunk(pairs, 2) {
		name := pair[0].(string)
		if claims[name] = pair[1]; pair[1] == nil {
			delete(claims, name)
		}
	}
	return claims
}

// sign returns claims as an assertion.
func (k *keyed) sign(t *testing.T, typ string, claims map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := k.key.SignAs(typ, payload)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// with returns a token request with an assertion.
func with(signed string, pairs ...string) url.Values {
	return merge(url.Values{
		"grant_type": {"client_credentials"}, "client_assertion_type": {assertion.Type}, "client_assertion": {signed},
	}, pairs...)
}

func TestPrivateKeyJWT(t *testing.T) {
	k := newKeyed(t, "ES256")
	in := func(d time.Duration) int64 { return k.clock.Now().Add(d).Unix() }
	for _, tt := range []struct {
		name   string
		typ    string
		change []any
		good   bool
	}{
		{"X1 the issuer", "", nil, true},
		{"X2 the issuer in a list", "", []any{"aud", []string{testIssuer}}, true},
		{"X2 the token endpoint", "", []any{"aud", testToken}, true},
		{"X2 both", "", []any{"aud", []string{testIssuer, testToken}}, true},
		{"X2 the token endpoint, not as in the metadata", "", []any{"aud", testToken + "/"}, false},
		{"X2 the issuer with a slash", "", []any{"aud", testIssuer + "/"}, false},
		{"X2 another issuer", "", []any{"aud", "https://other.example"}, false},
		{"X2 this issuer and another", "", []any{"aud", []string{testIssuer, "https://other.example"}}, false},
		{"X2 a list in a list", "", []any{"aud", []any{[]string{testIssuer}}}, false},
		{"X2 an empty list", "", []any{"aud", []string{}}, false},
		{"X2 none", "", []any{"aud", nil}, false},
		{"X2 a number", "", []any{"aud", 1}, false},
		{"X3 its own type", "client-authentication+jwt", nil, true},
		{"X3 its own type in full", "application/Client-Authentication+JWT", nil, true},
		{"X3 JWT", "JWT", nil, true},
		{"X3 an access token", "at+jwt", nil, false},
		{"X3 a proof of possession", "dpop+jwt", nil, false},
		{"X3 a logout token", "logout+jwt", nil, false},
		{"X3 an assertion of an identity", "oauth-id-jag+jwt", nil, false},
		{"X4 no exp", "", []any{"exp", nil}, false},
		{"X4 exp as text", "", []any{"exp", "2000000000"}, false},
		{"X4 a fraction", "", []any{"exp", float64(in(time.Minute)) + 0.5}, true},
		{"X4 five minutes", "", []any{"exp", in(5 * time.Minute)}, true},
		{"X4 six minutes", "", []any{"exp", in(6 * time.Minute)}, false},
		{"X4 a huge exp", "", []any{"exp", json.Number("1e300")}, false},
		{"X4 expired", "", []any{"exp", in(-time.Minute)}, false},
		{"X4 made 10 s ahead", "", []any{"iat", in(10 * time.Second)}, true},
		{"X4 made 61 s ahead", "", []any{"iat", in(61 * time.Second)}, false},
		{"X4 valid from 10 s ahead", "", []any{"nbf", in(10 * time.Second)}, true},
		{"X4 valid from 61 s ahead", "", []any{"nbf", in(61 * time.Second)}, false},
		{"X4 neither iat nor nbf", "", []any{"iat", nil}, true},
		{"X1 no jti", "", []any{"jti", nil}, false},
		{"X1 iss of another", "", []any{"iss", "webapp"}, false},
		{"X1 no iss", "", []any{"iss", nil}, false},
		{"X1 sub of another", "", []any{"sub", "webapp"}, false},
		{"X1 a client without keys", "", []any{"iss", "webapp", "sub", "webapp"}, false},
		{"X1 a client that is not there", "", []any{"iss", "nobody", "sub", "nobody"}, false},
		{"X1 client_id of another in the claims is nobody's business", "", []any{"client_id", "webapp"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k.site.address = tt.name // failures of one address are limited
			a := k.token(t, with(k.sign(t, tt.typ, k.claimsOf("billing", tt.change...))), header("Authorization", ""))
			if tt.good {
				a.check(t, 200, "")
				return
			}
			a.check(t, 401, "invalid_client") // X8
			if text := a.json(t)["error_description"]; text != "client authentication failed" {
				t.Errorf("X8: the client learns %q", text)
			}
		})
	}
}

func TestPrivateKeyJWTForms(t *testing.T) {
	k := newKeyed(t, "ES256", func(c *Config) { c.Limits.Off = true })
	good := func() string { return k.sign(t, "", k.claimsOf("billing")) }
	forge := func(head, more string) string {
		claims, err := json.Marshal(k.claimsOf("billing"))
		if err != nil {
			t.Fatal(err)
		}
		return jwttest.Forge(t, k.key.JWK, head, []byte(strings.TrimSuffix(string(claims), "}")+more+"}"))
	}
	for _, tt := range []struct {
		name   string
		form   url.Values
		edit   func(*http.Request)
		status int
	}{
		{"as it should be", with(good()), nil, 200},
		{"client_id too", with(good(), "client_id", "billing"), nil, 200},
		{"the header of Forge", with(forge(`{"alg":"ES256"}`, "")), nil, 200},
		{"client_id of another", with(good(), "client_id", "webapp"), nil, 401},
		{"no client_assertion_type", merge(with(good()), "client_assertion_type", ""), nil, 401},
		{"another client_assertion_type", with(good(), "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"), nil, 401},
		{"no client_assertion", with("", "client_id", "billing"), nil, 401},
		{"no JWT", with("x"), nil, 401},
		{"two parts", with("e30.e30"), nil, 401},
		{"five parts", with("e30.e30.e30.e30.e30"), nil, 401},
		{"no signature", with(good()[:strings.LastIndexByte(good(), '.')+1]), nil, 401},
		{"a signature in another spelling", with(jwttest.Respell(good())), nil, 401},
		{"a line break", with(good() + "\n"), nil, 401},
		{"too long", with(k.sign(t, "", k.claimsOf("billing", "pad", strings.Repeat("x", 8<<10)))), nil, 401},
		{"alg none", with(jwttest.Encode(`{"alg":"none"}`) + good()[strings.IndexByte(good(), '.'):]), nil, 401},
		{"alg HS256 with the public key as the secret", with(hs256(t, k)), nil, 401},
		{"another alg of the same key", with(forge(`{"alg":"ES384"}`, "")), nil, 401},
		{"an unknown kid", with(forge(`{"alg":"ES256","kid":"../../etc/passwd"}`, "")), nil, 401},
		{"a kid that is no text", with(forge(`{"alg":"ES256","kid":["`+k.key.ID+`"]}`, "")), nil, 401},
		{"crit", with(forge(`{"alg":"ES256","crit":["exp"]}`, "")), nil, 401},
		{"b64", with(forge(`{"alg":"ES256","b64":false}`, "")), nil, 401},
		{"jwk", with(forge(`{"alg":"ES256","jwk":`+string(k.key.Public)+`}`, "")), nil, 401},
		{"jku", with(forge(`{"alg":"ES256","jku":"https://billing.example/jwks"}`, "")), nil, 401},
		{"x5u", with(forge(`{"alg":"ES256","x5u":"https://billing.example/cert"}`, "")), nil, 401},
		{"x5c", with(forge(`{"alg":"ES256","x5c":[]}`, "")), nil, 401},
		{"alg twice", with(forge(`{"alg":"none","alg":"ES256"}`, "")), nil, 401},
		{"alg in two spellings", with(forge(`{"alg":"ES256","Alg":"ES256"}`, "")), nil, 401},
		{"aud twice", with(forge(`{"alg":"ES256"}`, `,"aud":"https://other.example"`)), nil, 401},
		{"sub twice", with(forge(`{"alg":"ES256"}`, `,"sub":"billing"`)), nil, 401},
		{"a secret too", with(good(), "client_secret", webSecret), nil, 400},
		{"Basic too", with(good()), basic("billing:" + webSecret), 400},
		{"a Bearer token too", with(good()), header("Authorization", "Bearer x"), 400},
		{"the assertion as a secret", asBilling("client_secret", good()), nil, 401},
		{"no authentication", asBilling("client_secret", ""), nil, 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			edit := tt.edit
			if edit == nil {
				edit = header("Authorization", "")
			}
			a := k.token(t, tt.form, edit)
			a.check(t, tt.status, map[int]string{200: "", 400: "invalid_request", 401: "invalid_client"}[tt.status])
		})
	}
	t.Run("the parameter twice", func(t *testing.T) {
		body := with(good()).Encode() + "&client_assertion=" + good()
		k.do(t, postRequest("/oauth/token", body)).check(t, 400, "invalid_request")
	})
	if n := k.store.Count(t, storage.KindOnce); n != 3 {
		t.Errorf("%d assertions are in the store, want the 3 that were good", n)
	}
}

// hs256 returns an assertion that uses the client's public key as a shared secret.
func hs256(t *testing.T, k *keyed) string {
	t.Helper()
	secret := jwttest.NewSecret(t, k.key.ID, string(k.key.Public))
	return (&keyed{testServer: k.testServer, key: secret}).sign(t, "", k.claimsOf("billing"))
}

// An assertion works once, at any endpoint, and the store forgets it when it has expired.
func TestPrivateKeyJWTOnce(t *testing.T) {
	k := newKeyed(t, "EdDSA")
	claims := k.claimsOf("billing")
	signed := k.sign(t, "", claims)
	k.token(t, with(signed), header("Authorization", "")).check(t, 200, "")
	k.token(t, with(signed), header("Authorization", "")).check(t, 401, "invalid_client")
	for _, path := range []string{"/oauth/revoke", "/oauth/introspect"} {
		form := with(signed, "token", "x").Encode()
		k.do(t, postRequest(path, form)).check(t, 401, "invalid_client")
		form = with(k.sign(t, "", k.claimsOf("billing")), "token", "x").Encode()
		k.do(t, postRequest(path, form)).check(t, 200, "")
		k.do(t, postRequest(path, form)).check(t, 401, "invalid_client")
	}
	claims["extra"] = "another text with the same jti"
	k.token(t, with(k.sign(t, "JWT", claims)), header("Authorization", "")).check(t, 401, "invalid_client")

	t.Run("many at once", func(t *testing.T) {
		k := newKeyed(t, "ES256", func(c *Config) { c.Limits.Off = true })
		form := with(k.sign(t, "", k.claimsOf("billing")))
		var good atomic.Int32
		var group sync.WaitGroup
		for range 50 {
			group.Go(func() {
				w := newRecorder()
				err := k.ServeHTTP(w, postRequest("/oauth/token", form.Encode()), k.site)
				if err == nil && w.Code == http.StatusOK {
					good.Add(1)
				}
			})
		}
		group.Wait()
		if n := good.Load(); n != 1 {
			t.Errorf("%d of 50 had success", n)
		}
	})
}

// Clients that share a key are still different clients.
func TestPrivateKeyJWTOfAnotherClient(t *testing.T) {
	key := jwttest.NewKey(t, "PS256")
	k := &keyed{testServer: newTestServer(t, withKeys("billing", key), withKeys("webapp", key)), key: key}
	signed := k.sign(t, "", k.claimsOf("webapp"))
	k.token(t, with(signed, "client_id", "billing"), header("Authorization", "")).check(t, 401, "invalid_client")
	k.token(t, with(signed), header("Authorization", "")).check(t, 400, "unauthorized_client") // webapp may not use client_credentials

	same := []any{"jti", "the same"}
	k.token(t, with(k.sign(t, "", k.claimsOf("billing", same...))), header("Authorization", "")).check(t, 200, "")
	k.token(t, with(k.sign(t, "", k.claimsOf("webapp", same...))), header("Authorization", "")).check(t, 400, "unauthorized_client")
}

// X6, X7: the kid chooses the key, and without one all are tried.
func TestPrivateKeyJWTKeys(t *testing.T) {
	var keys []jwttest.Key
	for _, alg := range []string{"ES256", "ES256", "ES384", "ES512", "EdDSA", "RS256", "PS384"} {
		keys = append(keys, jwttest.NewKey(t, alg))
	}
	s := newTestServer(t, withKeys("billing", keys...), func(c *Config) { c.Limits.Off = true })
	for _, key := range keys {
		k := &keyed{testServer: s, key: key}
		claims := k.claimsOf("billing", "jti", key.ID)
		s.token(t, with(k.sign(t, "", claims)), header("Authorization", "")).check(t, 200, "")
	}
	k := &keyed{testServer: s, key: keys[1]}
	payload, err := json.Marshal(k.claimsOf("billing", "jti", "no kid"))
	if err != nil {
		t.Fatal(err)
	}
	s.token(t, with(jwttest.Forge(t, keys[1].JWK, `{"alg":"ES256"}`, payload)), header("Authorization", "")).check(t, 200, "")
	wrong := jwttest.Forge(t, keys[1].JWK, `{"alg":"ES256","kid":"`+keys[0].ID+`"}`, payload)
	s.token(t, with(wrong), header("Authorization", "")).check(t, 401, "invalid_client")
	stranger := &keyed{testServer: s, key: jwttest.NewKey(t, "ES256")}
	s.token(t, with(stranger.sign(t, "", k.claimsOf("billing"))), header("Authorization", "")).check(t, 401, "invalid_client")
}

// X2: an issuer can insist on its identifier as the only audience.
func TestPrivateKeyJWTForIssuerOnly(t *testing.T) {
	k := newKeyed(t, "ES256", func(c *Config) { c.AssertionForIssuer = true })
	for _, tt := range []struct {
		aud    any
		status int
		code   string
	}{
		{testIssuer, 200, ""},
		{[]string{testIssuer}, 401, "invalid_client"},
		{testToken, 401, "invalid_client"},
		{[]string{testIssuer, testToken}, 401, "invalid_client"},
	} {
		signed := k.sign(t, "", k.claimsOf("billing", "aud", tt.aud))
		k.token(t, with(signed), header("Authorization", "")).check(t, tt.status, tt.code)
	}
}

// Failures count for the address. Nobody can lock a client with a key out, since nobody can guess a signature.
func TestPrivateKeyJWTThrottle(t *testing.T) {
	k := newKeyed(t, "ES256")
	wrong := &keyed{testServer: k.testServer, key: jwttest.NewKey(t, "ES256")}
	k.site.address = "198.51.100.1"
	last := 0
	for range 40 {
		last = k.token(t, with(wrong.sign(t, "", k.claimsOf("billing"))), header("Authorization", "")).Code
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("the last of 40 failures has status %d", last)
	}
	k.token(t, with("x"), header("Authorization", "")).check(t, 429, "temporarily_unavailable")
	k.token(t, with(k.sign(t, "", k.claimsOf("billing"))), header("Authorization", "")).check(t, 429, "temporarily_unavailable")
	for n := range 50 {
		k.site.address = fmt.Sprint("203.0.113.", n)
		k.token(t, with(wrong.sign(t, "", k.claimsOf("billing"))), header("Authorization", "")).check(t, 401, "invalid_client")
	}
	k.site.address = "203.0.113.200"
	k.token(t, with(k.sign(t, "", k.claimsOf("billing"))), header("Authorization", "")).check(t, 200, "")
}

// C15: a client that may use its key or not, as ChatGPT's says, keeps using it once it has.
func TestClientThatMayUseItsKey(t *testing.T) {
	key := jwttest.NewKey(t, "RS256")
	k := &keyed{key: key, testServer: newTestServer(t, client("spa", func(c *storage.Client) {
		c.JWKS, c.AuthMethods = setOf(key), []string{storage.MethodNone, storage.MethodKey}
	}))}
	asSPA := func(form url.Values) url.Values {
		form = maps.Clone(form)
		form.Del("client_secret")
		return merge(form, "client_id", "spa")
	}
	request := asks("spa", "redirect_uri", "https://spa.example.com/callback")
	plain := k.token(t, asSPA(redeems(k.code(t, request), "redirect_uri", "https://spa.example.com/callback")), header("Authorization", ""))
	plain.check(t, 200, "")

	form := asSPA(redeems(k.code(t, request), "redirect_uri", "https://spa.example.com/callback"))
	form = merge(form, "client_assertion_type", assertion.Type, "client_assertion", k.sign(t, "", k.claimsOf("spa", "aud", testToken)))
	a := k.token(t, form, header("Authorization", ""))
	a.check(t, 200, "")
	token, _ := a.json(t)["refresh_token"].(string)
	k.token(t, asSPA(refreshes(token)), header("Authorization", "")).check(t, 401, "invalid_client")
	form = merge(asSPA(refreshes(token)), "client_assertion_type", assertion.Type, "client_assertion", k.sign(t, "", k.claimsOf("spa")))
	k.token(t, form, header("Authorization", "")).check(t, 200, "")

	token, _ = plain.json(t)["refresh_token"].(string)
	k.token(t, asSPA(refreshes(token)), header("Authorization", "")).check(t, 200, "")

	t.Run("introspection needs the key", func(t *testing.T) {
		form := url.Values{"client_id": {"spa"}, "token": {"x"}}
		k.do(t, postRequest("/oauth/introspect", form.Encode())).check(t, 401, "invalid_client")
		form = merge(form, "client_assertion_type", assertion.Type, "client_assertion", k.sign(t, "", k.claimsOf("spa")))
		k.do(t, postRequest("/oauth/introspect", form.Encode())).check(t, 200, "")
	})
}

// X2: the owner learns which clients would be refused with client_assertion_audience issuer, once for each.
func TestClientsThatNameTheTokenEndpoint(t *testing.T) {
	k := newKeyed(t, "ES256")
	logged := func() int {
		return k.logs.FilterMessage("client names the token endpoint as the audience of its assertions").FilterField(zap.String("client_id", "billing")).Len()
	}
	send := func(aud any, status int) {
		t.Helper()
		if a := k.token(t, with(k.sign(t, "", k.claimsOf("billing", "aud", aud)), "client_id", "billing")); a.Code != status {
			t.Fatalf("%v: %d %s", aud, a.Code, a.Body)
		}
	}
	send(testIssuer, http.StatusOK)
	send([]string{testToken, "https://other.example"}, http.StatusUnauthorized)
	if n := logged(); n != 0 {
		t.Errorf("%d lines for assertions that name the issuer, or are refused", n)
	}
	for range 3 {
		send(testToken, http.StatusOK)
		send([]string{testIssuer, testToken}, http.StatusOK)
	}
	if n := logged(); n != 1 {
		t.Errorf("%d lines", n)
	}
	stats, err := k.Owner().Stats(t.Context())
	if err != nil || !slices.Equal(stats.NamingEndpoint, []string{"billing"}) {
		t.Errorf("the figures name %v, %v", stats.NamingEndpoint, err)
	}
}
