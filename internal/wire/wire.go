// Package wire reads the parameters of requests and writes responses and errors: as the RFCs have them, or in the shape
// of an endpoint that existed before, so that its clients need no change.
//
// Start reading at [Shape], which holds the settings. Requests come in by [ReadForm] and [ReadQuery]; answers go out by
// [ResponseShape.Write] and [ErrorShape.Write].
package wire

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Shape is where requests and responses differ from the RFCs. Its zero value is the RFCs' shape.
type Shape struct {
	Bodies       []string          // the kinds of bodies of token requests, see ReadForm
	SecretHeader string            // a header that may carry the client secret, with client_id in the body
	GrantAliases map[string]string // other names of grant types
	Response     ResponseShape
	Errors       ErrorShape
}

// WriteJSON writes a response that must not be cached (RFC 6749 §5.1).
func WriteJSON(w http.ResponseWriter, status int, contentType string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	WriteBody(w, status, contentType, body)
	return nil
}

// WriteBody is WriteJSON for a body that is encoded already.
func WriteBody(w http.ResponseWriter, status int, contentType string, body []byte) {
	SetHeaders(w.Header(),
		[2]string{"Content-Type", contentType},
		[2]string{"Content-Length", strconv.Itoa(len(body))},
		[2]string{"Cache-Control", "no-store"},
		[2]string{"Pragma", "no-cache"},
	)
	w.WriteHeader(status)
	// An error means that the client is gone, and nobody else is waiting.
	_, _ = w.Write(body)
}

// SetHeaders sets headers, given by their canonical names, with one slice for all values.
func SetHeaders(h http.Header, headers ...[2]string) {
	values := make([]string, len(headers))
	for i, header := range headers {
		values[i] = header[1]
		h[header[0]] = values[i : i+1 : i+1]
	}
}

// ServeDocument serves a public JSON document, which caches may keep for maxAge.
func ServeDocument(w http.ResponseWriter, r *http.Request, body []byte, maxAge time.Duration) {
	sum := sha256.Sum256(body)
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(maxAge.Seconds())))
	h.Set("ETag", `"`+base64.RawURLEncoding.EncodeToString(sum[:16])+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
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
