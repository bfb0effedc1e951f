package explain

import (
	"net/http"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/trail"
)

// requests are the situations of requests of clients that the server knows: about what they bring, and what they ask for.
var requests = []situation{
	// Redirect URIs.
	{
		is:   func(f *trail.Failure) bool { return decides(f, "redirect_uris") && says(f, "missing") },
		why:  "The app did not say where it wants its answer (redirect_uri), and the client block has more than one address, or none, to choose from.",
		next: "Nothing can be sent back to the app: the person sees an error page.",
		do:   []string{"The developer of the app: send redirect_uri with one of: {expected}"},
	},
	{
		is: func(f *trail.Failure) bool { return decides(f, "redirect_uris") && says(f, "redirect_uri") },
		why: "The app wants its answer at an address (redirect_uri) that is not in its client block. The two are compared letter by letter: a slash at " +
			"the end, http or https, www, the port and the case all count. It protects people: otherwise anybody could have the answer sent to themselves.",
		next: "Nothing is sent to an unknown address: the person sees an error page, and the app waits in vain.",
		do: []string{
			"If the address is that of your app, add it exactly as it came: redirect_uris {sent}",
			"If it is wrong, correct it in the settings of the app to one of: {expected}",
			"If you know neither the app nor the address, do nothing: somebody may be trying to get at codes.",
		},
	},
	{
		is: func(f *trail.Failure) bool { return decides(f, "redirect_uri_rules") },
		why: "When it exchanged the code, the app named another redirect_uri than when it asked for the code, or none. Both must be the same, so that " +
			"a code that was sent to another place cannot be used.",
		next: asksAgain,
		do: []string{
			"The developer of the app: send the redirect_uri of the authorization request again with the code, letter by letter.",
			"If an existing app cannot: redirect_uri_rules { code optional } in its client block. Use it with PKCE only.",
		},
	},

	// Codes, PKCE and refresh tokens.
	{
		is: func(f *trail.Failure) bool { return says(f, "code_verifier") },
		why: "PKCE failed. The app hides a random text (code_verifier) behind its hash (code_challenge) when it asks for the code, and shows the text when it " +
			"exchanges the code. The two did not belong together, or one was missing.",
		next: asksAgain,
		do: []string{
			"The developer of the app: keep the code_verifier between the two requests, for example in sessionStorage, and use the one of this login: two windows must not overwrite each other's.",
			"code_challenge is the SHA-256 of code_verifier in base64url without =, and code_challenge_method is S256. Most libraries do it by themselves.",
		},
	},
	{
		is: func(f *trail.Failure) bool { return says(f, "code_challenge") },
		why: "The app must use PKCE and did not, or not with the method S256. PKCE ties a code to the app that asked for it; apps without a secret " +
			"have nothing else that does.",
		next: stopsAndShows,
		do: []string{
			"The developer of the app: turn PKCE on in the library, with the method S256. Nearly all have it.",
			"If the app runs on a server, it can have a secret instead: add secret to its client block.",
		},
	},
	{
		is: func(f *trail.Failure) bool {
			return f.Code == grants.InvalidGrant && says(f, "authorization code was used a moment ago")
		},
		why:  "The app exchanged the same code twice within a few seconds. The first exchange worked, and its tokens are good.",
		next: "Nothing, if the app has kept the tokens of its first request.",
		do:   []string{"The developer of the app: exchange the code once. Pages that render twice, as in development modes of frameworks, do it twice."},
	},
	{
		is: func(f *trail.Failure) bool {
			return f.Code == grants.InvalidGrant && says(f, "authorization code") && strings.HasPrefix(f.Cause, "expired")
		},
		why: "The authorization code has expired. A code is what the app gets after the login, to exchange it for tokens at once. It lives for a short " +
			"time: one minute unless the issuer sets another. Until the app brought it, more time went by.",
		next: asksAgain,
		do: []string{
			"Begin again: each login gives a new code. A code from a log, a bookmark or the back button is an old one.",
			"The developer of the app: exchange the code as soon as it comes, and not after another page or a queue.",
			"If people or tests paste codes by hand, give them more time: code { lifetime 5m } in the issuer, at most 10m.",
		},
	},
	{
		is: func(f *trail.Failure) bool {
			return f.Code == grants.InvalidGrant && says(f, "issued to another client")
		},
		why: "The code or refresh token is good, but was issued to another client than the one that brought it: {sent} came, and it belongs to {expected}. " +
			"Two apps, or two settings of one app, have been mixed up; or somebody has stolen it.",
		next: asksAgain,
		do: []string{
			"Use one client ID for both requests of the app: the authorization request and the token request.",
			"If nobody can explain it, take it for a theft: look at client_ip in the audit log.",
		},
	},
	{
		is: func(f *trail.Failure) bool { return f.Code == grants.InvalidGrant && says(f, "authorization code") },
		why: "The app brought an authorization code that is not valid any more, or never was. A code works once, and for a short time: one minute unless " +
			"the issuer sets another. If it worked yesterday, the code has most likely expired or was used before; see the cause above, if there is one.",
		next: asksAgain,
		do: []string{
			"Begin again: each login gives a new code. A code from a log, a bookmark or the back button is an old one.",
			"The developer of the app: exchange the code at once, and only once.",
			"If people or tests paste codes by hand, give them more time: code { lifetime 5m } in the issuer, at most 10m.",
			"If the code is fresh: it may belong to another client or to another issuer, such as a test server.",
		},
	},
	{
		is: func(f *trail.Failure) bool { return f.Code == grants.InvalidGrant && says(f, "refresh token") },
		why: "The refresh token is not valid: nobody used it for too long (idle), its time is over (lifetime), it was revoked, it belongs to " +
			"another client, or it was damaged on its way. The cause above says which, if the server knows it.",
		next: "The app sends the person to the login and consent pages again. Other approvals of the person stay as they are.",
		do: []string{
			"If people have to sign in too often: refresh_token { idle <duration> } and lifetime in the issuer or the client. The defaults are 14 and 30 days.",
			"The developer of the app: after each refresh, save the new refresh_token of the answer, and drop the old one.",
		},
	},
	{
		is:   func(f *trail.Failure) bool { return f.Code == grants.InvalidGrant && says(f, "password") },
		why:  "The user name or the password is wrong. The answer does not say which, so that nobody can find out who has an account.",
		next: "The app asks the person again. After too many attempts the answer is 429 for a while.",
		do:   []string{"Have the person sign in at the site itself. If that works, see the verify setting of grant password."},
	},

	// What is asked for.
	{
		is: func(f *trail.Failure) bool {
			return f.Code == grants.InvalidScope && strings.Contains(f.Sent, "as approved")
		},
		why:  "The person has approved scopes that the client may not have any more: its settings were changed since.",
		next: asksAgain,
		do:   []string{"If it should have them again: scopes in the client block. The server expected: {expected}"},
	},
	{
		is: func(f *trail.Failure) bool { return f.Code == grants.InvalidScope },
		why: "The app asked for the scope {sent}, which it may not have. A scope is a name for what an app may do; your configuration names all there are, " +
			"and each client block says which of them that client may ask for. It may have: {expected}",
		next: stopsAndShows,
		do: []string{
			"If the app should have it: add it to scopes in its client block. If the issuer does not have it yet, add there: scope {sent} \"what it lets an app do\"",
			"If the name is misspelled: correct it in the settings of the app.",
			"If the app asks every server for scopes that you do not need, such as openid or offline_access: unknown_scopes drop in the issuer.",
		},
	},
	{
		is:   func(f *trail.Failure) bool { return f.Code == grants.InvalidTarget },
		why:  "The app asked for a token for the API {sent} (resource), which its settings do not have. It may ask for: {expected}",
		next: stopsAndShows,
		do: []string{
			"If the address is that of your API: add it to audience in the issuer, or in the client block.",
			"Otherwise correct resource in the settings of the app, or leave it out.",
		},
	},
	{
		is:   func(f *trail.Failure) bool { return decides(f, "grant_types") || f.Code == grants.UnsupportedGrantType },
		why:  "The client wants tokens in a way that it may not use (grant_type): it sent {sent}, and may use {expected}.",
		next: stopsAndShows,
		do: []string{
			"If it should be allowed: grant_types in its client block. Apps for people use authorization_code and refresh_token; scripts that act for themselves use client_credentials.",
			"If the name is only spelled differently, as in an old API: grant_alias <name> <grant type> in the issuer.",
		},
	},

	// People.
	{
		is: func(f *trail.Failure) bool {
			return f.Code == "login_required" && f.Status == http.StatusUnauthorized
		},
		why: "Nobody was signed in at the site, or the site did not say who. The oauth directive has no login of its own: it asks the login of the site, " +
			"and found no user.",
		next: "The person sees a page that says so, or the login dialog of the browser.",
		do: []string{
			"Put the login before the pages for people: basic_auth or forward_auth for /oauth/authorize and /oauth/apps.",
			"If the login is a page: login /your-login-page in the oauth directive sends people there.",
			"If they are signed in: user must name the placeholder that your login sets. With forward_auth it is {rp.header.<Name>}, such as {rp.header.Remote-User}.",
		},
	},
	{
		is:   func(f *trail.Failure) bool { return f.Code == "login_required" && f.Sent == "prompt=none" },
		why:  "The app asked whether the person is signed in, without showing anything (prompt=none), and nobody was. That is no fault.",
		next: "The app shows its own button to sign in, or asks again with a page.",
		do: []string{
			"If the person is signed in: their browser did not send the cookie. Browsers send none from a hidden frame of another site.",
		},
	},
	{
		is:   func(f *trail.Failure) bool { return f.Code == grants.AccessDenied && says(f, "user ID") },
		why:  "The account cannot be used with apps: {cause}",
		next: stopsAndShows,
		do: []string{
			"If the ID is also that of a client with client_credentials: give the client another ID.",
			"See that user in the oauth directive names the ID of the person, and nothing else.",
		},
	},

	// The form of the request.
	{
		is:   func(f *trail.Failure) bool { return f.Status == http.StatusMethodNotAllowed },
		why:  "The endpoint was called with the method {sent}, and takes {expected}. A page that was opened in a browser sends GET.",
		next: stopsAndShows,
		do:   []string{"The developer of the app: send {expected}. With curl, -d makes a POST."},
	},
	{
		is:   func(f *trail.Failure) bool { return decides(f, "request_body") },
		why:  "The body of the request is of the type {sent}. This endpoint takes {expected}.",
		next: stopsAndShows,
		do: []string{
			"The developer of the app: send a form, application/x-www-form-urlencoded, as OAuth has it. With curl: -d name=value.",
			"If an existing app sends JSON: request_body form json in the issuer.",
		},
	},
	{
		is:   func(f *trail.Failure) bool { return says(f, "a parameter is repeated") },
		why:  "A parameter is in the request twice: {sent}. Two programs could take two different values for the right one, so that none is accepted.",
		next: stopsAndShows,
		do:   []string{"The developer of the app: send each parameter once, and not in the URL and the body both."},
	},
	{
		is:   func(f *trail.Failure) bool { return says(f, "more than one way") },
		why:  "The client has authenticated in more than one way: {sent}. The server does not choose.",
		next: stopsAndShows,
		do:   []string{"The developer of the app: send the secret once, in the Authorization header (Basic) or in the body."},
	},
}
