package authserver

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/bounded"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// sessionRecords are the records of where people have signed in with OpenID Connect. Nothing else reads or writes them: requests
// without the scope openid, and the token endpoint, do not. A damaged record is made anew.
type sessionRecords struct {
	store   storage.Store
	outages *bounded.Outages
	log     *zap.Logger
	issuer  string
	now     func() time.Time
}

// clientSession is how long a client may use its own session without asking this server, as far as it is worth telling it that the
// person has signed out.
const clientSession = 30 * 24 * time.Hour

// offlineAccess is the scope of tokens that are for use when the person has signed out (OpenID Connect Core §11). They outlive the
// session (OpenID Connect Back-Channel Logout §2.7).
const offlineAccess = "offline_access"

// note notes that a client is about to get a code, if the code signs a person in. key is that of the family's record.
func (s *sessionRecords) note(ctx context.Context, client *storage.Client, f *storage.Family, key storage.Key) error {
	if client.OpenID == nil || !slices.Contains(f.Scopes, grants.OpenID) {
		return nil
	}
	now := s.now()
	family := storage.SessionFamily{ID: key.ID, Ends: f.Code.Expires.Add(client.AccessTokenLifetime)}
	if f.Code.Offline {
		family.Ends = f.Ends
	}
	until := family.Ends
	if !until.IsZero() && client.OpenID.BackchannelLogoutURI != "" && until.Before(now.Add(clientSession)) {
		until = now.Add(clientSession)
	}
	if slices.Contains(f.Scopes, offlineAccess) {
		family.ID = ""
	}
	sid := f.Session.ID
	if sid != "" {
		if err := s.claim(ctx, f.Subject, sid, until); err != nil {
			return err
		}
	}
	return s.change(ctx, f.Subject, func(sessions *storage.Sessions) {
		sessions.Add(client.ID, sid, until, family, now)
	})
}

// ownerLife is how long the record of the owner of a session is kept after the last sign-in in it, if its tokens never expire.
const ownerLife = 400 * 24 * time.Hour

// claim notes whose a session is. That is a write with the first sign-in of the session, and with a later one on another day.
func (s *sessionRecords) claim(ctx context.Context, subject, sid string, until time.Time) error {
	sessions, err := s.of(ctx, subject)
	if err != nil {
		return err
	}
	// kept returns until when the record is kept that a sign-in at a time writes, or has written.
	kept := func(until, at time.Time) time.Time {
		if until.IsZero() {
			until = at.Add(ownerLife)
		}
		return until.Truncate(24 * time.Hour).Add(48 * time.Hour)
	}
	last, before, known := sessions.Session(sid)
	if known {
		until = storage.Later(before, until)
	}
	end := kept(until, s.now())
	if known && !end.After(kept(before, last)) {
		return nil
	}
	record, err := (&storage.Sessions{Subject: subject}).Encode()
	if err != nil {
		return err
	}
	return s.store.Update(ctx, storage.SessionKey(sid), func([]byte) ([]byte, time.Time, error) {
		return record, end, nil
	})
}

// forget forgets sign-ins that have ended. Whose their sessions were is kept for another two days, as a sign-in that begins in one of
// them may have just seen that record.
func (s *sessionRecords) forget(ctx context.Context, subject string, ended []storage.SignIn) error {
	var gone []string
	err := s.change(ctx, subject, func(sessions *storage.Sessions) {
		sessions.Remove(ended)
		gone = nil
		for _, in := range ended {
			if _, _, known := sessions.Session(in.Session); !known && in.Session != "" && !slices.Contains(gone, in.Session) {
				gone = append(gone, in.Session)
			}
		}
	})
	if err != nil {
		return err
	}
	for _, sid := range gone {
		err := s.store.Update(ctx, storage.SessionKey(sid), func(old []byte) ([]byte, time.Time, error) {
			if old == nil {
				return nil, time.Time{}, storage.ErrKeep
			}
			return old, s.now().Add(48 * time.Hour), nil
		})
		if err != nil && !errors.Is(err, storage.ErrDamaged) {
			return err
		}
	}
	return nil
}

// owner returns whose a session is, "" if that is not known.
func (s *sessionRecords) owner(ctx context.Context, sid string) (subject string, err error) {
	sessions, err := s.read(ctx, storage.SessionKey(sid), "")
	if err != nil {
		return "", err
	}
	return sessions.Subject, nil
}

// of returns where a person has signed in.
func (s *sessionRecords) of(ctx context.Context, subject string) (*storage.Sessions, error) {
	return s.read(ctx, storage.SessionsKey(subject), subject)
}

func (s *sessionRecords) read(ctx context.Context, key storage.Key, subject string) (*storage.Sessions, error) {
	record, err := s.store.Get(ctx, key)
	if errors.Is(err, storage.ErrNotFound) {
		return &storage.Sessions{Subject: subject}, nil
	}
	var sessions *storage.Sessions
	if err == nil {
		sessions, err = storage.DecodeSessions(subject, record)
	}
	if !errors.Is(err, storage.ErrDamaged) {
		return sessions, err
	}
	if err := s.remove(ctx, key, err); err != nil && !errors.Is(err, storage.ErrReadOnly) {
		return nil, err
	}
	return &storage.Sessions{Subject: subject}, nil
}

// change changes the record of a person in one atomic step. The record goes with the last sign-in in it.
func (s *sessionRecords) change(ctx context.Context, subject string, change func(*storage.Sessions)) error {
	key := storage.SessionsKey(subject)
	update := func() error {
		return s.store.Update(ctx, key, func(old []byte) ([]byte, time.Time, error) {
			sessions, err := storage.DecodeSessions(subject, old)
			if err != nil {
				return nil, time.Time{}, err
			}
			change(sessions)
			if len(sessions.SignIns) == 0 {
				return nil, time.Time{}, nil
			}
			record, err := sessions.Encode()
			return record, sessions.Expires(), err
		})
	}
	err := update()
	if !errors.Is(err, storage.ErrDamaged) {
		return err
	}
	if err := s.remove(ctx, key, err); err != nil {
		return err
	}
	return update()
}

// remove removes a damaged record, and logs it once.
func (s *sessionRecords) remove(ctx context.Context, key storage.Key, damage error) error {
	if first, fields := s.outages.Failed(bounded.Reading, bounded.NameRecord(key, damage)); first {
		s.log.Error("damaged record of sessions; a logout does not reach the apps that were in it",
			append(fields, zap.String("issuer", s.issuer), zap.Error(damage))...)
	}
	return s.store.Delete(ctx, key)
}
