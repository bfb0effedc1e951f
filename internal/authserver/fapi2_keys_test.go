package authserver

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
)

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
