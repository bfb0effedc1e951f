package caddyoauth

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/keyring"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Signing is about the keys that sign tokens.
type Signing struct {
	// The algorithm: ES256, ES384, ES512, EdDSA, RS256, RS384, RS512, PS256, PS384, PS512, HS256, HS384 or HS512. The key of HS256
	// and the others with HS is not published, so that only this server can check the tokens. Default: ES256.
	Algorithm string `json:"algorithm,omitempty"`

	// How long a key signs before the next one does. The server makes keys, publishes them before they sign, and retires them
	// when the last token they signed has expired. `never`: the first key signs for ever. Default: 30 days.
	Rotate Lifetime `json:"rotate,omitempty"`

	// A JWKS file with your own private keys, instead of keys that the server makes. The first key that fits the algorithm
	// signs, and all are published. The file is read when the configuration is loaded.
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

// policy returns how to keep the keys of tokens that live up to lifetime.
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

// fileAlgorithms are those that the owner's file has private keys for; nil: the server makes its keys, for every algorithm.
type fileAlgorithms []string

// algorithmsOf returns the algorithms of a policy. A file that cannot be read is an error of the ring.
func algorithmsOf(policy keyring.Policy) fileAlgorithms {
	if policy.File == nil {
		return nil
	}
	keys, _, err := jwt.ParsePrivateKeys(policy.File, policy.Algorithm)
	if err != nil {
		return nil
	}
	algs := fileAlgorithms{}
	for _, key := range keys {
		if key.CanSign() && !slices.Contains(algs, key.Algorithm) {
			algs = append(algs, key.Algorithm)
		}
	}
	return algs
}

// check returns an error if the file has no key for an algorithm; "" needs none.
func (f fileAlgorithms) check(alg string) error {
	if alg == "" || f == nil || slices.Contains(f, alg) {
		return nil
	}
	return fmt.Errorf("expected %s, of which jwks_file has a private key, not %s", directive.OneOf(f), alg)
}

// checkOpenID is check for what a client signs people in with.
func (f fileAlgorithms) checkOpenID(policy *storage.OpenIDPolicy) error {
	if policy == nil {
		return nil
	}
	return cmp.Or(
		directive.At("id_token_signed_response_alg", f.check(policy.IDTokenAlgorithm)),
		directive.At("userinfo_signed_response_alg", f.check(policy.UserinfoAlgorithm)),
	)
}

// checkProfile returns an error if a client is held to a profile, and the key of the file that signs its access tokens is none for that. It
// is the first one, unless signing names an algorithm, which the settings of the client are checked with.
func (f fileAlgorithms) checkProfile(client *storage.Client, issuer *Issuer) error {
	if !client.FAPI || len(f) == 0 || issuer.Signing != nil && issuer.Signing.Algorithm != "" {
		return nil
	}
	return issuer.checkProfileSigning(f[0])
}

// EncryptionSettings are about the encryption of the records in the store. It hides their content from people who can read a
// backup, a disk or a Redis. It does not hide how many records there are, when they were written and when they expire, and the
// IDs of clients that were added at run time.
type EncryptionSettings struct {
	// The keys, each 32 random bytes or more in base64 or hex, as `openssl rand -base64 32` prints them. The first one encrypts
	// new records. All of them decrypt. Records without encryption can be read as well. Use placeholders: `{env.NAME}` or
	// `{file./path}`. **Danger:** if you lose a key, you lose the records that it encrypted.
	Keys []string `json:"keys,omitempty"`

	// Whether to write records without encryption, and use the keys only to decrypt. It is a step of turning encryption on with
	// several nodes, so that all of them have the keys before the first one encrypts, and a step of turning encryption off,
	// until no record is encrypted any more. Default: false.
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
		return errors.New("expected a key, or off and the keys that encrypted the records")
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

// DPoPSettings are about the proofs by which clients show that they have the key that their tokens are bound to (DPoP, RFC 9449).
type DPoPSettings struct {
	// Whether each proof must have a nonce that this server gave a minute or two ago: `required` or `none`. Nobody can make proofs for
	// later then, but each client has to send its first request twice, and the clients must know nonces. The guards of the issuer on
	// this Caddy require them as well. Default: `none`.
	Nonce string `json:"nonce,omitempty"`
}

func (d *DPoPSettings) check() error {
	if d == nil {
		return nil
	}
	return directive.At("nonce", checkChoice(d.Nonce, "required", "none"))
}

// nonce reports whether proofs must have a nonce.
func (d *DPoPSettings) nonce() bool { return d != nil && d.Nonce == "required" }
