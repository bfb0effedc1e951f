package cimd

import (
	"context"
	"iter"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/registration"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

const (
	// usedLife is how long the document of a client is kept that had a code or a token, if it has no family any more.
	usedLife = 90 * 24 * time.Hour

	// slack is by how much more than needed a record is extended, so that it is written once in that time.
	slack = 24 * time.Hour
)

// InUse records that the client has tokens until then; zero: without end. Its document is kept in the store until then, and for at
// least 90 days. Documents that are not in use are deleted.
func (s *Source) InUse(ctx context.Context, id string, until time.Time) error {
	if !s.Owns(id) {
		return nil // it cannot use its tokens
	}
	d, err := s.known(ctx, id)
	if err != nil {
		return err
	}
	if d == nil {
		return refuse("the description of the app is not known any more, start again").Explain(id, "a client whose document is in memory", setting)
	}
	now := s.Now()
	if d.stored && !mustExtend(&d.Document, until, now) {
		return nil
	}
	if !d.stored {
		if err := s.checkRoom(ctx, id); err != nil {
			return err
		}
	}
	record, err := s.records.update(ctx, id, func(current *storage.Document) *storage.Document {
		next := &d.Document
		if current != nil {
			next = merge(current, next)
		}
		if current != nil && !mustExtend(next, until, now) {
			return nil
		}
		return extended(next, until, now)
	})
	if err != nil {
		return err
	}
	s.cache.put(s.read(record, true))
	return nil
}

// Described yields the clients in use for the owner of the issuer. It implements clients.Lister, and asks no client's server.
func (s *Source) Described(ctx context.Context) iter.Seq2[clients.Described, error] {
	return func(yield func(clients.Described, error) bool) {
		for d, err := range s.records.all(ctx) {
			var client clients.Described
			if err == nil {
				client = describedBy(d)
			}
			if !yield(client, err) {
				return
			}
		}
	}
}

// describedBy returns what the owner sees of a document, also of one that the issuer's settings do not allow any more.
func describedBy(d *storage.Document) clients.Described {
	client := clients.Described{ID: d.ID, Origin: storage.OriginDocument, Created: d.Created, Used: d.Used}
	if !d.Endless {
		client.Until = d.Live
	}
	if m, err := registration.Parse(d.Body); err == nil {
		client.Name, client.RedirectURIs = m.ClientName, m.RedirectURIs
	}
	return client
}

// mustExtend reports whether the record of a client that has tokens until then must be written.
func mustExtend(d *storage.Document, until, now time.Time) bool {
	switch {
	case now.Sub(d.Used) >= slack:
		return true
	case until.IsZero():
		return !d.Endless
	}
	return until.After(d.Live) && !d.Endless
}

// extended returns the record of a client that has tokens until then.
func extended(d *storage.Document, until, now time.Time) *storage.Document {
	next := *d
	next.Used = now
	if until.IsZero() {
		next.Endless = true
	} else {
		next.Live = later(next.Live, until.Add(slack))
	}
	return &next
}

// expiry returns when a record expires.
func expiry(d *storage.Document) time.Time {
	if d.Endless {
		return time.Time{}
	}
	return later(d.Used.Add(usedLife+slack), d.Live)
}

// replace stores what a client in use has become, and returns it as it is stored. A store that cannot be written is no reason to refuse
// the client: the next node fetches the document again.
func (s *Source) replace(ctx context.Context, d *document) *document {
	gone := false
	record, err := s.records.update(ctx, d.ID, func(current *storage.Document) *storage.Document {
		if gone = current == nil; gone {
			return nil
		}
		return merge(current, &d.Document)
	})
	if err != nil {
		s.Logger.Warn("client metadata document not stored", zap.String("cimd", d.ID), zap.Error(err))
		return d
	}
	if gone {
		return s.read(&d.Document, false)
	}
	return s.read(record, true)
}

// checkRoom refuses a further client if too many are in use.
func (s *Source) checkRoom(ctx context.Context, id string) error {
	ok, err := s.records.makeRoom(ctx)
	if ok || err != nil {
		return err
	}
	return refuse("this server knows too many apps already").Explain(id, "fewer clients in use", setting)
}
