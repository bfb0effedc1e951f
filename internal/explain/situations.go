package explain

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/internal/trail"
)

// situation is a kind of failure. In its texts, {client}, {sent} and {expected} stand for what the failure says.
type situation struct {
	is   func(f *trail.Failure) bool
	why  string
	next string
	do   []string
}

// situations are looked through from the first to the last, and each from the top: what is particular stands before what is general.
var situations = [][]situation{certificates, delegation, server, guards, clients, requests}

// find returns the situation of a failure. Failures that are in none are explained by their code.
func find(f *trail.Failure) situation {
	for _, list := range situations {
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

// server are the situations of the server, whoever asks.
var server = []situation{
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
		is: func(f *trail.Failure) bool {
			return f.Status == http.StatusTooManyRequests && decides(f, "secret_hash")
		},
		why: "The hash of the client's secret is slow on purpose, and too many secrets waited to be compared, most of them wrong. Clients whose " +
			"secret was right before, since the configuration was loaded, do not wait.",
		next: "The client is told to try again, with Retry-After.",
		do: []string{
			"See who sends wrong secrets with: caddy oauth explain",
			"For secrets that a program made, use a fast hash, as caddy oauth hash-secret prints it: only what people choose needs a slow one.",
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
}
