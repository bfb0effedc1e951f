// Package cimd knows the clients whose ID is a URL: the URL of a Client ID Metadata Document, in which the client describes itself
// (draft-ietf-oauth-client-id-metadata-document).
//
// A [Source] fetches documents when a person who is signed in comes with the ID, and keeps those of clients that are in use in the
// store. Strangers can make it ask again for the documents that it has, and for no others. Start reading at [Source.Fetch].
//
// url.go has the rules for the ID, document.go those for the document, cache.go and records.go where documents are kept.
package cimd

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/fetch"
	"github.com/caddy-oauth/caddy-oauth/internal/registration"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

const (
	maxDocument = 16 << 10 // bytes
	purpose     = "client metadata"
	setting     = "cimd"

	// refreshTime is how long it may take to fetch a document and to store it, when the store is slow as well.
	refreshTime = 15 * time.Second

	// grace is how long a document is used whose server does not answer, after it has ceased to be fresh.
	grace = 24 * time.Hour
)

// Config is what a Source is made of.
type Config struct {
	Issuer   string // its short name, for the log
	Loopback bool   // the issuer is on this machine only, and so may its clients be
	Policy   Policy
	Fetcher  *fetch.Fetcher
	Store    storage.Store
	Logger   *zap.Logger
	Now      func() time.Time

	// Describe returns the client that a document describes, as the issuer's settings have it. The Source sets its ID, Origin and
	// Created.
	Describe func(id string, m *registration.Metadata) (*storage.Client, error)
}

// Source has the clients whose ID is the URL of their metadata. It is a clients.Source. Safe for concurrent use.
type Source struct {
	Config

	cache     *cache
	refreshes fetch.Group[*document]
	records   *records
}

// New returns a Source.
func New(c Config) *Source {
	c.Logger = c.Logger.With(zap.String("issuer", c.Issuer))
	r := &records{store: c.Store, log: c.Logger, now: c.Now, damaged: make(map[string]bool)}
	return &Source{Config: c, cache: newCache(), records: r}
}

// Find returns the client with that ID, and nil unless its document is known: only a fetch at an authorization request makes it so.
// A document that is not fresh any more is fetched again. The error is one of the store.
func (s *Source) Find(ctx context.Context, id string) (*storage.Client, error) {
	if !s.Owns(id) {
		return nil, nil
	}
	d, err := s.known(ctx, id)
	if d == nil || err != nil {
		return nil, err
	}
	if !d.fresh(s.Now()) {
		if !d.stored {
			return nil, nil
		}
		if d, err = s.refresh(ctx, id); err != nil {
			return nil, storeError(err)
		}
	}
	return d.client, nil
}

// Fetch returns the client with that ID. It fetches its document if that is unknown or not fresh any more, so it must only be called
// for somebody who is signed in. A refusal is a *grants.Error, with a description for the person: there is no such client, or nobody
// knows at present.
func (s *Source) Fetch(ctx context.Context, id string) (*storage.Client, error) {
	if err := s.check(id); err != nil {
		return nil, err
	}
	d, err := s.known(ctx, id)
	if err != nil {
		return nil, err
	}
	if d == nil || !d.fresh(s.Now()) {
		if d, err = s.refresh(ctx, id); err != nil {
			return nil, err
		}
	}
	return d.client, d.refusal
}

// Owns reports whether the ID can be that of a client that Fetch returns.
func (s *Source) Owns(id string) bool { return s.check(id) == nil }

// Missing says what an ID that Find does not know should be, for the owner, and "" if it is not meant as a URL. It implements
// clients.Explainer.
func (s *Source) Missing(id string) string {
	if !IsURL(id) {
		return ""
	}
	if refusal, ok := errors.AsType[*grants.Error](s.check(id)); ok {
		return refusal.Expected
	}
	return "a client that somebody has signed in to, whose document could be fetched within the last day, and with no redirect host that is blocked"
}

// check refuses an ID that cannot be that of a client, whatever there is at the URL.
func (s *Source) check(id string) error {
	if err := checkID(id, s.Loopback); err != nil {
		return refuse("the client ID is not the URL of a client metadata document").Explain(id, err.Error(), setting)
	}
	if err := s.Policy.permit(hostOf(id)); err != nil {
		return refuse("this server does not accept clients of that host").Explain(id, err.Error(), setting)
	}
	return nil
}

// refuse returns a refusal of a client.
func refuse(description string) *grants.Error {
	return &grants.Error{
		Code: grants.InvalidClient, Description: description, Status: http.StatusUnauthorized, Situation: grants.BadClient,
	}
}

// storeError returns nil for a refusal.
func storeError(err error) error {
	if refusal := (*grants.Error)(nil); errors.As(err, &refusal) {
		return nil
	}
	return err
}

// known returns the document that is in memory or in the store, fresh or not, and nil if there is none.
func (s *Source) known(ctx context.Context, id string) (*document, error) {
	now := s.Now()
	d := s.cache.get(id, now)
	if d != nil && d.fresh(now) {
		return d, nil
	}
	// Another node may have a fresher one.
	record, err := s.records.load(ctx, id)
	if err != nil || record == nil {
		return d, err
	}
	if d == nil || !d.stored || record.Fetched.After(d.Fetched) {
		d = s.read(record, true)
		s.cache.put(d)
	}
	return d, nil
}

// refresh fetches a document again, or for the first time. For one ID, this runs once at a time.
func (s *Source) refresh(ctx context.Context, id string) (*document, error) {
	return s.refreshes.Do(ctx, id, refreshTime, func(ctx context.Context) (*document, error) {
		old, err := s.known(ctx, id)
		if err != nil {
			return nil, err
		}
		if old != nil && old.fresh(s.Now()) {
			return old, nil // another request was first
		}
		next, err := s.fetch(ctx, id, old)
		if err != nil {
			if old != nil && old.stored && s.Now().Before(old.Fresh.Add(grace)) {
				return old, nil
			}
			return nil, unavailable(id, err)
		}
		d := s.read(next, old != nil && old.stored)
		if d.stored {
			d = s.replace(ctx, d)
		}
		s.cache.put(d)
		return d, nil
	})
}

// fetch returns the record of a document that was fetched now, given the one that is known, which may be nil.
func (s *Source) fetch(ctx context.Context, id string, old *document) (*storage.Document, error) {
	request := fetch.Request{
		URL: id, Purpose: purpose, Loopback: s.Loopback, Limit: maxDocument,
		Check: func(body []byte) error { return second(parse(id, body)) },
	}
	if old != nil {
		request.ETag, request.LastModified, request.Known = old.ETag, old.LastModified, old.stored
	}
	response, err := s.Fetcher.Get(ctx, request)
	s.log(id, response, err)
	if err != nil {
		return nil, err
	}
	now := s.Now()
	next := &storage.Document{
		ID:   strings.Clone(id), // as a part of the request, it would keep all of that in memory
		Body: response.Body, ETag: response.ETag, LastModified: response.LastModified,
		Fetched: now, Fresh: now.Add(response.Fresh), Created: now,
	}
	if response.NotModified() {
		next.Body, next.ETag, next.LastModified = old.Body, old.ETag, old.LastModified
	}
	if old != nil {
		next = merge(&old.Document, next)
	}
	return next, nil
}

func second[T any](_ T, err error) error { return err }

// log has a line for every request to a client's server.
func (s *Source) log(id string, response *fetch.Response, err error) {
	var failure *fetch.Error
	switch {
	case err == nil:
		s.Logger.Info("client metadata document fetched", zap.String("cimd", id), zap.Int("status", response.Status), zap.Duration("fresh", response.Fresh))
	case errors.As(err, &failure) && failure.Sent():
		s.Logger.Info("client metadata document refused", zap.String("cimd", id), zap.Int("status", failure.Status), zap.String("reason", string(failure.Reason)), zap.Error(failure))
	}
}

// unavailable is the refusal of a client whose document could not be fetched. What was wrong is for the owner only: it says what this
// server can reach.
func unavailable(id string, err error) error {
	refusal := refuse("the description of the app at its client ID could not be read").Explain(id, err.Error(), setting)
	refusal.Cause = err
	if failure := (*fetch.Error)(nil); errors.As(err, &failure) {
		refusal.RetryAfter = failure.Retry
		if expected := failure.Err; expected != nil && failure.Sent() {
			refusal.Expected = expected.Error()
		}
	}
	return refusal
}
