package grants

import (
	"context"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

func init() {
	caddy.RegisterModule(AuthorizationCode{})
}

// AuthorizationCode exchanges the code that the authorize endpoint gave to a client for an access
// token and, if the client may use it, a refresh token (RFC 6749 §4.1, RFC 7636).
//
// A code works once and for the client it was given to. Presenting it again within its lifetime
// revokes all that came of it.
type AuthorizationCode struct{}

// CaddyModule returns the Caddy module information.
func (AuthorizationCode) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "oauth.grants.authorization_code",
		New: func() caddy.Module { return new(AuthorizationCode) },
	}
}

// Type implements Grant.
func (AuthorizationCode) Type() string { return "authorization_code" }

var errBadCode = &Error{
	Code: InvalidGrant, Description: "authorization code is invalid, expired or was used before", Situation: BadCode,
}

// Exchange implements Grant.
func (AuthorizationCode) Exchange(ctx context.Context, req *Request) (*Authorization, error) {
	code, err := req.token("code", req.Client.CodePrefix, errBadCode)
	if err != nil {
		return nil, err
	}
	key, ok := storage.CodeKey(code)
	if !ok {
		return nil, errBadCode
	}

	var auth *Authorization
	err = decideFamily(ctx, req, key, errBadCode, func(f *storage.Family) (write bool, err error) {
		if !f.HasCode(code) || !req.Now.Before(f.Code.Expires) {
			return false, errBadCode
		}
		if !f.Code.Redeemed.IsZero() { // RFC 6749 §4.1.2
			return false, replayed(f, key, "authorization code", errBadCode)
		}
		if err := checkRedirect(f.Code, req.Form.Get("redirect_uri"), req.Client.RedirectRules.Code); err != nil {
			return false, err
		}
		if err := verifyPKCE(f.Code.Challenge, req.Form.Get("code_verifier")); err != nil {
			return false, err
		}
		auth, err = authorize(f, key, req, "")
		if err != nil {
			return false, err
		}
		f.Code.RedirectAgain = req.Form.Has("redirect_uri")
		auth.RefreshToken = withPrefix(req.Client.RefreshToken.Prefix, f.RedeemCode(code, req.Now))
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	return auth, nil
}
