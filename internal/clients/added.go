package clients

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

var (
	// ErrNotFound says that no client with that ID was added at run time.
	ErrNotFound = errors.New("no such client")
	// ErrExists says that there is a client with the ID of the one to be added.
	ErrExists = errors.New("a client with this ID exists")
	// ErrConfigured says that the client is part of the configuration, and can be changed only there.
	ErrConfigured = errors.New("the client is part of the configuration: change it there")
	// ErrPublic says that the client has no secret to replace.
	ErrPublic = errors.New("the client has no secret: it is public, or has keys")
)

// SettingsError says what is wrong with the settings of a client, in the words of the configuration.
type SettingsError struct{ Problem error }

func (e *SettingsError) Error() string { return e.Problem.Error() }

func (e *SettingsError) Unwrap() error { return e.Problem }

// Stored is a client that was added at run time.
type Stored struct {
	*storage.AddedClient

	Problem string // why it is refused until its settings are changed; "" if it is not
}

// Added returns the clients that were added at run time, sorted by ID, as far as this node knows.
func (d *Directory) Added(ctx context.Context) ([]Stored, error) {
	x, err := d.index(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]Stored, 0, len(x.stored))
	for id, r := range x.stored {
		if r.Deleted.IsZero() && !r.BlocksDescribed && d.Configured[id] == nil {
			list = append(list, Stored{r, x.problems[id]})
		}
	}
	slices.SortFunc(list, func(a, b Stored) int { return cmp.Compare(a.ID, b.ID) })
	return list, nil
}

// Addition is a client that is to be added.
type Addition struct {
	ID           string
	Settings     json.RawMessage
	SecretHashes []string // of secrets that it has already
	NoSecret     bool     // it gets none: it is public, or has keys
}

// Add adds a client. Unless it needs none or brings hashes, it gets a secret, which is returned and only stored as a hash.
func (d *Directory) Add(ctx context.Context, c Addition) (r *storage.AddedClient, secret string, err error) {
	if len(c.SecretHashes) == 0 && !c.NoSecret {
		secret = newSecret()
		c.SecretHashes = []string{HashSecret(secret)}
	}
	if err := d.revokeEnded(ctx, c.ID); err != nil {
		return nil, "", err
	}
	r, err = d.change(ctx, c.ID, "added", func(old *storage.AddedClient, now time.Time) (*storage.AddedClient, error) {
		if old != nil && old.Deleted.IsZero() && !(old.BlocksDescribed && old.Disabled.IsZero()) {
			return nil, ErrExists
		}
		next := &storage.AddedClient{ID: c.ID, Settings: c.Settings, Created: now}
		for _, hash := range c.SecretHashes {
			next.Secrets = append(next.Secrets, storage.Secret{Hash: hash, Created: now})
		}
		return next, d.check(next, now)
	})
	if err != nil {
		return nil, "", err
	}
	return r, secret, nil
}

// revokeEnded voids what a node that does not know yet that a client has ended may have issued since.
func (d *Directory) revokeEnded(ctx context.Context, id string) error {
	ended, err := d.Ended(ctx, id)
	if err != nil || !ended {
		return err
	}
	return d.Revoke(ctx, id, "client added again")
}

// Change replaces the settings of a client by what change makes of them.
func (d *Directory) Change(
	ctx context.Context, id string, change func(settings json.RawMessage) (json.RawMessage, error),
) (*storage.AddedClient, error) {
	return d.changeExisting(ctx, id, "changed", func(r *storage.AddedClient, now time.Time) (err error) {
		if r.Settings, err = change(r.Settings); err != nil {
			return err
		}
		return d.check(r, now)
	})
}

// NewSecret gives a client a new secret, which is returned and only stored as a hash. The secrets before it work for the
// grace time.
func (d *Directory) NewSecret(
	ctx context.Context, id string, grace time.Duration,
) (r *storage.AddedClient, secret string, err error) {
	secret = newSecret()
	r, err = d.changeExisting(ctx, id, "given another secret", func(r *storage.AddedClient, now time.Time) error {
		if len(r.Secrets) == 0 {
			return ErrPublic
		}
		r.ReplaceSecret(HashSecret(secret), now, grace)
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return r, secret, nil
}

// Disable refuses a client everywhere until it is enabled, and voids its tokens.
func (d *Directory) Disable(ctx context.Context, id string) (*storage.AddedClient, error) {
	r, err := d.changeExisting(ctx, id, "disabled", func(r *storage.AddedClient, now time.Time) error {
		if r.Disabled.IsZero() {
			r.Disabled = now
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return r, d.Revoke(ctx, id, "client disabled")
}

// Enable ends Disable. Tokens from before stay void.
func (d *Directory) Enable(ctx context.Context, id string) (*storage.AddedClient, error) {
	if err := d.revokeEnded(ctx, id); err != nil {
		return nil, err
	}
	return d.changeExisting(ctx, id, "enabled", func(r *storage.AddedClient, _ time.Time) error {
		r.Disabled = time.Time{}
		return nil
	})
}

// Delete removes a client and voids its tokens. A tombstone stays, see Config.Tombstone.
func (d *Directory) Delete(ctx context.Context, id string) error {
	_, err := d.changeExisting(ctx, id, "deleted", func(r *storage.AddedClient, now time.Time) error {
		r.Deleted = now
		return nil
	})
	if err != nil {
		return err
	}
	return d.Revoke(ctx, id, "client deleted")
}

// changeExisting is change for a client that must exist.
func (d *Directory) changeExisting(
	ctx context.Context, id, what string, change func(r *storage.AddedClient, now time.Time) error,
) (*storage.AddedClient, error) {
	return d.change(ctx, id, what, func(old *storage.AddedClient, now time.Time) (*storage.AddedClient, error) {
		if old == nil || old.BlocksDescribed || !old.Deleted.IsZero() {
			return nil, ErrNotFound
		}
		return old, change(old, now)
	})
}

// change decides on a client's record in one atomic step. The change is in force here at once, and on other nodes after
// their next poll. what names the change for the audit log. decide sees nil if there is no record, and may run again.
func (d *Directory) change(
	ctx context.Context, id, what string,
	decide func(old *storage.AddedClient, now time.Time) (*storage.AddedClient, error),
) (*storage.AddedClient, error) {
	if d.Configured[id] != nil {
		return nil, ErrConfigured
	}
	var next *storage.AddedClient
	err := d.Store.Update(ctx, storage.AddedClientKey(id), func(record []byte) ([]byte, time.Time, error) {
		var old *storage.AddedClient
		if record != nil {
			var err error
			if old, err = storage.DecodeAddedClient(record); err != nil {
				return nil, time.Time{}, err
			}
		}
		now := d.Now()
		var err error
		if next, err = decide(old, now); err != nil {
			return nil, time.Time{}, err
		}
		next.Changed = now
		var expires time.Time
		if !next.Deleted.IsZero() || next.BlocksDescribed && next.Disabled.IsZero() {
			expires = now.Add(d.Tombstone())
		}
		value, err := next.Encode()
		return value, expires, err
	})
	if err != nil {
		return nil, err
	}
	return next, errors.Join(d.refresh(ctx, id), d.Changed(ctx, id, what))
}

// check reports settings that the issuer does not allow.
func (d *Directory) check(r *storage.AddedClient, now time.Time) error {
	hashes, _ := r.Hashes(now)
	for _, hash := range hashes {
		if !d.Secrets.ValidHash(hash) {
			return &SettingsError{fmt.Errorf("secret_hashes: %w", errHash)}
		}
	}
	if _, err := d.Resolve(r, hashes); err != nil {
		return &SettingsError{err}
	}
	return nil
}

var errHash = errors.New("expected sha256: and 64 hex digits in lower case, or a hash that caddy hash-password prints")
