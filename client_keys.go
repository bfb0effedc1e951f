package caddyoauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

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
