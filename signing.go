package caddyoauth

import (
	"os"
	"slices"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
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

var algorithms = []string{
	"ES256", "ES384", "ES512", "EdDSA", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "HS256", "HS384", "HS512",
}

func (s *Signing) check() (problem, setting string) {
	switch {
	case s == nil:
		return "", ""
	case s.Algorithm != "" && !slices.Contains(algorithms, s.Algorithm):
		return "expected one of " + strings.Join(algorithms, ", ") + ", not " + s.Algorithm, "algorithm"
	case s.Rotate != 0 && s.Rotate != Never && time.Duration(s.Rotate) < time.Hour:
		return "expected an hour or more, so that others hear of a new key before it signs", "rotate"
	case s.Rotate != 0 && s.JWKSFile != "":
		return "expected either jwks_file or rotate: the keys in a file are yours to rotate", "rotate"
	}
	return "", ""
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
