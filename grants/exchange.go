package grants

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// errUnauthenticated refuses a client that used its key before, see [storage.Family].
var errUnauthenticated = &Error{
	Code: InvalidClient, Description: "client authentication is missing", Status: http.StatusUnauthorized, Situation: BadClient,
	Sent: "no client_assertion", Expected: "a client_assertion, as the client used its key before for these tokens",
}

// errOtherKey refuses something that is bound to a key which the client has not proven to have. It leaves the family alone: whoever has
// stolen a token without the key must not be able to end it.
func errOtherKey(what *Error, req *Request, bound storage.Confirmation) *Error {
	if bound.Certificate != "" && bound.Certificate != req.Proven.Certificate {
		sent := "the certificate " + req.Proven.Certificate
		if req.Proven.Certificate == "" {
			sent = "no TLS certificate"
		}
		return what.because("bound to another certificate").Explain(sent, "the certificate "+bound.Certificate, "")
	}
	sent := "a proof of the key " + req.Proven.Thumbprint
	if req.Proven.Thumbprint == "" {
		sent = "no DPoP proof"
	}
	return what.because("bound to another key").Explain(sent, "a DPoP proof of the key "+bound.Thumbprint, "")
}

// hasBoundKey reports whether the client has what the refresh tokens of a family are bound to (RFC 9449 §5, RFC 8705 §4), if they are.
func hasBoundKey(f *storage.Family, req *Request) bool { return f.Bound.ProvenBy(req.Proven) }

// bind binds the refresh tokens of a family that starts to the key or the certificate of a client that does not authenticate (RFC 9449 §5,
// RFC 8705 §4). Later it is too late: who has stolen an unbound refresh token could bind it to a key of their own, and its owner could not
// end that.
func bind(f *storage.Family, req *Request) {
	if !req.Authenticated {
		f.Bound = req.Client.Binding(req.Proven)
	}
}

// decideFamily lets decide look at the family at key and change it, in one atomic step. write says
// whether the change is kept; with an error it is not. A family that is not there or was revoked is never shown: the
// request is refused with absent. So is it if the record is damaged.
//
// decide may run more than once, and only its last run counts.
func decideFamily(
	ctx context.Context, req *Request, key storage.Key, absent *Error,
	decide func(f *storage.Family) (write bool, err error),
) error {
	err := req.Store.Update(ctx, key, func(record []byte) ([]byte, time.Time, error) {
		if record == nil {
			return nil, time.Time{}, absent.because(gone(key, req.Now)).about(key.ID, "")
		}
		f, err := storage.DecodeFamily(record)
		if err != nil {
			return nil, time.Time{}, err
		}
		if f.Client != req.Client.ID {
			return nil, time.Time{}, absent.because("issued to another client").
				Explain("client "+req.Client.ID, "client "+f.Client, "").about(key.ID, f.Subject)
		}
		if !f.Revoked.IsZero() || req.Void != nil && req.Void(key.ID, f) {
			ended := absent.about(key.ID, f.Subject)
			ended.Cause = &Ended{Family: key.ID, Revoked: f.Revoked, Reason: f.Reason}
			return nil, time.Time{}, ended
		}
		if storage.Expired(f.Until, req.Now) {
			return nil, time.Time{}, absent.because("expired").about(key.ID, f.Subject).Explain("an approval that ended at "+moment(f.Until),
				"", "client "+req.Client.ID+": consent_lifetime")
		}
		if f.Authenticated && !req.Authenticated {
			return nil, time.Time{}, errUnauthenticated.about(key.ID, f.Subject)
		}
		write, err := decide(f)
		if refusal, ok := errors.AsType[*Error](err); ok {
			err = refusal.about(key.ID, f.Subject)
		}
		if err != nil {
			return nil, time.Time{}, err
		}
		if req.Authenticated && req.Client.Public() && !f.Authenticated {
			f.Authenticated, write = true, true
		}
		if !write {
			return nil, time.Time{}, storage.ErrKeep
		}
		value, err := f.Encode()
		return value, f.Expires(req.Now, req.Client.RefreshToken.Idle), err
	})
	if errors.Is(err, storage.ErrDamaged) { // It stays so: the client must not try again, but ask the user.
		refusal := absent.about(key.ID, "")
		refusal.Cause = err
		return refusal
	}
	return err
}

// gone says why there is no record of the family that a code or refresh token belongs to. The token passes its check, so that a
// server of this kind has issued it.
func gone(key storage.Key, now time.Time) string {
	if key.Bucket().Ended(now) {
		return "expired"
	}
	return "expired, or issued by another issuer or with another store: there is no record of it"
}

// neverIssued says what a text is that is not of the kind that was expected.
func neverIssued(text string) string {
	_, code := storage.CodeKey(text)
	_, refresh := storage.RefreshKey(text)
	_, access := storage.AccessKey(text)
	_, device := storage.DeviceKey(text)
	switch {
	case code:
		return "never issued as one: it is an authorization code"
	case refresh:
		return "never issued as one: it is a refresh token"
	case access:
		return "never issued as one: it is an opaque access token"
	case device:
		return "never issued as one: it is a device code"
	case strings.HasPrefix(text, "eyJ"):
		return "never issued as one: it is a JWT"
	}
	return fmt.Sprintf("never issued here, or damaged on its way: %d characters", len(text))
}

// authorize returns what a family allows the request: what was granted, as far as the client's
// configuration still allows it, narrowed to what the request asks for.
func authorize(f *storage.Family, key storage.Key, req *Request, scope string) (*Authorization, error) {
	scopes, audience, err := req.choose(scope, both(f.Scopes, req.Client.Scopes), req.still(f.Audience))
	if err != nil {
		return nil, err
	}
	switch { // an access token needs an audience (RFC 9068 §2.2), and no scope says: as asked for (RFC 6749 §5.1)
	case len(scopes) == 0 && len(f.Scopes) > 0:
		return nil, req.ofClient(Refuse(InvalidScope, "the client may have none of the granted scopes any more").
			Explain(strings.Join(f.Scopes, " ")+", as approved", strings.Join(req.Client.Scopes, " "), "scopes"))
	case len(audience) == 0 && len(f.Audience) > 0:
		return nil, req.ofClient(Refuse(InvalidTarget, "the client may have none of the granted resources any more").
			Explain(strings.Join(f.Audience, " ")+", as approved", strings.Join(slices.Concat(req.Client.Audience, req.more()), " "), "audience"))
	}
	var asked storage.AskedClaims
	if slices.Contains(scopes, OpenID) {
		asked = f.Asked
	}
	return &Authorization{
		Subject:  f.Subject,
		Scopes:   scopes,
		Audience: audience,
		Claims:   f.Claims,
		AuthTime: f.AuthTime,
		Session:  f.Session,
		Asked:    asked,
		Family:   key.ID,
		Started:  f.Started,
		Ends:     f.Until,
	}, nil
}

// more returns the resources that the client may request beside its audience.
func (req *Request) more() []string {
	if req.Client.OwnAudience {
		return nil
	}
	return req.Resources
}

// still returns those of the granted resources that the client may have now.
func (req *Request) still(granted []string) []string {
	if contains(req.Client.Audience, granted) {
		return granted
	}
	return both(granted, slices.Concat(req.Client.Audience, req.more()))
}

// choose returns the scopes and the resources that the request asks for, of those that are allowed. More resources are allowed if
// the request names them.
func (req *Request) choose(scope string, allowedScopes, allowedAudience []string, more ...string) (scopes, audience []string, err error) {
	if scopes, err = ChooseScopes(req.Client, scope, allowedScopes); err == nil {
		audience, err = ChooseAudience(req.Form["resource"], allowedAudience, more...)
	}
	return scopes, audience, req.ofClient(err)
}

// ofClient says in a refusal that its setting is one of the client's.
func (req *Request) ofClient(err error) error {
	if refusal, ok := errors.AsType[*Error](err); ok && refusal.Setting != "" {
		return refusal.Explain("", "", "client "+req.Client.ID+": "+refusal.Setting)
	}
	return err
}

// token returns the value of a parameter without the prefix that all of its kind have here; one without the
// prefix is refused with bad.
func (req *Request) token(parameter, prefix string, bad *Error) (string, error) {
	value := req.Form.Get(parameter)
	if value == "" {
		return "", Refuse(InvalidRequest, parameter+" is missing")
	}
	token, ok := strings.CutPrefix(value, prefix)
	if !ok {
		return "", bad.because(neverIssued(value)).Explain("no prefix", prefix, "prefix")
	}
	return token, nil
}

// withPrefix returns a token with the prefix of its kind, and nothing for no token.
func withPrefix(prefix, token string) string {
	if token == "" {
		return ""
	}
	return prefix + token
}

// replayed returns the refusal of something of a family that was used and is presented again.
func replayed(f *storage.Family, key storage.Key, what string, refusal *Error) *Error {
	replayed := *refusal
	replayed.Cause = &Replay{What: what, Family: key.ID, Client: f.Client, Subject: f.Subject}
	return &replayed
}

// moment returns a time as the log has it.
func moment(t time.Time) string { return t.UTC().Format(time.RFC3339) }
