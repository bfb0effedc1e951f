package authserver

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
	"github.com/caddy-oauth/caddy-oauth/internal/mtls/mtlstest"
)

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
