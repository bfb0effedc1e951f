package explain

import (
	"strings"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/trail"
)

// byCertificate reports whether a client with a certificate could not authenticate.
func byCertificate(f *trail.Failure) bool {
	return f.Code == grants.InvalidClient && (decides(f, "tls_client_auth") || decides(f, "self_signed_tls_client_auth"))
}

// certificates are the situations of clients with TLS certificates.
var certificates = []situation{
	{
		is: func(f *trail.Failure) bool {
			return byCertificate(f) && strings.Contains(f.Sent, "a proxy of trusted_proxies")
		},
		why: "The client authenticates with its TLS certificate, and this server has not seen it: {sent}. A proxy before Caddy has ended the connection " +
			"of the client.",
		next: stopsAndShows,
		do: []string{
			"Let the proxy ask clients for certificates and tell Caddy of them in the header Client-Cert (RFC 9440), and write client_cert_header verified, or unverified, in the issuer.",
			"The proxy must remove that header from what clients send themselves, and its address must be in trusted_proxies.",
		},
	},
	{
		is: func(f *trail.Failure) bool {
			return byCertificate(f) && strings.HasPrefix(f.Sent, "no TLS client certificate")
		},
		why:  "The client authenticates with its TLS certificate, and its connection had none.",
		next: stopsAndShows,
		do: []string{
			"Does Caddy ask for certificates at the site where the request came? It needs tls { client_auth { ... } }. With mtls_endpoint_aliases, that is the second site.",
			"The developer of the app: give the HTTP client the certificate and its key, and use the URLs in mtls_endpoint_aliases of the metadata. Most libraries have a setting for that.",
		},
	},
	{
		is: func(f *trail.Failure) bool { return byCertificate(f) && strings.Contains(f.Expected, "trust_pool") },
		why: "The certificate has the name of the client, but nobody has checked who has signed it, so that anybody can have made it. It was " +
			"{sent}.",
		next: stopsAndShows,
		do: []string{
			"In the site where the request came, write: tls { client_auth { mode verify_if_given; trust_pool file <the CA> } }.",
			"Behind a proxy that checks certificates, write client_cert_header verified in the issuer.",
			"For a certificate that the client has signed itself, use self_signed_tls_client_auth instead of tls_client_auth.",
		},
	},
	{
		is: func(f *trail.Failure) bool {
			return byCertificate(f) && strings.HasPrefix(f.Expected, "client_id in the body")
		},
		why:  "The client authenticates with its TLS certificate, and with nothing else. The request came with {sent}.",
		next: stopsAndShows,
		do: []string{
			"The developer of the app: choose tls_client_auth, or self_signed_tls_client_auth, and send client_id in the body, without a secret and without the Authorization header.",
		},
	},
	{
		is:   byCertificate,
		why:  "The certificate is not that of the client. It was {sent}, and expected is {expected}.",
		next: stopsAndShows,
		do: []string{
			"If it is the certificate of the client: correct its name in tls_client_auth, or give its new certificate to self_signed_tls_client_auth.",
			"A subject_dn begins with the name of the client itself: openssl x509 -noout -subject -nameopt RFC2253 -in cert.pem prints it.",
			"If it is not: somebody uses the client ID of another one.",
		},
	},
	{
		is:   func(f *trail.Failure) bool { return decides(f, "tls_client_certificate_bound_access_tokens") },
		why:  "The tokens of the client are bound to its TLS certificate, and the request for tokens had none ({sent}).",
		next: stopsAndShows,
		do: []string{
			"The developer of the app: connect with a certificate, at the URLs in mtls_endpoint_aliases of the metadata if it has some.",
			"Let Caddy ask for certificates at that site: tls { client_auth { mode request } }. Or remove tls_client_certificate_bound_access_tokens from the client.",
		},
	},
	{
		is: func(f *trail.Failure) bool {
			return strings.Contains(f.Expected, "x5t#S256") && says(f, "bound to a key")
		},
		why: "The token is bound to the TLS certificate with which the client got it, and is worth nothing without. The request came with {sent}; expected " +
			"is {expected}.",
		next: "A client whose certificate was renewed gets a new token. A thief gets nowhere.",
		do: []string{
			"The developer of the app: use the same certificate for the API as for the token endpoint, and get a new token after a change of certificate.",
			"Does Caddy ask for certificates at the site of the API? It needs tls { client_auth { ... } }. Behind a proxy, client_cert_header has to be set.",
		},
	},
}
