package keyring

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

// snapshot is what a node knows of the keys at one time. It never changes: an update replaces it.
type snapshot struct {
	keys     []*jwt.Key                 // all that verify, in the order of the record or the file
	lines    map[string][]*scheduledKey // those that this node signs with, by algorithm
	byID     map[string]*jwt.Key
	byHeader map[string]*jwt.Key
	jwks     []byte
	secret   []byte // nil if not loaded yet
}

func newSnapshot(keys []*jwt.Key, lines map[string][]*scheduledKey, secret []byte) *snapshot {
	s := &snapshot{
		keys:     keys,
		lines:    lines,
		byID:     make(map[string]*jwt.Key, len(keys)),
		byHeader: make(map[string]*jwt.Key, len(keys)),
		secret:   secret,
	}
	set := struct {
		Keys []json.RawMessage `json:"keys"`
	}{Keys: []json.RawMessage{}} // never null: the member must be an array (RFC 7517 §5.1)
	for _, key := range keys {
		s.byID[key.ID] = key
		s.byHeader[key.Header()] = key
		if key.Public != nil {
			set.Keys = append(set.Keys, key.Public)
		}
	}
	s.jwks, _ = json.Marshal(set) // raw messages that json.Marshal made
	return s
}

// kids lists the IDs of the keys, for the log.
func (s *snapshot) kids() string { return strings.Join(slices.Sorted(maps.Keys(s.byID)), " ") }

// signingKey returns the key that signs with an algorithm at that time, nil if there are no keys for it.
func (s *snapshot) signingKey(alg string, now time.Time) *jwt.Key {
	line := s.lines[alg]
	if len(line) == 0 {
		return nil
	}
	return s.byID[line[signerAt(line, now)].ID]
}

// Signer signs with the keys that a Ring had at one time. It asks no store, so that a caller that has one can sign. Use it for one
// request: it knows nothing of keys that are made or retired later.
type Signer struct {
	keys *snapshot
	alg  string // of access tokens
	typ  string // of access tokens; "" is at+jwt
	now  time.Time
}

// Sign returns a JWT of these claims, a JSON object, of type at+jwt (RFC 9068 §2.1) or of the configured Type.
func (s Signer) Sign(claims []byte) (string, error) {
	if s.typ != "" {
		return s.SignAs(s.typ, claims)
	}
	return s.keys.signingKey(s.alg, s.now).Sign(claims)
}

// SignReferenced is Sign for claims that do not say which token it is: the header does.
func (s Signer) SignReferenced(ref jwt.Reference, claims []byte) (string, error) {
	return s.keys.signingKey(s.alg, s.now).SignReferenced(cmp.Or(s.typ, jwt.AccessTokenType), ref, claims)
}

// SignAs is Sign for a JWT of another type than an access token.
func (s Signer) SignAs(typ string, claims []byte) (string, error) {
	return s.keys.signingKey(s.alg, s.now).SignAs(typ, claims)
}

// SignWith is SignAs with a key for an algorithm, which must be that of [Ring.LoadFor].
func (s Signer) SignWith(alg, typ string, claims []byte) (string, error) {
	key := s.keys.signingKey(alg, s.now)
	if key == nil {
		return "", fmt.Errorf("no signing key for %s", alg)
	}
	return key.SignAs(typ, claims)
}

// find returns the key that a token's header names. The encoded headers of tokens made here are known; only a different
// header of the same key has to be parsed.
func (s *snapshot) find(t jwt.Token, typ string) (*jwt.Key, error) {
	if key, ok := s.byHeader[t.Header]; ok {
		return key, nil
	}
	h, err := t.ParseHeader()
	if err != nil {
		return nil, err
	}
	if !h.IsType(jwt.AccessTokenType) && (typ == "" || !h.IsType(typ)) { // RFC 9068 §4
		return nil, jwt.ErrType.Explain("typ "+h.Type, cmp.Or(typ, jwt.AccessTokenType), "access_token: typ")
	}
	return s.keyOf(h)
}

// findAs returns the key that the header of a JWT of that type names.
func (s *snapshot) findAs(t jwt.Token, typ string) (*jwt.Key, error) {
	h, err := t.ParseHeader()
	if err != nil {
		return nil, err
	}
	if !h.IsType(typ) {
		return nil, jwt.ErrType.Explain("typ "+h.Type, typ, "")
	}
	return s.keyOf(h)
}

func (s *snapshot) keyOf(h jwt.Header) (*jwt.Key, error) {
	key, ok := s.byID[h.KeyID]
	if !ok {
		return nil, jwt.ErrKey.Explain("kid "+h.KeyID, "one of "+s.kids(), "signing")
	}
	if h.Algorithm != key.Algorithm { // the key decides, never the token (RFC 8725 §3.1)
		return nil, jwt.ErrAlgorithm.Explain("alg "+h.Algorithm, key.Algorithm, "signing")
	}
	return key, nil
}
