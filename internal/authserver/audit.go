package authserver

import (
	"cmp"
	"errors"
	"iter"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/keyring"
	"github.com/caddy-oauth/caddy-oauth/internal/metrics"
)

// Event is an entry of the audit log. It contains no secret, token or code. Fields that do not apply are empty.
type Event struct {
	Name      string // one of the constants, or the name of an endpoint and "_refused"
	Issuer    string
	Client    string // the client ID; in a refusal, that of the client that the request names
	Subject   string
	GrantType string
	Address   string    // of the client
	Family    string    // the ID of its record, which is a hash
	TokenID   string    // the jti of an access token, or the ID of its record
	KeyID     string    // of a signing key
	Scopes    []string  // issued or approved
	Until     time.Time // when what was approved ends by itself
	Error     string    // the error code in the response
	ErrorID   string    // the same as in the response and in the log
	Reason    string    // of a revocation, or of a refusal that revoked a family; of client_changed, the change
}

// The names of events. Others are the refusals of the endpoints (token_refused, authorize_refused, introspect_refused,
// revoke_refused, …) and the events of signing keys in package keyring.
const (
	eventCodeIssued    = "code_issued" // an authorization code, whether the user was asked or had approved before
	eventTokenIssued   = "token_issued"
	eventReuseDetected = "reuse_detected" // a used code or refresh token was presented again; the event revoked says when its family has ended
	eventConsentGiven  = "consent_given"
	eventRevoked       = "revoked"
	eventClientChanged = "client_changed" // a client was added by the admin API, or changed
	eventSignedOut     = "signed_out"     // a person has signed out, or the site has ended a session
	eventLogoutSent    = "logout_sent"    // a client was told of that
	eventLogoutFailed  = "logout_failed"  // a client could not be told, and the server has given up

	eventDeviceStarted = "device_started" // a program has asked for a person's approval on another device
	eventDeviceDenied  = "device_denied"  // the person has denied it

	eventClientRegistered = "client_registered" // a client has registered itself
)

// The reasons of revocations that no owner has given.
const (
	reasonClient = "revoked by the client"
	reasonUser   = "removed by the user"
	reasonClosed = "no account at the site any more"
)

// The reasons of logouts.
const (
	reasonSignedOut = "signed out"
	reasonSiteEnded = "session ended by the site"
)

// All yields the fields that are not empty, with their names in the log.
func (e *Event) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for _, field := range [...]struct{ name, value string }{
			{"issuer", e.Issuer},
			{"client_id", e.Client},
			{"sub", e.Subject},
			{"grant_type", e.GrantType},
			{"client_ip", e.Address},
			{"family", e.Family},
			{"jti", e.TokenID},
			{"kid", e.KeyID},
			{"scope", strings.Join(e.Scopes, " ")},
			{"until", until(e.Until)},
			{"error", e.Error},
			{"error_id", e.ErrorID},
			{"reason", e.Reason},
		} {
			if field.value != "" && !yield(field.name, field.value) {
				return
			}
		}
	}
}

// until returns a time as a field of an event.
func until(end time.Time) string {
	if end.IsZero() {
		return ""
	}
	return end.UTC().Format(time.RFC3339)
}

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (e *Event) MarshalLogObject(log zapcore.ObjectEncoder) error {
	log.AddString("event", e.Name)
	for name, value := range e.All() {
		log.AddString(name, value)
	}
	return nil
}

// eventLog records events: in the audit log, for the observer, and in the metrics.
type eventLog struct {
	issuer  string
	log     *zap.Logger
	observe func(e *Event) // nil is nobody
	metrics *metrics.Issuer
}

// record writes an event to the log and passes it to the observer.
func (l *eventLog) record(e *Event) {
	e.Issuer = l.issuer
	if l.log.Core().Enabled(zap.InfoLevel) {
		l.log.Info(strings.ReplaceAll(e.Name, "_", " "), zap.Inline(e))
	}
	if l.observe != nil {
		l.observe(e)
	}
}

// issued counts and audits an access token.
func (l *eventLog) issued(c *call, auth *grants.Authorization, id string) {
	l.metrics.TokenIssued(c.grant)
	l.record(&Event{
		Name: eventTokenIssued, Address: c.peer.Address, Client: c.client.ID, Subject: auth.Subject, GrantType: c.grant, Family: auth.Family,
		TokenID: id, Scopes: auth.Scopes,
	})
}

// refused audits a refused request.
func (l *eventLog) refused(c *call, endpoint string, err error, code, id string) {
	event := &Event{Name: endpoint + "_refused", Address: c.peer.Address, Subject: c.subject, GrantType: c.grant, Error: code, ErrorID: id}
	if c.named.Client != nil {
		event.Client = c.named.ID
	}
	if c.client != nil {
		event.Client = c.client.ID
	}
	if refusal, ok := errors.AsType[*grants.Error](err); ok {
		event.Family, event.Subject = refusal.Family, cmp.Or(event.Subject, refusal.Subject)
	}
	if replay, ok := errors.AsType[*grants.Replay](err); ok {
		event.Name, event.Family, event.Reason = eventReuseDetected, replay.Family, replay.What+" used again"
		event.Client, event.Subject = replay.Client, replay.Subject
	}
	if closed, ok := errors.AsType[*grants.Closed](err); ok {
		event.Family, event.Subject, event.Reason = closed.Account.Family, closed.Account.Subject, reasonClosed
	}
	l.record(event)
}

// revoked counts and audits a revocation: of what and why, as labels of the metrics.
func (l *eventLog) revoked(what string, why revocationLabel, e *Event) {
	e.Name = eventRevoked
	l.metrics.Revocation(what, string(why))
	l.record(e)
}

// revocationLabel is why something was revoked, as a label of the metrics.
type revocationLabel string

const (
	labelReuse  revocationLabel = "reuse"  // something was used again
	labelClosed revocationLabel = "closed" // the user has no account any more
	labelClient revocationLabel = "client"
	labelUser   revocationLabel = "user"
	labelLogout revocationLabel = "logout"
	labelOwner  revocationLabel = "owner" // any reason in an owner's own words
)

// labelOf returns the label of a reason. Those of labelReuse and labelClosed follow from the refusal of a request instead.
func labelOf(reason string) revocationLabel {
	switch reason {
	case reasonClient:
		return labelClient
	case reasonUser:
		return labelUser
	case reasonSignedOut, reasonSiteEnded:
		return labelLogout
	}
	return labelOwner
}

// keyChanged audits a change of a signing key. For a key in use, since is when it began to sign.
func (l *eventLog) keyChanged(name, kid string, since time.Time) {
	if name == keyring.InUse {
		l.metrics.SigningSince(since)
	}
	l.record(&Event{Name: name, KeyID: kid})
}
