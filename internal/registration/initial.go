package registration

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// InitialToken is an initial access token (RFC 7591 §3).
type InitialToken struct {
	Hash  string    // "sha256:" and hex
	Uses  int       // how many clients can register with it; 0: any number
	Until time.Time // when it ends; zero: never
}

// UsedUpError says that as many clients have registered with a token as can.
type UsedUpError struct{ Uses int }

func (e *UsedUpError) Error() string {
	return fmt.Sprintf("%d clients have registered with the initial access token", e.Uses)
}

// left returns a *UsedUpError if no other client than this one can register with a token.
func (r *Registrations) left(ctx context.Context, token *InitialToken, id string) error {
	if token == nil || token.Uses == 0 {
		return nil
	}
	record, err := r.config.Store.Get(ctx, storage.InitialUsesKey(token.Hash))
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	uses, err := storage.DecodeInitialUses(record)
	if err != nil {
		return err
	}
	if !uses.Add(id, token.Uses) {
		return &UsedUpError{token.Uses}
	}
	return nil
}

// use counts a client that registers with a token, and reports whether it was not counted before. It is counted before there is a
// registration, so that a crash between the two cannot let more clients in; a public client that tries again has the same ID, and needs no
// other use.
func (r *Registrations) use(ctx context.Context, token *InitialToken, id string) (counted bool, err error) {
	if token == nil || token.Uses == 0 {
		return false, nil
	}
	err = r.changeUses(ctx, token, func(uses *storage.InitialUses) error {
		before := len(uses.Clients)
		if !uses.Add(id, token.Uses) {
			return &UsedUpError{token.Uses}
		}
		if counted = len(uses.Clients) > before; !counted {
			return storage.ErrKeep
		}
		return nil
	})
	return counted, err
}

// giveBack removes a client from the uses of an initial access token if its record was not stored, so that an outage does not use
// the token up. If the record exists after all, or if the store cannot tell, the use stays.
func (r *Registrations) giveBack(ctx context.Context, token *InitialToken, id string) {
	if _, err := r.config.Store.Get(ctx, recordKey(id)); !errors.Is(err, storage.ErrNotFound) {
		return
	}
	_ = r.changeUses(ctx, token, func(uses *storage.InitialUses) error {
		uses.Remove(id)
		return nil
	})
}

// changeUses changes the record of the uses of a token in one atomic step.
func (r *Registrations) changeUses(ctx context.Context, token *InitialToken, change func(*storage.InitialUses) error) error {
	return r.config.Store.Update(ctx, storage.InitialUsesKey(token.Hash), func(old []byte) ([]byte, time.Time, error) {
		uses := new(storage.InitialUses)
		if old != nil {
			var err error
			if uses, err = storage.DecodeInitialUses(old); err != nil {
				return nil, time.Time{}, err
			}
		}
		if err := change(uses); err != nil {
			return nil, time.Time{}, err
		}
		value, err := uses.Encode()
		return value, time.Time{}, err
	})
}
