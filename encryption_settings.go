package caddyoauth

import (
	"errors"
	"fmt"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// EncryptionSettings say how records are encrypted where they are kept. That hides what is in them from whoever gets
// to see a backup, a disk or a Redis; not how many there are, when they were written and expire, and the IDs of clients
// that were added at run time.
type EncryptionSettings struct {
	// The keys, each 32 random bytes or more as text, as `openssl rand -base64 32` prints them. The first encrypts
	// what is written from now on, all decrypt, and what was written without encryption is read as it is. Use a
	// placeholder: `{env.NAME}` or `{file./path}`. Danger: a record whose key is lost is lost.
	Keys []string `json:"keys,omitempty"`

	// Whether the keys only decrypt, and records are written in plain: the first step before encryption is turned on
	// on several nodes, and the last before it is off for good.
	Off bool `json:"off,omitempty"`
}

// resolve replaces placeholders.
func (e *EncryptionSettings) resolve(repl *caddy.Replacer) error {
	if e == nil {
		return nil
	}
	for n := range e.Keys {
		if err := replace(repl, &e.Keys[n]); err != nil {
			return err
		}
	}
	return nil
}

func (e *EncryptionSettings) check() error {
	if e == nil {
		return nil
	}
	if len(e.Keys) == 0 {
		return errors.New("expected a key, or off and the keys that records may be encrypted with")
	}
	var known []string
	for n, key := range e.Keys {
		if unresolved(key) {
			continue
		}
		known = append(known, key)
		if _, err := storage.NewKeyring(known, e.Off); err != nil {
			return fmt.Errorf("key %d: %w", n+1, err) // which does not contain the key
		}
	}
	return nil
}

// keyring returns the keys that records are encrypted with.
func (e *EncryptionSettings) keyring() (*storage.Keyring, error) {
	if e == nil {
		return storage.NewKeyring(nil, false)
	}
	return storage.NewKeyring(e.Keys, e.Off)
}
