package authserver

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/revocation"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Revoker ends tokens before their time. What it revokes is void here at once, and on other nodes after their next poll.
//
// A family ends in two steps. First its record becomes a tombstone, which overwrites it in place and so needs no room on a
// disk. Then a cutoff voids its access tokens. If a node fails in between, whoever presents a token of the family once more
// makes the node that is asked do the second step.
type Revoker struct {
	store    storage.Store
	consents *consentRecords
	cutoffs  *revocation.Cutoffs
	now      func() time.Time
	log      *zap.Logger
	issuer   string
	revoked  func(what string, why revocationLabel, e *Event) // is told of each revocation, see eventLog.revoked

	// tell tells clients that all tokens of a user, or those at a client, were revoked; nil: nobody signs in here.
	tell func(ctx context.Context, subject, client, reason string) error

	mu      sync.Mutex
	pending []pendingRevocation // which the store did not take yet
}

// RevokeFamily ends a family: its code, its refresh tokens and its access tokens. A family that is not there any more has
// ended. address is that of the client that asked, "" if it was the owner of the site.
func (r *Revoker) RevokeFamily(ctx context.Context, id, reason, address string) error {
	f, err := r.revokeRecord(ctx, id, reason)
	if err != nil && !errors.Is(err, storage.ErrDamaged) { // with a damaged record, only its access tokens are accepted
		return err
	}
	if err := r.cutFamily(ctx, id, reason); err != nil {
		return err
	}
	r.revoked("family", labelOf(reason), &Event{Address: address, Family: id, Client: f.Client, Subject: f.Subject, Reason: reason})
	return nil
}

// revokeRecord makes the record of a family a tombstone, so that no token of it is accepted any more, and returns what the family was.
func (r *Revoker) revokeRecord(ctx context.Context, id, reason string) (*storage.Family, error) {
	now, family := r.now(), new(storage.Family)
	key := storage.Key{Kind: storage.KindFamily, ID: id}
	err := r.store.Update(ctx, key, func(record []byte) ([]byte, time.Time, error) {
		if record == nil {
			return nil, time.Time{}, storage.ErrKeep
		}
		f, err := storage.DecodeFamily(record)
		if err != nil {
			return nil, time.Time{}, err
		}
		family = f
		if !f.Revoked.IsZero() {
			return nil, time.Time{}, storage.ErrKeep
		}
		f.Revoke(reason, now)
		value, err := f.Encode()
		return value, f.Expires(now, 0), err
	})
	return family, err
}

// cutFamily voids the access tokens of a family.
func (r *Revoker) cutFamily(ctx context.Context, id, reason string) error {
	return r.cutoffs.Add(ctx, &storage.Cutoff{Family: id, Reason: reason})
}

// finishFamily does what is left of the revocation of a family, if anything, when a token of it is presented again: the node that
// revoked it may have died before it had done all. f is the family as its record or a [grants.AlreadyRevoked] says.
func (r *Revoker) finishFamily(ctx context.Context, id string, f *storage.Family) error {
	if err := r.cutoffs.Load(ctx); err != nil {
		return err
	}
	cut := r.cutoffs.HasFamilyCutoff(id)
	switch {
	case cut && f.Revoked.IsZero():
		_, err := r.revokeRecord(ctx, id, "revoked before")
		return err
	case cut, r.now().After(f.Revoked.Add(revocation.ClockSkew + r.cutoffs.AccessTokenLife())):
		return nil
	}
	return r.cutFamily(ctx, id, f.Reason)
}

// revokeToken ends one access token. For address see RevokeFamily.
func (r *Revoker) revokeToken(ctx context.Context, c *jwt.Claims, reason, address string) error {
	if c.ID == "" {
		return errors.New("the token has no jti to revoke it by")
	}
	cutoff := &storage.Cutoff{Token: c.ID, Expires: c.Expires.Add(jwt.MaxLeeway), Reason: reason}
	if err := r.cutoffs.Add(ctx, cutoff); err != nil {
		return err
	}
	if c.Opaque {
		if err := r.store.Delete(ctx, storage.Key{Kind: storage.KindAccess, ID: c.ID}); err != nil {
			return err
		}
	}
	r.revoked("token", labelOf(reason), &Event{
		Address: address, TokenID: c.ID, Client: c.ClientID, Subject: c.Subject, Family: c.Family, Reason: reason,
	})
	return nil
}

// Revoke voids all tokens of a user, of a client, or, with both, of the user at this client; and it forgets the consents of
// the user. For address see RevokeFamily.
//
// A person who removes an app expects it to stay away. But something that began before can end afterwards, so these ask the cutoffs too:
//
//   - a consent page that was open (authorizeEndpoint.decided), and the page for a device (deviceEndpoint.approve)
//   - a use that is not written yet (lastUses.writeOne)
//   - the exchange of a token of the user that another client got before: checkExchanged of package grants refuses it, and
//     accessTokens.removedAfter the token from a node that did not know of the removal
func (r *Revoker) Revoke(ctx context.Context, subject, client, reason, address string) error {
	if subject == "" && client == "" {
		return errors.New("expected a user, a client or both")
	}
	if err := r.cutoffs.Add(ctx, &storage.Cutoff{Subject: subject, Client: client, Reason: reason}); err != nil {
		return err
	}
	if subject != "" {
		if err := r.forget(ctx, subject, client); err != nil {
			return err
		}
		if r.tell != nil {
			if err := r.tell(ctx, subject, client, reason); err != nil {
				return err
			}
		}
	}
	r.revoked(revokedOf(subject, client), labelOf(reason), &Event{Address: address, Subject: subject, Client: client, Reason: reason})
	return nil
}

// cutTokens voids all tokens of a user at a client, but leaves the consent.
func (r *Revoker) cutTokens(ctx context.Context, subject, client, reason string) error {
	if err := r.cutoffs.Add(ctx, &storage.Cutoff{Subject: subject, Client: client, Reason: reason}); err != nil {
		return err
	}
	r.revoked(revokedOf(subject, client), labelOf(reason), &Event{Subject: subject, Client: client, Reason: reason})
	return nil
}

// revokedOf returns what a cutoff for a user, a client or both is about, as a label.
func revokedOf(subject, client string) string {
	switch {
	case client == "":
		return "user"
	case subject == "":
		return "client"
	}
	return "user_client"
}

// forget takes back the consents of a user, for a client or for all.
func (r *Revoker) forget(ctx context.Context, subject, client string) error {
	return r.consents.change(ctx, subject, func(consents *storage.Consents) error {
		if len(consents.Clients) == 0 {
			return storage.ErrKeep
		}
		delete(consents.Clients, client)
		if client == "" {
			clear(consents.Clients)
		}
		return nil
	})
}

// maxPending bounds how many families to end wait for the store.
const maxPending = 100_000

// pendingRevocation is a family that has to end since a request was refused.
type pendingRevocation struct {
	family, client, subject string

	reason  string
	label   revocationLabel
	message string        // what the log says of it
	level   zapcore.Level // at this level, once the family has ended
}

// revocationOf returns the family that a refusal ends: that of something which was used before (RFC 6749 §4.1.2, RFC 9700
// §4.14.2), or whose user has no account any more.
func revocationOf(refusal error) (pendingRevocation, bool) {
	if replay, ok := errors.AsType[*grants.Replay](refusal); ok {
		return pendingRevocation{
			replay.Family, replay.Client, replay.Subject, replay.What + " used again", labelReuse, "reuse detected", zap.WarnLevel,
		}, true
	}
	if closed, ok := errors.AsType[*grants.Closed](refusal); ok {
		a := closed.Account
		return pendingRevocation{a.Family, a.Client, a.Subject, reasonClosed, labelClosed, "account closed", zap.InfoLevel}, true
	}
	return pendingRevocation{}, false
}

// revokedNow is a refusal that ends a family, with what became of that.
type revokedNow struct {
	pendingRevocation
	refusal error

	refresh error // why the refresh tokens of the family are not revoked yet; nil: they are
	access  error // the same of its access tokens
}

func (e *revokedNow) Error() string { return e.refusal.Error() }

// Unwrap returns the refusal.
func (e *revokedNow) Unwrap() error { return e.refusal }

// outcome returns the level and the message in the log.
func (e *revokedNow) outcome() (zapcore.Level, string) {
	switch {
	case e.refresh != nil:
		return zap.ErrorLevel, e.message + ", but the store does not take the revocation of the family: " +
			"this node refuses its tokens, and tries again"
	case e.access != nil:
		return zap.ErrorLevel, e.message + ": refresh tokens of the family revoked, but the store does not take the revocation " +
			"of its access tokens: this node refuses them, and tries again"
	}
	return e.level, e.message + ": family revoked"
}

// RevokeForRefusal ends the family that the refusal of a request ends, if any, even if the client does not wait for it. If the store
// fails, the next polls try again, see RetryPending. It returns the refusal.
func (r *Revoker) RevokeForRefusal(ctx context.Context, refusal error) error {
	ctx = context.WithoutCancel(ctx)
	if ended, ok := errors.AsType[*grants.AlreadyRevoked](refusal); ok {
		// If that fails, the client is refused nevertheless, and whoever comes next makes another attempt.
		_ = r.finishFamily(ctx, ended.Family, &storage.Family{Revoked: ended.Revoked, Reason: ended.Reason})
		return refusal
	}
	p, ok := revocationOf(refusal)
	if !ok {
		return refusal
	}
	e := r.revokeNow(ctx, p)
	switch {
	case errors.Is(e.refresh, storage.ErrReadOnly):
		return e.refresh // Don't queue it: this node is read-only and may be retired; the client retries elsewhere.
	case e.refresh != nil || e.access != nil:
		r.queue(p)
	}
	e.refusal = refusal
	return e
}

// revokeNow ends a family, and tells of it once it has ended.
func (r *Revoker) revokeNow(ctx context.Context, p pendingRevocation) *revokedNow {
	e := &revokedNow{pendingRevocation: p}
	if _, e.refresh = r.revokeRecord(ctx, p.family, p.reason); errors.Is(e.refresh, storage.ErrReadOnly) {
		return e
	}
	e.access = r.cutFamily(ctx, p.family, p.reason)
	if e.refresh == nil && e.access == nil {
		r.revoked("family", p.label, &Event{Family: p.family, Client: p.client, Subject: p.subject, Reason: p.reason})
	}
	return e
}

// RetryPending ends the families that could not be ended before.
func (r *Revoker) RetryPending(ctx context.Context) (err error) {
	for _, p := range r.dequeue() {
		if err == nil {
			e := r.revokeNow(ctx, p)
			if err = cmp.Or(e.refresh, e.access); err == nil {
				r.log.Warn("family revoked, which the store did not take before", zap.String("issuer", r.issuer),
					zap.String("client_id", p.client), zap.String("sub", p.subject), zap.String("family", p.family))
			}
		}
		if err != nil {
			r.queue(p)
		}
	}
	return err
}

func (r *Revoker) queue(p pendingRevocation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.pending) >= maxPending {
		r.pending = r.pending[1:]
	}
	p.client, p.subject = strings.Clone(p.client), strings.Clone(p.subject) // not as parts of a decoded record
	r.pending = append(r.pending, p)
}

func (r *Revoker) dequeue() []pendingRevocation {
	r.mu.Lock()
	defer r.mu.Unlock()
	queued := r.pending
	r.pending = nil
	return queued
}
