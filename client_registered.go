package caddyoauth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Clients that are added at run time are checked like those of the configuration, and what is not said of them follows
// the issuer's settings of the day.

// resolver returns how such a client looks to requests. Keys and revocations are kept for access tokens that live up to
// longest, so no token may live longer.
func (i *Issuer) resolver(longest time.Duration) authserver.Resolver {
	return func(r *storage.Registered, hashes []string) (*storage.Client, error) {
		c, err := decodeClient(r.Settings)
		if err != nil {
			return nil, err
		}
		c.SecretHashes = hashes
		if err := c.check(r.ID, i); err != nil {
			return nil, err
		}
		client := c.client(r.ID, i)
		if client.AccessTokenLifetime > longest {
			return nil, directive.At("access_token", directive.At("lifetime", fmt.Errorf("expected at most %s, the longest of the configuration", longest)))
		}
		return client, nil
	}
}

// decodeClient reads the settings of a client that was added at run time.
func decodeClient(settings json.RawMessage) (*Client, error) {
	c := new(Client)
	if err := decodeStrictly(bytes.NewReader(settings), c); err != nil {
		return nil, err
	}
	if len(c.Secrets)+len(c.SecretHashes) > 0 {
		return nil, errors.New("expected no secrets among the settings: they are kept apart from them")
	}
	// The checks pass over values with placeholders, which only a configuration can have.
	for setting, values := range map[string][]string{
		"redirect_uris": c.RedirectURIs, "audience": c.Audience, "introspects": c.Introspects,
	} {
		for _, value := range values {
			if unresolved(value) {
				return nil, directive.At(setting, fmt.Errorf("expected a value without braces, not %s", value))
			}
		}
	}
	return c, nil
}

// decodeStrictly reads one JSON value, all members of which must be known.
func decodeStrictly(r io.Reader, value any) error {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	if err := d.Decode(value); err != nil {
		return fmt.Errorf("expected JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("expected JSON: there is more than one value")
	}
	return nil
}
