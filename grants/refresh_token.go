package grants

import (
	"context"
	"errors"
	"net/http"

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
//
// If the issuer has a `refresh_check`, the site is asked from time to time whether the user still has an account.
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
	token, err := req.token("refresh_token", policy.Prefix, "client "+req.Client.ID+": refresh_token prefix", errBadRefreshToken)
	if err != nil {
		return nil, err
	}
	key, ok := storage.RefreshKey(token)
	if !ok {
		return nil, errBadRefreshToken.because(neverIssued(token))
	}

	r := &refresh{req: req, key: key, token: token}
	err = decideFamily(ctx, req, key, errBadRefreshToken, r.decide)
	if err == nil && r.askAbout != nil {
		if err = r.ask(ctx); err == nil {
			err = decideFamily(ctx, req, key, errBadRefreshToken, r.decide)
		}
	}
	if err != nil {
		return nil, err
	}
	r.auth.RefreshToken = policy.Prefix + r.auth.RefreshToken
	return r.auth, nil
}

// refresh is the exchange of a refresh token.
type refresh struct {
	req   *Request
	key   storage.Key // of the family
	token string      // without the prefix

	askAbout *Account       // the account to check with the site before the family changes; nil: no check is due
	checked  map[string]any // the claims in its answer; nil: it was not asked

	auth *Authorization
}

// decide decides on the refresh. If it is time to ask the site, it sets askAbout and changes nothing: nobody may wait for the site
// while the store is locked. Once the site has answered, it decides again, since another request may have changed the family meanwhile.
func (r *refresh) decide(f *storage.Family) (write bool, err error) {
	req, policy := r.req, r.req.Client.RefreshToken
	r.askAbout = nil
	status := f.TokenStatus(r.token, req.Now, policy.Retry)
	if status != storage.TokenUnknown && !f.Bound.ProvenBy(req.Proven) {
		return false, refuseOtherKey(errBadRefreshToken, req, f.Bound)
	}
	switch status {
	case storage.TokenUnknown:
		return false, errBadRefreshToken.because("never issued here, or damaged on its way: its family has other refresh tokens, or none")
	case storage.TokenReused: // the token endpoint revokes the family, see Replay
		return false, replayed(f, r.key, ReplayedRefreshToken, errBadRefreshToken).Explain(
			"an old refresh token; the newest is of "+formatTime(f.Refresh.Rotated),
			"the newest, or the one before it within retry and while the newest is unused",
			"client "+req.Client.ID+": refresh_token retry")
	}
	// A lifetime that has become shorter is that of existing families, too.
	ends := f.RefreshEnds(req.Now, policy)
	if storage.Expired(ends, req.Now) {
		return false, errBadRefreshToken.because("expired").
			Explain("a refresh token that expired at "+formatTime(ends), "", "client "+req.Client.ID+": refresh_token lifetime")
	}
	if err := checkRefreshRedirect(f.Code, req.Form.Get("redirect_uri"), req.Client.RedirectRules.Refresh); err != nil {
		return false, err
	}
	auth, err := authorizationFor(req, f, r.key, req.Form.Get("scope"))
	if err != nil {
		return false, err
	}
	r.auth = auth
	auth.RefreshEnds = ends
	due := req.Accounts != nil && req.Accounts.Due(f.LastChecked(), req.Now)
	switch {
	case due && r.checked == nil:
		r.askAbout = &Account{Subject: f.Subject, Client: f.Client, Scopes: f.Scopes, Family: r.key.ID}
		return false, nil
	case due:
		f.NoteChecked(r.checked, req.Now)
		auth.Claims = f.Claims
	}
	switch {
	case status == storage.TokenRetryable:
		auth.RefreshEnds = f.RefreshEnds(f.Refresh.Rotated, policy)
		auth.RefreshToken, err = f.Successor(r.token)
		return due && err == nil, err
	case policy.Keep:
		auth.RefreshToken = r.token
		changed := f.Keep()
		return changed || due || policy.Idle > 0, nil // each use extends the idle expiry
	}
	auth.RefreshToken, err = f.Rotate(r.token, req.Now)
	return err == nil, err
}

// ask asks the site whether the user still has an account. A client that gets no answer because of the site can repeat its request:
// nothing has changed.
func (r *refresh) ask(ctx context.Context) error {
	claims, err := r.req.Accounts.Ask(ctx, r.askAbout)
	switch {
	case errors.Is(err, ErrNoAccount):
		closed := errBadRefreshToken.Explain("", "a user who has an account at the site", "refresh_check").
			about(r.askAbout.Family, r.askAbout.Subject)
		closed.Cause = &Closed{r.askAbout, err}
		return closed
	case err != nil:
		return &Error{
			Code: TemporarilyUnavailable, Description: "the server cannot answer now, try again later",
			Status: http.StatusServiceUnavailable, Setting: "refresh_check", Cause: err,
			Family: r.askAbout.Family, Subject: r.askAbout.Subject,
		}
	case claims == nil:
		claims = make(map[string]any)
	}
	r.checked = claims
	return nil
}

// checkRefreshRedirect compares the redirect_uri of a refresh with where the code went to, if the rule says so: RFC 6749 §6 knows no such
// parameter. A family that began without a redirect has none to name.
func checkRefreshRedirect(code *storage.Code, uri string, rule storage.RedirectRule) error {
	switch {
	case code == nil || rule == "" || rule == storage.RedirectIgnored:
		return nil
	case rule == storage.RedirectRequired:
		return compareRedirect(code, uri, true)
	case rule == storage.RedirectOptional:
		return compareRedirect(code, uri, false)
	}
	return compareRedirect(code, uri, code.RedirectAgain)
}
