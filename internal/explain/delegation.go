package explain

import (
	"strings"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/trail"
)

// delegation are the situations of clients that come with a token or an assertion about somebody else. They stand before the others.
var delegation = []situation{
	{
		is: func(f *trail.Failure) bool { return says(f, "subject_token is not for this client to exchange") },
		why: "The client may exchange tokens, but not this one: it came with {sent}, and its settings are about {expected}. As a rule, the app got " +
			"its token for another API.",
		next: stopsAndShows,
		do: []string{
			"The developer of the app: ask for a token for the API that the client is, with the parameter resource.",
			"You: if the client should exchange such tokens, add to its block: exchange from <that resource> to <the next one>.",
		},
	},
	{
		is: func(f *trail.Failure) bool { return says(f, "subject_token is bound to a key") },
		why: "The token that the client wants to exchange is bound to the key of the app that got it, so that a thief cannot use it. The new token " +
			"must be bound to a key too, and the client has sent no proof of one.",
		next: stopsAndShows,
		do:   []string{"The developer of the client: make a key, send a DPoP proof with the token request, and with each use of the new token."},
	},
	{
		is: func(f *trail.Failure) bool { return says(f, "subject_token is that of a client") },
		why: "The client wants to exchange a token that another client got for itself, and not for a person. Exchanges are for services that act " +
			"for a person.",
		next: stopsAndShows,
		do:   []string{"The developer of the client: get a token of your own, with grant_type=client_credentials. You: let it, with client_credentials among its grant_types."},
	},
	{
		is: func(f *trail.Failure) bool { return says(f, "subject_token is invalid", "actor_token is invalid") },
		why: "The token that the client wants to exchange is not valid at this issuer: it has expired, it was revoked, it is from another issuer, or it " +
			"is no access token, such as an ID token or a refresh token. The cause says which.",
		next: "The client has to get a new token from the app that called it. A client that passes on the 401 of its own guard makes the app refresh.",
		do: []string{
			"Exchange a token right when the request with it comes in, and do not keep it: the new token ends with the first one anyway.",
			"Look at the token with: caddy oauth token inspect. Its iss must be the URL of the issuer.",
		},
	},
	{
		is: func(f *trail.Failure) bool {
			return f.Code == grants.InvalidTarget && strings.HasSuffix(f.Setting, ": exchange")
		},
		why:  "The client wants a token for {sent}. Its settings let it exchange this token for one for: {expected}.",
		next: stopsAndShows,
		do:   []string{"If it should get there, add to the block of the client: exchange from <its own resource> to {sent}. Both sides must spell the resource in the same way."},
	},
}
