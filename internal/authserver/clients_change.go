package authserver

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

var (
	// ErrNoClient says that no client of an ID was added at run time.
	ErrNoClient = errors.New("there is no such client")
	// ErrClientExists says that the ID of a client to be added is taken.
	ErrClientExists = errors.New("there is a client of this ID already")
	// ErrClientConfigured says that a client is the configuration's to change.
	ErrClientConfigured = errors.New("the client is one of the configuration: change it there")
	// ErrClientPublic says that a client has no secret that could be replaced.
	ErrClientPublic = errors.New("the client is public: it has no secret")
)

// ClientError is what is wrong with the settings of a client, in the words of the configuration.
type ClientError struct{ Problem error }

func (e *ClientError) Error() string { return e.Problem.Error() }

func (e *ClientError) Unwrap() error { return e.Problem }

// RegisteredClient is a client that was added at run time, and why it can do nothing, if it cannot.
type RegisteredClient struct {
	*storage.Registered

	Problem string
}

// RegisteredClients returns the clients that were added at run time, by their IDs, as this node knows them.
func (s *Server) RegisteredClients(ctx context.Context) ([]RegisteredClient, error) {
	x, err := s.directory.index(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]RegisteredClient, 0, len(x.known))
	for id, r := range x.known {
		if r.Deleted.IsZero() && s.config.Clients[id] == nil {
			list = append(list, RegisteredClient{r, x.problems[id]})
		}
	}
	slices.SortFunc(list, func(a, b RegisteredClient) int { return cmp.Compare(a.ID, b.ID) })
	return list, nil
}

// NewClient is a client that is to be added.
type NewClient struct {
	ID           string
	Settings     json.RawMessage
	SecretHashes []string // of secrets that it has already
	Public       bool     // it gets no secret
}

// AddClient adds a client. One that is not public and has no secret gets one, which is returned and not kept.
func (s *Server) AddClient(ctx context.Context, c NewClient) (r *storage.Registered, secret string, err error) {
	if len(c.SecretHashes) == 0 && !c.Public {
		secret = newSecret()
		c.SecretHashes = []string{HashSecret(secret)}
	}
	if err := s.voidAnotherOf(ctx, c.ID); err != nil {
		return nil, "", err
	}
	r, err = s.changeClient(ctx, c.ID, "added", func(old *storage.Registered, now time.Time) (*storage.Registered, error) {
		if old != nil && old.Deleted.IsZero() {
			return nil, ErrClientExists
		}
		next := &storage.Registered{ID: c.ID, Settings: c.Settings, Created: now}
		for _, hash := range c.SecretHashes {
			next.Secrets = append(next.Secrets, storage.Secret{Hash: hash, Created: now})
		}
		return next, s.checkClient(next, now)
	})
	if err != nil {
		return nil, "", err
	}
	return r, secret, nil
}

// voidAnotherOf voids what a node that has not heard of a client's deletion may have issued meanwhile.
func (s *Server) voidAnotherOf(ctx context.Context, id string) error {
	ended, err := s.directory.ended(ctx, id)
	if err != nil || !ended {
		return err
	}
	return s.Revoke(ctx, "", id, "client added again", "")
}

// ChangeClient replaces the settings of a client by what change makes of them.
func (s *Server) ChangeClient(
	ctx context.Context, id string, change func(settings json.RawMessage) (json.RawMessage, error),
) (*storage.Registered, error) {
	return s.changeKnownClient(ctx, id, "changed", func(r *storage.Registered, now time.Time) (err error) {
		if r.Settings, err = change(r.Settings); err != nil {
			return err
		}
		return s.checkClient(r, now)
	})
}

// NewClientSecret gives a client another secret, which is returned and not kept. Those before it are good for the grace
// time.
func (s *Server) NewClientSecret(
	ctx context.Context, id string, grace time.Duration,
) (r *storage.Registered, secret string, err error) {
	secret = newSecret()
	r, err = s.changeKnownClient(ctx, id, "given another secret", func(r *storage.Registered, now time.Time) error {
		if len(r.Secrets) == 0 {
			return ErrClientPublic
		}
		r.ReplaceSecret(HashSecret(secret), now, grace)
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return r, secret, nil
}

// DisableClient refuses a client everywhere until it is enabled, and voids its tokens.
func (s *Server) DisableClient(ctx context.Context, id string) (*storage.Registered, error) {
	r, err := s.changeKnownClient(ctx, id, "disabled", func(r *storage.Registered, now time.Time) error {
		if r.Disabled.IsZero() {
			r.Disabled = now
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return r, s.Revoke(ctx, "", id, "client disabled", "")
}

// EnableClient ends DisableClient. Tokens from before stay void.
func (s *Server) EnableClient(ctx context.Context, id string) (*storage.Registered, error) {
	if err := s.voidAnotherOf(ctx, id); err != nil {
		return nil, err
	}
	return s.changeKnownClient(ctx, id, "enabled", func(r *storage.Registered, _ time.Time) error {
		r.Disabled = time.Time{}
		return nil
	})
}

// DeleteClient removes a client and voids its tokens. Its tombstone stays for as long as a token can live that a
// node issued that had not heard of it.
func (s *Server) DeleteClient(ctx context.Context, id string) error {
	_, err := s.changeKnownClient(ctx, id, "deleted", func(r *storage.Registered, now time.Time) error {
		r.Deleted = now
		return nil
	})
	if err != nil {
		return err
	}
	return s.Revoke(ctx, "", id, "client deleted", "")
}

// changeKnownClient is changeClient for one that there is.
func (s *Server) changeKnownClient(
	ctx context.Context, id, what string, change func(r *storage.Registered, now time.Time) error,
) (*storage.Registered, error) {
	return s.changeClient(ctx, id, what, func(old *storage.Registered, now time.Time) (*storage.Registered, error) {
		if old == nil || !old.Deleted.IsZero() {
			return nil, ErrNoClient
		}
		return old, change(old, now)
	})
}

// changeClient decides on a client's record in one atomic step. The change holds here at once, and on other nodes after
// their next poll. what was done is for the audit log. change sees nil if there is no record, and may run again.
func (s *Server) changeClient(
	ctx context.Context, id, what string,
	change func(old *storage.Registered, now time.Time) (*storage.Registered, error),
) (*storage.Registered, error) {
	if s.config.Clients[id] != nil {
		return nil, ErrClientConfigured
	}
	var next *storage.Registered
	err := s.config.Store.Update(ctx, storage.RegisteredKey(id), func(record []byte) ([]byte, time.Time, error) {
		var old *storage.Registered
		if record != nil {
			var err error
			if old, err = storage.DecodeRegistered(record); err != nil {
				return nil, time.Time{}, err
			}
		}
		now := s.now()
		var err error
		if next, err = change(old, now); err != nil {
			return nil, time.Time{}, err
		}
		next.Changed = now
		var expires time.Time
		if !next.Deleted.IsZero() {
			expires = now.Add(s.longestToken() + newsAtLeast)
		}
		value, err := next.Encode()
		return value, expires, err
	})
	if err != nil {
		return nil, err
	}
	s.audit(&Event{Name: ClientChanged, Client: id, Reason: what})
	return next, errors.Join(s.directory.refresh(ctx, id), s.tell(ctx))
}

// checkClient finds settings that the issuer does not allow.
func (s *Server) checkClient(r *storage.Registered, now time.Time) error {
	hashes, _ := r.Hashes(now)
	for _, hash := range hashes {
		if !s.config.Secrets.ValidHash(hash) {
			return &ClientError{fmt.Errorf("secret_hashes: %w", errHash)}
		}
	}
	if _, err := s.config.Resolve(r, hashes); err != nil {
		return &ClientError{err}
	}
	return nil
}

var errHash = errors.New("expected sha256: and 64 hex digits in lower case, or a hash that caddy hash-password prints")

// newSecret returns a secret of 260 random bits.
func newSecret() string { return rand.Text() + rand.Text() }
