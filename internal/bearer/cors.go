package bearer

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/internal/wire"
)

// CORS lets scripts of other origins call a protected resource (Fetch standard, CORS protocol). It never allows credentials
// mode: a token is in a header, which a script must set by itself.
type CORS struct {
	Origins []string // none: all
}

// CheckOrigin returns an error unless s is an origin as a browser serializes it (RFC 6454 §6.2).
func CheckOrigin(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Host == "" || s != strings.ToLower(u.Scheme+"://"+u.Host) {
		return fmt.Errorf("expected an origin in lower case and without a path, such as https://app.example.com, not %s", s)
	}
	if port := u.Port(); u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		return fmt.Errorf("expected an origin without the default port, as browsers send it, not %s", s)
	}
	return nil
}

// origin returns which origin may read the response to a request, "" if none may.
func (c *CORS) origin(r *http.Request) string {
	asking := r.Header.Get("Origin")
	switch {
	case len(c.Origins) == 0:
		return "*"
	case slices.Contains(c.Origins, asking):
		return asking
	}
	return ""
}

// Preflight answers a preflight.
func (c *CORS) Preflight(w http.ResponseWriter, r *http.Request) {
	origin := c.origin(r)
	if origin == "" {
		w.Header().Add("Vary", "Origin")
		w.WriteHeader(http.StatusForbidden)
		return
	}
	wire.AllowOrigin(w.Header(), origin)
	wire.AllowRequest(w.Header(), r, r.Header.Get("Access-Control-Request-Method"))
	w.WriteHeader(http.StatusNoContent)
}

// Allow lets scripts read a response, with the headers of that name, or all with "*". If the response says already which
// origin may read it, that stays.
func (c *CORS) Allow(h http.Header, r *http.Request, expose string) {
	if h.Get("Access-Control-Allow-Origin") == "" {
		switch origin := c.origin(r); origin {
		case "":
			h.Add("Vary", "Origin")
			return
		default:
			wire.AllowOrigin(h, origin)
		}
	}
	if h.Get("Access-Control-Expose-Headers") == "" {
		h.Set("Access-Control-Expose-Headers", expose)
	}
}
