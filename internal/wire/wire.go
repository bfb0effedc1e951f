// Package wire reads the parameters of requests and writes responses and errors: as the RFCs have them, or in the shape
// of an endpoint that existed before, so that its clients need no change.
//
// Start reading at [Shape], which holds the settings. Requests come in by [ReadForm] and [ReadQuery]; answers go out by
// [ResponseShape.Write] and [ErrorShape.Write].
package wire

import (
	"crypto/rand"
	"net/http"
	"strings"
)

// Shape is where requests and responses differ from the RFCs. Its zero value is the RFCs' shape.
type Shape struct {
	Bodies       []string          // the kinds of bodies of token requests, see ReadForm
	SecretHeader string            // a header that may carry the client secret, with client_id in the body
	GrantAliases map[string]string // other names of grant types
	Response     ResponseShape
	Errors       ErrorShape
}

// preflightAge is for how many seconds browsers may remember the answer to a preflight. No browser does for more than a day.
const preflightAge = "86400"

// IsPreflight reports whether a browser asks if a script of another origin may send a request (Fetch standard, CORS-preflight
// request). It asks without a token, whatever the request will have.
func IsPreflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Origin") != "" && r.Header.Get("Access-Control-Request-Method") != ""
}

// AllowOrigin lets scripts of an origin, or of all with "*", read the response.
func AllowOrigin(h http.Header, origin string) {
	h.Set("Access-Control-Allow-Origin", origin)
	if origin != "*" {
		h.Add("Vary", "Origin")
	}
}

// AllowRequest answers a preflight: scripts may send requests with these methods and whatever headers they ask for. Nothing here
// depends on cookies, so that no header of theirs can do harm.
func AllowRequest(h http.Header, r *http.Request, methods string) {
	h.Set("Access-Control-Allow-Methods", methods)
	if names := r.Header.Get("Access-Control-Request-Headers"); names != "" {
		h.Set("Access-Control-Allow-Headers", names)
		h.Add("Vary", "Access-Control-Request-Headers")
	}
	h.Set("Access-Control-Max-Age", preflightAge)
}

// NewErrorID returns the ID that leads from an answer to its line in the log. It is short, so that people can read it
// out, and need not be secret.
func NewErrorID() string { return strings.ToLower(rand.Text()[:8]) }
