package authserver

import (
	"context"
	"errors"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// The reasons that are the server's own.
const (
	reasonClient = "revoked by the client"
	reasonUser   = "removed by the user"
)

// RevokeFamily ends a family: its code, its refresh tokens and, here at once, its access tokens. A family that is not
// there any more has ended. The address is that of the client that asked, "" if it was the owner of the site.
func (s *Server) RevokeFamily(ctx context.Context, id, reason, address string) error {
	key := storage.Key{Kind: storage.KindFamily, ID: id}
	life, err := s.tokenLife(ctx, key)
	if err != nil {
		return err
	}
	f, err := s.endFamily(ctx, id, reason, life)
	if err != nil {
		return err
	}
	s.revoked("family", &Event{Address: address, Family: id, Client: f.Client, Subject: f.Subject, Reason: reason})
	return nil
}

// endFamily ends a family, the longest life of whose access tokens was life, and returns whose it was. The access tokens
// come first: once the family has ended, whoever tries again after a failure would find nothing to do.
func (s *Server) endFamily(ctx context.Context, id, reason string, life time.Duration) (*storage.Family, error) {
	if err := s.cutFamily(ctx, id, reason, life); err != nil {
		return nil, err
	}
	now, ended := s.now(), new(storage.Family)
	key := storage.Key{Kind: storage.KindFamily, ID: id}
	err := s.config.Store.Update(ctx, key, func(record []byte) ([]byte, time.Time, error) {
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

// tokenLife returns the longest life of an access token of a family, 0 if there is no family.
func (s *Server) tokenLife(ctx context.Context, key storage.Key) (time.Duration, error) {
	record, err := s.config.Store.Get(ctx, key)
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

// cutFamily voids the access tokens of a family, the longest life of which was life, if that is known.
func (s *Server) cutFamily(ctx context.Context, id, reason string, life time.Duration) error {
	now := s.now()
	return s.cutoffs.Add(ctx, &storage.Cutoff{
		Family: id, Before: now, Expires: now.Add(max(s.longestToken(), life+jwt.Leeway)), Reason: reason,
	})
}

// RevokeToken ends one access token. For the address see RevokeFamily.
func (s *Server) RevokeToken(ctx context.Context, c *jwt.Claims, reason, address string) error {
	if c.ID == "" {
		return errors.New("the token has no jti to revoke it by")
	}
	cutoff := &storage.Cutoff{Token: c.ID, Before: s.now(), Expires: c.Expires.Add(jwt.Leeway), Reason: reason}
	if err := s.cutoffs.Add(ctx, cutoff); err != nil {
		return err
	}
	if c.Opaque { // last: without it, whoever tries again after a failure would find nothing to do
		if err := s.config.Store.Delete(ctx, storage.Key{Kind: storage.KindAccess, ID: c.ID}); err != nil {
			return err
		}
	}
	s.revoked("token", &Event{
		Address: address, TokenID: c.ID, Client: c.ClientID, Subject: c.Subject, Family: c.Family, Reason: reason,
	})
	return nil
}

// Revoke voids all that a user has let clients have, all that a client has, or, with both, all that the user
// has let this client have; and the consents that go with it. It returns when the second it is about is over. For the
// address see RevokeFamily.
func (s *Server) Revoke(ctx context.Context, subject, client, reason, address string) error {
	if subject == "" && client == "" {
		return errors.New("expected a user, a client or both")
	}
	now := s.now()
	expires, err := s.longestFamily(ctx, now)
	if err != nil {
		return err
	}
	cutoff := &storage.Cutoff{Subject: subject, Client: client, Before: now, Expires: expires, Reason: reason}
	if err := s.cutoffs.Add(ctx, cutoff); err != nil {
		return err
	}
	if subject != "" {
		if err := s.forget(ctx, subject, client); err != nil {
			return err
		}
	}
	s.revoked(revokedOf(subject, client), &Event{Address: address, Subject: subject, Client: client, Reason: reason})
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
func (s *Server) forget(ctx context.Context, subject, client string) error {
	return s.config.Store.Update(ctx, storage.ConsentKey(subject), func(old []byte) ([]byte, time.Time, error) {
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
}

// longestToken returns how long an access token that is made now can live.
func (s *Server) longestToken() time.Duration { return s.config.Keys.Lifetime + jwt.Leeway }

// longestCode is how long an authorization code can live at most, and with it a family without refresh tokens.
const longestCode = 10 * time.Minute

// longestFamily returns when the last family that is live now ends; zero is never.
func (s *Server) longestFamily(ctx context.Context, now time.Time) (time.Time, error) {
	clients, others, err := s.clients.All(ctx)
	if err != nil || others {
		return time.Time{}, err
	}
	longest := max(s.longestToken(), longestCode)
	for _, c := range clients {
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

// loadCutoffs makes sure that the revocations are known. Requests that wait for the first load wait no longer than for any
// other answer of the store.
func (s *Server) loadCutoffs(ctx context.Context) error {
	if s.cutoffs.Loaded() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.StoreTimeout)
	defer cancel()
	return s.cutoffs.Load(ctx)
}
