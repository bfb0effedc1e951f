package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// KindClient is a Registered client; ID is the escaped client ID.
const KindClient Kind = "client"

// Registered is a client that was added at run time. Its record never expires, but for one that was deleted.
type Registered struct {
	ID string `json:"client_id"`

	// Settings are what was said of the client, as JSON in the names of the configuration, without its secrets. What
	// was not said follows the issuer's settings of the day.
	Settings json.RawMessage `json:"settings"`

	// Secrets authenticate the client, any one that has not expired. A client that never had one is public.
	Secrets []Secret `json:"secrets,omitempty"`

	Created  time.Time `json:"created"`
	Changed  time.Time `json:"changed"`
	Disabled time.Time `json:"disabled,omitzero"`

	// Deleted makes the record a tombstone, from which every node hears that the client is gone.
	Deleted time.Time `json:"deleted,omitzero"`
}

// Secret is the hash of a client's secret.
type Secret struct {
	Hash    string    `json:"hash"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // zero: never
}

// RegisteredKey returns the key of the record of a client.
func RegisteredKey(id string) Key { return Key{Kind: KindClient, ID: EscapeID(id)} }

// DecodeRegistered reads a record.
func DecodeRegistered(record []byte) (*Registered, error) {
	if err := CheckReadable(record); err != nil {
		return nil, fmt.Errorf("client record: %w", err)
	}
	r := new(Registered)
	// The text of a JSON error can quote what it stumbled over, and this has hashes in it.
	if json.Unmarshal(record, r) != nil || r.ID == "" {
		return nil, errors.New("client record: not the JSON of a client")
	}
	return r, nil
}

// Encode returns the record.
func (r *Registered) Encode() ([]byte, error) { return json.Marshal(r) }

// Hashes returns the hashes of the secrets that are good at that time, and when the first of these expires; zero is
// never.
func (r *Registered) Hashes(now time.Time) (hashes []string, until time.Time) {
	for _, secret := range r.Secrets {
		if secret.Expires.IsZero() {
			hashes = append(hashes, secret.Hash)
			continue
		}
		if !now.Before(secret.Expires) {
			continue
		}
		hashes = append(hashes, secret.Hash)
		if until.IsZero() || secret.Expires.Before(until) {
			until = secret.Expires
		}
	}
	return hashes, until
}

// ReplaceSecret adds the hash of a new secret. Those before it stay good for the grace time, unless they end sooner.
func (r *Registered) ReplaceSecret(hash string, now time.Time, grace time.Duration) {
	kept := make([]Secret, 0, len(r.Secrets)+1)
	for _, secret := range r.Secrets {
		if end := now.Add(grace); secret.Expires.IsZero() || end.Before(secret.Expires) {
			secret.Expires = end
		}
		if now.Before(secret.Expires) {
			kept = append(kept, secret)
		}
	}
	r.Secrets = append(kept, Secret{Hash: hash, Created: now})
}
