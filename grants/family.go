package grants

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// decideFamily loads the family at key and calls decide, which may change it, in one atomic Update. The change is stored if decide
// returns write and no error, and also if the client authenticates here for the first time. decide is not called if openFamily refuses
// the family, or if its record is missing or damaged. bad is the refusal then.
//
// decide may run more than once, and only its last run counts.
func decideFamily(
	ctx context.Context, req *Request, key storage.Key, bad *Error,
	decide func(f *storage.Family) (write bool, err error),
) error {
	err := req.Store.Update(ctx, key, func(record []byte) ([]byte, time.Time, error) {
		f, err := openFamily(req, key, record, bad)
		if err != nil {
			return nil, time.Time{}, err
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
	if errors.Is(err, storage.ErrDamaged) { // A damaged record stays damaged, so the client must ask the user again instead of retrying.
		refusal := bad.about(key.ID, "")
		refusal.Cause = err
		return refusal
	}
	return err
}

// openFamily reads the family of a record, nil for none. It refuses one that is not the client's, that was revoked or has ended, or
// that the client must authenticate for.
func openFamily(req *Request, key storage.Key, record []byte, bad *Error) (*storage.Family, error) {
	if record == nil {
		return nil, bad.because(explainMissing(key, req.Now)).about(key.ID, "")
	}
	f, err := storage.DecodeFamily(record)
	switch {
	case err != nil:
		return nil, err
	case f.Client != req.Client.ID:
		return nil, bad.because("issued to another client").
			Explain("client "+req.Client.ID, "client "+f.Client, "").about(key.ID, f.Subject)
	case !f.Revoked.IsZero() || req.IsVoid != nil && req.IsVoid(key.ID, f):
		ended := bad.about(key.ID, f.Subject)
		ended.Cause = &AlreadyRevoked{Family: key.ID, Revoked: f.Revoked, Reason: f.Reason}
		return nil, ended
	case storage.Expired(f.Until, req.Now):
		return nil, bad.because("expired").about(key.ID, f.Subject).
			Explain("an approval that ended at "+formatTime(f.Until), "", "client "+req.Client.ID+": consent_lifetime")
	case f.Authenticated && !req.Authenticated:
		return nil, errUnauthenticated.about(key.ID, f.Subject)
	}
	return f, nil
}

// errUnauthenticated refuses a client that authenticated before, see [storage.Family].
var errUnauthenticated = &Error{
	Code: InvalidClient, Description: "client authentication is missing", Status: http.StatusUnauthorized, Situation: BadClient,
	Sent: "no client authentication", Expected: "client authentication, as the client authenticated before for these tokens",
}

// explainMissing says why there is no record of the family that a code or refresh token belongs to. The checksum of the token is right, so a
// server of this kind has issued it.
func explainMissing(key storage.Key, now time.Time) string {
	if key.Bucket().Ended(now) {
		return "expired"
	}
	return "expired, or issued by another issuer or with another store: there is no record of it"
}

// bind binds the refresh tokens of a new family to the key or the certificate of a client that does not authenticate (RFC 9449 §5,
// RFC 8705 §4). Later it is too late: who has stolen an unbound refresh token could bind it to a key of their own, and its owner could not
// end that.
func bind(f *storage.Family, req *Request) {
	if !req.Authenticated {
		f.Bound = req.Client.Binding(req.Proven)
	}
}

// refuseOtherKey refuses something that is bound to a key which the client has not proven to have. It leaves the family alone: whoever has
// stolen a token without the key must not be able to end it.
func refuseOtherKey(what *Error, req *Request, bound storage.Confirmation) *Error {
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

// replayed returns the refusal of something of a family that was used and is presented again, with a Replay as its cause.
func replayed(f *storage.Family, key storage.Key, what string, refusal *Error) *Error {
	refused := *refusal
	refused.Cause = &Replay{What: what, Family: key.ID, Client: f.Client, Subject: f.Subject}
	return &refused
}

// Replay is the Cause of an Error when a used code or refresh token was presented again. The token endpoint then revokes the family
// (Revoker.RevokeForRefusal in internal/authserver).
type Replay struct {
	What    string // ReplayedCode, ReplayedDeviceCode or ReplayedRefreshToken; a grant of another module can have its own
	Family  string // the ID of its record
	Client  string
	Subject string
}

// What the grants of this package find used again, for Replay.What.
const (
	ReplayedCode         = "authorization code"
	ReplayedDeviceCode   = "device code"
	ReplayedRefreshToken = "refresh token"
)

func (r *Replay) Error() string {
	return r.What + " of family " + r.Family + " of client " + r.Client + " and subject " + r.Subject + " used again"
}

// Closed is the Cause of an Error when the site says that the user of a refresh token has no account any more. The token endpoint
// then revokes the family, as for a [Replay].
type Closed struct {
	Account *Account
	Err     error // what the site said
}

func (c *Closed) Error() string { return c.Err.Error() }

func (c *Closed) Unwrap() error { return c.Err }

// AlreadyRevoked is the Cause of an Error when something of a revoked family is presented. The token endpoint then completes the revocation,
// as for a [Replay]: whoever revoked the family may have failed half way.
type AlreadyRevoked struct {
	Family  string    // the ID of its record
	Revoked time.Time // when its record became a tombstone; zero: it did not, and Request.IsVoid says that the family is void
	Reason  string
}

func (e *AlreadyRevoked) Error() string {
	if e.Revoked.IsZero() {
		return "family " + e.Family + " is void: it was revoked, or all tokens of its user or its client were"
	}
	return "family " + e.Family + " was revoked at " + e.Revoked.UTC().Format(time.RFC3339) + ": " + e.Reason
}
