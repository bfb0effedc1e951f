package authserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// fallbacks are tried in this order for a key that names no algorithm.
var fallbacks = []string{"ES256", "ES384", "ES512", "EdDSA", "RS256", "HS256"}

// parseKeyFile returns the keys of an owner's JWKS and the one of them that signs: the first
// private one for alg, or the first private one if alg is empty.
func parseKeyFile(file []byte, alg string) (keys []*signingKey, signer *signingKey, err error) {
	if alg != "" {
		if err := checkAlgorithm(alg); err != nil {
			return nil, nil, err
		}
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(file, &set) != nil || len(set.Keys) == 0 {
		return nil, nil, errors.New("signing keys: the file is no JWK set, expected a JSON object with keys in a member \"keys\" (RFC 7517 §5)")
	}
	for i, encoded := range set.Keys {
		key, err := parseFileKey(encoded, alg)
		if err != nil {
			return nil, nil, fmt.Errorf("signing keys: key %d in the file%s: %w", i+1, label(encoded), err)
		}
		if key == nil {
			continue
		}
		if slices.ContainsFunc(keys, func(other *signingKey) bool { return other.id == key.id }) {
			return nil, nil, fmt.Errorf("signing keys: key %d in the file has the kid %q of another, expected a unique one", i+1, key.id)
		}
		keys = append(keys, key)
		if signer == nil && key.private != nil && (alg == "" || key.algorithm == alg) {
			signer = key
		}
	}
	if signer == nil {
		return nil, nil, fmt.Errorf("signing keys: the file has no private key to sign with, expected %s", wanted(alg))
	}
	return keys, signer, nil
}

func wanted(alg string) string {
	if alg == "" {
		return "one for any algorithm"
	}
	return keyKinds[alg].name + " for " + alg
}

// label returns the kid of a JWK for an error, if it has one.
func label(encoded []byte) string {
	var named struct {
		KeyID string `json:"kid"`
	}
	if json.Unmarshal(encoded, &named) != nil || named.KeyID == "" {
		return ""
	}
	return fmt.Sprintf(" (kid %q)", named.KeyID)
}

// algorithmFor returns the preferred algorithm if the key fits it, else the first that it fits, else
// nothing.
func algorithmFor(raw any, preferred string) string {
	for _, alg := range append([]string{preferred}, fallbacks...) {
		if keyKinds[alg].fits(raw) {
			return alg
		}
	}
	return ""
}
