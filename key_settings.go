package caddyoauth

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/keyring"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Signing says which keys sign tokens.
type Signing struct {
	// ES256, ES384, EdDSA, RS256, PS256 or HS256. With HS256 nobody but this server can check
	// tokens, and its key is not published. Default: ES256.
	Algorithm string `json:"algorithm,omitempty"`

	// How long a key signs before the next one does; keys are made, published ahead of time and retired
	// by themselves. `never` keeps the first one. Default: 30 days.
	Rotate Lifetime `json:"rotate,omitempty"`

	// A JWKS file of yours with private keys, instead of keys that are made here. The first that fits
	// the algorithm signs, all are published. It is read when the configuration is loaded.
	JWKSFile string `json:"jwks_file,omitempty"`
}

const (
	defaultRotate = 30 * 24 * time.Hour
	maxPublish    = 24 * time.Hour
)

// resolve replaces placeholders.
func (s *Signing) resolve(repl *caddy.Replacer) error {
	if s == nil {
		return nil
	}
	return directive.At("jwks_file", replace(repl, &s.JWKSFile))
}

func (s *Signing) check() error {
	if s == nil {
		return nil
	}
	if err := checkChoice(s.Algorithm, jwt.Algorithms...); err != nil {
		return directive.At("algorithm", err)
	}
	switch {
	case s.Rotate != 0 && s.Rotate != Never && time.Duration(s.Rotate) < time.Hour:
		return directive.At("rotate", errors.New("expected an hour or more, so that others can fetch a new key before it signs"))
	case s.Rotate != 0 && s.JWKSFile != "":
		return directive.At("rotate", errors.New("expected either jwks_file or rotate: you rotate the keys in a file yourself"))
	}
	return nil
}

// policy returns how keys are to be kept for tokens that live up to lifetime.
func (s *Signing) policy(lifetime time.Duration) (keyring.Policy, error) {
	if s == nil {
		s = new(Signing)
	}
	rotate := s.Rotate.or(defaultRotate).duration()
	policy := keyring.Policy{
		Algorithm: s.Algorithm,
		Rotate:    rotate,
		Publish:   min(rotate/4, maxPublish),
		Lifetime:  lifetime,
	}
	if rotate == 0 { // never
		policy.Publish = maxPublish
	}
	if s.JWKSFile == "" {
		return policy, nil
	}
	file, err := os.ReadFile(s.JWKSFile)
	policy.File = file
	return policy, err
}

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
