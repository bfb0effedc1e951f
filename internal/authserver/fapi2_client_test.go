package authserver

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/internal/assertion"
	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
	"github.com/caddy-oauth/caddy-oauth/internal/mtls"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// fapi plays the client of fapi2-security-profile-final-test-plan of the OpenID conformance suite, without OpenID Connect (plain_oauth),
// with unsigned requests and plain responses. It authenticates and binds its tokens as the variant says.
type fapi struct {
	*testServer

	auth, binding string // private_key_jwt or mtls; dpop or mtls
	id            string
	key, rsa      jwttest.Key // of assertions
	cert          tls.Certificate
	prover        *jwttest.Prover
	n             int // assertions so far
}

// fapiKeys are the keys of the clients, which take long to make.
type fapiKeys struct {
	key, rsa jwttest.Key
	cert     tls.Certificate
}

func newFAPI(t *testing.T, auth, binding string, keys [2]fapiKeys) (first, second *fapi) {
	t.Helper()
	edit := func(id string, keys fapiKeys) func(*Config) {
		return client(id, func(c *storage.Client) {
			c.SecretHashes, c.BindToCertificate, c.RefreshToken.Keep = nil, binding == "mtls", true
			if auth == "mtls" {
				c.Certificate = &storage.ClientCertificate{SANDNS: id + ".example.com"}
			} else {
				c.JWKS = setOf(keys.key, keys.rsa)
			}
			clients.HoldToFAPI(c)
		})
	}
	s := newTestServer(t, edit("webapp", keys[0]), edit("spa", keys[1]))
	of := func(id string, keys fapiKeys) *fapi {
		return &fapi{
			testServer: s, auth: auth, binding: binding, id: id, key: keys.key, rsa: keys.rsa, cert: keys.cert,
			prover: jwttest.NewProver(t, "ES256", s.clock.Now),
		}
	}
	return of("webapp", keys[0]), of("spa", keys[1])
}

// assertion returns a client assertion, changed by pairs of names and values; nil removes one.
func (f *fapi) assertion(t *testing.T, key jwttest.Key, pairs ...any) string {
	t.Helper()
	f.n++
	now := f.clock.Now().Unix()
	claims := map[string]any{"iss": f.id, "sub": f.id, "aud": testIssuer, "exp": now + 60, "iat": now, "jti": fmt.Sprint(f.id, f.n)}
	for pair := range slices.Chunk(pairs, 2) {
		name := pair[0].(string)
		if claims[name] = pair[1]; pair[1] == nil {
			delete(claims, name)
		}
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := key.SignAs("", payload)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// send posts a form as the client, changed by edits. A form that has a client_assertion keeps it.
func (f *fapi) send(t *testing.T, path string, form url.Values, edits ...func(*http.Request)) answer {
	t.Helper()
	form = maps.Clone(form)
	if !form.Has("client_id") {
		form.Set("client_id", f.id)
	}
	if f.auth == "private_key_jwt" && !form.Has("client_assertion") {
		form.Set("client_assertion", f.assertion(t, f.key))
	}
	if f.auth == "private_key_jwt" {
		form.Set("client_assertion_type", assertion.Type)
	}
	r := postRequest(path, form.Encode())
	if f.auth == "mtls" || f.binding == "mtls" {
		over(f.cert, true)(r)
	}
	for _, edit := range edits {
		edit(r)
	}
	return f.do(t, r)
}

// asks returns a good authorization request.
func (f *fapi) asks(pairs ...string) url.Values { return asks(f.id, pairs...) }

func (f *fapi) par(t *testing.T, form url.Values, edits ...func(*http.Request)) answer {
	t.Helper()
	return f.send(t, "/oauth/par", form, edits...)
}

// browser pushes a request, and returns what the browser brings.
func (f *fapi) browser(t *testing.T, form url.Values, edits ...func(*http.Request)) url.Values {
	t.Helper()
	a := f.par(t, form, edits...)
	a.check(t, http.StatusCreated, "")
	body := a.json(t)
	if life, _ := body["expires_in"].(float64); life <= 0 || life >= 600 { // §5.3.2.2, 12
		t.Errorf("expires_in %v", body["expires_in"])
	}
	return url.Values{"client_id": {f.id}, "request_uri": {body["request_uri"].(string)}}
}

// approve visits the authorization endpoint and approves the client. It returns the parameters of the response.
func (f *fapi) approve(t *testing.T, browser url.Values) url.Values {
	t.Helper()
	a := f.get(t, browser)
	if a.Code == http.StatusOK {
		a = f.decide(t, a, "allow")
	}
	if a.Code != http.StatusSeeOther || a.location().Get("iss") != testIssuer { // §5.3.2.2, 7 and 11
		t.Fatalf("%d %s %s", a.Code, a.Header().Get("Location"), a.Body)
	}
	return a.location()
}

// prove returns an edit that adds a DPoP proof, where tokens are bound to keys.
func (f *fapi) prove(t *testing.T, p *jwttest.Prover, path string, pairs ...any) func(*http.Request) {
	t.Helper()
	if f.binding != "dpop" {
		return func(*http.Request) {}
	}
	return header("DPoP", p.Prove(t, http.MethodPost, testIssuer+path, "", pairs...))
}

func (f *fapi) redeems(code string, pairs ...string) url.Values {
	return redeems(code, append([]string{"redirect_uri", testClients()[f.id].RedirectURIs[0]}, pairs...)...)
}

// exchange redeems a code, with a proof.
func (f *fapi) exchange(t *testing.T, form url.Values, edits ...func(*http.Request)) answer {
	t.Helper()
	return f.send(t, "/oauth/token", form, append([]func(*http.Request){f.prove(t, f.prover, "/oauth/token")}, edits...)...)
}

func (f *fapi) code(t *testing.T) string {
	t.Helper()
	return f.approve(t, f.browser(t, f.asks())).Get("code")
}

// tokens performs the whole flow.
func (f *fapi) tokens(t *testing.T) map[string]any {
	t.Helper()
	a := f.exchange(t, f.redeems(f.code(t)))
	a.check(t, http.StatusOK, "")
	return a.json(t)
}

// scheme is the one that access tokens are sent with.
func (f *fapi) scheme() string {
	if f.binding == "dpop" {
		return "DPoP"
	}
	return "Bearer"
}

// resource sends a request to a protected resource, and returns the status.
func (f *fapi) resource(t *testing.T, scheme, token string, edits ...func(*http.Request)) int {
	t.Helper()
	const target = testAPI + "/accounts"
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r.Header.Set("Authorization", scheme+" "+token)
	if f.binding == "dpop" {
		r.Header.Set("DPoP", f.prover.Prove(t, http.MethodGet, target, token))
	} else {
		over(f.cert, true)(r)
	}
	for _, edit := range edits {
		edit(r)
	}
	api := bearer.Resource{
		Source: f.Server, Audience: []string{testAPI}, Proofs: f.proofs,
		Target:      func(*http.Request) string { return target },
		Certificate: func(r *http.Request) (*mtls.Certificate, error) { return mtls.OfConnection(r.TLS), nil },
	}
	_, err := api.Check(r, new(bearer.Tokens), "")
	if refusal, ok := errors.AsType[*bearer.Error](err); ok {
		return refusal.Status
	}
	return http.StatusOK
}
