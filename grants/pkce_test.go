package grants

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"regexp"
	"strings"
	"testing"
)

func TestVerifierGrammar(t *testing.T) {
	unreserved := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
	for _, c := range []struct {
		name, verifier string
		want           bool
	}{
		{"RFC 7636 §4.1 all unreserved characters", unreserved, true},
		{"RFC 7636 §4.1 43 characters", strings.Repeat("~", 43), true},
		{"RFC 7636 §4.1 42 characters", strings.Repeat("~", 42), false},
		{"RFC 7636 §4.1 128 characters", strings.Repeat("~", 128), true},
		{"RFC 7636 §4.1 129 characters", strings.Repeat("~", 129), false},
		{"nothing", "", false},
		{"base64 that is not for URLs", unreserved + "+/", false},
		{"padding", unreserved + "=", false},
		{"white space", unreserved + " ", false},
		{"a line end", unreserved + "\n", false},
		{"NUL", unreserved + "\x00", false},
		{"a letter beyond ASCII", unreserved + "é", false},
		{"no UTF-8", unreserved + "\xff", false},
		{"the replacement character", unreserved + "\ufffd", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			sum := sha256.Sum256([]byte(c.verifier))
			err := verifyPKCE(base64.RawURLEncoding.EncodeToString(sum[:]), c.verifier)
			if (err == nil) != c.want {
				t.Errorf("got error %v, want accepted: %v", err, c.want)
			}
		})
	}
}

func TestChallengeGrammar(t *testing.T) {
	const good = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM" // RFC 7636 appendix B
	for _, c := range []struct {
		name, challenge string
		want            bool
	}{
		{"RFC 7636 §4.2 the example of appendix B", good, true},
		{"RFC 7636 §4.2 cut", good[:42], false},
		{"RFC 7636 §4.2 longer", good + "A", false},
		{"RFC 7636 §4.2 padded", good + "=", false},
		{"base64 that is not for URLs", good[:42] + "+", false},
		{"bits that are left over", good[:42] + "N", false},
		{"a line end within", good[:20] + "\n" + good[20:], false},
		{"a line end instead of a character", good[:42] + "\n", false},
		{"a line end after 42 characters and one", good[:41] + "\r\n", false},
		{"hex", strings.Repeat("0a", 32), false},
		{"nothing", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := ValidChallenge(c.challenge); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// A verifier is accepted exactly if it keeps to the grammar and its SHA-256 is the challenge, or if there is neither.
func FuzzPKCE(f *testing.F) {
	verifier := "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	f.Add(verifier, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")
	f.Add(verifier, verifier)
	f.Add(verifier, "")
	f.Add("", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")
	f.Add("", "")
	f.Add("", "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU") // of nothing
	f.Add(strings.Repeat("é", 43), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-c\n")
	grammar := regexp.MustCompile(`^[A-Za-z0-9\-._~]{43,128}$`)
	f.Fuzz(func(t *testing.T, verifier, challenge string) {
		sum := sha256.Sum256([]byte(verifier))
		computed := base64.RawURLEncoding.EncodeToString(sum[:])
		for _, against := range []string{challenge, computed} {
			err := verifyPKCE(against, verifier)
			want := against == "" && verifier == "" || against == computed && grammar.MatchString(verifier)
			if (err == nil) != want {
				t.Errorf("verifier %q and challenge %q: got error %v, want accepted: %v", verifier, against, err, want)
			}
			var refusal *Error
			if err != nil && (!errors.As(err, &refusal) || refusal.Code != InvalidGrant) { // RFC 7636 §4.6
				t.Errorf("verifier %q and challenge %q: got error %v", verifier, against, err)
			}
		}
		if !ValidChallenge(computed) {
			t.Errorf("%q, which is the SHA-256 of %q, is no challenge", computed, verifier)
		}
		if ValidChallenge(challenge) {
			sum, err := base64.RawURLEncoding.DecodeString(challenge)
			if err != nil || base64.RawURLEncoding.EncodeToString(sum) != challenge || len(sum) != sha256.Size {
				t.Errorf("%q is taken for a challenge", challenge)
			}
		}
	})
}
