package grants

import (
	"context"

	"github.com/caddyserver/caddy/v2"
)

func init() {
	caddy.RegisterModule(ClientCredentials{})
}

// ClientCredentials gives a client with a secret an access token for itself (RFC 6749 §4.4). There
// is no refresh token: the client can ask again at any time.
type ClientCredentials struct{}

// CaddyModule returns the Caddy module information.
func (ClientCredentials) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "oauth.grants.client_credentials",
		New: func() caddy.Module { return new(ClientCredentials) },
	}
}

// Type implements Grant.
func (ClientCredentials) Type() string { return "client_credentials" }

// Exchange implements Grant.
func (ClientCredentials) Exchange(_ context.Context, req *Request) (*Authorization, error) {
	if !req.Authenticated { // RFC 6749 §4.4
		return nil, Refuse(UnauthorizedClient, "client_credentials needs a client with a secret or a key").
			Explain("neither a secret nor a client_assertion", "a client that authenticates", "client "+req.Client.ID+": secret, jwks")
	}
	scopes, audience, err := req.choose(req.Form.Get("scope"), withoutOpenID(req.Client), req.Client.Audience, req.otherResources()...)
	if err != nil {
		return nil, err
	}
	return &Authorization{Subject: req.Client.ID, Scopes: scopes, Audience: audience}, nil
}
