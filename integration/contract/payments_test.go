package contract_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

// A payments API: POST /oauth2/tokens, with HTTP Basic.
//
// How we read it. The document prints two access tokens, one with 30 characters after its prefix and one with 29, and does not explain
// the difference. Ours have 30, as three of the four printed codes and tokens. The document does not say how long codes are, and clients
// do not store them, so ours have their usual length. token_type is bearer; RFC 6749 §5.1 ignores case. redirect_uri is required on
// refresh, although RFC 6749 §6 has no such parameter.
var payments = &contract{
	example:     "payments",
	authorize:   "/oauth2/authorize",
	token:       "/oauth2/tokens",
	clientID:    "app_j9Pakf56Ajta6Y65AkdTtAv",
	secret:      "S5lTvMDTjl95HGnwYmsszDtbMp8QBE2lLcRJbD7I",
	redirectURI: "https://app.example.com/callback",
	user:        "alice",
	along: map[string][][2]string{
		"access_token format": {{"prefix access_", ""}, {"length 30", ""}},
	},
	checks: []check{
		{name: "the initial request, with curl", run: paymentsCurl, curl: true},
		{name: "the initial request", run: paymentsCode},
		{name: "the refresh request, any number of times", run: paymentsRefresh},
		{name: "redirect_uri is optional for a code, but must match", run: paymentsRedirect},
		{name: "redirect_uri is required on refresh if the code request had one", run: paymentsRefreshRedirect},
		{name: "the refresh token does not expire", run: paymentsNeverExpires, clock: true},
		{name: "RFC 6749 §5.2 refusals", run: paymentsRefusals},
		{name: "RFC 6749 §4.1.2 a code used twice revokes its tokens", run: paymentsReplay},
		{name: "golang.org/x/oauth2", run: paymentsLibrary},
	},
}

func TestPayments(t *testing.T) { payments.test(t) }

var paymentsTokens = like("application/json; charset=utf-8", `{
       "access_token": "access_46EUJ6x8jFJZZeAvhNH4JVey6qVpqR",
       "refresh_token": "refresh_FS4xc3Mgci2xQ5s5DzaLXh3HhaTZOP",
       "expires_in": 3600,
       "token_type": "bearer",
       "scope": "payments.read organizations.read"
   }`,
	"access_46EUJ6x8jFJZZeAvhNH4JVey6qVpqR", "access_[0-9A-Za-z]{30}",
	"refresh_FS4xc3Mgci2xQ5s5DzaLXh3HhaTZOP", "refresh_[0-9A-Za-z]{30}")

func (e *endpoint) paymentsCode(t T, code string, more ...string) *answer {
	t.Helper()
	return e.post(t, append([]string{"grant_type", "authorization_code", "code", code}, more...), basic(e.clientID, e.secret))
}

func (e *endpoint) paymentsRefresh(t T, token string, more ...string) *answer {
	t.Helper()
	return e.post(t, append([]string{"grant_type", "refresh_token", "refresh_token", token}, more...), basic(e.clientID, e.secret))
}

func paymentsCurl(t T, e *endpoint) {
	got := e.curl(t, "-u", e.clientID+":"+e.secret, e.site+e.token,
		"-d", "grant_type=authorization_code&code="+e.code(t)).tokens(t, paymentsTokens)
	again := e.curl(t, "-u", e.clientID+":"+e.secret, e.site+e.token,
		"-d", "grant_type=refresh_token&refresh_token="+got.refresh).tokens(t, paymentsTokens)
	if again.refresh != got.refresh || again.access == got.access {
		t.Errorf("the refresh changed %+v into %+v", got, again)
	}
}

func paymentsCode(t T, e *endpoint) {
	code := e.code(t)
	if !strings.HasPrefix(code, "auth_") {
		t.Errorf("the code is %s", code)
	}
	e.paymentsCode(t, code).tokens(t, paymentsTokens)
}

func paymentsRefresh(t T, e *endpoint) {
	first := e.paymentsCode(t, e.code(t)).tokens(t, paymentsTokens)
	seen := map[string]bool{first.access: true}
	for range 3 {
		next := e.paymentsRefresh(t, first.refresh).tokens(t, paymentsTokens)
		if next.refresh != first.refresh || seen[next.access] {
			t.Errorf("the refresh changed %+v into %+v", first, next)
		}
		seen[next.access] = true
	}
}

const elsewhere = "https://elsewhere.example.com/callback"

func paymentsRedirect(t T, e *endpoint) {
	for _, authorize := range []string{"", e.redirectURI} {
		for _, exchange := range []string{"", e.redirectURI} {
			e.paymentsCode(t, e.code(t, "redirect_uri", authorize), "redirect_uri", exchange).tokens(t, paymentsTokens)
		}
		code := e.code(t, "redirect_uri", authorize)
		e.paymentsCode(t, code, "redirect_uri", elsewhere).refused(t, http.StatusBadRequest, "invalid_grant")
		e.paymentsCode(t, code, "redirect_uri", e.redirectURI).tokens(t, paymentsTokens) // the refusal has not used the code up
	}
	page := e.ask(t, "allow", "redirect_uri", elsewhere)
	if page.status != http.StatusBadRequest || page.header.Get("Location") != "" { // RFC 6749 §4.1.2.1
		t.Errorf("authorize with another redirect_uri: %d, Location %q", page.status, page.header.Get("Location"))
	}
}

func paymentsRefreshRedirect(t T, e *endpoint) {
	with := e.paymentsCode(t, e.code(t), "redirect_uri", e.redirectURI).tokens(t, paymentsTokens)
	e.paymentsRefresh(t, with.refresh).refused(t, http.StatusBadRequest, "invalid_request")
	e.paymentsRefresh(t, with.refresh, "redirect_uri", elsewhere).refused(t, http.StatusBadRequest, "invalid_grant")
	for range 2 {
		e.paymentsRefresh(t, with.refresh, "redirect_uri", e.redirectURI).tokens(t, paymentsTokens)
	}

	// The rule is about the request with the code, not about the authorization request.
	without := e.paymentsCode(t, e.code(t, "redirect_uri", e.redirectURI)).tokens(t, paymentsTokens)
	e.paymentsRefresh(t, without.refresh).tokens(t, paymentsTokens)
	e.paymentsRefresh(t, without.refresh, "redirect_uri", e.redirectURI).tokens(t, paymentsTokens)
}

const year = 365 * 24 * time.Hour

func paymentsNeverExpires(t T, e *endpoint) {
	got := e.paymentsCode(t, e.code(t)).tokens(t, paymentsTokens)
	e.pass(20 * 24 * time.Hour)
	e.paymentsRefresh(t, got.refresh).tokens(t, paymentsTokens)
	for range 3 {
		e.pass(3 * year)
		e.paymentsRefresh(t, got.refresh).tokens(t, paymentsTokens)
	}
}

func paymentsRefusals(t T, e *endpoint) {
	code := e.code(t)
	got := e.paymentsCode(t, e.code(t)).tokens(t, paymentsTokens)
	bare := strings.TrimPrefix
	other, wrong := basic(otherID, otherSecret), basic(e.clientID, wrongSecret)
	forCode := []string{"grant_type", "authorization_code", "code", code}
	forRefresh := []string{"grant_type", "refresh_token", "refresh_token", got.refresh}

	e.post(t, forCode, other).refused(t, http.StatusBadRequest, "invalid_grant")
	e.post(t, forRefresh, other).refused(t, http.StatusBadRequest, "invalid_grant")
	e.post(t, forCode, wrong).refused(t, http.StatusUnauthorized, "invalid_client")
	e.post(t, forRefresh, wrong).refused(t, http.StatusUnauthorized, "invalid_client")
	e.post(t, forCode).refused(t, http.StatusUnauthorized, "invalid_client")
	e.paymentsCode(t, bare(code, "auth_")).refused(t, http.StatusBadRequest, "invalid_grant")
	e.paymentsCode(t, got.refresh).refused(t, http.StatusBadRequest, "invalid_grant")
	e.paymentsRefresh(t, bare(got.refresh, "refresh_")).refused(t, http.StatusBadRequest, "invalid_grant")
	e.paymentsRefresh(t, got.access).refused(t, http.StatusBadRequest, "invalid_grant")
	e.paymentsRefresh(t, code).refused(t, http.StatusBadRequest, "invalid_grant")

	// None of the refusals has used up the code.
	e.paymentsCode(t, code).tokens(t, paymentsTokens)
	e.paymentsRefresh(t, got.refresh).tokens(t, paymentsTokens)
}

func paymentsReplay(t T, e *endpoint) {
	code := e.code(t)
	got := e.paymentsCode(t, code).tokens(t, paymentsTokens)
	e.paymentsCode(t, code).refused(t, http.StatusBadRequest, "invalid_grant") // revokes nothing, since the refresh token is unused
	e.paymentsRefresh(t, got.refresh).tokens(t, paymentsTokens)
	e.paymentsCode(t, code).refused(t, http.StatusBadRequest, "invalid_grant")
	e.paymentsRefresh(t, got.refresh).refused(t, http.StatusBadRequest, "invalid_grant")
}

func paymentsLibrary(t T, e *endpoint) {
	config := e.library(oauth2.AuthStyleInHeader)
	config.RedirectURL = "" // with it, refreshes would need it too, and the library does not send it
	token, err := config.Exchange(e.forLibrary(t), e.code(t))
	must(t, err)
	checkLibraryToken(t, token, "payments.read organizations.read", time.Hour)
	if renewed := e.checkRefreshedByLibrary(t, config, token); renewed.RefreshToken != token.RefreshToken {
		t.Errorf("the refresh token has changed")
	}
	_, err = config.Exchange(e.forLibrary(t), "auth_nonsense")
	if status, code := refusedToLibrary(t, err); status != http.StatusBadRequest || code != "invalid_grant" {
		t.Errorf("a bad code: %d %s", status, code)
	}
}
