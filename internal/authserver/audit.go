package authserver

import (
	"errors"
	"iter"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/keyring"
)

// Event is something that an owner may have to answer for. It has no secret, token or code. What does not belong to it
// is empty.
type Event struct {
	Name      string // one of the constants, or the name of an endpoint and "_refused"
	Issuer    string
	Client    string // as it authenticated, or, in a refusal, as it is named
	Subject   string
	GrantType string
	Address   string   // of who asked
	Family    string   // the ID of its record, which is a hash
	TokenID   string   // jti of an access token, or the ID of its record
	KeyID     string   // of a signing key
	Scopes    []string // of what was issued or approved
	Error     string   // the code that the client got
	ErrorID   string   // the same as in the answer and in the log
	Reason    string   // of a revocation; what was done to a client
}

// The names of events, beside the refusals of the endpoints: token_refused, authorize_refused, introspect_refused,
// revoke_refused and the like, and those of signing keys in package keyring.
const (
	TokenIssued   = "token_issued"
	ReuseDetected = "reuse_detected" // what was used before was presented again; its family is revoked
	ConsentGiven  = "consent_given"
	Revoked       = "revoked"
	ClientChanged = "client_changed" // a client was added at run time, or such a one was changed
)

// All yields what is known, by the names it has in the log.
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

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (e *Event) MarshalLogObject(log zapcore.ObjectEncoder) error {
	log.AddString("event", e.Name)
	for name, value := range e.All() {
		log.AddString(name, value)
	}
	return nil
}

// audit writes an event to the log and passes it to the observer.
func (s *Server) audit(e *Event) {
	e.Issuer = s.config.Name
	if s.config.Audit.Core().Enabled(zap.InfoLevel) {
		s.config.Audit.Info(strings.ReplaceAll(e.Name, "_", " "), zap.Inline(e))
	}
	if s.config.Observe != nil {
		s.config.Observe(e)
	}
}

// issued tells of an access token.
func (s *Server) issued(c *call, auth *grants.Authorization, id string) {
	s.metrics.TokenIssued(c.grant)
	s.audit(&Event{
		Name: TokenIssued, Address: c.address, Client: c.client.ID, Subject: auth.Subject, GrantType: c.grant, Family: auth.Family,
		TokenID: id, Scopes: auth.Scopes,
	})
}

// refused tells of a request that was not granted.
func (s *Server) refused(c *call, e *endpoint, err error, code, id string) {
	event := &Event{Name: e.name + "_refused", Address: c.address, Subject: c.subject, GrantType: c.grant, Error: code, ErrorID: id}
	if c.named != nil {
		event.Client = c.named.ID
	}
	if c.client != nil {
		event.Client = c.client.ID
	}
	if replay, ok := errors.AsType[*grants.Replay](err); ok {
		event.Name, event.Family, event.Reason = ReuseDetected, replay.Family, replay.What+" used again"
		event.Client, event.Subject = replay.Client, replay.Subject
		s.metrics.Revocation("family", reasonLabel(event.Reason))
	}
	s.audit(event)
}

// revoked tells of a revocation.
func (s *Server) revoked(what string, e *Event) {
	e.Name = Revoked
	s.metrics.Revocation(what, reasonLabel(e.Reason))
	s.audit(e)
}

// reasonLabel returns the reason of a revocation as a label. Reasons that owners write are all one.
func reasonLabel(reason string) string {
	switch reason {
	case reasonClient:
		return "client"
	case reasonUser:
		return "user"
	case "authorization code used again", "refresh token used again":
		return "reuse"
	}
	return "owner"
}

// keyChanged tells of a signing key, and since when it signs.
func (s *Server) keyChanged(name, kid string, since time.Time) {
	if name == keyring.InUse {
		s.metrics.SigningSince(since)
	}
	s.audit(&Event{Name: name, KeyID: kid})
}
