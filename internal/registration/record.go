package registration

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Record is a registration in the store. It has no secrets: those of the client are derived from its ID, see idKey.
type Record struct {
	ID       string    `json:"client_id"`
	Metadata *Metadata `json:"metadata"`
	Created  time.Time `json:"created"`
	Changed  time.Time `json:"changed,omitzero"` // by the client (RFC 7592)

	// Used is when the client last got a code or tokens, up to a day ago; zero is never.
	Used time.Time `json:"used,omitzero"`
	// Until is when its tokens end, as far as is known; zero is for ever if it was used.
	Until time.Time `json:"until,omitzero"`
	// Expires is when the record expires; zero is never.
	Expires time.Time `json:"expires,omitzero"`

	// Deleted makes the record a tombstone, which tells every node that the client has deleted its registration.
	Deleted time.Time `json:"deleted,omitzero"`
}

// recordKey returns the key of a registration.
func recordKey(id string) storage.Key {
	return storage.Key{Kind: storage.KindDynamic, ID: storage.EscapeID(id)}
}

// decodeRecord reads a record.
func decodeRecord(text []byte) (*Record, error) {
	if err := storage.CheckReadable(text); err != nil {
		return nil, fmt.Errorf("registration record: %w", err)
	}
	r := new(Record)
	if err := json.Unmarshal(text, r); err != nil || r.ID == "" || r.Metadata == nil {
		return nil, fmt.Errorf("%w: registration record: not the JSON of a registration", storage.ErrDamaged)
	}
	return r, nil
}

// All yields the registrations that have not expired, see [clients.Records].
func (r *Registrations) All(ctx context.Context) iter.Seq2[*Record, error] {
	return func(yield func(*Record, error) bool) {
		now := r.config.Now()
		for record, err := range clients.Records(ctx, r.config.Store, storage.KindDynamic, decodeRecord) {
			if err == nil && (!record.live(now) || !strings.HasPrefix(record.ID, idPrefix)) {
				continue
			}
			if !yield(record, err) || err != nil {
				return
			}
		}
	}
}

// Described yields the clients for the owner of the issuer. It implements clients.Lister.
func (r *Registrations) Described(ctx context.Context) iter.Seq2[clients.Described, error] {
	return func(yield func(clients.Described, error) bool) {
		for record, err := range r.All(ctx) {
			var client clients.Described
			if err == nil {
				client = clients.Described{
					ID: record.ID, Origin: storage.OriginRegistered, Name: record.Metadata.ClientName, RedirectURIs: record.Metadata.RedirectURIs,
					Created: record.Created, Used: record.Used, Until: record.Until,
				}
			}
			if !yield(client, err) {
				return
			}
		}
	}
}

// live reports whether a registration is there at a time.
func (r *Record) live(now time.Time) bool {
	return r.Deleted.IsZero() && (r.Expires.IsZero() || now.Before(r.Expires))
}

// mustKeep reports whether a record would expire too early for a client with tokens until then.
func (r *Record) mustKeep(now, until time.Time, unused time.Duration) bool {
	if r.Used.IsZero() || !r.Expires.IsZero() && r.Expires.Before(now.Add(unused)) {
		return true
	}
	return !r.Expires.IsZero() && (until.IsZero() || r.Expires.Before(until))
}

// use extends a record for a client with tokens until then.
func (r *Record) use(now, until time.Time, unused time.Duration) {
	first := r.Used.IsZero()
	r.Used = now
	if until.IsZero() || !first && r.Until.IsZero() {
		r.Until, r.Expires = time.Time{}, time.Time{}
		return
	}
	r.Until = later(r.Until, until)
	r.Expires = later(r.Expires, later(r.Until, now.Add(unused)).Add(slack))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Confidential reports whether the client has a secret.
func (m *Metadata) Confidential() bool {
	return m.TokenEndpointAuthMethod == storage.MethodBasic || m.TokenEndpointAuthMethod == storage.MethodPost
}

// canonical returns the metadata as text that is the same for the same client. The port of a loopback host is left out: a program on
// somebody's device gets another one each time.
func (m *Metadata) canonical() []byte {
	same := *m
	same.RedirectURIs = slices.Clone(m.RedirectURIs)
	for n, uri := range same.RedirectURIs {
		u, err := url.Parse(uri)
		if err == nil && u.Scheme == "http" && uris.IsLoopback(u.Hostname()) && u.Port() != "" {
			u.Host = strings.TrimSuffix(u.Host, ":"+u.Port())
			same.RedirectURIs[n] = u.String()
		}
	}
	slices.Sort(same.RedirectURIs)
	same.RedirectURIs = slices.Compact(same.RedirectURIs)
	text, _ := json.Marshal(same) // no error: strings, and JSON that was read
	return text
}

// idKey is the key from which the IDs and the secrets of clients are derived. It is the same on all nodes and never changes: clients keep
// what they got. It is made when a client first registers or is first looked for.
type idKey struct {
	store   storage.Store
	latest  atomic.Pointer[[]byte]
	loading *semaphore.Weighted
}

// keyRecord is the key in the store.
var keyRecord = storage.Key{Kind: storage.KindKeys, ID: "registrations"}

const keyLength = 32

// load returns the key.
func (k *idKey) load(ctx context.Context) ([]byte, error) {
	if key := k.latest.Load(); key != nil {
		return *key, nil
	}
	if err := k.loading.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("%w: %w", storage.ErrTimeout, err)
	}
	defer k.loading.Release(1)
	if key := k.latest.Load(); key != nil { // another request was first
		return *key, nil
	}
	text, err := k.store.Get(ctx, keyRecord)
	if errors.Is(err, storage.ErrNotFound) {
		text, err = k.make(ctx)
	}
	if err != nil {
		return nil, err
	}
	var record struct {
		Secret []byte `json:"secret"`
	}
	if json.Unmarshal(text, &record) != nil || len(record.Secret) != keyLength {
		return nil, &storage.DamagedError{Key: keyRecord, Err: errors.New("not the key of registrations")}
	}
	k.latest.Store(&record.Secret)
	return record.Secret, nil
}

// make makes the key, unless another node was faster.
func (k *idKey) make(ctx context.Context) (text []byte, err error) {
	secret := make([]byte, keyLength)
	_, _ = rand.Read(secret) // never fails
	made, err := json.Marshal(map[string][]byte{"secret": secret})
	if err != nil {
		return nil, err
	}
	err = k.store.Update(ctx, keyRecord, func(old []byte) ([]byte, time.Time, error) {
		if text = bytes.Clone(old); old != nil {
			return nil, time.Time{}, storage.ErrKeep
		}
		text = made
		return made, time.Time{}, nil
	})
	return text, err
}

// derive returns a MAC of a text for a purpose.
func derive(key []byte, purpose string, text []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("caddy-oauth registration: " + purpose + "\x00"))
	mac.Write(text)
	return mac.Sum(nil)
}

// A client ID is idPrefix, nameLength characters that name the registration, and checkLength characters that only this server can
// make: to ask for IDs that were never issued costs no read of the store. Names have 100 random bits, and 30 bits are checked.
const (
	idPrefix    = "d."
	nameLength  = 20
	checkLength = 6
	idLength    = len(idPrefix) + nameLength + checkLength
)

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// makeID returns the client ID with a name.
func makeID(key, name []byte) string {
	text := idEncoding.EncodeToString(name)[:nameLength]
	return idPrefix + text + idEncoding.EncodeToString(derive(key, "check", []byte(text)))[:checkLength]
}

// publicID returns the ID of a client without a secret: the same metadata has the same ID.
func publicID(key []byte, m *Metadata) string {
	return makeID(key, derive(key, "client ID", m.canonical()))
}

// randomID returns the ID of a client with a secret.
func randomID(key []byte) string {
	name := make([]byte, sha256.Size)
	_, _ = rand.Read(name) // never fails
	return makeID(key, name)
}

// looksLikeID reports whether an ID can be one of a registration.
func looksLikeID(id string) bool { return len(id) == idLength && strings.HasPrefix(id, idPrefix) }

// issued reports whether this server has made an ID.
func issued(key []byte, id string) bool {
	name, check := id[len(idPrefix):idLength-checkLength], id[idLength-checkLength:]
	want := idEncoding.EncodeToString(derive(key, "check", []byte(name)))[:checkLength]
	return hmac.Equal([]byte(check), []byte(want))
}

// secretOf returns the secret of a client, and tokenOf its registration access token (RFC 7592). Neither is stored.
func secretOf(key []byte, id string) string {
	return base64.RawURLEncoding.EncodeToString(derive(key, "client_secret", []byte(id)))
}

func tokenOf(key []byte, id string) string {
	return base64.RawURLEncoding.EncodeToString(derive(key, "registration_access_token", []byte(id)))
}
