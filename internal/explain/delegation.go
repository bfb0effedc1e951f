package explain

import (
	"net/http"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/trail"
)

// delegation are the situations of clients that come with a token or an assertion about somebody else.
var delegation = []situation{
	{
		is: func(f *trail.Failure) bool { return decides(f, "revokes_users") && f.Status == http.StatusForbidden },
		why: "The client wants to revoke all tokens of a user, and may not. Only a client with revokes_users may, since whoever can do so can sign " +
			"everybody out.",
		next: "No token was revoked.",
		do:   []string{"If the client is your identity provider, or a tool for incidents, add to its block: revokes_users."},
	},
	{
		is: func(f *trail.Failure) bool { return decides(f, "revokes_users") },
		why: "An identity provider wants to revoke all tokens of a user, and its sub_id names nobody here: it came with {sent}, and expected is " +
			"{expected}. Nothing is guessed, so that nobody else loses access.",
		next: "No token was revoked. The user goes on in apps.",
		do: []string{
			"If the subjects of the issuer in sub_id are the user IDs of your site: revokes_users { iss <its URL, letter by letter> }.",
			"If the user IDs of your site are e-mail addresses: revokes_users { email }. If neither, let the provider send opaque with the user ID.",
			"Until then, revoke by hand: caddy oauth revoke --user <user>",
		},
	},
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
		is: func(f *trail.Failure) bool { return says(f, "has removed this client") },
		why: "The person whose token the client wants to exchange has removed the client on the page of connected apps, or you have revoked its " +
			"tokens for that person. It gets no more tokens for what the person had signed in to before.",
		next: "It works again once the person signs in anew at an app that calls it.",
		do:   []string{"Tell the person that the app needs this service, and to sign out there and in again."},
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
	{
		is: func(f *trail.Failure) bool { return ofAssertion(f) && decides(f, "issuer") },
		why: "The client brought an assertion of an issuer that this one does not trust: it came with {sent}. The name must be that of the " +
			"setting, letter by letter, with or without a slash at the end.",
		next: stopsAndShows,
		do: []string{
			"If you trust that issuer: grant jwt_bearer { issuer <its URL> { jwks_uri <its keys>; subjects <its users> } }, with a line for each.",
			"If you do not, there is nothing to do.",
		},
	},
	{
		is: func(f *trail.Failure) bool { return ofAssertion(f) && strings.HasPrefix(f.Sent, "typ ") },
		why: "The assertion is of another kind: it came with {sent}, and the issuer may bring {expected}. An issuer makes either ID-JAGs or other " +
			"assertions; an access token or an ID token is not to be brought as one.",
		next: stopsAndShows,
		do: []string{
			"If the issuer is the identity provider of a company, and its assertions are ID-JAGs: id_jag in its block. Otherwise leave id_jag out.",
			"The developer of the client: exchange the ID token at the identity provider for an ID-JAG first, and bring that.",
		},
	},
	{
		is:   func(f *trail.Failure) bool { return ofAssertion(f) && decides(f, "subjects") },
		why:  "The issuer of the assertion may not speak for {sent}. It may for: {expected}.",
		next: stopsAndShows,
		do: []string{
			"If it should: add the user to subjects in the block of that issuer. The ID is that of the user at your site, after map.",
			"If the issuer sends another ID than your site knows, look at map.",
		},
	},
	{
		is:   func(f *trail.Failure) bool { return ofAssertion(f) && decides(f, "clients") },
		why:  "This client may not bring assertions of that issuer: it came with {sent}. Those who may: {expected}.",
		next: stopsAndShows,
		do: []string{
			"If it belongs to that issuer's people: add its ID to clients in the block of that issuer.",
			"If it does not, find out how it got an assertion that was made for another client.",
		},
	},
	{
		is:   func(f *trail.Failure) bool { return ofAssertion(f) && strings.HasPrefix(f.Sent, "aud ") },
		why:  "The assertion is for somebody else: it came with {sent}, and this server takes {expected}.",
		next: stopsAndShows,
		do:   []string{"The developer of the client, or the administrator of the issuer: ask for an assertion whose aud is the URL of this issuer, letter by letter."},
	},
	{
		is:   func(f *trail.Failure) bool { return ofAssertion(f) && strings.Contains(f.Sent, "used before") },
		why:  "The client brought an assertion twice. Each works once, so that whoever finds one can do nothing with it.",
		next: "A client gets a new assertion from its issuer, and brings that.",
		do:   []string{"The developer of the client: get a new assertion for each token, and keep the access token until it expires."},
	},
	{
		is: func(f *trail.Failure) bool { return ofAssertion(f) && strings.Contains(f.Setting, "jwks") },
		why: "No key of the issuer fits the assertion: it came with {sent}; expected was {expected}. Either it is not from that issuer, or the " +
			"keys here are old, or the server cannot fetch them.",
		next: stopsAndShows,
		do: []string{
			"Fetch the jwks_uri from this machine with curl, and see whether it has the kid of the assertion. New keys are fetched once a minute at most.",
			"With a file: replace it by the keys that the issuer has now, and reload.",
		},
	},
	{
		is: func(f *trail.Failure) bool { return ofAssertion(f) && f.Code == grants.InvalidGrant },
		why: "An issuer elsewhere has made an assertion about a user, and this server does not take it: {sent}; expected was: {expected}. The client " +
			"learns only that it was refused.",
		next: stopsAndShows,
		do: []string{
			"Tell the developer of the client, or the administrator of the issuer, what was expected.",
			"If a time is wrong: set the clocks of both machines by NTP. Assertions are valid for an hour at most.",
		},
	},
}

// ofAssertion reports whether a client has brought an assertion.
func ofAssertion(f *trail.Failure) bool {
	return f.Code == grants.InvalidGrant && strings.HasPrefix(f.Setting, "grant jwt_bearer") || f.GrantType == grants.JWTBearerType
}
