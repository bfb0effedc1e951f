package contract_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"golang.org/x/oauth2"
)

// An API that accepts user names and passwords: POST /o/token/.
//
// How we read it. In the table, every member of the answer is a String. The sample, which clients have tried, has a number for
// expires_in, as RFC 6749 §5.1 requires; so do we. In the table, client_id and client_secret are mandatory members of a JSON body. The
// samples send a form, with the credentials in the URL, which is HTTP Basic on the wire. We accept either, but not both at once
// (RFC 6749 §2.3). In the table, user name and password are mandatory, but the sample of a refresh does not have them. We require them
// for the password grant, and ignore them for a refresh. The table lacks grant_type, which all samples have, so it is required. In the
// HTTPie sample, a shell would end the command at the &; we read it as a space between two fields. The document does not say the
// status of the failure: it is 400 (RFC 6749 §5.2).
var username = &contract{
	example:  "username",
	token:    "/o/token/",
	clientID: "field-app",
	secret:   "only-for-trying-it-out",
	user:     "alice",
	along: map[string][][2]string{
		"access_token format": {{"length 30", ""}},
		"grant":               {{"grant_types password refresh_token", "grant_types refresh_token"}},
	},
	checks: []check{
		{name: "1.1 and 2.1 generate and refresh with curl", run: usernameCurl, curl: true},
		{name: "1.1 and 2.1 generate and refresh with the credentials in the URL", run: usernameURL},
		{name: "1.2 and 2.2 generate and refresh with HTTPie", run: usernameHTTPie},
		{name: "request parameters in JSON and in a form", run: usernameBodies},
		{name: "updated every 60 minutes", run: usernameHours, clock: true},
		{name: "scope", run: usernameScope},
		{name: "failure with wrong user credentials", run: usernameBadUser},
		{name: "failure with a wrong refresh token", run: usernameBadRefreshToken},
		{name: "RFC 6749 §5.2 other failures", run: usernameRefusals},
		{name: "the path with and without a slash at its end", run: usernameSlash},
		{name: "golang.org/x/oauth2", run: usernameLibrary},
	},
}

func TestUsername(t *testing.T) { username.test(t) }

// usernameTokens returns the sample with a scope.
func usernameTokens(scope string) *printed {
	const thirty = "[0-9A-Za-z]{30}"
	return like("application/json", `{
                "access_token": "Df0Z0r74hxZmO47mo9QnRrncVJIGU6",
                "expires_in": 3600,
                "refresh_token": "Y23rwVNSRtLjhy2nIwslJdo3FbAS6d",
                "scope": "read write {OTHER_SCOPES}",
                "token_type": "Bearer"
            }`, "Df0Z0r74hxZmO47mo9QnRrncVJIGU6", thirty, "Y23rwVNSRtLjhy2nIwslJdo3FbAS6d", thirty, "read write {OTHER_SCOPES}", scope)
}

var (
	allUsernameTokens = usernameTokens("read write")

	usernameFailure = like("application/json", `{
                "error": "invalid_grant",
                "error_description": "Invalid credentials given."
            }`)
)

func passwordRequest(user, password string, more ...string) []string {
	return append([]string{"grant_type", "password", "username", user, "password", password}, more...)
}

func refreshRequest(token string, more ...string) []string {
	return append([]string{"grant_type", "refresh_token", "refresh_token", token}, more...)
}

func (e *endpoint) own() edit { return basic(e.clientID, e.secret) }

func usernameCurl(t T, e *endpoint) {
	got := e.curl(t, "-X", "POST", "-d", "grant_type=password&username="+e.user+"&password="+userPassword, e.withUserinfo()).
		tokens(t, allUsernameTokens)
	e.curl(t, "-X", "POST", "-d", "grant_type=refresh_token&refresh_token="+got.refresh, e.withUserinfo()).
		tokens(t, allUsernameTokens)
	e.curl(t, "-X", "POST", "-d", "grant_type=password&username="+e.user+"&password="+wrongSecret, e.withUserinfo()).
		check(t, http.StatusBadRequest, usernameFailure)
}

func usernameURL(t T, e *endpoint) {
	post := func(pairs []string) *answer {
		return e.send(t, http.MethodPost, e.withUserinfo(), form(pairs...).Encode(), header("Content-Type", formType))
	}
	got := post(passwordRequest(e.user, userPassword)).tokens(t, allUsernameTokens)
	for range 3 {
		next := post(refreshRequest(got.refresh)).tokens(t, allUsernameTokens)
		if next.refresh == got.refresh || next.access == got.access {
			t.Errorf("the refresh changed %+v into %+v", got, next)
		}
		got = next
	}
}

// HTTPie -f sends a form, with a charset in its Content-Type.
func usernameHTTPie(t T, e *endpoint) {
	post := func(body string) *answer {
		return e.send(t, http.MethodPost, e.withUserinfo(), body, header("Content-Type", formType+"; charset=utf-8"),
			header("Accept", "*/*"), header("User-Agent", "HTTPie/3.2.4"))
	}
	got := post("grant_type=password&username="+e.user+"&password="+userPassword).tokens(t, allUsernameTokens)
	post("grant_type=refresh_token&refresh_token="+got.refresh).tokens(t, allUsernameTokens)
	// If the & is in quotes, it is part of the user name, and there is no password.
	post("grant_type=password&username="+url.QueryEscape(e.user+"&password="+userPassword)).refused(t, http.StatusBadRequest, "invalid_request")
}

func usernameBodies(t T, e *endpoint) {
	for _, post := range bodies {
		for _, client := range []struct {
			members []string
			edits   []edit
		}{
			{members: e.credentials()},
			{edits: []edit{e.own()}},
			{members: []string{"client_id", e.clientID}, edits: []edit{e.own()}},
		} {
			got := post(e, t, passwordRequest(e.user, userPassword, client.members...), client.edits...).tokens(t, allUsernameTokens)
			got = post(e, t, refreshRequest(got.refresh, client.members...), client.edits...).tokens(t, allUsernameTokens)
			whole := with(client.members, "username", e.user, "password", wrongSecret) // mandatory in the table
			post(e, t, refreshRequest(got.refresh, whole...), client.edits...).tokens(t, allUsernameTokens)
		}
		post(e, t, passwordRequest(e.user, userPassword, e.credentials()...), e.own()).refused(t, http.StatusBadRequest, "invalid_request")
	}
}

func usernameHours(t T, e *endpoint) {
	got := e.post(t, passwordRequest(e.user, userPassword), e.own()).tokens(t, allUsernameTokens)
	for range 10 {
		e.pass(time.Hour)
		got = e.post(t, refreshRequest(got.refresh), e.own()).tokens(t, allUsernameTokens)
	}
}

func usernameScope(t T, e *endpoint) {
	for _, post := range bodies {
		got := post(e, t, passwordRequest(e.user, userPassword, "scope", "read"), e.own()).tokens(t, usernameTokens("read"))
		post(e, t, refreshRequest(got.refresh), e.own()).tokens(t, usernameTokens("read"))
		got = post(e, t, passwordRequest(e.user, userPassword, "scope", "read write"), e.own()).tokens(t, allUsernameTokens)
		got = post(e, t, refreshRequest(got.refresh, "scope", "write"), e.own()).tokens(t, usernameTokens("write"))
		post(e, t, refreshRequest(got.refresh), e.own()).tokens(t, allUsernameTokens) // RFC 6749 §6
		post(e, t, passwordRequest(e.user, userPassword, "scope", "read admin"), e.own()).refused(t, http.StatusBadRequest, "invalid_scope")
	}
}

func usernameBadUser(t T, e *endpoint) {
	for _, post := range bodies {
		post(e, t, passwordRequest(e.user, wrongSecret), e.own()).check(t, http.StatusBadRequest, usernameFailure)
	}
	e.postJSON(t, passwordRequest("nobody", userPassword), e.own()).check(t, http.StatusBadRequest, usernameFailure)
}

func usernameBadRefreshToken(t T, e *endpoint) {
	for _, post := range bodies {
		got := post(e, t, passwordRequest(e.user, userPassword), e.own()).tokens(t, allUsernameTokens)
		for _, token := range []string{got.access, "x" + got.refresh, got.refresh[:29], "nonsense"} {
			post(e, t, refreshRequest(token), e.own()).check(t, http.StatusBadRequest, usernameFailure)
		}
		post(e, t, refreshRequest(got.refresh), basic(otherID, otherSecret)).check(t, http.StatusBadRequest, usernameFailure)
		second := post(e, t, refreshRequest(got.refresh), e.own()).tokens(t, allUsernameTokens)
		third := post(e, t, refreshRequest(second.refresh), e.own()).tokens(t, allUsernameTokens)
		// RFC 9700 §4.14.2: a used token revokes its family.
		post(e, t, refreshRequest(got.refresh), e.own()).check(t, http.StatusBadRequest, usernameFailure)
		post(e, t, refreshRequest(third.refresh), e.own()).check(t, http.StatusBadRequest, usernameFailure)
	}
}

func usernameRefusals(t T, e *endpoint) {
	right := passwordRequest(e.user, userPassword)
	for _, row := range []struct {
		name   string
		pairs  []string
		edits  []edit
		status int
		code   string
	}{
		{"no client", right, nil, http.StatusUnauthorized, "invalid_client"},
		{"a wrong secret", right, []edit{basic(e.clientID, wrongSecret)}, http.StatusUnauthorized, "invalid_client"},
		{"an unknown client", right, []edit{basic("nobody", e.secret)}, http.StatusUnauthorized, "invalid_client"},
		{"the user as client", right, []edit{basic(e.user, userPassword)}, http.StatusUnauthorized, "invalid_client"},
		{"no user name", with(right, "username", ""), []edit{e.own()}, http.StatusBadRequest, "invalid_request"},
		{"no password", with(right, "password", ""), []edit{e.own()}, http.StatusBadRequest, "invalid_request"},
		{"no refresh token", refreshRequest(""), []edit{e.own()}, http.StatusBadRequest, "invalid_request"},
		{"no grant type", with(right, "grant_type", ""), []edit{e.own()}, http.StatusBadRequest, "invalid_request"},
		{"another grant type", with(right, "grant_type", "client_credentials"), []edit{e.own()}, http.StatusBadRequest, "unauthorized_client"},
	} {
		for kind, post := range bodies {
			a := post(e, t, row.pairs, row.edits...)
			if a.status != row.status || a.member("error") != row.code || a.member("error_id") != "" {
				t.Errorf("%s, %s: %d %s, want %d %s", row.name, kind, a.status, a.body, row.status, row.code)
			}
		}
	}
}

func usernameSlash(t T, e *endpoint) {
	for path, site := range map[string]bool{
		"/o/token/": false, "/o/token": false, "/o/token//": true, "/o//token/": true, "/oauth/token": true,
	} {
		a := e.send(t, http.MethodPost, e.site+path, form(passwordRequest(e.user, userPassword)...).Encode(), e.own(), header("Content-Type", formType))
		if (a.body == "The site.") != site {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
}

func usernameLibrary(t T, e *endpoint) {
	for _, style := range []oauth2.AuthStyle{oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams} {
		config := e.library(style)
		token, err := config.PasswordCredentialsToken(e.forLibrary(t), e.user, userPassword)
		must(t, err)
		checkLibraryToken(t, token, "read write", time.Hour)
		e.checkRefreshedByLibrary(t, config, token)
		_, err = config.PasswordCredentialsToken(e.forLibrary(t), e.user, wrongSecret)
		if status, code := refusedToLibrary(t, err); status != http.StatusBadRequest || code != "invalid_grant" {
			t.Errorf("a wrong password: %d %s", status, code)
		}
	}
}
