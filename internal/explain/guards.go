package explain

import (
	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/trail"
)

// guards are the situations of guards.
var guards = []situation{
	{
		is:  func(f *trail.Failure) bool { return atGuard(f) && f.Code == "" },
		why: "The request had no access token. The guard lets only requests with a token pass.",
		next: "A client that knows OAuth reads the answer's WWW-Authenticate header, gets a token from the issuer that it names, and sends the " +
			"request again. Anything else, such as a browser, stops here.",
		do: []string{
			"If a program sent it: have it send the header \"Authorization: Bearer <access token>\". A cookie or a parameter in the URL is no token.",
			"If a proxy or a framework stands between: check that it passes the Authorization header on.",
			"If people without a token should get an answer here too: take the path out of the guard's matcher, or set optional in it.",
		},
	},
	{
		is: func(f *trail.Failure) bool { return atGuard(f) && f.Code == "insufficient_scope" },
		why: "The access token is valid, but it does not have every scope that the guard requires. A scope is a name for what an app may do. " +
			"This token came with: {sent}. The guard requires: {expected}. So the app asked for less, or the person or its settings have not allowed it.",
		next: "A client that knows OAuth asks the person for the missing scopes, and comes back with a new token. Sending the same token again " +
			"gives the same answer.",
		do: []string{
			"The developer of the app: ask for all of them in the authorization request, in the parameter scope: {expected}",
			"You: let the client have them. In its client block: scopes {expected}. The token it has stays as it is: the app needs a new one.",
			"If the route needs less, change scopes in the oauth_guard.",
		},
	},
	{
		is: func(f *trail.Failure) bool { return atGuard(f) && f.Code == "insufficient_user_authentication" },
		why: "The access token is valid, but the person behind it has not signed in as well, or as recently, as the guard requires. " +
			"This token came with: {sent}. The guard requires: {expected}.",
		next: "A client that knows RFC 9470 sends the person to the authorization endpoint again, with the acr_values and the max_age of the answer, " +
			"and comes back with a new token. Any other client stops here.",
		do: []string{
			"The developer of the app: send acr_values and max_age of the WWW-Authenticate header in a new authorization request. A refresh keeps the old login.",
			"You: session { auth_time … acr … reauthenticate … } in the oauth directive says when and how people sign in. What it does not say, no token has.",
			"If the route needs less, change acr or max_age in the oauth_guard.",
		},
	},
	{
		is:   func(f *trail.Failure) bool { return atGuard(f) && says(f, "expired") },
		why:  "The access token has expired. Access tokens are valid for minutes; that is what refresh tokens are for.",
		next: "A client with a refresh token gets a new access token by itself, and sends the request again.",
		do: []string{
			"If the app does not refresh: its client block needs grant_types authorization_code refresh_token, and the app has to use the refresh_token that it then gets.",
			"If it happens right after the token was issued: the clocks of the two machines differ. Set them by NTP.",
			"To have tokens live longer: access_token { lifetime <duration> }.",
		},
	},
	{
		is: func(f *trail.Failure) bool { return atGuard(f) && says(f, "revoked") },
		why: "The access token was revoked: by the person on the page of connected apps, by the app, by you, or since a stolen token of the same " +
			"approval was used.",
		next: asksAgain,
		do: []string{
			"If you do not know who revoked it: the audit log (logger oauth.audit) has an event \"revoked\" with the reason.",
			"If nobody should have access any more, there is nothing to do.",
		},
	},
	{
		is: func(f *trail.Failure) bool { return atGuard(f) && says(f, "audience", "not for this") },
		why: "The access token is valid, but was issued for another API (its audience, aud). A guard refuses it, so that an API that gets a token " +
			"cannot use it at another one.",
		next: "A client that knows OAuth asks for a token for this API, with the parameter resource.",
		do: []string{
			"The developer of the app: send resource=<URL of the API> in the authorization request or the token request.",
			"You: see that audience in the issuer, or in the client, has this API, and that audience or resource in the oauth_guard is spelled in the same way.",
		},
	},
	{
		is: func(f *trail.Failure) bool { return atGuard(f) && says(f, "read the path differently") },
		why: "The path of the request can be read in two ways: {sent}. The guard could take it for a path that needs no token, and the site for one that " +
			"does. So no site with a guard answers such a request.",
		next: stopsAndShows,
		do: []string{
			"The developer of the app: send the path that is meant, without dot segments (/./ and /../, also in an escaped form), and without zero bytes.",
			"If nobody has such an app, somebody was looking for a way around the guard. There is nothing to do.",
		},
	},
	{
		is: func(f *trail.Failure) bool { return atGuard(f) && f.Code == grants.InvalidRequest },
		why: "The request had an access token in its URL, or more than one token. Tokens in URLs get into logs and histories, so that no guard " +
			"accepts them.",
		next: stopsAndShows,
		do:   []string{"The developer of the app: send one token, in the header \"Authorization: Bearer <access token>\"."},
	},
	{
		is: func(f *trail.Failure) bool { return atGuard(f) && f.Code == "invalid_token" },
		why: "The token is none that the issuer of this guard has issued: it is damaged, from another issuer, signed with a key that is gone, or no " +
			"access token at all, such as an ID token or a refresh token.",
		next: asksAgain,
		do: []string{
			"Have the app show what it sends, and look at it with: caddy oauth token inspect. Its iss must be the URL of the issuer.",
			"If the claims are right: see whether its kid is among the keys, with: caddy oauth keys list.",
			"If it is from another issuer: give the guard that issuer's URL, as in oauth_guard /api/* https://issuer.example.",
		},
	},
}
