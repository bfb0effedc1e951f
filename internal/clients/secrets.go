package clients

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Secrets are the kinds of hashes that are slow on purpose, by the prefix of a hash, such as "$argon2id$". They compare
// secrets with hashes of these kinds, and with those of [HashSecret].
type Secrets map[string]SecretHash

// SecretHash is a kind of hash. Caddy's password hashes implement it.
type SecretHash interface {
	Compare(hashed, secret []byte) (bool, error)
	// FakeHash returns a hash that matches no secret, and takes as long to compare as one that does.
	FakeHash() []byte
}

// hashPrefix stands before the hex of a plain SHA-256, which is right for a secret of 256 random bits.
const hashPrefix = "sha256:"

// noHash has the form of a hash and matches no secret.
var noHash = hashPrefix + strings.Repeat("-", 2*sha256.Size)

// HashSecret returns the hash of a secret: "sha256:" and 64 hex digits.
func HashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hashPrefix + hex.EncodeToString(sum[:])
}

// ValidHash reports whether a hash is of a known kind.
func (s Secrets) ValidHash(hash string) bool {
	if sum, ok := strings.CutPrefix(hash, hashPrefix); ok {
		raw, err := hex.DecodeString(sum)
		return err == nil && len(raw) == sha256.Size && sum == strings.ToLower(sum)
	}
	return s.kind(hash) != nil
}

// kind returns the kind of a hash that is slow on purpose, nil for another hash.
func (s Secrets) kind(hash string) SecretHash {
	if strings.HasPrefix(hash, hashPrefix) {
		return nil
	}
	for prefix, kind := range s {
		if strings.HasPrefix(hash, prefix) {
			return kind
		}
	}
	return nil
}

// matchesPlain reports whether hash is that of HashSecret, in a time that does not depend on how they differ.
func matchesPlain(hash, secret string) bool {
	var buffer [len(hashPrefix) + 2*sha256.Size]byte
	sum := sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(hex.AppendEncode(append(buffer[:0], hashPrefix...), sum[:]), []byte(hash)) == 1
}

// decoy returns a client with a slow hash that matches no secret, nil if none of the clients has a slow hash.
func (s Secrets) decoy(clients map[string]*storage.Client) *storage.Client {
	for _, c := range clients {
		for _, hash := range c.SecretHashes {
			if kind := s.kind(hash); kind != nil {
				return &storage.Client{SecretHashes: []string{string(kind.FakeHash())}}
			}
		}
	}
	return nil
}

// newSecret returns a secret of 260 random bits.
func newSecret() string { return rand.Text() + rand.Text() }
