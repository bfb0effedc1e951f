package explain

import (
	"maps"
	"slices"

	"github.com/caddy-oauth/caddy-oauth/grants"
)

// Code is what an error code means.
type Code struct {
	Code    string   `json:"code"`
	Meaning string   `json:"meaning"`
	Next    string   `json:"next"`
	Do      []string `json:"do"`
	Defined string   `json:"defined"` // where the code is defined
}

// CodeNamed returns what a code means, and false if this server does not send it.
func CodeNamed(code string) (Code, bool) {
	c, ok := codes[code]
	c.Code = code
	return c, ok
}

// Codes returns all error codes that this server sends.
func Codes() []string { return slices.Sorted(maps.Keys(codes)) }

// byID is the best advice about a code that has many causes.
const byID = "The answer has an error_id. Ask for the cause with: caddy oauth explain <error id>"

var codes = map[string]Code{
	grants.InvalidRequest: {
		Meaning: "The request is incomplete or malformed: a parameter is missing, is there twice, or has a value that it cannot have.",
		Next:    stopsAndShows,
		Do:      []string{byID, "It is a mistake in the app or its settings. The description in the answer names the parameter."},
		Defined: "RFC 6749 sections 4.1.2.1 and 5.2, RFC 6750 section 3.1",
	},
	grants.InvalidClient: {
		Meaning: "The server does not know who the client is: the client ID is unknown, the secret is wrong or missing, or the client is disabled. " +
			"The answer does not say which, so that nobody can find out by trying; the log does.",
		Next:    stopsAndShows,
		Do:      []string{byID, "Compare the client ID and the secret in the app with the client block of your Caddyfile."},
		Defined: "RFC 6749 section 5.2",
	},
	grants.InvalidGrant: {
		Meaning: "What the client brings to get tokens for is not valid: an authorization code or refresh token that has expired, was used, was revoked or " +
			"belongs to another client, a redirect_uri or code_verifier that does not fit the code, or a wrong password.",
		Next:    asksAgain,
		Do:      []string{byID, "If it happens to one person once, they sign in again, and that is all. If it happens always, the app uses a code twice, too late, or with another verifier."},
		Defined: "RFC 6749 section 5.2",
	},
	grants.InvalidScope: {
		Meaning: "The client asks for a scope that it may not have, or that does not exist.",
		Next:    stopsAndShows,
		Do:      []string{byID, "Add the scope to the issuer (scope) and to the client (scopes), or take it out of the app. unknown_scopes drop ignores what nobody knows."},
		Defined: "RFC 6749 sections 4.1.2.1 and 5.2",
	},
	grants.InvalidTarget: {
		Meaning: "The client asks for a token for an API (resource) that it may not have tokens for.",
		Next:    stopsAndShows,
		Do:      []string{byID, "Add the API to audience in the issuer or the client, or take resource out of the app."},
		Defined: "RFC 8707 section 2",
	},
	grants.UnauthorizedClient: {
		Meaning: "The client is known, but may not get tokens in this way.",
		Next:    stopsAndShows,
		Do:      []string{"Add the grant type to grant_types in the client block.", byID},
		Defined: "RFC 6749 sections 4.1.2.1 and 5.2",
	},
	grants.AuthorizationPending: {
		Meaning: "The program waits for a person who has not yet approved it on another device. This is no failure.",
		Next:    "It asks again after some seconds.",
		Do:      []string{"Type the code that the program shows at the address that it shows."},
		Defined: "RFC 8628 section 3.5",
	},
	grants.SlowDown: {
		Meaning: "The program asks too often whether a person has approved it.",
		Next:    "It asks again, and waits 5 seconds longer each time than before.",
		Do:      []string{"If it goes on, correct the program: it must add 5 seconds to its interval, for good, with each of these answers."},
		Defined: "RFC 8628 section 3.5",
	},
	grants.ExpiredToken: {
		Meaning: "Nobody has approved the program in time: the code that it showed is good for 10 minutes.",
		Next:    "It stops. The person starts it again, and it shows a new code.",
		Do:      []string{"Start the program again, and type the code at once."},
		Defined: "RFC 8628 section 3.5",
	},
	"invalid_request_uri": {
		Meaning: "The browser brings a reference to a pushed request that has expired, was used before, or is another client's.",
		Next:    stopsAndShows,
		Do:      []string{"The person starts again in the app: a reference is good for 90 seconds until a browser comes, and for one decision.", byID},
		Defined: "RFC 9101 section 7, RFC 9126 section 4",
	},
	grants.UnsupportedGrantType: {
		Meaning: "The server has no such grant_type.",
		Next:    stopsAndShows,
		Do:      []string{"Correct grant_type in the app: authorization_code, refresh_token or client_credentials. An existing app with another name for one: grant_alias."},
		Defined: "RFC 6749 section 5.2",
	},
	grants.UnsupportedResponseType: {
		Meaning: "The app asks for something else than a code (response_type). This server has only codes: tokens in URLs are not safe.",
		Next:    stopsAndShows,
		Do:      []string{"Set the library of the app to the authorization code flow with PKCE: response_type=code."},
		Defined: "RFC 6749 section 4.1.2.1, RFC 9700 section 2.1.2",
	},
	grants.AccessDenied: {
		Meaning: "The person has said no on the consent page, or their account cannot be used with apps.",
		Next:    "The app tells the person that it has no access.",
		Do:      []string{"If the person did not mean it, they start again in the app. If they never saw the page: caddy oauth explain <error id>"},
		Defined: "RFC 6749 section 4.1.2.1",
	},
	grants.ServerError: {
		Meaning: "The server failed. It is not the fault of the client.",
		Next:    "Some clients try again.",
		Do:      []string{"Look at the error with this error ID in the log.", byID},
		Defined: "RFC 6749 section 4.1.2.1",
	},
	grants.TemporarilyUnavailable: {
		Meaning: "The server cannot answer now: its store is away or full, the issuer is read-only, or there were too many attempts.",
		Next:    "The client tries again after the time in Retry-After. What it has stays valid.",
		Do:      []string{byID, "With status 429 a limit was reached (throttle). With 503 look for \"store failing\" in the log."},
		Defined: "RFC 6749 section 4.1.2.1",
	},
	"login_required": {
		Meaning: "Nobody is signed in, and the app did not want a page (prompt=none); or the app wanted a new login (prompt=login, max_age) or another " +
			"person (id_token_hint), and it is not certain that there was one.",
		Next: "The app shows its own button to sign in.",
		Do: []string{
			"With prompt=none it is no fault. For a new login, set session { auth_time … reauthenticate … } in the oauth directive: the page has to ask for the password again, and the clocks have to agree.",
			byID,
		},
		Defined: "OpenID Connect Core section 3.1.2.6",
	},
	"account_selection_required": {
		Meaning: "The app wants the person to choose an account (prompt=select_account), and this site has no page for that.",
		Next:    "The app goes on with the account that is signed in, or stops.",
		Do:      []string{"Set login <url> in the oauth directive. The page gets prompt=select_account."},
		Defined: "OpenID Connect Core section 3.1.2.6",
	},
	"unmet_authentication_requirements": {
		Meaning: "The app must have people sign in in a certain way (an essential acr in claims), and this person has not.",
		Next:    "The app asks the person to sign in in that way, or stops.",
		Do:      []string{"Have session { acr … } in the oauth directive say how people have signed in, and the page of reauthenticate do what acr_values says.", byID},
		Defined: "OpenID Connect Core Error Code unmet_authentication_requirements",
	},
	"consent_required": {
		Meaning: "The person has not approved what the app asks for, and the app did not want a page (prompt=none).",
		Next:    "The app asks again with a page.",
		Do:      []string{"It is no fault. For an app of your own that need not be approved: consent never in its client block."},
		Defined: "OpenID Connect Core section 3.1.2.6",
	},
	"request_not_supported": {
		Meaning: "The app sends its request as an object (request), and the server has no public key of the app to check its signature with.",
		Next:    stopsAndShows,
		Do:      []string{"Add the public key of the app to its client block (jwks, jwks_uri), or turn request objects off in the library of the app."},
		Defined: "OpenID Connect Core section 3.1.2.6",
	},
	"invalid_request_object": {
		Meaning: "The app has signed its request (request), and the object has expired, is for another server or client, or none of the app's keys made its signature.",
		Next:    stopsAndShows,
		Do: []string{
			byID,
			"The developer of the app: sign with the key that is registered here, with the issuer's URL in aud, the client ID in client_id and iss, and an exp that is not over.",
		},
		Defined: "RFC 9101 section 7",
	},
	"request_uri_not_supported": {
		Meaning: "The app sends the address of its request (request_uri). This server does not fetch it.",
		Next:    stopsAndShows,
		Do:      []string{"Turn request_uri off in the library of the app, or have it push the request first (pushed authorization requests): a request_uri must be one that the par endpoint has returned."},
		Defined: "OpenID Connect Core section 3.1.2.6",
	},
	"registration_not_supported": {
		Meaning: "The app describes itself in its request (registration). This server does not read that.",
		Next:    stopsAndShows,
		Do:      []string{"Have the app register itself at the registration endpoint (dynamic), or give it a client block."},
		Defined: "OpenID Connect Core section 3.1.2.6",
	},
	"invalid_redirect_uri": {
		Meaning: "A client wants to register itself with a redirect URI that it may not have.",
		Next:    stopsAndShows,
		Do:      []string{byID, "The description in the answer says what is wrong. dynamic { redirects known } accepts only the redirect URIs of well-known apps."},
		Defined: "RFC 7591 section 3.2.2",
	},
	"invalid_client_metadata": {
		Meaning: "A client wants to register itself with metadata that this server does not accept, or it is blocked.",
		Next:    stopsAndShows,
		Do:      []string{byID, "The description in the answer names the member that is wrong. The developer of the app has to change it, or the app gets a client block of its own."},
		Defined: "RFC 7591 section 3.2.2",
	},
	"invalid_token": {
		Meaning: "A guard got an access token that is not valid here: it has expired, was revoked, is for another API, or was not issued by the guard's issuer.",
		Next:    "The client refreshes its token, or sends the person to the login and consent pages again.",
		Do:      []string{"The WWW-Authenticate header of the answer says why, and so does: caddy oauth explain <error id>", "See what is in a token with: caddy oauth token inspect"},
		Defined: "RFC 6750 section 3.1",
	},
	grants.InvalidDPoPProof: {
		Meaning: "The request must prove that the client has the key that its tokens are bound to (DPoP), and the proof is missing, was used before, or is not for this request.",
		Next:    stopsAndShows,
		Do: []string{
			byID,
			"The description in the answer says what is wrong. Of htu: the app must name the URL that the metadata has, or at a guard its resource. Of iat: the clocks differ.",
		},
		Defined: "RFC 9449 sections 5 and 7.1",
	},
	grants.UseDPoPNonce: {
		Meaning: "The proof (DPoP) of a request has no nonce of this server, or one that has expired. Clients get the nonce with this answer.",
		Next:    "The client repeats its request with the nonce in the header DPoP-Nonce of the answer.",
		Do:      []string{"Nothing, if it happens now and then. A client that never comes further does not know nonces: take nonce required out of dpop in the issuer."},
		Defined: "RFC 9449 sections 8 and 9",
	},
	"insufficient_scope": {
		Meaning: "A guard got a valid access token that does not have every scope that the route needs.",
		Next:    "A client that knows OAuth asks the person for the missing scopes.",
		Do:      []string{"Have the app ask for the scopes that the WWW-Authenticate header names. The client needs them in scopes."},
		Defined: "RFC 6750 section 3.1",
	},
	"insufficient_user_authentication": {
		Meaning: "A guard got a valid access token of a person who has not signed in as well, or as recently, as the route needs.",
		Next:    "A client that knows RFC 9470 has the person sign in again, with the acr_values and the max_age of the answer, and comes back with a new token.",
		Do:      []string{"Have session { auth_time … acr … reauthenticate … } in the oauth directive say how and when people have signed in.", byID},
		Defined: "RFC 9470 section 3",
	},
}
