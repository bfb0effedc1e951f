package explain

import (
	"strings"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/trail"
)

// clients are the situations of clients that the server does not know, does not believe, or that may not do what they want.
var clients = []situation{
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
}
