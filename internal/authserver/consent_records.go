package authserver

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/bounded"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// consentRecords are the records of what people have approved. A damaged one is made anew, and the person is asked again.
//
// core.remember (consent.go) writes what a person approves, lastUses.writeOne when a client has used it, and Revoker.forget takes it back.
// authorizeEndpoint.mustAsk (consent.go) decides by it.
type consentRecords struct {
	store   storage.Store
	outages *bounded.Outages
	log     *zap.Logger
	issuer  string
}

// of returns what a user has approved.
func (c *consentRecords) of(ctx context.Context, subject string) (*storage.Consents, error) {
	key := storage.ConsentKey(subject)
	record, err := c.store.Get(ctx, key)
	var consents *storage.Consents
	if err == nil || errors.Is(err, storage.ErrNotFound) {
		consents, err = storage.DecodeConsents(subject, record)
	}
	if !errors.Is(err, storage.ErrDamaged) {
		return consents, err
	}
	if err := c.remove(ctx, key, err); err != nil && !errors.Is(err, storage.ErrReadOnly) {
		return nil, err
	}
	return storage.DecodeConsents(subject, nil)
}

// change changes what a user has approved, in one atomic step. The record goes with the last client in it, or once
// the access of all clients is over.
func (c *consentRecords) change(ctx context.Context, subject string, change func(*storage.Consents) error) error {
	key := storage.ConsentKey(subject)
	update := func() error {
		return c.store.Update(ctx, key, func(old []byte) ([]byte, time.Time, error) {
			consents, err := storage.DecodeConsents(subject, old)
			if err == nil {
				err = change(consents)
			}
			if err != nil || len(consents.Clients) == 0 {
				return nil, time.Time{}, err
			}
			record, err := consents.Encode()
			return record, consents.Expires(), err
		})
	}
	err := update()
	if !errors.Is(err, storage.ErrDamaged) {
		return err
	}
	if err := c.remove(ctx, key, err); err != nil {
		return err
	}
	return update()
}

// remove removes a damaged record, and logs it once.
func (c *consentRecords) remove(ctx context.Context, key storage.Key, damage error) error {
	if first, fields := c.outages.Failed(bounded.Reading, bounded.NameRecord(key, damage)); first {
		c.log.Error("damaged record of consents; the person is asked again",
			append(fields, zap.String("issuer", c.issuer), zap.Error(damage))...)
	}
	return c.store.Delete(ctx, key)
}
