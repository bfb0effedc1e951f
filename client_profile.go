package caddyoauth

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
)

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

// profileRefresh is what the profile says of refresh tokens: they do not rotate (FAPI 2.0 Security Profile §5.3.2.1, 9).
func (c *Client) profileRefresh() *RefreshTokenSettings {
	if c.Profile == "" {
		return nil
	}
	return &RefreshTokenSettings{Rotate: "never"}
}

// profileIDToken returns the algorithm of ID tokens that the profile has in place of the issuer's; "" if that is good.
func (c *Client) profileIDToken(issuer *Issuer) string {
	if c.Profile == "" || slices.Contains(jwt.FAPIAlgorithms(), issuer.OpenID.algorithm()) {
		return ""
	}
	return "ES256"
}
