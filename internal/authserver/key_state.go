package authserver

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"
)

// keyState is what a node knows of the keys at one time. It does not change: a round replaces it.
type keyState struct {
	keys     []*signingKey // all that verify, in the order of the record or the file
	line     []*scheduledKey
	byID     map[string]*signingKey
	byHeader map[string]*signingKey
	jwks     []byte
	etag     string
	seal     []byte // nil if not loaded yet
}

func newKeyState(keys []*signingKey, line []*scheduledKey, seal []byte) *keyState {
	s := &keyState{
		keys:     keys,
		line:     line,
		byID:     make(map[string]*signingKey, len(keys)),
		byHeader: make(map[string]*signingKey, len(keys)),
		seal:     seal,
	}
	set := struct {
		Keys []publicJWK `json:"keys"`
	}{Keys: []publicJWK{}} // never null: the member must be an array (RFC 7517 §5.1)
	for _, key := range keys {
		s.byID[key.id] = key
		s.byHeader[key.header] = key
		if key.published != nil {
			set.Keys = append(set.Keys, key.published)
		}
	}
	s.jwks, _ = json.Marshal(set)
	sum := sha256.Sum256(s.jwks)
	s.etag = `"` + hex.EncodeToString(sum[:16]) + `"`
	return s
}

// signer returns the key that signs at that time.
func (s *keyState) signer(now time.Time) *signingKey {
	return s.byID[s.line[signerAt(s.line, now)].ID]
}

// find returns the key that a token's encoded header asks for. The header of a token made here is
// known letter for letter; only another header of the same key has to be read.
func (s *keyState) find(header string) (*signingKey, error) {
	if key, ok := s.byHeader[header]; ok {
		return key, nil
	}
	h, err := parseHeader(header)
	if err != nil {
		return nil, err
	}
	key, ok := s.byID[h.KeyID]
	if !ok {
		return nil, ErrTokenKey
	}
	if h.Algorithm != key.algorithm {
		return nil, ErrTokenAlgorithm // the key decides, never the token (RFC 8725 §3.1)
	}
	return key, nil
}

// key returns the key of that kid, or nil.
func (s *keyState) key(id string) *signingKey {
	if s == nil {
		return nil
	}
	return s.byID[id]
}

// all returns every key that verifies.
func (s *keyState) all() []*signingKey {
	if s == nil {
		return nil
	}
	return s.keys
}
