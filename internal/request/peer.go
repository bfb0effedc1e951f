package request

import (
	"errors"
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-oauth/caddy-oauth/internal/mtls"
)

// PeerOf returns who has sent a request. certHeader is the setting client_cert_header.
func PeerOf(r *http.Request, certHeader string) mtls.Peer {
	peer := mtls.Peer{Address: ClientIP(r)}
	peer.Certificate, peer.Problem = Certificate(r, certHeader)
	return peer
}

// ClientIP returns the address of the client that Caddy trusts.
func ClientIP(r *http.Request) string {
	ip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	return ip
}

// Certificate returns the certificate by which the client of a request has authenticated its connection, nil if there is none. header
// is the setting client_cert_header. A connection of a proxy has the certificate of the proxy, if any, and never that of a client.
func Certificate(r *http.Request, header string) (*mtls.Certificate, error) {
	switch {
	case fromTrustedProxy(r) && header != "":
		return mtls.OfHeader(r.Header, header == "verified")
	case hasTrustedAddress(r) && isForwarded(r):
		return nil, errProxied
	}
	certificate := mtls.OfConnection(r.TLS)
	if certificate == nil && header != "" {
		return nil, errNotTrusted
	}
	return certificate, nil
}

var (
	errProxied    = errors.New("no certificate of the client: the request comes through a proxy of trusted_proxies, see client_cert_header")
	errNotTrusted = errors.New("no TLS client certificate, and not from a proxy of trusted_proxies, of which alone the header Client-Cert counts")
)

// fromTrustedProxy reports whether a request comes from a proxy of trusted_proxies. One that has come before the end of its TLS handshake
// does not: in the first packet of HTTP/3 (0-RTT), the address of the sender can be forged.
func fromTrustedProxy(r *http.Request) bool {
	return hasTrustedAddress(r) && (r.TLS == nil || r.TLS.HandshakeComplete)
}

// hasTrustedAddress reports whether the address of a request is that of a proxy of trusted_proxies. It may be forged.
func hasTrustedAddress(r *http.Request) bool {
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return trusted
}

// isForwarded reports whether a trusted program has passed a request on. In a network that is trusted as a whole, programs that are clients
// themselves do not say so.
func isForwarded(r *http.Request) bool {
	return r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Forwarded") != "" || r.Header.Get("Via") != ""
}
