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
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/assertion"
	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
	"github.com/caddy-oauth/caddy-oauth/internal/mtls/mtlstest"
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
		Target: func(*http.Request) string { return target },
	}
	_, err := api.Check(r, new(bearer.Tokens))
	if refusal, ok := errors.AsType[*bearer.Error](err); ok {
		return refusal.Status
	}
	return http.StatusOK
}

// refused checks for one of the statuses and one of the errors of a refusal that a program gets.
func refused(t *testing.T, a answer, codes ...string) {
	t.Helper()
	code, _ := a.json(t)["error"].(string)
	if a.Code != http.StatusBadRequest && a.Code != http.StatusUnauthorized || !slices.Contains(codes, code) {
		t.Errorf("%d %s; want one of %v", a.Code, a.Body, codes)
	}
}

// noCode checks that a visit ends on a page, and not at the client.
func noCode(t *testing.T, a answer, code string) {
	t.Helper()
	if a.page == nil || a.page.Err.Code != code || a.Header().Get("Location") != "" {
		t.Errorf("%d %s %s", a.Code, a.Header().Get("Location"), a.Body)
	}
}

// TestFAPI2 has a test for each module of the plan that is for all profiles, by its name, in all four variants of client authentication
// and sender constraining.
func TestFAPI2(t *testing.T) {
	var keys [2]fapiKeys
	for i, id := range []string{"webapp", "spa"} {
		keys[i] = fapiKeys{jwttest.NewKey(t, "ES256"), jwttest.NewKey(t, "RS256"), mtlstest.SelfSigned(t, mtlstest.DNS(id+".example.com"))}
	}
	for _, auth := range []string{"private_key_jwt", "mtls"} {
		for _, binding := range []string{"dpop", "mtls"} {
			t.Run(auth+"+"+binding, func(t *testing.T) {
				modules := maps.Clone(fapiModules)
				if auth == "private_key_jwt" {
					maps.Copy(modules, fapiAssertionModules)
				}
				if binding == "dpop" {
					maps.Copy(modules, fapiProofModules)
				}
				for name, module := range modules {
					t.Run("fapi2-security-profile-final-"+name, func(t *testing.T) {
						first, second := newFAPI(t, auth, binding, keys)
						module(t, first, second)
					})
				}
			})
		}
	}
}

// fapiModules are the modules for all variants.
var fapiModules = map[string]func(t *testing.T, f, other *fapi){
	"discovery-end-point-verification": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		doc := f.fetch(t, wellKnown).json(t)
		for _, member := range []string{"dpop_signing_alg_values_supported", "token_endpoint_auth_signing_alg_values_supported"} {
			if list, _ := doc[member].([]any); !slices.Contains(list, any("PS256")) || !slices.Contains(list, any("ES256")) || slices.Contains(list, any("none")) {
				t.Errorf("%s: %v", member, doc[member])
			}
		}
		if doc["issuer"] != testIssuer || doc["pushed_authorization_request_endpoint"] == nil || doc["authorization_response_iss_parameter_supported"] != true ||
			!equalJSON(doc["code_challenge_methods_supported"], []any{"S256"}) || slices.Contains(doc["grant_types_supported"].([]any), any("password")) {
			t.Errorf("%v", doc)
		}
	},
	"happy-flow": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		got := f.tokens(t)
		if got["token_type"] != f.scheme() || got["refresh_token"] == nil || got["id_token"] != nil {
			t.Errorf("%v", got)
		}
		if status := f.resource(t, f.scheme(), got["access_token"].(string)); status != http.StatusOK {
			t.Errorf("the resource says %d", status)
		}
	},
	"user-rejects-authentication": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		a := f.decide(t, f.get(t, f.browser(t, f.asks())), "deny")
		a.check(t, http.StatusSeeOther, "access_denied")
		if a.location().Get("state") != "xyz" || a.location().Get("iss") != testIssuer {
			t.Errorf("%s", a.Header().Get("Location"))
		}
	},
	"ensure-authorization-request-without-state-success": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		if got := f.approve(t, f.browser(t, f.asks("state", ""))); got.Get("code") == "" || got.Has("state") {
			t.Errorf("%v", got)
		}
	},
	"ensure-other-scope-order-succeeds": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		if got := f.approve(t, f.browser(t, f.asks("scope", "orders profile"))); got.Get("code") == "" {
			t.Errorf("%v", got)
		}
	},
	"access-token-type-header-case-sensitivity": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		token := f.tokens(t)["access_token"].(string)
		for _, scheme := range []string{strings.ToLower(f.scheme()), strings.ToUpper(f.scheme())} {
			if status := f.resource(t, scheme, token); status != http.StatusOK {
				t.Errorf("%s: %d", scheme, status)
			}
		}
	},
	"ensure-different-state-inside-and-outside-request-object": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		if got := f.approve(t, merge(f.browser(t, f.asks()), "state", "outside")); got.Get("state") != "xyz" {
			t.Errorf("%v", got)
		}
	},
	"ensure-authorization-request-with-long-state": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		state := strings.Repeat("s", 384)
		if got := f.approve(t, f.browser(t, f.asks("state", state))); got.Get("state") != state {
			t.Errorf("%v", got)
		}
	},
	"state-only-outside-request-object-not-used": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		if got := f.approve(t, merge(f.browser(t, f.asks("state", "")), "state", "outside")); got.Has("state") {
			t.Errorf("%v", got)
		}
	},
	"ensure-request-object-without-redirect-uri-fails": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		refused(t, f.par(t, f.asks("redirect_uri", "")), "invalid_request")
	},
	"ensure-redirect-uri-in-authorization-request": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		refused(t, f.par(t, f.asks("redirect_uri", "")), "invalid_request")
	},
	"ensure-registered-redirect-uri": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		for _, uri := range []string{"https://evil.example/", webRedirect + "/more", webRedirect + "?x=1"} {
			refused(t, f.par(t, f.asks("redirect_uri", uri)), "invalid_request")
		}
	},
	"plain-fapi-tolerate-unregistered-redirect-uri": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		refused(t, f.par(t, f.asks("redirect_uri", webRedirect+"/unregistered")), "invalid_request")
	},
	"ensure-unsigned-authorization-request-without-using-par-fails": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		a := f.get(t, f.asks())
		a.check(t, http.StatusSeeOther, "invalid_request")
		if a.location().Has("code") {
			t.Error("a code")
		}
	},
	"ensure-response-type-code-idtoken-fails": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		refused(t, f.par(t, f.asks("response_type", "code id_token")), "unsupported_response_type")
	},
	"ensure-response-type-token-fails": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		refused(t, f.par(t, f.asks("response_type", "token")), "unsupported_response_type")
	},
	"ensure-client-id-in-token-endpoint": func(t *testing.T, f, other *fapi) {
		t.Helper()
		code := f.code(t)
		refused(t, f.exchange(t, f.redeems(code, "client_id", other.id)), "invalid_client", "invalid_grant")
		f.exchange(t, f.redeems(code)).check(t, http.StatusOK, "")
	},
	"ensure-holder-of-key-required": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		without := func(r *http.Request) {
			r.Header.Del("DPoP")
			if f.binding == "mtls" {
				r.TLS = nil
			}
		}
		code := f.code(t)
		refused(t, f.exchange(t, f.redeems(code), without), "invalid_dpop_proof", "invalid_request", "invalid_client")
		a := f.exchange(t, f.redeems(code))
		a.check(t, http.StatusOK, "")
		token := a.json(t)["access_token"].(string)
		for _, status := range []int{f.resource(t, f.scheme(), token, without), f.resource(t, "Bearer", token, without)} {
			if status != http.StatusUnauthorized {
				t.Errorf("the resource says %d", status)
			}
		}
	},
	"ensure-authorization-code-is-bound-to-client": func(t *testing.T, f, other *fapi) {
		t.Helper()
		code := f.code(t)
		refused(t, other.exchange(t, other.redeems(code)), "invalid_grant")
		refused(t, other.exchange(t, f.redeems(code)), "invalid_grant")
	},
	"attempt-reuse-authorization-code-after-one-second": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		code := f.code(t)
		a := f.exchange(t, f.redeems(code))
		a.check(t, http.StatusOK, "")
		f.clock.Advance(time.Second)
		refused(t, f.exchange(t, f.redeems(code)), "invalid_grant")
	},
	"ensure-token-endpoint-fails-with-expired-auth-code": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		code := f.code(t)
		f.clock.Advance(62 * time.Second)
		refused(t, f.exchange(t, f.redeems(code)), "invalid_grant")
	},
	"refresh-token": func(t *testing.T, f, other *fapi) {
		t.Helper()
		token := f.tokens(t)["refresh_token"].(string)
		for range 2 {
			f.clock.Advance(30 * time.Second)
			a := f.exchange(t, refreshes(token))
			a.check(t, http.StatusOK, "")
			got := a.json(t)
			if next, rotated := got["refresh_token"]; rotated && next != token || got["id_token"] != nil { // §5.3.2.1, 9
				t.Errorf("%v", got)
			}
			if status := f.resource(t, f.scheme(), got["access_token"].(string)); status != http.StatusOK {
				t.Errorf("the resource says %d", status)
			}
		}
		refused(t, f.exchange(t, refreshes(token), func(r *http.Request) {
			r.Header.Del("DPoP")
			if f.binding == "mtls" {
				r.TLS = nil
			}
		}), "invalid_dpop_proof", "invalid_request", "invalid_client")
		refused(t, other.exchange(t, refreshes(token)), "invalid_grant")
	},
	"par-ensure-reused-request-uri-prior-to-auth-completion-succeeds": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		browser := f.browser(t, f.asks())
		f.get(t, browser).check(t, http.StatusOK, "")
		if f.approve(t, browser).Get("code") == "" {
			t.Error("no code")
		}
	},
	"par-attempt-reuse-request_uri": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		browser := f.browser(t, f.asks())
		f.approve(t, browser)
		noCode(t, f.get(t, browser), "invalid_request_uri")
	},
	"par-attempt-to-use-expired-request_uri": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		browser := f.browser(t, f.asks())
		f.clock.Advance(2 * time.Minute)
		noCode(t, f.get(t, browser), "invalid_request_uri")
	},
	"par-attempt-to-use-request_uri-for-different-client": func(t *testing.T, f, other *fapi) {
		t.Helper()
		noCode(t, f.get(t, merge(f.browser(t, f.asks()), "client_id", other.id)), "invalid_request_uri")
	},
	"par-authorization-request-containing-request_uri-form-param": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		refused(t, f.par(t, f.asks("request_uri", "urn:ietf:params:oauth:request_uri:x")), "invalid_request")
	},
	"par-attempt-invalid-http-method": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		for _, method := range []string{http.MethodGet, http.MethodPut} {
			f.do(t, httptest.NewRequest(method, "/oauth/par", nil)).check(t, http.StatusMethodNotAllowed, "invalid_request")
		}
	},
	"par-ensure-pkce-required": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		refused(t, f.par(t, f.asks("code_challenge", "", "code_challenge_method", "")), "invalid_request")
	},
	"ensure-pkce-code-verifier-required": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		refused(t, f.exchange(t, f.redeems(f.code(t), "code_verifier", "")), "invalid_grant", "invalid_request")
	},
	"incorrect-pkce-code-verifier-rejected": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		refused(t, f.exchange(t, f.redeems(f.code(t), "code_verifier", strings.Repeat("x", 43))), "invalid_grant")
	},
	"par-plain-pkce-rejected": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		refused(t, f.par(t, f.asks("code_challenge", testVerifier, "code_challenge_method", "plain")), "invalid_request")
	},
	"par-without-duplicate-parameters": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		if got := f.approve(t, f.browser(t, f.asks())); got.Get("code") == "" { // the browser brings nothing but client_id and request_uri
			t.Errorf("%v", got)
		}
	},
}

// fapiAssertionModules are those for private_key_jwt.
var fapiAssertionModules = map[string]func(t *testing.T, f, other *fapi){
	"ensure-signed-client-assertion-with-RS256-fails": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		refused(t, f.exchange(t, f.redeems(f.code(t), "client_assertion", f.assertion(t, f.rsa))), "invalid_client")
	},
	"ensure-client-assertion-in-token-endpoint": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		r := postRequest("/oauth/token", f.redeems(f.code(t), "client_id", f.id).Encode())
		f.prove(t, f.prover, "/oauth/token")(r)
		over(f.cert, true)(r)
		refused(t, f.do(t, r), "invalid_client", "invalid_request")
	},
	"ensure-client-assertion-with-exp-is-5-minutes-in-past-fails": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		past := f.assertion(t, f.key, "exp", f.clock.Now().Unix()-300)
		refused(t, f.exchange(t, f.redeems(f.code(t), "client_assertion", past)), "invalid_client")
	},
	"ensure-client-assertion-with-wrong-aud-fails": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		wrong := f.assertion(t, f.key, "aud", "https://fapi.org")
		refused(t, f.exchange(t, f.redeems(f.code(t), "client_assertion", wrong)), "invalid_client")
	},
	"ensure-client-assertion-with-no-sub-fails": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		without := f.assertion(t, f.key, "sub", nil)
		refused(t, f.exchange(t, f.redeems(f.code(t), "client_assertion", without)), "invalid_client")
	},
	"ensure-invalid-client-assertions-fail": func(t *testing.T, f, other *fapi) {
		t.Helper()
		code, used := f.code(t), f.assertion(t, f.key)
		f.exchange(t, f.redeems(code, "client_assertion", used)).check(t, http.StatusOK, "")
		for _, text := range []string{
			"x", used, f.assertion(t, other.key), f.assertion(t, f.key, "iss", nil), f.assertion(t, f.key, "exp", nil), f.assertion(t, f.key, "jti", nil),
			f.assertion(t, f.key, "iss", other.id, "sub", other.id), f.assertion(t, f.key, "aud", nil),
		} {
			refused(t, f.par(t, merge(f.asks(), "client_assertion", text)), "invalid_client")
		}
	},
	"par-ensure-jwt-client-assertions-nbf-8-seconds-in-the-future-is-accepted": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		soon := f.clock.Now().Unix() + 8
		f.par(t, merge(f.asks(), "client_assertion", f.assertion(t, f.key, "iat", soon, "nbf", soon))).check(t, http.StatusCreated, "")
	},
	"par-ensure-jwt-client-assertions-nbf-over-60-seconds-in-the-future-fails": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		later := f.clock.Now().Unix() + 70
		refused(t, f.par(t, merge(f.asks(), "client_assertion", f.assertion(t, f.key, "iat", later, "nbf", later, "exp", later+60))), "invalid_client")
	},
	"par-test-array-as-audience-fails": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		for _, aud := range [][]string{{testIssuer}, {testIssuer, "https://other.example"}} {
			refused(t, f.par(t, merge(f.asks(), "client_assertion", f.assertion(t, f.key, "aud", aud))), "invalid_client")
		}
	},
	"par-test-par-endpoint-url-as-audience-fails": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		refused(t, f.par(t, merge(f.asks(), "client_assertion", f.assertion(t, f.key, "aud", testIssuer+"/oauth/par"))), "invalid_client")
	},
	"par-test-token-endpoint-url-as-audience-fails": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		refused(t, f.par(t, merge(f.asks(), "client_assertion", f.assertion(t, f.key, "aud", testToken))), "invalid_client")
	},
}

// fapiProofModules are those for DPoP.
var fapiProofModules = map[string]func(t *testing.T, f, other *fapi){
	"check-dpop-proof-nbf-exp": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		now := f.clock.Now().Unix()
		form := f.redeems(f.code(t))
		f.exchange(t, form, f.prove(t, f.prover, "/oauth/token", "nbf", now, "exp", now+300)).check(t, http.StatusOK, "")
	},
	"ensure-dpopproof-with-iat-10seconds-before-succeeds": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		form := f.redeems(f.code(t))
		f.exchange(t, form, f.prove(t, f.prover, "/oauth/token", "iat", f.clock.Now().Unix()-10)).check(t, http.StatusOK, "")
	},
	"ensure-dpopproof-with-iat-10seconds-after-succeeds": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		form := f.redeems(f.code(t))
		f.exchange(t, form, f.prove(t, f.prover, "/oauth/token", "iat", f.clock.Now().Unix()+10)).check(t, http.StatusOK, "")
	},
	"ensure-mismatched-dpop-jkt-fails": func(t *testing.T, f, other *fapi) {
		t.Helper()
		refused(t, f.par(t, f.asks("dpop_jkt", other.prover.Thumbprint), f.prove(t, f.prover, "/oauth/par")), "invalid_dpop_proof", "invalid_request")
	},
	"ensure-token-endpoint-fails-with-mismatched-dpop-proof-jkt": func(t *testing.T, f, other *fapi) {
		t.Helper()
		code := f.approve(t, f.browser(t, f.asks(), f.prove(t, f.prover, "/oauth/par"))).Get("code")
		refused(t, f.exchange(t, f.redeems(code), f.prove(t, other.prover, "/oauth/token")), "invalid_grant", "invalid_dpop_proof")
	},
	"ensure-token-endpoint-fails-with-mismatched-dpop-jkt": func(t *testing.T, f, other *fapi) {
		t.Helper()
		code := f.approve(t, f.browser(t, f.asks("dpop_jkt", f.prover.Thumbprint))).Get("code")
		refused(t, f.exchange(t, f.redeems(code), f.prove(t, other.prover, "/oauth/token")), "invalid_grant", "invalid_dpop_proof")
	},
	"ensure-dpopproof-at-par-endpoint-binding-success": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		code := f.approve(t, f.browser(t, f.asks(), f.prove(t, f.prover, "/oauth/par"))).Get("code")
		f.exchange(t, f.redeems(code)).check(t, http.StatusOK, "")
	},
	"ensure-dpop-auth-code-binding-success": func(t *testing.T, f, _ *fapi) {
		t.Helper()
		code := f.approve(t, f.browser(t, f.asks("dpop_jkt", f.prover.Thumbprint))).Get("code")
		f.exchange(t, f.redeems(code)).check(t, http.StatusOK, "")
	},
	"dpop-negative-tests": func(t *testing.T, f, other *fapi) {
		t.Helper()
		rsa := jwttest.NewProver(t, "RS256", f.clock.Now)
		refused(t, f.exchange(t, f.redeems(f.code(t)), f.prove(t, rsa, "/oauth/token")), "invalid_dpop_proof") // §5.4.1
		token := f.tokens(t)["access_token"].(string)
		const target = testAPI + "/accounts"
		claims := func(pairs ...any) string {
			text, err := json.Marshal(f.prover.Claims(http.MethodGet, target, token, pairs...))
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
		good := `{"typ":"dpop+jwt","alg":"ES256","jwk":` + f.prover.JWK + `}`
		sign := func(head string, pairs ...any) func(*http.Request) {
			return header("DPoP", f.prover.Sign(t, head, claims(pairs...)))
		}
		once := sign(good)
		now := f.clock.Now().Unix()
		for name, edit := range map[string]func(*http.Request){
			"two headers":          func(r *http.Request) { r.Header.Add("DPoP", f.prover.Sign(t, good, claims())) },
			"no JWT":               header("DPoP", "no.jwt"),
			"no typ":               sign(`{"alg":"ES256","jwk":` + f.prover.JWK + `}`),
			"another typ":          sign(`{"typ":"JWT","alg":"ES256","jwk":` + f.prover.JWK + `}`),
			"no alg":               sign(`{"typ":"dpop+jwt","jwk":` + f.prover.JWK + `}`),
			"alg none":             sign(`{"typ":"dpop+jwt","alg":"none","jwk":` + f.prover.JWK + `}`),
			"no jwk":               sign(`{"typ":"dpop+jwt","alg":"ES256"}`),
			"a private jwk":        sign(`{"typ":"dpop+jwt","alg":"ES256","jwk":` + strings.Replace(f.prover.JWK, "{", `{"d":"AA",`, 1) + `}`),
			"no jti":               sign(good, "jti", nil),
			"no htm":               sign(good, "htm", nil),
			"another htm":          sign(good, "htm", "PUT"),
			"no htu":               sign(good, "htu", nil),
			"another htu":          sign(good, "htu", "https://other.example/accounts"),
			"no iat":               sign(good, "iat", nil),
			"an hour ahead":        sign(good, "iat", now+3600),
			"an hour ago":          sign(good, "iat", now-3600),
			"no ath":               sign(good, "ath", nil),
			"another ath":          sign(good, "ath", "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"),
			"a wrong signature":    header("DPoP", jwttest.Respell(f.prover.Sign(t, good, claims()))),
			"another key":          header("DPoP", other.prover.Prove(t, http.MethodGet, target, token)),
			"the scheme is Bearer": header("Authorization", "Bearer "+token),
		} {
			if status := f.resource(t, "DPoP", token, edit); status != http.StatusBadRequest && status != http.StatusUnauthorized {
				t.Errorf("%s: %d", name, status)
			}
		}
		for name, edit := range map[string]func(*http.Request){
			"query and fragment": sign(good, "htu", target+"?a=b#c"),
			"more claims":        sign(`{"typ":"dpop+jwt","alg":"ES256","jwk":`+f.prover.JWK+`,"more":1}`, "more", "claims"),
			"once":               once,
		} {
			if status := f.resource(t, "DPoP", token, edit); status != http.StatusOK {
				t.Errorf("%s: %d", name, status)
			}
		}
		if status := f.resource(t, "DPoP", token, once); status == http.StatusOK {
			t.Error("a proof twice")
		}
	},
}

// TestFAPI2SignedRequests has the modules of fapi2-message-signing-final-test-plan about request objects, which clients push.
func TestFAPI2SignedRequests(t *testing.T) {
	var keys [2]fapiKeys
	for i, id := range []string{"webapp", "spa"} {
		keys[i] = fapiKeys{jwttest.NewKey(t, "ES256"), jwttest.NewKey(t, "RS256"), mtlstest.SelfSigned(t, mtlstest.DNS(id+".example.com"))}
	}
	now := func(f *fapi, minutes int64) int64 { return f.clock.Now().Unix() + 60*minutes }
	const good, bad = "", "invalid_request_object"
	for name, tt := range map[string]struct {
		change func(f *fapi) []any
		key    func(f, other *fapi) jwttest.Key
		want   string
	}{
		"happy-flow": {want: good},
		"ensure-request-object-with-multiple-aud-succeeds":                   {change: func(*fapi) []any { return []any{"aud", []string{"https://other.example", testIssuer}} }, want: good},
		"ensure-request-object-without-exp-fails":                            {change: func(*fapi) []any { return []any{"exp", nil} }, want: bad},
		"ensure-request-object-without-nbf-fails":                            {change: func(*fapi) []any { return []any{"nbf", nil} }, want: bad},
		"ensure-expired-request-object-fails":                                {change: func(f *fapi) []any { return []any{"exp", now(f, -5)} }, want: bad},
		"ensure-request-object-with-bad-aud-fails":                           {change: func(*fapi) []any { return []any{"aud", "https://other.example"} }, want: bad},
		"ensure-request-object-with-exp-over-60-fails":                       {change: func(f *fapi) []any { return []any{"exp", now(f, 70)} }, want: bad},
		"ensure-request-object-with-nbf-over-60-fails":                       {change: func(f *fapi) []any { return []any{"nbf", now(f, -70), "exp", now(f, -15)} }, want: bad},
		"ensure-request-object-with-nbf-long-ago-fails":                      {change: func(f *fapi) []any { return []any{"nbf", now(f, -61), "exp", now(f, 1)} }, want: bad},
		"ensure-signed-request-object-with-RS256-fails":                      {key: func(f, _ *fapi) jwttest.Key { return f.rsa }, want: bad},
		"ensure-request-object-with-invalid-signature-fails":                 {key: func(_, other *fapi) jwttest.Key { return other.key }, want: bad},
		"par-authorization-request-containing-request_uri":                   {change: func(*fapi) []any { return []any{"request_uri", "urn:ietf:params:oauth:request_uri:x"} }, want: bad},
		"ensure-request-object-with-nbf-8-seconds-in-the-future-is-accepted": {change: func(f *fapi) []any { return []any{"nbf", now(f, 0) + 8} }, want: good},
	} {
		t.Run("fapi2-security-profile-final-"+name, func(t *testing.T) {
			f, other := newFAPI(t, "private_key_jwt", "dpop", keys)
			f.config.Clients["webapp"].RequireSigned = true
			key, change := f.key, []any(nil)
			if tt.key != nil {
				key = tt.key(f, other)
			}
			if tt.change != nil {
				change = tt.change(f)
			}
			s := &signing{f.testServer, f.key}
			object := s.sign(t, key, "oauth-authz-req+jwt", s.objectClaims(f.asks(), change...))
			a := f.par(t, url.Values{"request": {object}, "state": {"outside"}})
			if tt.want == bad {
				refused(t, a, bad)
				return
			}
			a.check(t, http.StatusCreated, "")
			got := f.approve(t, url.Values{"client_id": {f.id}, "request_uri": {a.json(t)["request_uri"].(string)}})
			if got.Get("code") == "" || got.Get("state") != "xyz" {
				t.Errorf("%v", got)
			}
		})
	}
	t.Run("fapi2-security-profile-final-ensure-unsigned-request-at-par-endpoint-fails", func(t *testing.T) {
		f, _ := newFAPI(t, "private_key_jwt", "dpop", keys)
		f.config.Clients["webapp"].RequireSigned = true
		refused(t, f.par(t, f.asks()), "invalid_request")
	})
}
