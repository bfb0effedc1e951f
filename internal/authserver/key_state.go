package authserver

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

// keyState is what a node knows of the keys at one time. It does not change: a round replaces it.
type keyState struct {
	keys     []*jwt.Key // all that verify, in the order of the record or the file
	line     []*scheduledKey
	byID     map[string]*jwt.Key
	byHeader map[string]*jwt.Key
	jwks     []byte
	etag     string
	seal     []byte // nil if not loaded yet
}

func newKeyState(keys []*jwt.Key, line []*scheduledKey, seal []byte) *keyState {
	s := &keyState{
		keys:     keys,
		line:     line,
		byID:     make(map[string]*jwt.Key, len(keys)),
		byHeader: make(map[string]*jwt.Key, len(keys)),
		seal:     seal,
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
	s.jwks, _ = json.Marshal(set)
	sum := sha256.Sum256(s.jwks)
	s.etag = `"` + hex.EncodeToString(sum[:16]) + `"`
	return s
}

// signer returns the key that signs at that time.
func (s *keyState) signer(now time.Time) *jwt.Key {
	return s.byID[s.line[signerAt(s.line, now)].ID]
}

// find returns the key that a token's encoded header asks for. The header of a token made here is
// known letter for letter; only another header of the same key has to be read.
func (s *keyState) find(t jwt.Token) (*jwt.Key, error) {
	if key, ok := s.byHeader[t.Header]; ok {
		return key, nil
	}
	h, err := t.ParseHeader()
	if err != nil {
		return nil, err
	}
	if !h.IsType(jwt.AccessTokenType) { // RFC 9068 §4
		return nil, jwt.ErrType
	}
	key, ok := s.byID[h.KeyID]
	if !ok {
		return nil, jwt.ErrKey
	}
	if h.Algorithm != key.Algorithm {
		return nil, jwt.ErrAlgorithm // the key decides, never the token (RFC 8725 §3.1)
	}
	return key, nil
}

// key returns the key of that kid, or nil.
func (s *keyState) key(id string) *jwt.Key {
	if s == nil {
		return nil
	}
	return s.byID[id]
}

// all returns every key that verifies.
func (s *keyState) all() []*jwt.Key {
	if s == nil {
		return nil
	}
	return s.keys
}
