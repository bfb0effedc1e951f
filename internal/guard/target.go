package guard

import (
	"net/http"
	"net/url"

	"github.com/caddy-oauth/caddy-oauth/internal/dpop"
	"github.com/caddy-oauth/caddy-oauth/internal/request"
)

// origin is a scheme and a host by which the configuration knows this server.
type origin struct {
	url       string // such as https://example.com
	scheme    string
	host      string // with its port
	authority string // the host in its normal form
}

// readOrigins reads the URLs by which clients know this server.
func (g *Guard) readOrigins() error {
	for _, text := range g.config.Origins {
		u, err := url.Parse(text)
		if err != nil {
			return err
		}
		if authority, ok := dpop.Authority(u.Scheme, u.Host); ok && (u.Scheme == "https" || u.Scheme == "http") {
			g.origins = append(g.origins, origin{u.Scheme + "://" + u.Host, u.Scheme, u.Host, authority})
		}
	}
	return nil
}

// target returns the URL of a request that a DPoP proof must name. The path is that of the request. Scheme and host are those of the
// resource or the issuer. If the request has another host, they are those of the request, provided that the site has names and none of
// them has a wildcard: Caddy has compared the host with these names. Any other host is not believed, since somebody could send us a
// proof that a client has made for another server, with the name of that server as the host. target returns "" if nobody knows the
// name of this server.
func (g *Guard) target(r *http.Request) string {
	path, host := request.Original(r).EscapedPath(), r.Host
	for _, known := range g.origins {
		if host == known.host {
			return known.url + path
		}
		if authority, ok := dpop.Authority(known.scheme, host); ok && authority == known.authority {
			return known.url + path
		}
	}
	switch {
	case g.config.Place.named && request.AtOwnPort(r, host):
		return request.Scheme(r) + "://" + host + path
	case len(g.origins) == 0:
		return ""
	}
	return g.origins[0].url + path
}

// offerNonce tells a client which nonce its next DPoP proof must have, if proofs need one.
func (g *Guard) offerNonce(w http.ResponseWriter, r *http.Request) error {
	if g.config.Resource.Proofs.Nonces == nil {
		return nil
	}
	return g.config.Resource.Proofs.Offer(r.Context(), w.Header())
}
