package caddyoauth

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"

	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/mtls"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

func checkSecrets(secrets []string) error {
	for _, secret := range secrets {
		if secret == "" {
			return errors.New("expected a secret, but it is empty")
		}
		if err := directive.CheckSecret(secret); err != nil {
			return err
		}
	}
	return nil
}

func checkSecretHashes(hashes []string) error {
	for _, hash := range hashes {
		if !unresolved(hash) && !secretHashes.ValidHash(hash) {
			return errors.New("expected sha256: and 64 hex digits in lower case, or a hash that caddy hash-password prints")
		}
	}
	return nil
}

// hasKeys reports whether the client authenticates with keys.
func (c *Client) hasKeys() bool { return c.JWKSFile != "" || c.JWKSURI != "" || len(c.JWKS) > 0 }

// checkKeys finds keys in more than one place, and impossible ones among the settings. The file is checked when it is read.
func (c *Client) checkKeys() error {
	places := 0
	for _, there := range []bool{c.JWKSFile != "", c.JWKSURI != "", len(c.JWKS) > 0} {
		if there {
			places++
		}
	}
	if places > 1 {
		return errors.New("expected the keys in one place, a file or jwks_uri (RFC 7591 section 2)")
	}
	if len(c.JWKS) == 0 {
		return nil
	}
	return jwt.CheckClientKeys(c.JWKS)
}

// checkChains finds a JWK set without certificates, of a client that authenticates with those in it.
func (c *Client) checkChains(set json.RawMessage) error {
	if c.SelfSignedTLSClientAuth != nil && len(set) > 0 && len(jwt.ParseClientCertificates(set)) == 0 {
		return errors.New("expected a key with x5c, its certificate, in jwks")
	}
	return nil
}

// configured returns a client of the configuration for the server, with the keys in its file.
func (c *Client) configured(id string, issuer *Issuer) (*storage.Client, error) {
	client := c.client(id, issuer)
	if client.Certificate != nil {
		var err error
		if client.Certificate.Certificates, err = c.SelfSignedTLSClientAuth.read(); err != nil {
			return nil, directive.At("self_signed_tls_client_auth", err)
		}
	}
	if c.JWKSFile == "" {
		return client, nil
	}
	file, err := os.ReadFile(c.JWKSFile)
	if err != nil {
		return nil, directive.At("jwks", err)
	}
	if client.JWKS, err = jwt.ReadClientKeys(file); err != nil {
		return nil, directive.At("jwks", fmt.Errorf("%s: %w", c.JWKSFile, err))
	}
	return client, directive.At("self_signed_tls_client_auth", c.checkChains(client.JWKS))
}

// checkKeysURI refuses a URL that the server would not fetch.
func checkKeysURI(uri, issuer string) error {
	if uri == "" || unresolved(uri) {
		return nil
	}
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return fmt.Errorf("expected a URL with https, not %s", uri)
	}
	own, err := url.Parse(issuer)
	local := err == nil && u.Scheme == "http" && uris.IsLoopback(u.Hostname()) && uris.IsLoopback(own.Hostname())
	if u.Scheme != "https" && !local {
		return fmt.Errorf("expected https, not %s", uri)
	}
	return nil
}

// secretHashes are the password hashes of Caddy, by the prefixes of their encoded forms.
var secretHashes = clients.Secrets{
	"$2a$":       caddyauth.BcryptHash{},
	"$2b$":       caddyauth.BcryptHash{},
	"$2y$":       caddyauth.BcryptHash{},
	"$argon2id$": caddyauth.Argon2idHash{},
}

// MutualTLSSettings are about the TLS certificates of clients (mutual TLS, RFC 8705). That Caddy asks for certificates is a setting of the
// site: `tls { client_auth { ... } }`.
type MutualTLSSettings struct {
	// The URL of a second site of the issuer, such as `https://mtls.example.com`, at which Caddy asks for certificates, so that browsers are
	// never asked on the first one. Metadata has the URLs of the endpoints there (`mtls_endpoint_aliases`, RFC 8705 section 5), and a DPoP
	// proof may name either URL. The second site needs `oauth` too. Default: none.
	MTLSEndpointAliases string `json:"mtls_endpoint_aliases,omitempty"`

	// Whether a proxy of `trusted_proxies` says in the header `Client-Cert` which certificate a client has (RFC 9440), for the endpoints and
	// the guards of the issuer: `verified` if the proxy lets only certificates of your CA pass, or `unverified` if it lets any pass. Then
	// `self_signed_tls_client_auth` and bound tokens work, and `tls_client_auth` does not. From anybody else, the header is removed.
	// Default: the header is ignored, and only the TLS connection to Caddy counts. **Danger:** such a proxy must remove the header that a
	// client sends itself. With `verified`, a proxy that does not check certificates lets everybody authenticate as any client of
	// `tls_client_auth`, and so can whoever connects from an address of `trusted_proxies`: name the proxy alone there, since with
	// `private_ranges` any container or machine of your network can send the header.
	ClientCertHeader string `json:"client_cert_header,omitempty"`
}

func (s *MutualTLSSettings) resolve(repl *caddy.Replacer) error {
	return directive.At("mtls_endpoint_aliases", replace(repl, &s.MTLSEndpointAliases))
}

func (s *MutualTLSSettings) check() error {
	return cmp.Or(
		directive.At("mtls_endpoint_aliases", checkAlias(s.MTLSEndpointAliases)),
		directive.At("client_cert_header", checkChoice(s.ClientCertHeader, "verified", "unverified")),
	)
}

func checkAlias(alias string) error {
	if alias == "" || unresolved(alias) {
		return nil
	}
	u, err := url.Parse(alias)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return fmt.Errorf("expected https and a host, such as https://mtls.example.com, not %s", alias)
	}
	return nil
}

// ClientCertificates say which TLS certificate authenticates a client (RFC 8705). Such a client is not public, even without a
// secret.
type ClientCertificates struct {
	// The subject of its certificate as RFC 4514 writes it, such as `CN=app,O=Example,C=DE`: the name of the client itself comes first, as
	// with `openssl x509 -noout -subject -nameopt RFC2253`. One of the five names of a client, by which it authenticates with any
	// certificate that has the name (`tls_client_auth`), also with the next one. Caddy must trust the CA: `tls { client_auth { trust_pool ...
	// } }` with the mode `verify_if_given` or `require_and_verify`. Prefer a name of the next four: every CA checks those. Default: none.
	TLSClientAuthSubjectDN string `json:"tls_client_auth_subject_dn,omitempty"`

	// A host name in its certificate, such as `app.example.com`. Default: none.
	TLSClientAuthSANDNS string `json:"tls_client_auth_san_dns,omitempty"`

	// A URI in its certificate, such as `spiffe://example.com/app`. Default: none.
	TLSClientAuthSANURI string `json:"tls_client_auth_san_uri,omitempty"`

	// An IP address in its certificate. Default: none.
	TLSClientAuthSANIP string `json:"tls_client_auth_san_ip,omitempty"`

	// An email address in its certificate. Default: none.
	TLSClientAuthSANEmail string `json:"tls_client_auth_san_email,omitempty"`

	// The certificates themselves that authenticate the client, whoever has signed them (`self_signed_tls_client_auth`). Caddy must ask for
	// certificates and not check them: `tls { client_auth { mode request } }`. Default: none.
	SelfSignedTLSClientAuth *SelfSignedCertificates `json:"self_signed_tls_client_auth,omitempty"`

	// Whether each of its token requests must come with a certificate, to which all its access tokens are bound: with another one, or with
	// none, they are useless to a thief. The refresh tokens of a public client are bound too. A certificate that the client
	// replaces ends the access tokens before, and the refresh tokens of a public client. Default: false.
	TLSClientCertificateBoundAccessTokens bool `json:"tls_client_certificate_bound_access_tokens,omitempty"`
}

// SelfSignedCertificates are certificates that a client has made for itself.
type SelfSignedCertificates struct {
	// Files with the certificates, in PEM or DER, which are read when the configuration is loaded. A file with several has the current
	// one and the next. Default: the first certificate in `x5c` of each key in `jwks` or `jwks_uri` of the client.
	Files []string `json:"certificate_files,omitempty"`
}

func (c *ClientCertificates) resolve(repl *caddy.Replacer) error {
	for _, name := range c.names() {
		if err := replace(repl, name); err != nil {
			return directive.At("tls_client_auth", err)
		}
	}
	if c.SelfSignedTLSClientAuth == nil {
		return nil
	}
	return directive.At("self_signed_tls_client_auth", replaceAll(repl, c.SelfSignedTLSClientAuth.Files))
}

// names returns the names of the certificate, by their kind.
func (c *ClientCertificates) names() map[string]*string {
	return map[string]*string{
		mtls.SubjectDN: &c.TLSClientAuthSubjectDN, mtls.SANDNS: &c.TLSClientAuthSANDNS, mtls.SANURI: &c.TLSClientAuthSANURI,
		mtls.SANIP: &c.TLSClientAuthSANIP, mtls.SANEmail: &c.TLSClientAuthSANEmail,
	}
}

// hasCertificate reports whether the client authenticates with a certificate.
func (c *ClientCertificates) hasCertificate() bool {
	for _, name := range c.names() {
		if *name != "" {
			return true
		}
	}
	return c.SelfSignedTLSClientAuth != nil
}

// check finds impossible names, and more than one. hasKeys says that the client has a JWK set.
func (c *ClientCertificates) check(hasKeys bool) error {
	names := c.names()
	set := 0
	for _, kind := range mtls.Kinds {
		name := *names[kind]
		if name == "" {
			continue
		}
		if set++; !unresolved(name) {
			if err := mtls.CheckName(kind, name); err != nil {
				return directive.At("tls_client_auth", fmt.Errorf("%s: %w", kind, err))
			}
		}
	}
	self := c.SelfSignedTLSClientAuth
	switch {
	case set > 1:
		return directive.At("tls_client_auth", errors.New("expected one name of the certificate (RFC 8705 section 2.1.2)"))
	case self != nil && set > 0:
		return directive.At("self_signed_tls_client_auth", errors.New("expected either this or tls_client_auth"))
	case self != nil && len(self.Files) == 0 && !hasKeys:
		return directive.At("self_signed_tls_client_auth", errors.New("expected a file with the certificate, or jwks or jwks_uri with x5c"))
	case self != nil && len(self.Files) > 0 && hasKeys:
		return directive.At("self_signed_tls_client_auth", errors.New("expected the certificates in one place, files, or x5c in jwks or jwks_uri"))
	}
	return nil
}

// certificate returns what authenticates the client, nil if it is no certificate. The files are still to be read.
func (c *ClientCertificates) certificate() *storage.ClientCertificate {
	if !c.hasCertificate() {
		return nil
	}
	return &storage.ClientCertificate{
		SubjectDN: c.TLSClientAuthSubjectDN, SANDNS: c.TLSClientAuthSANDNS, SANURI: c.TLSClientAuthSANURI, SANIP: c.TLSClientAuthSANIP,
		SANEmail: c.TLSClientAuthSANEmail, SelfSigned: c.SelfSignedTLSClientAuth != nil,
	}
}

// read returns the certificates in the files, in DER.
func (s *SelfSignedCertificates) read() (all [][]byte, err error) {
	if s == nil {
		return nil, nil
	}
	for _, name := range s.Files {
		file, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		certificates, err := mtls.ParseCertificates(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, certificates...)
	}
	return all, nil
}

// DPoPSettings are about the proofs by which clients show that they have the key that their tokens are bound to (DPoP, RFC 9449).
type DPoPSettings struct {
	// Whether each proof must have a nonce that this server gave a minute or two ago: `required` or `none`. Nobody can make proofs for
	// later then, but each client has to send its first request twice, and the clients must know nonces. The guards of the issuer on
	// this Caddy require them as well. Default: `none`.
	Nonce string `json:"nonce,omitempty"`
}

func (d *DPoPSettings) check() error {
	if d == nil {
		return nil
	}
	return directive.At("nonce", checkChoice(d.Nonce, "required", "none"))
}

// nonce reports whether proofs must have a nonce.
func (d *DPoPSettings) nonce() bool { return d != nil && d.Nonce == "required" }

// profileFAPI2 is the FAPI 2.0 Security Profile of the OpenID Foundation.
const profileFAPI2 = "fapi2"

// fapiGrants are the grant types that the profile has rules for.
var fapiGrants = []string{"authorization_code", "refresh_token", "client_credentials"}

// checkProfile finds settings of a client and its issuer that contradict the profile.
func (c *Client) checkProfile(issuer *Issuer) error {
	if c.Profile == "" {
		return nil
	}
	if c.Profile != profileFAPI2 {
		return directive.At("profile", fmt.Errorf("expected %s, not %s", profileFAPI2, c.Profile))
	}
	contradicts := func(setting string, wrong bool, expected string) error {
		if !wrong {
			return nil
		}
		return directive.At(setting, errors.New("with profile "+c.Profile+", expected "+expected))
	}
	const key = "none: the client authenticates with a key or a certificate"
	return cmp.Or(
		contradicts("secret", len(c.Secrets) > 0, key),
		contradicts("secret_hash", len(c.SecretHashes) > 0, key),
		contradicts("profile", c.public(), "jwks, jwks_uri or a certificate"),
		contradicts("iss", c.Iss == "off", "on"),
		contradicts("pkce", c.PKCE == "optional", "required"),
		contradicts("allow_insecure_redirects", c.AllowInsecureRedirects, "https, the person's own device, or a scheme of the client"),
		contradicts("redirect_uris", slices.ContainsFunc(c.RedirectURIs, uris.IsOutOfBand), "URIs that lead back to the client"),
		contradicts("redirect_uri_rules", c.RedirectURIRules != nil && c.RedirectURIRules.Authorize == "optional", "authorize required"),
		c.checkProfileGrants(),
		c.checkProfileAlgorithms(issuer),
	)
}

func (c *Client) checkProfileGrants() error {
	for _, grant := range c.grantTypes() {
		if !slices.Contains(fapiGrants, grant) {
			return directive.At("grant_types", fmt.Errorf("with profile %s, expected only %s, not %s", c.Profile, strings.Join(fapiGrants, ", "), grant))
		}
	}
	return nil
}

// checkProfileAlgorithms checks all that is signed for the client, or by it (FAPI 2.0 Security Profile §5.4.1). Its assertions and proofs are
// checked when they come.
func (c *Client) checkProfileAlgorithms(issuer *Issuer) error {
	algs := jwt.FAPIAlgorithms()
	for _, set := range []struct{ setting, alg string }{
		{"id_token_signed_response_alg", c.IDTokenAlgorithm},
		{"userinfo_signed_response_alg", c.UserinfoAlgorithm},
		{"request_object_signing_alg", c.RequestAlgorithm},
	} {
		if set.alg != "" && !slices.Contains(algs, set.alg) {
			return directive.At(set.setting, fmt.Errorf("with profile %s, expected one of %s, not %s", c.Profile, strings.Join(algs, ", "), set.alg))
		}
	}
	if issuer.Signing == nil || issuer.Signing.Algorithm == "" {
		return nil
	}
	return issuer.checkProfileSigning(issuer.Signing.Algorithm)
}

// checkProfileSigning checks the algorithm of access tokens. Opaque ones are not signed.
func (i *Issuer) checkProfileSigning(alg string) error {
	algs := jwt.FAPIAlgorithms()
	if slices.Contains(algs, alg) || i.AccessToken != nil && i.AccessToken.Format == "opaque" {
		return nil
	}
	return directive.At("profile", fmt.Errorf("expected signing with one of %s at the issuer, not %s", strings.Join(algs, ", "), alg))
}

// checkProfile returns an error if the client's profile forbids the algorithm of the file's first key, which signs access tokens. If
// signing names an algorithm, checkProfileAlgorithms has checked that one.
func (f fileAlgorithms) checkProfile(client *storage.Client, issuer *Issuer) error {
	if !client.FAPI || len(f) == 0 || issuer.Signing != nil && issuer.Signing.Algorithm != "" {
		return nil
	}
	return issuer.checkProfileSigning(f[0])
}

// profileRefresh is what the profile says of refresh tokens: they do not rotate (FAPI 2.0 Security Profile §5.3.2.1, 9).
func (c *Client) profileRefresh() *RefreshTokenSettings {
	if c.Profile == "" {
		return nil
	}
	return &RefreshTokenSettings{Rotate: "never"}
}

// profileIDToken returns ES256 if the profile forbids the issuer's algorithm for ID tokens, else "".
func (c *Client) profileIDToken(issuer *Issuer) string {
	if c.Profile == "" || slices.Contains(jwt.FAPIAlgorithms(), issuer.OpenID.algorithm()) {
		return ""
	}
	return "ES256"
}
