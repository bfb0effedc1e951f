package contract_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

// An API with everything in the payload: POST /oauth2/token.
//
// How we read it. The document does not say how the payload is encoded, so it may be a form, as in RFC 6749, or JSON, as other samples
// of the document suggest. redirect_uri is "used to obtain the code", so it is required with the code even if the authorization request
// had none. Refresh tokens "do not expire" and "will expire after use": they are valid until they are used. The errors invalid_code
// and invalid_token replace invalid_grant of RFC 6749 §5.2, with its status 400.
var payload = &contract{
	example:     "payload",
	authorize:   "/oauth2/authorize",
	token:       "/oauth2/token",
	clientID:    "reader",
	secret:      "only-for-trying-it-out",
	redirectURI: "https://app.example.com/callback",
	user:        "alice",
	checks: []check{
		{name: "a code for tokens", run: payloadCode},
		{name: "with curl", run: payloadCurl, curl: true},
		{name: "redirect_uri is needed for a code", run: payloadRedirect},
		{name: "a refresh token works once", run: payloadOnce},
		{name: "a subset of the scopes, and the original ones", run: payloadScopes},
		{name: "the refresh token does not expire", run: payloadNeverExpires, clock: true},
		{name: "invalid_code", run: payloadInvalidCode},
		{name: "invalid_token", run: payloadInvalidToken},
		{name: "all authorization is in the payload", run: payloadCredentials},
		{name: "the user revokes the app's access", run: payloadRevoked},
		{name: "golang.org/x/oauth2", run: payloadLibrary},
	},
}

func TestPayload(t *testing.T) { payload.test(t) }

// payloadTokens returns the members of the document's table, in the table's order; 14 days are 1209600 seconds.
func payloadTokens(scope string) *printed {
	return like("application/json", `{
	"access_token": "ACCESS TOKEN",
	"token_type": "Bearer",
	"expires_in": 1209600,
	"refresh_token": "REFRESH TOKEN",
	"scope": "SCOPE"
}`, "ACCESS TOKEN", anyJWT, "REFRESH TOKEN", anyToken, "SCOPE", scope)
}

var allPayloadTokens = payloadTokens("user.read posts.read")

func (e *endpoint) payloadCode(code string) []string {
	return append(e.credentials(), "grant_type", "authorization_code", "code", code, "redirect_uri", e.redirectURI)
}

func (e *endpoint) payloadRefresh(token string, more ...string) []string {
	return append(append(e.credentials(), "grant_type", "refresh_token", "refresh_token", token), more...)
}

// payloadStart returns the first tokens of an approval.
func payloadStart(t T, e *endpoint) tokens {
	t.Helper()
	return e.post(t, e.payloadCode(e.code(t, "redirect_uri", e.redirectURI))).tokens(t, allPayloadTokens)
}

func payloadCode(t T, e *endpoint) {
	for _, post := range bodies {
		got := post(e, t, e.payloadCode(e.code(t, "redirect_uri", e.redirectURI))).tokens(t, allPayloadTokens)
		post(e, t, e.payloadRefresh(got.refresh)).tokens(t, allPayloadTokens)
	}
}

func payloadCurl(t T, e *endpoint) {
	got := e.curl(t, e.site+e.token, "-d", form(e.payloadCode(e.code(t, "redirect_uri", e.redirectURI))...).Encode()).tokens(t, allPayloadTokens)
	e.curl(t, e.site+e.token, "-H", "Content-Type: application/json",
		"-d", `{"client_id":"`+e.clientID+`","client_secret":"`+e.secret+`","grant_type":"refresh_token","refresh_token":"`+got.refresh+`"}`,
	).tokens(t, allPayloadTokens)
}

func payloadRedirect(t T, e *endpoint) {
	for _, post := range bodies {
		for _, authorize := range []string{"", e.redirectURI} {
			code := e.code(t, "redirect_uri", authorize)
			post(e, t, with(e.payloadCode(code), "redirect_uri", "")).refused(t, http.StatusBadRequest, "invalid_request")
			post(e, t, with(e.payloadCode(code), "redirect_uri", elsewhere)).refused(t, http.StatusBadRequest, "invalid_grant")
			post(e, t, e.payloadCode(code)).tokens(t, allPayloadTokens)
		}
	}
}

func payloadOnce(t T, e *endpoint) {
	for _, post := range bodies {
		first := payloadStart(t, e)
		second := post(e, t, e.payloadRefresh(first.refresh)).tokens(t, allPayloadTokens)
		if second.refresh == first.refresh || second.access == first.access {
			t.Errorf("the refresh changed %+v into %+v", first, second)
		}
		third := post(e, t, e.payloadRefresh(second.refresh)).tokens(t, allPayloadTokens)
		post(e, t, e.payloadRefresh(second.refresh)).refused(t, http.StatusBadRequest, "invalid_token")
		// RFC 9700 §4.14.2: a refresh token that was used twice may have been stolen, so the whole family is revoked.
		post(e, t, e.payloadRefresh(third.refresh)).refused(t, http.StatusBadRequest, "invalid_token")
	}
}

func payloadScopes(t T, e *endpoint) {
	for _, post := range bodies {
		got := payloadStart(t, e)
		for _, row := range []struct{ asked, granted string }{
			{"user.read posts.read", "user.read posts.read"},
			{"posts.read", "posts.read"},
			{"", "user.read posts.read"}, // RFC 6749 §6: the refresh token keeps all of them
			{"user.read", "user.read"},
			{"posts.read user.read", "posts.read user.read"},
		} {
			got = post(e, t, e.payloadRefresh(got.refresh, "scope", row.asked)).tokens(t, payloadTokens(row.granted))
			if scope := readJWT(t, got.access).claims["scope"]; scope != row.granted {
				t.Errorf("asked for %q, the token has scope %q", row.asked, scope)
			}
		}
		post(e, t, e.payloadRefresh(got.refresh, "scope", "user.read posts.write")).refused(t, http.StatusBadRequest, "invalid_scope")
		post(e, t, e.payloadRefresh(got.refresh)).tokens(t, allPayloadTokens) // narrowing the scope of an access token does not change that of the refresh token
	}

	// The original scopes are those of the approval, not those of the client.
	narrow := e.code(t, "redirect_uri", e.redirectURI, "scope", "user.read")
	got := e.post(t, e.payloadCode(narrow)).tokens(t, payloadTokens("user.read"))
	e.post(t, e.payloadRefresh(got.refresh, "scope", "posts.read")).refused(t, http.StatusBadRequest, "invalid_scope")
	e.post(t, e.payloadRefresh(got.refresh)).tokens(t, payloadTokens("user.read"))
}

// After the user has revoked the app, all its access tokens, refresh tokens and codes are invalid, and it needs consent again.
func payloadRevoked(t T, e *endpoint) {
	first := payloadStart(t, e)
	second := e.post(t, e.payloadRefresh(first.refresh)).tokens(t, allPayloadTokens)
	code := e.code(t, "redirect_uri", e.redirectURI)
	api := func(token string) int {
		return e.send(t, http.MethodGet, e.site+"/api/posts", "", header("Authorization", "Bearer "+token)).status
	}
	if status := api(second.access); status != http.StatusOK {
		t.Fatalf("before: %d", status)
	}

	signedIn := basic(e.user, userPassword)
	page := e.send(t, http.MethodGet, e.site+"/oauth/apps?client="+url.QueryEscape(e.clientID), "", signedIn)
	action, fields := page.form(t)
	fields.Set("client", e.clientID) // the button
	removed := e.send(t, http.MethodPost, e.site+action, fields.Encode(), signedIn, header("Content-Type", formType))
	if removed.status != http.StatusSeeOther {
		t.Fatalf("%d %s", removed.status, removed.body)
	}
	for _, token := range []string{first.access, second.access} {
		if status := api(token); status != http.StatusUnauthorized {
			t.Errorf("after: %d", status)
		}
	}
	e.post(t, e.payloadRefresh(second.refresh)).refused(t, http.StatusBadRequest, "invalid_token")
	e.post(t, e.payloadCode(code)).refused(t, http.StatusBadRequest, "invalid_code")

	ask := e.site + e.authorize + "?" + form("response_type", "code", "client_id", e.clientID, "redirect_uri", e.redirectURI).Encode()
	again := e.send(t, http.MethodGet, ask, "", signedIn)
	if action, _ := again.form(t); again.status != http.StatusOK || action == "" {
		t.Errorf("the next authorization request gets no consent page: %d", again.status)
	}
}

func payloadNeverExpires(t T, e *endpoint) {
	got := payloadStart(t, e)
	e.pass(20 * 24 * time.Hour)
	got = e.post(t, e.payloadRefresh(got.refresh)).tokens(t, allPayloadTokens)
	for range 3 {
		e.pass(3 * year)
		got = e.post(t, e.payloadRefresh(got.refresh)).tokens(t, allPayloadTokens)
	}
}

func payloadInvalidCode(t T, e *endpoint) {
	for _, post := range bodies {
		used, others := e.code(t, "redirect_uri", e.redirectURI), e.code(t, "redirect_uri", e.redirectURI, "client_id", otherID)
		got := post(e, t, e.payloadCode(used)).tokens(t, allPayloadTokens)
		for _, code := range []string{used, others, got.refresh, "nonsense", strings.Repeat("a", 5000)} {
			post(e, t, e.payloadCode(code)).refused(t, http.StatusBadRequest, "invalid_code")
		}
		next := post(e, t, e.payloadRefresh(got.refresh)).tokens(t, allPayloadTokens)
		post(e, t, e.payloadCode(used)).refused(t, http.StatusBadRequest, "invalid_code")
		post(e, t, e.payloadRefresh(next.refresh)).refused(t, http.StatusBadRequest, "invalid_token") // RFC 6749 §4.1.2
	}
}

func payloadInvalidToken(t T, e *endpoint) {
	for _, post := range bodies {
		got := payloadStart(t, e)
		for _, token := range []string{got.access, "x" + got.refresh, "nonsense", strings.Repeat("a", 5000)} {
			post(e, t, e.payloadRefresh(token)).refused(t, http.StatusBadRequest, "invalid_token")
		}
		post(e, t, e.payloadRefresh(got.refresh, "client_id", otherID, "client_secret", otherSecret)).
			refused(t, http.StatusBadRequest, "invalid_token")
		post(e, t, e.payloadRefresh(got.refresh)).tokens(t, allPayloadTokens)
	}
}

func payloadCredentials(t T, e *endpoint) {
	for _, post := range bodies {
		code := e.code(t, "redirect_uri", e.redirectURI)
		post(e, t, with(e.payloadCode(code), "client_secret", "")).refused(t, http.StatusUnauthorized, "invalid_client")
		post(e, t, with(e.payloadCode(code), "client_secret", wrongSecret)).refused(t, http.StatusUnauthorized, "invalid_client")
		post(e, t, with(e.payloadCode(code), "client_id", "nobody")).refused(t, http.StatusUnauthorized, "invalid_client")
		post(e, t, e.payloadCode(code), basic(e.clientID, e.secret)).refused(t, http.StatusBadRequest, "invalid_request") // RFC 6749 §2.3
		post(e, t, e.payloadCode(code)).tokens(t, allPayloadTokens)
	}
}

func payloadLibrary(t T, e *endpoint) {
	config := e.library(oauth2.AuthStyleInParams)
	token, err := config.Exchange(e.forLibrary(t), e.code(t, "redirect_uri", e.redirectURI))
	must(t, err)
	checkLibraryToken(t, token, "user.read posts.read", 14*24*time.Hour)
	e.checkRefreshedByLibrary(t, config, token)
	_, err = config.TokenSource(e.forLibrary(t), expired(token)).Token()
	if status, code := refusedToLibrary(t, err); status != http.StatusBadRequest || code != "invalid_token" {
		t.Errorf("a refresh token used twice: %d %s", status, code)
	}
}
