package caddyoauth

import (
	"slices"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// What the profile says wins over the issuer's settings, and the client's own settings win where the profile has room.
func TestProfileFAPI2(t *testing.T) {
	issuer := &Issuer{
		URL: "https://bank.example", Scopes: []Scope{{Name: "accounts"}}, OpenID: new(OpenIDSettings),
		Code: &CodeSettings{Lifetime: Lifetime(5 * time.Minute)}, RefreshToken: &RefreshTokenSettings{Rotate: "always"},
	}
	base := func(edits ...func(*Client)) *Client {
		c := &Client{
			Profile: "fapi2", JWKSURI: "https://app.example/jwks.json", RedirectURIs: []string{"https://app.example/cb"},
			Scopes: []string{"accounts", grants.OpenID},
		}
		for _, edit := range edits {
			edit(c)
		}
		return c
	}
	made := func(c *Client) *storage.Client {
		t.Helper()
		if err := c.check("app", issuer); err != nil {
			t.Fatal(err)
		}
		return c.client("app", issuer)
	}
	c := made(base())
	if !c.FAPI || !c.RequirePushed || !c.RequirePKCE || !c.RequireDPoP || c.OmitIssuer || !c.RedirectRules.Authorize ||
		c.CodeLifetime != time.Minute || !c.RefreshToken.Keep || !slices.Contains(jwt.FAPIAlgorithms(), c.OpenID.IDTokenAlgorithm) {
		t.Errorf("%+v", c)
	}
	bound := made(base(func(c *Client) { c.TLSClientCertificateBoundAccessTokens = true }))
	if bound.RequireDPoP || !bound.BindToCertificate {
		t.Errorf("bound to a certificate: %+v", bound)
	}
	if c := made(base(func(c *Client) { c.RefreshToken = &RefreshTokenSettings{Rotate: "always"} })); c.RefreshToken.Keep {
		t.Error("the client's own rotate always does nothing")
	}
	issuer.OpenID.IDTokenAlgorithm = "PS256"
	if c := made(base()); c.OpenID.IDTokenAlgorithm != "PS256" {
		t.Errorf("ID tokens by %s", c.OpenID.IDTokenAlgorithm)
	}
	if c := made(base(func(c *Client) { c.Profile = "" })); c.FAPI || c.RequirePushed || c.RequireDPoP || c.RefreshToken.Keep {
		t.Errorf("without the profile: %+v", c)
	}
	issuer.Signing, issuer.AccessToken = &Signing{Algorithm: "RS256"}, &AccessTokenSettings{Format: "opaque"}
	made(base()) // nothing of the client's is signed by RS256
	issuer.Signing, issuer.AccessToken = &Signing{JWKSFile: "keys.json"}, nil
	app := made(base())
	for _, tt := range []struct {
		algs fileAlgorithms
		alg  string // of signing
		good bool
	}{
		{nil, "", true}, {fileAlgorithms{"PS256", "RS256"}, "", true}, {fileAlgorithms{"RS256", "PS256"}, "", false}, {fileAlgorithms{"RS256", "PS256"}, "PS256", true},
	} {
		issuer.Signing.Algorithm = tt.alg
		if err := tt.algs.checkProfile(app, issuer); (err == nil) != tt.good {
			t.Errorf("a file with keys for %v, signing %s: %v", tt.algs, tt.alg, err)
		}
	}
	issuer.Signing.Algorithm = ""
	added := &storage.AddedClient{ID: "app", Settings: []byte(`{"profile":"fapi2","redirect_uris":["https://app.example/cb"],"jwks_uri":"https://app.example/jwks.json"}`)}
	for alg, good := range map[string]bool{"ES256": true, "RS256": false} {
		if _, err := issuer.resolver(time.Hour, fileAlgorithms{alg})(added, nil); (err == nil) != good {
			t.Errorf("a client that is added, with a file for %s: %v", alg, err)
		}
	}

	// The settings of a client that is added at run time are checked too.
	settings := []byte(`{"profile":"fapi2","redirect_uris":["https://app.example/cb"]}`)
	if _, err := issuer.resolver(time.Hour, nil)(&storage.AddedClient{ID: "app", Settings: settings}, []string{"sha256:x"}); err == nil {
		t.Error("a client with a secret is held to the profile")
	}
}
