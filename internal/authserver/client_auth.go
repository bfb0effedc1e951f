package authserver

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/sync/semaphore"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/recall"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Secrets compares secrets with hashes of the kinds that are slow on purpose, by the prefix of the
// hash, such as "$argon2id$".
type Secrets map[string]SecretHash

// SecretHash is one kind of hash. Caddy's password hashes are such.
type SecretHash interface {
	Compare(hashed, secret []byte) (bool, error)
	// FakeHash returns a hash that no secret has and that takes as long to compare.
	FakeHash() []byte
}

// hashPrefix stands before the hex of a plain SHA-256, the right hash for a secret of 256 random bits.
const hashPrefix = "sha256:"

// HashSecret returns the hash of a secret that was given in clear.
func HashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hashPrefix + hex.EncodeToString(sum[:])
}

// ValidHash reports whether a hash is of a kind that can be compared.
func (s Secrets) ValidHash(hash string) bool {
	if sum, ok := strings.CutPrefix(hash, hashPrefix); ok {
		raw, err := hex.DecodeString(sum)
		return err == nil && len(raw) == sha256.Size && sum == strings.ToLower(sum)
	}
	return s.kind(hash) != nil
}

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

// matches reports whether hash is of the secret, in a time that does not depend on how they differ.
func (s Secrets) matches(hash, secret string) bool {
	if kind := s.kind(hash); kind != nil {
		ok, err := kind.Compare([]byte(hash), []byte(secret))
		return ok && err == nil
	}
	var buffer [len(hashPrefix) + 2*sha256.Size]byte
	sum := sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(hex.AppendEncode(append(buffer[:0], hashPrefix...), sum[:]), []byte(hash)) == 1
}

// decoy returns a client with a hash that is slow on purpose and that no secret has, nil if no client has a slow one.
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

// clientAuth authenticates clients.
type clientAuth struct {
	directory *clientDirectory
	secrets   Secrets
	header    string // that may carry a secret, "" for none
	limiter   *throttle.Limiter
	slow      *semaphore.Weighted // see throttled
	right     *recall.Memory      // secrets that a slow hash was computed for
}

// maxRecalled is how many of these are remembered.
const maxRecalled = 10_000

var (
	errBadClient = badClient("client authentication failed")
	errTwoWays   = grants.Refuse(grants.InvalidRequest, "more than one way of client authentication")
)

func badClient(description string) *grants.Error {
	return &grants.Error{
		Code: grants.InvalidClient, Description: description, Status: http.StatusUnauthorized,
		Situation: grants.BadClient,
	}
}

// credentials are what a request says of its client: an ID, and a secret unless it is public.
type credentials struct{ id, secret string }

// authenticate finds the client of a request to the token endpoint: client_secret_basic,
// client_secret_post or none, and exactly one of them (RFC 6749 §2.3).
func (a *clientAuth) authenticate(c *call, form url.Values) (*storage.Client, error) {
	candidates, err := readCredentials(c.r, form, a.header)
	if err != nil {
		return nil, err
	}
	if c.named, err = a.directory.find(c.ctx(), candidates[0].id); err != nil {
		return nil, err
	}
	if c.named != nil && c.named.Public() && candidates[0].secret == "" {
		return c.named, nil
	}
	return a.throttled(c, candidates, func(ctx context.Context) (*storage.Client, error) {
		for _, cred := range candidates {
			client, err := a.verify(ctx, cred)
			if client != nil || err != nil {
				return client, err
			}
		}
		return nil, errBadClient
	})
}

// readCredentials returns how the credentials of a request may be meant, the likeliest first. secretHeader is a header
// that may carry a secret, if there is one.
func readCredentials(r *http.Request, form url.Values, secretHeader string) ([]credentials, error) {
	if form.Has("client_assertion") || form.Has("client_assertion_type") {
		return nil, badClient("client_assertion is not supported")
	}
	if r.URL.RawQuery != "" && r.URL.Query().Has("client_secret") { // RFC 6749 §2.3.1
		return nil, grants.Refuse(grants.InvalidRequest, "client_secret must not be in the URL")
	}
	var named []string
	if secretHeader != "" {
		named = r.Header.Values(secretHeader)
	}
	basic := r.Header.Values("Authorization")
	ways := len(basic) + len(named)
	if form.Has("client_secret") {
		ways++
	}
	switch {
	case ways > 1:
		return nil, errTwoWays
	case len(basic) == 1:
		return readBasic(r, form.Get("client_id"))
	case !form.Has("client_id"):
		return nil, badClient("client authentication is missing")
	case len(named) == 1:
		return []credentials{{form.Get("client_id"), named[0]}}, nil
	}
	return []credentials{{form.Get("client_id"), form.Get("client_secret")}}, nil
}

// readBasic reads client_secret_basic: ID and secret are form-encoded within Basic (RFC 6749 §2.3.1),
// which many clients forget, so they are tried as they stand too. A client_id in the body must be the same.
func readBasic(r *http.Request, clientID string) ([]credentials, error) {
	id, secret, ok := r.BasicAuth()
	if !ok {
		return nil, errBadClient
	}
	raw := credentials{id, secret}
	candidates := []credentials{raw}
	decodedID, err1 := url.QueryUnescape(id)
	decodedSecret, err2 := url.QueryUnescape(secret)
	if decoded := (credentials{decodedID, decodedSecret}); err1 == nil && err2 == nil && decoded != raw {
		candidates = []credentials{decoded, raw}
	}
	if clientID == "" {
		return candidates, nil
	}
	same := candidates[:0]
	for _, cred := range candidates {
		if cred.id == clientID {
			same = append(same, cred)
		}
	}
	if len(same) == 0 {
		return nil, grants.Refuse(grants.InvalidRequest, "client_id is not the one that authenticates")
	}
	return same, nil
}

// verify returns the client if the secret is one of its secrets; for a public client, if there is none.
func (a *clientAuth) verify(ctx context.Context, cred credentials) (*storage.Client, error) {
	c, err := a.directory.find(ctx, cred.id)
	if err != nil {
		return nil, err
	}
	if c != nil && c.Public() {
		if cred.secret != "" {
			return nil, nil //nolint:nilnil // no is an answer
		}
		return c, nil
	}
	against := c
	if c == nil {
		against = a.directory.unknown()
	}
	match := false
	for _, hash := range against.SecretHashes {
		if a.matches(hash, cred.secret) {
			match = true
		}
	}
	if !match {
		return nil, nil //nolint:nilnil // no is an answer
	}
	return c, nil
}

// matches is Secrets.matches, but a slow hash is computed once for a secret that is right.
func (a *clientAuth) matches(hash, secret string) bool {
	if a.secrets.kind(hash) == nil {
		return a.secrets.matches(hash, secret)
	}
	if a.right.Has(hash, secret) {
		return true
	}
	match := a.secrets.matches(hash, secret)
	if match {
		a.right.Add(hash, secret)
	}
	return match
}
