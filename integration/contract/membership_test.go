package contract_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// A membership site: POST /v1/oauth2/tokens, with everything in a form.
//
// How we read it. The document prints 3599 for expires_in, but does not say that a token lives a second less than an hour. We take
// it for an hour, one second later; our answer says 3600, since the token is new. The table names the grant type "refresh token",
// with a space, and one row below "refresh_token". We accept both. The document prints one failure. Its detail is an error code of
// RFC 6749 §5.2 in words, a colon and the problem, so the detail for a bad refresh token has the same form.
var membership = &contract{
	example:     "membership",
	authorize:   "/v1/oauth2/authorize",
	token:       "/v1/oauth2/tokens",
	clientID:    "member-app",
	secret:      "only-for-trying-it-out",
	redirectURI: "https://app.example.com/callback",
	user:        "alice",
	along: map[string][][2]string{
		"errors": {{"documentation https://docs.petje.af", ""}},
	},
	checks: []check{
		{name: "a code for tokens", run: membershipCode},
		{name: "a code for a redirect_uri that the token request does not have", run: membershipRedirect},
		{name: "the access token is a JWT with name, email and id", run: membershipJWT},
		{name: "refresh, by both names of the grant type", run: membershipRefresh},
		{name: "a bad code is a problem", run: membershipBadCode},
		{name: "a bad refresh token is a problem", run: membershipBadRefreshToken},
		{name: "RFC 6749 §4.1.2 a code used twice revokes its tokens", run: membershipReplay},
		{name: "other failures are problems too", run: membershipProblems},
		{name: "golang.org/x/oauth2", run: membershipLibrary},
	},
}

func TestMembership(t *testing.T) { membership.test(t) }

var membershipTokens = like("application/json", `{
    "access_token": "ACCESS TOKEN (JWT)",
    "token_type": "Bearer",
    "expires_in": 3599,
    "refresh_token": "REFRESH TOKEN",
    "scope": "memberships.read"
}`, "ACCESS TOKEN (JWT)", anyJWT, "REFRESH TOKEN", anyToken, "3599", "3600")

// problem returns the failure that the document prints, with a detail.
func problem(detail string) *printed {
	return like("application/problem+json", `{
    "status": 400,
    "title": "Bad Request",
    "detail": "Invalid grant: authorization code is invalid",
    "_links": {
        "documentation": {
            "href": "https://docs.petje.af",
            "type": "text/html"
        }
    }
}`, "Invalid grant: authorization code is invalid", detail)
}

var badCodeProblem, badRefreshTokenProblem = problem("Invalid grant: authorization code is invalid"), problem("Invalid grant: [a-z ]*refresh token[a-z ]*")

// credentials returns the credentials of the client as members of a body.
func (c *contract) credentials() []string {
	return []string{"client_id", c.clientID, "client_secret", c.secret}
}

func (e *endpoint) memberCode(code string) []string {
	return append(e.credentials(), "grant_type", "authorization_code", "code", code)
}

func (e *endpoint) memberRefresh(grantType, token string) []string {
	return append(e.credentials(), "grant_type", grantType, "refresh_token", token)
}

func membershipCode(t T, e *endpoint) {
	e.post(t, e.memberCode(e.code(t))).tokens(t, membershipTokens)
}

func membershipRedirect(t T, e *endpoint) {
	e.post(t, e.memberCode(e.code(t, "redirect_uri", e.redirectURI))).tokens(t, membershipTokens)
}

func membershipJWT(t T, e *endpoint) {
	got := e.post(t, e.memberCode(e.code(t))).tokens(t, membershipTokens)
	keys := oidc.NewRemoteKeySet(oidc.ClientContext(t.Context(), e.http), e.site+"/oauth/jwks")
	_, err := keys.VerifySignature(t.Context(), got.access)
	must(t, err)
	j := readJWT(t, got.access)
	for claim, want := range map[string]string{"name": "alice", "email": "alice@example.com", "id": "alice", "sub": "alice"} {
		if j.claims[claim] != want {
			t.Errorf("claim %s is %v, want %s", claim, j.claims[claim], want)
		}
	}
	if j.lives() != 3600 {
		t.Errorf("the token lives %v seconds", j.lives())
	}
}

func membershipRefresh(t T, e *endpoint) {
	got := e.post(t, e.memberCode(e.code(t))).tokens(t, membershipTokens)
	for _, grantType := range []string{"refresh token", "refresh_token", "refresh token"} {
		next := e.post(t, e.memberRefresh(grantType, got.refresh)).tokens(t, membershipTokens)
		if next.access == got.access {
			t.Errorf("%q returned the same access token", grantType)
		}
		if j := readJWT(t, next.access); j.claims["email"] != "alice@example.com" || j.claims["id"] != "alice" {
			t.Errorf("claims after %q: %v", grantType, j.claims)
		}
		got = next
	}
}

func membershipBadCode(t T, e *endpoint) {
	used, others, wrongRedirect := e.code(t), e.code(t, "client_id", otherID), e.code(t)
	e.post(t, e.memberCode(used)).tokens(t, membershipTokens)
	for _, code := range []string{used, others, wrongRedirect + "x", "nonsense", strings.Repeat("a", 5000)} {
		e.post(t, e.memberCode(code)).check(t, http.StatusBadRequest, badCodeProblem)
	}
	// The client that the code is for can still exchange it.
	e.post(t, with(e.memberCode(others), "client_id", otherID, "client_secret", otherSecret)).tokens(t, membershipTokens)
}

func membershipBadRefreshToken(t T, e *endpoint) {
	got := e.post(t, e.memberCode(e.code(t))).tokens(t, membershipTokens)
	for _, token := range []string{"x" + got.refresh, got.access, "nonsense"} {
		e.post(t, e.memberRefresh("refresh_token", token)).check(t, http.StatusBadRequest, badRefreshTokenProblem)
	}
	stolen := with(e.memberRefresh("refresh_token", got.refresh), "client_id", otherID, "client_secret", otherSecret)
	e.post(t, stolen).check(t, http.StatusBadRequest, badRefreshTokenProblem)
	e.post(t, e.memberRefresh("refresh_token", got.refresh)).tokens(t, membershipTokens)
}

// RFC 6749 §4.1.2.
func membershipReplay(t T, e *endpoint) {
	code := e.code(t)
	got := e.post(t, e.memberCode(code)).tokens(t, membershipTokens)
	e.post(t, e.memberCode(code)).check(t, http.StatusBadRequest, badCodeProblem) // revokes nothing, since the refresh token is unused
	next := e.post(t, e.memberRefresh("refresh token", got.refresh)).tokens(t, membershipTokens)
	e.post(t, e.memberCode(code)).check(t, http.StatusBadRequest, badCodeProblem)
	e.post(t, e.memberRefresh("refresh token", next.refresh)).check(t, http.StatusBadRequest, badRefreshTokenProblem)
}

func membershipProblems(t T, e *endpoint) {
	type row struct {
		name   string
		answer *answer
		status int
	}
	rows := []row{
		{"another redirect_uri", e.post(t, with(e.memberCode(e.code(t)), "redirect_uri", "https://evil.example.com/")), http.StatusBadRequest},
		{"no code", e.post(t, e.memberCode("")), http.StatusBadRequest},
		{"no grant type", e.post(t, with(e.memberCode(e.code(t)), "grant_type", "")), http.StatusBadRequest},
		{"an unknown grant type", e.post(t, with(e.memberCode(e.code(t)), "grant_type", "refresh  token")), http.StatusBadRequest},
		{"JSON instead of a form", e.postJSON(t, e.memberCode(e.code(t))), http.StatusBadRequest},
		{"a wrong secret", e.post(t, with(e.memberCode(e.code(t)), "client_secret", wrongSecret)), http.StatusUnauthorized},
		{"no secret", e.post(t, with(e.memberCode(e.code(t)), "client_secret", "")), http.StatusUnauthorized},
		{"GET", e.send(t, http.MethodGet, e.site+e.token, ""), http.StatusMethodNotAllowed},
	}
	for _, r := range rows {
		if r.answer.status != r.status || r.answer.header.Get("Content-Type") != "application/problem+json" ||
			r.answer.member("title") != http.StatusText(r.status) || r.answer.member("detail") == "" ||
			!strings.Contains(r.answer.body, `"href":"https://docs.petje.af"`) {
			t.Errorf("%s: %d %s", r.name, r.answer.status, r.answer.body)
		}
	}
}

func membershipLibrary(t T, e *endpoint) {
	config := e.library(oauth2.AuthStyleInParams)
	token, err := config.Exchange(e.forLibrary(t), e.code(t, "redirect_uri", e.redirectURI))
	must(t, err)
	checkLibraryToken(t, token, "memberships.read", time.Hour)
	renewed := e.checkRefreshedByLibrary(t, config, token)
	if renewed.RefreshToken == token.RefreshToken {
		t.Errorf("the refresh token was not rotated")
	}
	_, err = config.Exchange(e.forLibrary(t), "nonsense")
	if status, _ := refusedToLibrary(t, err); status != http.StatusBadRequest {
		t.Errorf("a bad code: %d", status)
	}
}
