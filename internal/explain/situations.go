package explain

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/trail"
)

// situation is a kind of failure. In its texts, {client}, {sent} and {expected} stand for what the failure says.
type situation struct {
	is   func(f *trail.Failure) bool
	why  string
	next string
	do   []string
}

// find returns the situation of a failure. Failures that are in none are explained by their code.
func find(f *trail.Failure) situation {
	for _, list := range [][]situation{certificates, delegation, situations} {
		if i := slices.IndexFunc(list, func(s situation) bool { return s.is(f) }); i >= 0 {
			return list[i]
		}
	}
	if code, ok := codes[f.Code]; ok {
		return situation{why: code.Meaning, next: code.Next, do: code.Do}
	}
	return situation{
		why: "The server refused the request. The answer had no error code that this program knows.",
		do:  []string{"Look at the line with this error ID in the log."},
	}
}

func atGuard(f *trail.Failure) bool { return f.Endpoint == "guard" }

// says reports whether the description or the cause has one of the texts.
func says(f *trail.Failure, texts ...string) bool {
	return slices.ContainsFunc(texts, func(text string) bool {
		return strings.Contains(f.Description, text) || strings.Contains(f.Cause, text)
	})
}

// decides reports whether the setting is that one.
func decides(f *trail.Failure, setting string) bool {
	return f.Setting == setting || strings.HasSuffix(f.Setting, ": "+setting) || strings.HasPrefix(f.Setting, setting+",") ||
		strings.Contains(f.Setting, ": "+setting+",")
}

const (
	stopsAndShows = "Most clients stop here and show an error. Trying again gives the same answer until one of the two sides is changed."
	asksAgain     = "Most clients send the person to the login and consent pages again, and get new tokens."
)

// situations are looked through from the top: what is particular stands before what is general.
var situations = []situation{
	// The server, whoever asks.
	{
		is: func(f *trail.Failure) bool { return f.Status == http.StatusTooManyRequests && decides(f, "codes") },
		why: "One person got more authorization codes for this app than the limit allows. As a rule the app is in a loop: it sends the " +
			"person here, does not keep what it gets, and starts again.",
		next: "The app is told to come back later, with Retry-After.",
		do: []string{
			"Find out why the app starts again and again: a redirect that goes in a circle, a cookie that the browser does not keep, tokens that it does not save.",
			"If so many are right, raise the limit: throttle { codes <number> <duration> }.",
		},
	},
	{
		is: func(f *trail.Failure) bool { return f.Status == http.StatusTooManyRequests && decides(f, "max") },
		why: "As many clients as the issuer keeps, {expected}, have registered themselves and are in use, or have registered a moment ago. Nobody " +
			"else can register until there is room.",
		next: "The client is told to come back later, with Retry-After.",
		do: []string{
			"See which there are with: caddy oauth clients described",
			"If they are all right, raise the limit: dynamic { max <number> }.",
			"If somebody registers clients to fill the list: dynamic token <token> lets only those with a token register.",
		},
	},
	{
		is: func(f *trail.Failure) bool { return f.Status == http.StatusTooManyRequests },
		why: "Too many attempts from this address, or for this client or account, failed before. The limit protects secrets and passwords from " +
			"guessing.",
		next: "The client is told when to come back, with Retry-After. Attempts before that are refused too.",
		do: []string{
			"Mend what failed first: look for earlier errors of the same client or address with: caddy oauth explain",
			"If many people share the address since they come through a proxy of yours, set trusted_proxies in Caddy's global options.",
			"If the limit is too low for your clients, raise it: throttle { clients <number> <duration> }.",
		},
	},
	{
		is:   func(f *trail.Failure) bool { return f.Status == http.StatusServiceUnavailable && says(f, "read-only") },
		why:  "The issuer is read-only (read_only), as it is while its records move to another store. Requests that would write have to wait.",
		next: "The client is told to try again, with Retry-After. Nobody is logged out.",
		do:   []string{"Finish the move, and load a configuration without read_only."},
	},
	{
		is: func(f *trail.Failure) bool { return f.Status == http.StatusServiceUnavailable && atGuard(f) },
		why: "The guard could not find out whether the token is valid: the store of the issuer, or the remote issuer that has the keys, did not " +
			"answer. The token may be good.",
		next: "The client is told to try again, with Retry-After.",
		do: []string{
			"Look in the log for the first error of the outage: it names the store or the URL that failed.",
			"If the issuer is remote, open its URL from this machine, such as with curl.",
		},
	},
	{
		is: func(f *trail.Failure) bool {
			return f.Status == http.StatusServiceUnavailable && decides(f, "refresh_check")
		},
		why: "The app refreshes its tokens, and the server asked your site whether the user still has an account (refresh_check). The site said " +
			"neither yes nor no: {cause}.",
		next: "The app is told to try again, with Retry-After. Its refresh token stays valid.",
		do: []string{
			"See in the log of your site what became of the request to the URL of refresh_check.",
			"The site has to answer 2xx, with a JSON object or with nothing, or 401, 403, 404 or 410 if there is no account. A redirect or a page is neither.",
			"If it is slow: refresh_check { timeout <duration> }.",
		},
	},
	{
		is: func(f *trail.Failure) bool { return decides(f, "refresh_check") },
		why: "The app refreshes its tokens, and your site said that the user has no account any more (refresh_check): {cause}. All tokens of this " +
			"approval are revoked.",
		next: asksAgain,
		do: []string{
			"If the account is closed, there is nothing to do.",
			"If it is not: see that the URL of refresh_check is right, and what your site answers when the form has sub=<the user>. The user can then approve the app again.",
		},
	},
	{
		is:   func(f *trail.Failure) bool { return f.Status == http.StatusServiceUnavailable },
		why:  "The store of the issuer failed, was full, or did not answer in time. The request itself may be fine.",
		next: "The client is told to try again, with Retry-After. What it has stays valid.",
		do: []string{
			"Look in the log for the first error of the outage, which names the cause: \"store failing\".",
			"Check the disk (full, read-only) or the Redis that the setting store names. No restart is needed afterwards.",
		},
	},

	// Guards.
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

	// Clients.
	{
		is: func(f *trail.Failure) bool { return strings.HasPrefix(f.Message, "reuse detected") },
		why: "Something that works once was presented a second time: a code or a refresh token that had been used. Either somebody has stolen it, or " +
			"the app keeps an old one, for example since two copies of it run, or since it was restored from a backup.",
		next: "All tokens of that approval are void. The app sends the person to the login and consent pages again.",
		do: []string{
			"Have the developer of the app check that it saves each new refresh token before it uses the access token, and that only one process refreshes.",
			"If the app cannot save a new refresh token each time: refresh_token { rotate never } in its client block. A thief is then not noticed.",
			"If nobody can explain it, take it for a theft: look at client_ip in the audit log.",
		},
	},
	{
		is:   func(f *trail.Failure) bool { return strings.HasSuffix(f.Expected, "that is not blocked") },
		why:  "The client {sent} describes itself, and you have blocked it, or a host that its redirect URIs lead to.",
		next: stopsAndShows,
		do: []string{
			"See what is blocked with: caddy oauth clients described",
			"If it should work: caddy oauth clients unblock {sent}, or unblock the redirect host. Old tokens stay void: people connect the app again.",
		},
	},
	{
		is: func(f *trail.Failure) bool {
			return f.Setting == "client" && strings.HasPrefix(f.Expected, "a client that has registered")
		},
		why: "No client that has registered itself has the ID {sent} now. It was not used for so long that it was forgotten, it has deleted its " +
			"registration, its redirect host is blocked, or it has registered at another issuer.",
		next: "A client that knows how to register does so again, and the person approves it anew. Others show an error until the connection is removed and added again.",
		do: []string{
			"In the app, remove the connection to this site and add it again.",
			"See whether the client or its redirect host is blocked with: caddy oauth clients described",
			"If clients should be remembered for longer without use: dynamic { unused <duration> }.",
		},
	},
	{
		is: func(f *trail.Failure) bool {
			return f.Setting == "client" && strings.HasPrefix(f.Expected, "a client that somebody has signed in to")
		},
		why: "The ID {sent} is the URL of a document that describes the client, and this issuer does not have the document now: nobody has connected " +
			"the app yet, its last use was too long ago, its website does not serve the document any more, or its redirect host is blocked.",
		next: asksAgain,
		do: []string{
			"In the app, connect to this site again. The document is fetched when the person is signed in.",
			"See whether the client or its redirect host is blocked with: caddy oauth clients described",
			"If connecting fails too, that has an error ID of its own, which says why the document could not be read.",
		},
	},
	{
		is: func(f *trail.Failure) bool {
			return f.Setting == "client" && strings.HasPrefix(f.Expected, "a client ")
		},
		why:  "The client was added at run time, and cannot be used any more: the server expected {expected}.",
		next: stopsAndShows,
		do: []string{
			"See its state with: caddy oauth clients show {client}",
			"If it should work: caddy oauth clients enable {client}, or change what the problem names with: caddy oauth clients change {client}",
		},
	},
	{
		is:   func(f *trail.Failure) bool { return decides(f, "cimd") && says(f, "could not be read") },
		why:  "The ID of the app is the URL of a document that describes it, {sent}, and the server could not read the document. It expected: {expected}",
		next: stopsAndShows,
		do: []string{
			"Look at the document from this machine: curl -i {sent}. It has to be there with status 200, without a redirect, as JSON of at most 16 KB, and its client_id has to be its own URL.",
			"If this machine has no way to the web, such an app cannot connect: cimd off tells apps to register themselves instead.",
			"If the document is wrong, the developer of the app has to mend it.",
		},
	},
	{
		is: func(f *trail.Failure) bool {
			return decides(f, "cimd") || f.Setting == "client" && strings.Contains(f.Sent, "://") && f.Expected != "the ID of a client"
		},
		why:  "The ID of the app is a URL, {sent}, and this issuer does not accept the app that is described there. It expected: {expected}",
		next: stopsAndShows,
		do: []string{
			"If it is about the host: see allow and deny in cimd.",
			"If it is about what the document says, such as its redirect URIs, keys or methods: the developer of the app has to change the document.",
			"If too many apps are in use: caddy oauth clients described shows them.",
		},
	},
	{
		is:   func(f *trail.Failure) bool { return f.Endpoint == "register" && f.Code == "invalid_token" },
		why:  "The request to register a client, or to change a registration, needs a token (Authorization: Bearer), and had none or a wrong one.",
		next: stopsAndShows,
		do: []string{
			"To register where the issuer has dynamic token: give the client one of the initial access tokens that has not ended (until) and is not used up (uses); the log says which it was. dynamic open lets everybody register.",
			"To read, change or delete a registration: the client sends the registration_access_token that it got. It is void once the registration is gone or blocked.",
		},
	},
	{
		is:   func(f *trail.Failure) bool { return f.Code == "invalid_redirect_uri" && decides(f, "redirects") },
		why:  "The client wants to register itself with the redirect URIs {sent}, at least one of which it may not have: {expected}",
		next: stopsAndShows,
		do: []string{
			"A redirect URI has to be https, http on localhost or another loopback address, or an app's own scheme, without a fragment.",
			"If the issuer has dynamic { redirects known } and you trust the app: take that out, or give the app a client block of its own.",
		},
	},
	{
		is:   func(f *trail.Failure) bool { return f.Setting == "client" },
		why:  "No client has the ID {sent}. Clients are the apps and scripts that the configuration names, each by its ID; case counts.",
		next: stopsAndShows,
		do: []string{
			"See which there are with: caddy oauth clients list",
			"If the ID in the app is wrong, correct it there.",
			"If the app is new here, add to the issuer: client {sent} { redirect_uris <where the app gets its answers> }, or for a script: client {sent} { secret {env.ITS_SECRET} }.",
		},
	},
	{
		is: func(f *trail.Failure) bool {
			return f.Code == grants.InvalidClient && strings.Contains(f.Sent, "in the place of the secret")
		},
		why:  "The client ID and the secret have changed places: the secret was sent as the ID, and the ID as the secret.",
		next: stopsAndShows,
		do: []string{
			"Exchange the two values in the settings of the app. With curl: -u <client ID>:<secret>.",
			"The secret went where IDs go, and the app may have logged it: give the client a new one.",
		},
	},
	{
		is: func(f *trail.Failure) bool { return says(f, "client_assertion was refused") },
		why: "The client authenticates with a JWT that it signs (client_assertion), and the server did not accept it. It came with: {sent}. " +
			"The server expects: {expected}.",
		next: stopsAndShows,
		do: []string{
			"If it is about the signature, alg or kid: compare the public keys in jwks or at jwks_uri with the key that the app signs with. A key that was just published is known within a minute.",
			"If it is about exp, iat or nbf: the clocks of the two machines differ. Set them by NTP.",
			"If it is about aud: have the app name the URL of the issuer.",
			"If it was used before: the app has to make a new JWT with a new jti for each request. If nobody sent it twice, somebody else has seen it.",
		},
	},
	{
		is: func(f *trail.Failure) bool { return f.Code == "invalid_request_object" },
		why: "The app signs its authorization request (request), and the server did not accept it. It came with: {sent}. " +
			"The server expects: {expected}.",
		next: stopsAndShows,
		do: []string{
			"If it is about the signature, alg or kid: compare the public keys in jwks or at jwks_uri with the key that the app signs with.",
			"If it is about exp, iat or nbf: the app made the object too long ago, or the clocks of the two machines differ. Set them by NTP.",
			"If it is about aud, iss or client_id: have the app name the URL of the issuer in aud, and its own client ID in the others.",
		},
	},
	{
		is:   func(f *trail.Failure) bool { return decides(f, "require_signed_request_object") },
		why:  "The app must sign its authorization requests, and this one was not signed: anybody could have changed it on the way.",
		next: stopsAndShows,
		do: []string{
			"In the settings of the app, choose signed request objects (JAR), and give it its private key. The public one is in jwks or at jwks_uri here.",
			"If the app cannot do that: take require_signed_request_object out of the issuer or the client.",
		},
	},
	{
		is: func(f *trail.Failure) bool { return decides(f, "profile") },
		why: "The client is held to FAPI 2.0 (profile fapi2), which demands more than other clients need. The request came with: {sent}. " +
			"The server expects: {expected}.",
		next: stopsAndShows,
		do: []string{
			"In the settings of the app, choose the FAPI 2.0 Security Profile: pushed requests, PKCE, DPoP or mutual TLS, and ES256, PS256 or EdDSA.",
			"If the app need not follow FAPI: take profile out of its client block, and set what it shall do.",
		},
	},
	{
		is: func(f *trail.Failure) bool {
			return f.Code == grants.InvalidClient && strings.Contains(f.Expected, "a client_assertion")
		},
		why:  "The client has keys, and must authenticate with a JWT that it signs (client_assertion). The request came with {sent}.",
		next: stopsAndShows,
		do: []string{
			"In the settings of the app, choose private_key_jwt (JWT client authentication) and give it its private key.",
			"If the app cannot do that: give the client a secret beside its keys, or instead of them.",
		},
	},
	{
		is: func(f *trail.Failure) bool {
			return f.Code == grants.InvalidClient && strings.Contains(f.Sent, "around it")
		},
		why: "The secret that came is wrong, and has a space or a line break around it. It was most likely pasted, or read from a file with a line " +
			"break at its end.",
		next: stopsAndShows,
		do:   []string{"Take the space or the line break off where the app has its secret. With echo, use: echo -n."},
	},
	{
		is: func(f *trail.Failure) bool {
			return f.Code == grants.InvalidClient && strings.Contains(f.Sent, "a wrong secret")
		},
		why: "The client ID is right, and the secret is not. As a rule the app has an old secret, that of another environment (test and " +
			"production), or the variable that your configuration reads has another value than you think.",
		next: stopsAndShows + " After too many wrong secrets the answer is 429 for a while.",
		do: []string{
			"Compare the secret in the app with the one in the client block. If it is {env.NAME}: Caddy reads the variable when it loads the configuration, and only variables of its own process.",
			"If nobody knows the right one: write a new one into the client block (two may stand beside each other: secret <old> <new>), reload, and give it to the app. For a client that was added at run time: caddy oauth clients secret {client}",
		},
	},
	{
		is:   func(f *trail.Failure) bool { return strings.HasPrefix(f.Sent, "no secret") },
		why:  "The client has a secret in the configuration, and the request came without one. Who has only the ID could be anybody.",
		next: stopsAndShows,
		do: []string{
			"Enter the secret in the settings of the app. With curl: -u {client}:<secret>.",
			"If the app cannot keep a secret, since it runs in a browser or on a phone: remove secret from its client block. It then has to use PKCE.",
		},
	},
	{
		is: func(f *trail.Failure) bool {
			return f.Code == grants.InvalidClient && strings.Contains(f.Expected, "public")
		},
		why:  "The client is public: its block has no secret. The request came with one, and the server cannot tell what it is for.",
		next: stopsAndShows,
		do: []string{
			"If the app runs on a server and has a secret: add secret to the client block.",
			"Otherwise remove the secret from the settings of the app.",
		},
	},
	{
		is: func(f *trail.Failure) bool {
			return f.Code == grants.InvalidClient && f.Sent == "Authorization: Bearer"
		},
		why: "The request had an access token (Authorization: Bearer). At this endpoint a client has to say who it is, by its ID and secret. A " +
			"program that adds its token to every request does that.",
		next: stopsAndShows,
		do:   []string{"The developer of the app: send no Authorization header here, or Basic with the client ID and the secret."},
	},

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
