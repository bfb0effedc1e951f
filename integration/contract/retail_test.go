package contract_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

// A retail API: POST /oauth/token, with an API key in a header and codes that people copy to the app.
//
// How we read it. The body has a client_id without a secret, and a code_verifier, like that of a public client, but there is an API key.
// We take the key for the client's secret, and require PKCE as well. The document lists the JWT of the user among the credentials of
// this endpoint, although the endpoint issues it: clients may send it, and we ignore it. The only failure in the document is 400. A
// missing or wrong key is 401, as in RFC 6749 §5.2 for failed client authentication. The body is an object with typed members, which
// is JSON; it may also be a form. redirect_uri is required on refresh, although RFC 6749 §6 has no such parameter.
var retail = &contract{
	example:             "retail",
	authorize:           "/oauth/authorize",
	token:               "/oauth/token",
	clientID:            "shop-app",
	secret:              "only-for-trying-it-out",
	redirectURI:         "urn:ietf:wg:oauth:2.0:oob:auto",
	user:                "94173",
	authorizationParams: url.Values{"code_challenge": {oauth2.S256ChallengeFromVerifier(verifier)}, "code_challenge_method": {"S256"}},
	checks: []check{
		{name: "the authorize endpoint shows the code", run: retailPage},
		{name: "the authorize endpoint shows no code to a person who denies", run: retailDenied},
		{name: "a code for tokens", run: retailCode},
		{name: "with curl", run: retailCurl, curl: true},
		{name: "the access token has exp, iat and sub", run: retailJWT},
		{name: "the signing key is not published", run: retailKeys},
		{name: "refresh", run: retailRefresh},
		{name: "redirect_uri must be set for a code", run: retailCodeRedirect},
		{name: "redirect_uri must be set for a refresh", run: retailRefreshRedirect},
		{name: "RFC 7636 §4.6 code_verifier", run: retailVerifier},
		{name: "RFC 7636 §4.4.1 code_challenge", run: retailChallenge},
		{name: "x-api-key", run: retailKey},
		{name: "x-dressipi-jwt is ignored", run: retailUserJWT},
		{name: "the user's JWT opens the API", run: retailGuard},
		{name: "golang.org/x/oauth2", run: retailLibrary},
	},
}

func TestRetail(t *testing.T) { retail.test(t) }

// The verifier of RFC 7636 appendix B.
const verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

// retailTokens has the members of the document's table, which promises no order.
var retailTokens = like("application/json", `{
	"access_token": "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjE1NzE5OTQ2NzIsImlhdCI6MTU3MTkwODI3Miwic3ViIjoiOTQxNzMifQ.mb3ur-cCDbApKU1j24SkjgR7AjLNGQ2pHkJdpfKtY28",
	"token_type": "Bearer",
	"expires_in": 86400,
	"refresh_token": "REFRESH TOKEN"
}`,
	"eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjE1NzE5OTQ2NzIsImlhdCI6MTU3MTkwODI3Miwic3ViIjoiOTQxNzMifQ.mb3ur-cCDbApKU1j24SkjgR7AjLNGQ2pHkJdpfKtY28", anyJWT,
	"REFRESH TOKEN", anyToken)

func (e *endpoint) retailCode(code string, more ...string) []string {
	return append([]string{
		"redirect_uri", e.redirectURI, "grant_type", "authorization_code", "code", code, "client_id", e.clientID, "code_verifier", verifier,
	}, more...)
}

func (e *endpoint) retailRefresh(token string, more ...string) []string {
	return append([]string{
		"redirect_uri", e.redirectURI, "grant_type", "refresh_token", "refresh_token", token, "client_id", e.clientID,
	}, more...)
}

// key sends the API key.
func (e *endpoint) key() edit { return header("x-api-key", e.secret) }

// retailStart returns the first tokens of an approval.
func retailStart(t T, e *endpoint) tokens {
	t.Helper()
	return e.postJSON(t, e.retailCode(e.code(t)), e.key()).tokens(t, retailTokens)
}

func retailPage(t T, e *endpoint) {
	for _, redirectURI := range []string{"", e.redirectURI} {
		const state = "a state & code=another's"
		page := e.ask(t, "allow", "redirect_uri", redirectURI, "state", state)
		shown := page.shown(t)
		if page.status != http.StatusOK || page.header.Get("Location") != "" || len(shown["code"]) != 1 || shown.Get("state") != state {
			t.Fatalf("%d, Location %q, title %q", page.status, page.header.Get("Location"), shown)
		}
		code := shown.Get("code")
		_, body, _ := strings.Cut(page.body, "</title>")
		if !strings.Contains(body, `value="`+code+`"`) || !strings.Contains(body, "Shop app") {
			t.Errorf("the page does not show code and app: %s", body)
		}
		if page.header.Get("Cache-Control") != "no-store" || page.header.Get("Referrer-Policy") != "no-referrer" ||
			!strings.Contains(page.header.Get("Content-Security-Policy"), "frame-ancestors 'none'") { // RFC 9700 §4.16
			t.Errorf("the page with the code has %v", page.header)
		}
		e.postJSON(t, e.retailCode(code), e.key()).tokens(t, retailTokens)
	}
}

func retailDenied(t T, e *endpoint) {
	for _, page := range []*answer{
		e.ask(t, "deny", "prompt", "consent"),
		e.ask(t, "allow", "redirect_uri", "urn:ietf:wg:oauth:2.0:oob"),
		e.ask(t, "allow", "redirect_uri", "https://elsewhere.example.com/"),
		e.ask(t, "allow", "response_type", "token"),
	} {
		if page.status != http.StatusBadRequest || page.header.Get("Location") != "" || page.shown(t) != nil {
			t.Errorf("%d, Location %q: %s", page.status, page.header.Get("Location"), page.body)
		}
	}
}

func retailCode(t T, e *endpoint) {
	for _, post := range bodies {
		post(e, t, e.retailCode(e.code(t)), e.key()).tokens(t, retailTokens)
	}
}

func retailCurl(t T, e *endpoint) {
	got := e.curl(t, e.site+e.token, "-H", "x-api-key: "+e.secret, "-d", form(e.retailCode(e.code(t))...).Encode()).tokens(t, retailTokens)
	e.curl(t, e.site+e.token, "-H", "x-api-key: "+e.secret, "-H", "Content-Type: application/json",
		"-d", `{"grant_type":"refresh_token","client_id":"`+e.clientID+`","redirect_uri":"`+e.redirectURI+`","refresh_token":"`+got.refresh+`"}`,
	).tokens(t, retailTokens)
}

func retailJWT(t T, e *endpoint) {
	first := retailStart(t, e)
	second := e.postJSON(t, e.retailRefresh(first.refresh), e.key()).tokens(t, retailTokens)
	for _, token := range []string{first.access, second.access} {
		j := readJWT(t, token)
		if j.header["alg"] != "HS256" {
			t.Errorf("alg is %v", j.header["alg"])
		}
		var names []string
		for name := range j.claims {
			names = append(names, name)
		}
		if slices.Sort(names); !slices.Equal(names, []string{"exp", "iat", "sub"}) || j.claims["sub"] != "94173" || j.lives() != 86400 {
			t.Errorf("the claims are %v", j.claims)
		}
		if iat, _ := j.claims["iat"].(float64); time.Since(time.Unix(int64(iat), 0)).Abs() > time.Minute {
			t.Errorf("iat is %v", iat)
		}
		// RFC 7518 §3.2: the hash has 256 bits.
		if _, signature, _ := strings.Cut(token[strings.IndexByte(token, '.')+1:], "."); len(signature) != 43 {
			t.Errorf("the signature is %s", signature)
		}
	}
}

func retailKeys(t T, e *endpoint) {
	retailStart(t, e) // makes the key
	metadata := e.send(t, http.MethodGet, e.site+"/.well-known/oauth-authorization-server", "")
	if metadata.status != http.StatusOK || strings.Contains(metadata.body, "jwks_uri") {
		t.Errorf("metadata: %d %s", metadata.status, metadata.body)
	}
	keys := e.send(t, http.MethodGet, e.site+"/oauth/jwks", "")
	for _, secret := range []string{`"k"`, `"oct"`, `"kid"`} {
		if strings.Contains(keys.body, secret) {
			t.Errorf("%s is published: %s", secret, keys.body)
		}
	}
}

func retailRefresh(t T, e *endpoint) {
	for _, post := range bodies {
		got := retailStart(t, e)
		for range 3 {
			next := post(e, t, e.retailRefresh(got.refresh), e.key()).tokens(t, retailTokens)
			if next.refresh == got.refresh { // the document: "it may return an updated refresh token"
				t.Errorf("the refresh token was not rotated")
			}
			got = next
		}
		post(e, t, e.retailRefresh("x"+got.refresh), e.key()).refused(t, http.StatusBadRequest, "invalid_grant")
		stolen := e.retailRefresh(got.refresh, "client_id", otherID)
		post(e, t, stolen, header("x-api-key", otherSecret)).refused(t, http.StatusBadRequest, "invalid_grant")
		post(e, t, e.retailRefresh(got.refresh), e.key()).tokens(t, retailTokens)
	}
}

func retailCodeRedirect(t T, e *endpoint) {
	for _, post := range bodies {
		for _, authorize := range []string{"", e.redirectURI} {
			code := e.code(t, "redirect_uri", authorize)
			post(e, t, e.retailCode(code, "redirect_uri", ""), e.key()).refused(t, http.StatusBadRequest, "invalid_request")
			post(e, t, e.retailCode(code, "redirect_uri", "urn:ietf:wg:oauth:2.0:oob"), e.key()).refused(t, http.StatusBadRequest, "invalid_grant")
			post(e, t, e.retailCode(code), e.key()).tokens(t, retailTokens)
			post(e, t, e.retailCode(code), e.key()).refused(t, http.StatusBadRequest, "invalid_grant") // RFC 6749 §4.1.2
		}
	}
}

func retailRefreshRedirect(t T, e *endpoint) {
	for _, post := range bodies {
		got := retailStart(t, e)
		post(e, t, e.retailRefresh(got.refresh, "redirect_uri", ""), e.key()).refused(t, http.StatusBadRequest, "invalid_request")
		post(e, t, e.retailRefresh(got.refresh, "redirect_uri", "urn:ietf:wg:oauth:2.0:oob"), e.key()).refused(t, http.StatusBadRequest, "invalid_grant")
		post(e, t, e.retailRefresh(got.refresh), e.key()).tokens(t, retailTokens)
	}
}

func retailVerifier(t T, e *endpoint) {
	for _, post := range bodies {
		code := e.code(t)
		for _, wrong := range []string{"", oauth2.GenerateVerifier(), verifier[:42], verifier + "="} {
			post(e, t, e.retailCode(code, "code_verifier", wrong), e.key()).refused(t, http.StatusBadRequest, "invalid_grant")
		}
		post(e, t, e.retailCode(code), e.key()).tokens(t, retailTokens)
	}
}

func retailChallenge(t T, e *endpoint) {
	for _, page := range []*answer{
		e.send(t, http.MethodGet, e.site+e.authorize+"?response_type=code&client_id="+e.clientID, "", basic(e.user, userPassword)),
		e.ask(t, "allow", "code_challenge", verifier, "code_challenge_method", "plain"),
	} {
		if action, _ := page.form(t); page.status != http.StatusBadRequest || action != "" || page.shown(t) != nil {
			t.Errorf("%d: %s", page.status, page.body)
		}
	}
}

func retailKey(t T, e *endpoint) {
	for _, post := range bodies {
		code := e.code(t)
		post(e, t, e.retailCode(code)).refused(t, http.StatusUnauthorized, "invalid_client")
		post(e, t, e.retailCode(code), header("x-api-key", wrongSecret)).refused(t, http.StatusUnauthorized, "invalid_client")
		post(e, t, e.retailCode(code), header("x-api-key", otherSecret)).refused(t, http.StatusUnauthorized, "invalid_client")
		post(e, t, e.retailCode(code), header("x-api-key", "")).refused(t, http.StatusUnauthorized, "invalid_client")
		post(e, t, e.retailCode(code, "client_id", ""), e.key()).refused(t, http.StatusUnauthorized, "invalid_client")
		// RFC 6749 §2.3: a request must not authenticate twice.
		post(e, t, e.retailCode(code), e.key(), e.key()).refused(t, http.StatusBadRequest, "invalid_request")
		post(e, t, e.retailCode(code, "client_secret", e.secret), e.key()).refused(t, http.StatusBadRequest, "invalid_request")
		post(e, t, e.retailCode(code), header("X-API-KEY", e.secret)).tokens(t, retailTokens)
	}
}

func retailUserJWT(t T, e *endpoint) {
	got := retailStart(t, e)
	for _, userJWT := range []string{got.access, "nonsense", ""} {
		got = e.postJSON(t, e.retailRefresh(got.refresh), e.key(), header("x-dressipi-jwt", userJWT)).tokens(t, retailTokens)
	}
	e.postJSON(t, e.retailRefresh(got.refresh), header("x-dressipi-jwt", got.access)).refused(t, http.StatusUnauthorized, "invalid_client")
}

// The guard accepts the JWT only in the header that the document names.
func retailGuard(t T, e *endpoint) {
	jwt := retailStart(t, e).access
	for _, row := range []struct {
		name, value string
		status      int
	}{
		{"x-dressipi-jwt", jwt, http.StatusOK},
		{"x-dressipi-jwt", jwt + "x", http.StatusUnauthorized},
		{"Authorization", "Bearer " + jwt, http.StatusUnauthorized},
		{"x-other", "", http.StatusUnauthorized},
	} {
		got := e.send(t, http.MethodGet, e.site+"/api/recommendations", "", header(row.name, row.value))
		if got.status != row.status || row.status == http.StatusOK && got.body != "For "+e.user+"." {
			t.Errorf("%s: %d %s", row.name, got.status, got.body)
		}
	}
}

// The library sends no redirect_uri with refreshes, so it can only exchange codes here.
func retailLibrary(t T, e *endpoint) {
	config := e.library(oauth2.AuthStyleInParams)
	config.ClientSecret = ""
	next := e.http.Transport
	withKey := *e
	withKey.http = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		r = r.Clone(r.Context())
		e.key()(r)
		return next.RoundTrip(r)
	})}
	token, err := config.Exchange(withKey.forLibrary(t), e.code(t), oauth2.VerifierOption(verifier))
	must(t, err)
	checkLibraryToken(t, token, "", 24*time.Hour)
	_, err = config.Exchange(e.forLibrary(t), e.code(t), oauth2.VerifierOption(verifier))
	if status, code := refusedToLibrary(t, err); status != http.StatusUnauthorized || code != "invalid_client" {
		t.Errorf("without the key: %d %s", status, code)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
