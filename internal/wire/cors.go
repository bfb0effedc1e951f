package wire

import "net/http"

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
