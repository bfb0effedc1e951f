package grants

import (
	"context"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

func init() {
	caddy.RegisterModule(RefreshToken{})
}

// RefreshToken exchanges a refresh token for a new access token and, unless the issuer is set to
// keep it, for its successor (RFC 6749 §6, RFC 9700 §4.14.2).
//
// A client that lost the answer repeats the request and gets the same new token, as long as that was not used and within
// the client's retry. Any other used token revokes the whole family. A text that was never issued, such as a token that was
// damaged on its way, is refused and changes nothing.
type RefreshToken struct{}

// CaddyModule returns the Caddy module information.
func (RefreshToken) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "oauth.grants.refresh_token",
		New: func() caddy.Module { return new(RefreshToken) },
	}
}

// Type implements Grant.
func (RefreshToken) Type() string { return "refresh_token" }

var errBadRefreshToken = &Error{
	Code: InvalidGrant, Description: "refresh token is invalid, expired or was revoked", Situation: BadRefreshToken,
}

// Exchange implements Grant.
func (RefreshToken) Exchange(ctx context.Context, req *Request) (*Authorization, error) {
	policy := req.Client.RefreshToken
	token, err := req.token("refresh_token", policy.Prefix, errBadRefreshToken)
	if err != nil {
		return nil, err
	}
	key, ok := storage.RefreshKey(token)
	if !ok {
		return nil, errBadRefreshToken.because(neverIssued(token))
	}

	var auth *Authorization
	err = decideFamily(ctx, req, key, errBadRefreshToken, func(f *storage.Family) (write bool, err error) {
		status := f.TokenStatus(token, req.Now, policy.Retry)
		switch status {
		case storage.TokenUnknown:
			return false, errBadRefreshToken.because("never issued here, or damaged on its way: its family has other refresh tokens, or none")
		case storage.TokenReused:
			return false, replayed(f, key, "refresh token", errBadRefreshToken).Explain(
				"an old refresh token; the newest is of "+moment(f.Refresh.Rotated),
				"the newest, or the one before it within retry and while the newest is unused",
				"client "+req.Client.ID+": refresh_token retry")
		}
		// A lifetime that was made shorter holds for the families that are there: revocations are kept as long as
		// a family can live by the settings of the day.
		if end := policy.Ends(f.Started); !end.IsZero() && !req.Now.Before(end) {
			return false, errBadRefreshToken.because("expired").
				Explain("a refresh token that expired at "+moment(end), "", "client "+req.Client.ID+": refresh_token lifetime")
		}
		if err := checkRefreshRedirect(f.Code, req.Form.Get("redirect_uri"), req.Client.RedirectRules.Refresh); err != nil {
			return false, err
		}
		auth, err = authorize(f, key, req, req.Form.Get("scope"))
		if err != nil {
			return false, err
		}
		switch {
		case status == storage.TokenRetryable:
			auth.RefreshToken, err = f.Successor(token)
			return false, err
		case policy.Keep:
			auth.RefreshToken = token
			first := f.Keep()
			return first || policy.Idle > 0, nil // with an idle time, every use moves its end
		}
		auth.RefreshToken, err = f.Rotate(token, req.Now)
		return err == nil, err
	})
	if err != nil {
		return nil, err
	}
	auth.RefreshToken = withPrefix(policy.Prefix, auth.RefreshToken)
	return auth, nil
}
