package cimd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/registration"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// parse reads a document. Its errors are about the document alone: what the issuer's settings do not allow is for Config.Describe.
func parse(id string, body []byte) (*registration.Metadata, error) {
	m, err := registration.Parse(body)
	if err != nil {
		return nil, err
	}
	switch {
	case m.ClientID != id: // section 4 of the draft: compared letter by letter
		return nil, fmt.Errorf("client_id: expected the URL of the document, not %.200q", m.ClientID)
	case m.HasSecret: // section 4: everybody can read the document
		return nil, errors.New("client_secret: expected a document without a secret")
	case strings.HasPrefix(m.TokenEndpointAuthMethod, "client_secret_"):
		return nil, fmt.Errorf("token_endpoint_auth_method: expected a method without a shared secret, not %.50q", m.TokenEndpointAuthMethod)
	case m.ClientName == "": // the Model Context Protocol requires it, and people need it
		return nil, errors.New("client_name: expected a name")
	}
	return m, m.Check()
}

// document is a document as this node knows it. It is never changed, only replaced.
type document struct {
	storage.Document

	client  *storage.Client // nil with a refusal
	refusal error           // why the issuer's settings do not allow the client
	stored  bool            // it is in the store, because the client is in use
}

// fresh reports whether the document can be used without asking the client's server.
func (d *document) fresh(now time.Time) bool { return now.Before(d.Fresh) }

// read returns the document of a record.
func (s *Source) read(record *storage.Document, stored bool) *document {
	d := &document{Document: *record, stored: stored}
	m, err := parse(d.ID, d.Body)
	if err == nil {
		d.client, err = s.Describe(d.ID, m)
	}
	if err != nil {
		d.client = nil
		d.refusal = refuse("the app asks for something that this server does not have").Explain(d.ID, err.Error(), setting)
		return d
	}
	d.client.ID, d.client.Origin, d.client.Created = d.ID, storage.OriginDocument, d.Created
	return d
}

// merge returns what becomes of a record when there is another one about the same client: the newer document, and all that is known of
// its use. If the newer document describes another client, it begins anew.
func merge(old, next *storage.Document) *storage.Document {
	older, newer := old, next
	if next.Fetched.Before(old.Fetched) {
		older, newer = next, old
	}
	merged := *newer
	merged.Created = older.Created
	if changed(older.Body, newer.Body) {
		merged.Created = newer.Fetched
	}
	merged.Used = later(old.Used, next.Used)
	merged.Live = later(old.Live, next.Live)
	merged.Endless = old.Endless || next.Endless
	return &merged
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// changed reports whether two documents describe different clients, so that what a person has approved for the one is not for the other:
// keys, methods of authentication, or hosts that a redirect goes to have changed.
func changed(before, after []byte) bool {
	a, errA := registration.Parse(before)
	b, errB := registration.Parse(after)
	if errA != nil || errB != nil {
		return true
	}
	return a.JWKSURI != b.JWKSURI || !sameJSON(a.JWKS, b.JWKS) || a.TokenEndpointAuthMethod != b.TokenEndpointAuthMethod ||
		!slices.Equal(sorted(a.TokenEndpointAuthMethods), sorted(b.TokenEndpointAuthMethods)) ||
		!maps.Equal(destinations(a.RedirectURIs), destinations(b.RedirectURIs))
}

// sorted returns a list in order, each element once.
func sorted(list []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(list)))
}

// destinations are the schemes and hosts of redirect URIs.
func destinations(redirectURIs []string) map[string]bool {
	hosts := make(map[string]bool)
	for _, uri := range redirectURIs {
		if u, err := url.Parse(uri); err == nil {
			hosts[u.Scheme+"://"+strings.ToLower(u.Hostname())] = true
		}
	}
	return hosts
}

// sameJSON reports whether two texts have the same value, but for the order of members and white space.
func sameJSON(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, errX := canonical(a)
	y, errY := canonical(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func canonical(text json.RawMessage) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		return nil, err
	}
	return json.Marshal(value) // with the members in order
}
