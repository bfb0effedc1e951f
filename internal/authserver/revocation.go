package authserver

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/revocation"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Revoker ends tokens before their time. What it revokes is void here at once, and on other nodes after their next poll.
//
// A revocation writes its cutoff first and only then changes other records. If it fails in between, whoever tries again
// still finds something to revoke.
type Revoker struct {
	store   storage.Store
	cutoffs *revocation.Cutoffs
	clients *clients.Directory
	longest time.Duration // how long an access token that is issued now can be accepted
	now     func() time.Time
	revoked func(what string, e *Event) // is told of each revocation

	mu      sync.Mutex
	replays []*grants.Replay // whose families could not be ended yet, because of the store
}

// The reasons of revocations that no owner has given.
const (
	reasonClient = "revoked by the client"
	reasonUser   = "removed by the user"
)

// RevokeFamily ends a family: its code, its refresh tokens and its access tokens. A family that is not there any more has
// ended. address is that of the client that asked, "" if it was the owner of the site.
func (r *Revoker) RevokeFamily(ctx context.Context, id, reason, address string) error {
	key := storage.Key{Kind: storage.KindFamily, ID: id}
	life, err := r.tokenLife(ctx, key)
	if err != nil {
		return err
	}
	f, err := r.endFamily(ctx, id, reason, life)
	if err != nil {
		return err
	}
	r.revoked("family", &Event{Address: address, Family: id, Client: f.Client, Subject: f.Subject, Reason: reason})
	return nil
}

// endFamily ends a family, whose access tokens lived up to life, and returns what it was.
func (r *Revoker) endFamily(ctx context.Context, id, reason string, life time.Duration) (*storage.Family, error) {
	if err := r.cutFamily(ctx, id, reason, life); err != nil {
		return nil, err
	}
	now, ended := r.now(), new(storage.Family)
	key := storage.Key{Kind: storage.KindFamily, ID: id}
	err := r.store.Update(ctx, key, func(record []byte) ([]byte, time.Time, error) {
		if record == nil {
			return nil, time.Time{}, storage.ErrKeep
		}
		f, err := storage.DecodeFamily(record)
		if err != nil {
			return nil, time.Time{}, err
		}
		ended = f
		if f.Revoked.IsZero() {
			f.Revoke(reason, now)
		}
		value, err := f.Encode()
		return value, f.Expires(now, 0), err
	})
	return ended, err
}

// tokenLife returns how long access tokens of a family live at most, 0 if there is no family.
func (r *Revoker) tokenLife(ctx context.Context, key storage.Key) (time.Duration, error) {
	record, err := r.store.Get(ctx, key)
	if errors.Is(err, storage.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	f, err := storage.DecodeFamily(record)
	if err != nil {
		return 0, err
	}
	return f.TokenLife, nil
}

// cutFamily voids the access tokens of a family, which live up to life if that is not 0.
func (r *Revoker) cutFamily(ctx context.Context, id, reason string, life time.Duration) error {
	now := r.now()
	return r.cutoffs.Add(ctx, &storage.Cutoff{
		Family: id, Before: now, Expires: now.Add(max(r.longest, life+jwt.MaxLeeway)), Reason: reason,
	})
}

// RevokeToken ends one access token. For address see RevokeFamily.
func (r *Revoker) RevokeToken(ctx context.Context, c *jwt.Claims, reason, address string) error {
	if c.ID == "" {
		return errors.New("the token has no jti to revoke it by")
	}
	cutoff := &storage.Cutoff{Token: c.ID, Before: r.now(), Expires: c.Expires.Add(jwt.MaxLeeway), Reason: reason}
	if err := r.cutoffs.Add(ctx, cutoff); err != nil {
		return err
	}
	if c.Opaque {
		if err := r.store.Delete(ctx, storage.Key{Kind: storage.KindAccess, ID: c.ID}); err != nil {
			return err
		}
	}
	r.revoked("token", &Event{
		Address: address, TokenID: c.ID, Client: c.ClientID, Subject: c.Subject, Family: c.Family, Reason: reason,
	})
	return nil
}

// Revoke voids all tokens of a user, of a client, or, with both, of the user at this client; and it forgets the consents of
// the user. It returns when the second of its cutoff is over, see [revocation.Cutoffs.Voids]. For address see RevokeFamily.
func (r *Revoker) Revoke(ctx context.Context, subject, client, reason, address string) error {
	if subject == "" && client == "" {
		return errors.New("expected a user, a client or both")
	}
	now := r.now()
	expires, err := r.longestFamily(ctx, now)
	if err != nil {
		return err
	}
	cutoff := &storage.Cutoff{Subject: subject, Client: client, Before: now, Expires: expires, Reason: reason}
	if err := r.cutoffs.Add(ctx, cutoff); err != nil {
		return err
	}
	if subject != "" {
		if err := r.forget(ctx, subject, client); err != nil {
			return err
		}
	}
	r.revoked(revokedOf(subject, client), &Event{Address: address, Subject: subject, Client: client, Reason: reason})
	select {
	case <-ctx.Done():
	case <-time.After(time.Second - time.Duration(now.Nanosecond())):
	}
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
	err := r.store.Update(ctx, storage.ConsentKey(subject), func(old []byte) ([]byte, time.Time, error) {
		consents, err := storage.DecodeConsents(subject, old)
		switch {
		case err != nil:
			return nil, time.Time{}, err
		case old == nil:
			return nil, time.Time{}, storage.ErrKeep
		}
		delete(consents.Clients, client)
		if client == "" || len(consents.Clients) == 0 {
			return nil, time.Time{}, nil
		}
		record, err := consents.Encode()
		return record, time.Time{}, err
	})
	if errors.Is(err, storage.ErrDamaged) { // nobody can read what it allows
		return r.store.Delete(ctx, storage.ConsentKey(subject))
	}
	return err
}

// longestCode is how long an authorization code can live, and with it a family without refresh tokens.
const longestCode = 10 * time.Minute

// longestFamily returns when the last family that exists now ends; zero is never.
func (r *Revoker) longestFamily(ctx context.Context, now time.Time) (time.Time, error) {
	all, others, err := r.clients.All(ctx)
	if err != nil || others {
		return time.Time{}, err
	}
	longest := max(r.longest, longestCode)
	for _, c := range all {
		switch {
		case !c.MayUse("refresh_token"):
		case c.RefreshToken.Lifetime == 0:
			return time.Time{}, nil
		default:
			longest = max(longest, c.RefreshToken.Lifetime)
		}
	}
	return now.Add(longest), nil
}

// maxReplays bounds how many replays wait for the store.
const maxReplays = 100_000

// RevokeReplayed ends the family of a replay, if the refusal of a request is one (RFC 6749 §4.1.2, RFC 9700 §4.14.2), even if
// the client does not wait for it. If the store fails, the next polls try again, see RetryReplays. It returns the refusal.
func (r *Revoker) RevokeReplayed(ctx context.Context, refusal error) error {
	replay, ok := errors.AsType[*grants.Replay](refusal)
	if !ok {
		return refusal
	}
	err := r.endReplayed(context.WithoutCancel(ctx), replay)
	switch {
	case errors.Is(err, storage.ErrReadOnly):
		return err // Don't queue it: this node is read-only and may be retired; the client retries elsewhere.
	case err != nil:
		r.queue(replay)
	}
	return refusal
}

func (r *Revoker) endReplayed(ctx context.Context, replay *grants.Replay) error {
	_, err := r.endFamily(ctx, replay.Family, replay.What+" used again", replay.TokenLife)
	return err
}

// RetryReplays ends the families of replays that could not be ended before.
func (r *Revoker) RetryReplays(ctx context.Context) (err error) {
	for _, replay := range r.dequeue() {
		if err == nil {
			err = r.endReplayed(ctx, replay)
		}
		if err != nil {
			r.queue(replay)
		}
	}
	return err
}

func (r *Revoker) queue(replay *grants.Replay) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.replays) >= maxReplays {
		r.replays = r.replays[1:]
	}
	r.replays = append(r.replays, replay)
}

func (r *Revoker) dequeue() []*grants.Replay {
	r.mu.Lock()
	defer r.mu.Unlock()
	queued := r.replays
	r.replays = nil
	return queued
}
