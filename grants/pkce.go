package grants

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strings"
)

// ValidChallenge reports whether s can be an S256 code_challenge (RFC 7636 §4.2): 43 characters of
// base64url, which 256 bits make.
func ValidChallenge(s string) bool {
	sum, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(sum) == sha256.Size && len(s) == 43
}

// validVerifier reports whether s keeps to the grammar of a code_verifier (RFC 7636 §4.1).
func validVerifier(s string) bool {
	return len(s) >= 43 && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool {
		switch {
		case 'A' <= r && r <= 'Z', 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return false
		}
		return !strings.ContainsRune("-._~", r)
	})
}

// verifyPKCE checks the code_verifier against the code_challenge of the authorization request. A
// verifier must be there if and only if a challenge was (RFC 7636 §4.6, RFC 9700 §2.1.1).
func verifyPKCE(challenge, verifier string) error {
	switch {
	case challenge == "" && verifier == "":
		return nil
	case challenge == "":
		return Refuse(InvalidGrant, "code_verifier was sent but the authorization request had no code_challenge")
	case verifier == "":
		return Refuse(InvalidGrant, "code_verifier is missing")
	case !validVerifier(verifier):
		return Refuse(InvalidGrant, "code_verifier must be 43 to 128 unreserved characters")
	}
	sum := sha256.Sum256([]byte(verifier))
	computed := base64.RawURLEncoding.EncodeToString(sum[:])
	if subtle.ConstantTimeCompare([]byte(computed), []byte(challenge)) != 1 {
		return Refuse(InvalidGrant, "code_verifier does not match the code_challenge")
	}
	return nil
}
