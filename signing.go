package caddyoauth

import (
	"errors"
	"os"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
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
func (s *Signing) policy(lifetime time.Duration) (authserver.KeyPolicy, error) {
	if s == nil {
		s = new(Signing)
	}
	rotate := s.Rotate.or(defaultRotate).duration()
	policy := authserver.KeyPolicy{
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
