package storage

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

func TestSealOpensWithThePreviousTokenOnly(t *testing.T) {
	f, code, _ := newFamily()
	first := f.RedeemCode(code, approval)
	second := rotated(t, f, first, approval)
	sealed := f.Refresh.Successor

	if got, err := openSuccessor(first, sealed); err != nil || got != second {
		t.Fatalf("the previous token opens %q with error %v, want %q", got, err, second)
	}
	for what, key := range map[string]string{
		"nothing":                              "",
		"the code":                             code,
		"the current token":                    second,
		"a token with another secret":          first[:len(first)-1] + flipped(first[len(first)-1]),
		"the handle and the member part":       first[:standard.family()],
		"the stored hash of it":                string(f.Refresh.Previous),
		"the stored hash of it, in hex":        hex.EncodeToString(f.Refresh.Previous),
		"the stored hash of the current token": string(f.Refresh.Current),
		"the stored hash of the member part":   string(f.Refresh.Member),
		"the token of another family":          tokenOfAnotherFamily(),
	} {
		if got, err := openSuccessor(key, sealed); !errors.Is(err, errSuccessor) || got != "" {
			t.Errorf("%s opens %q with error %v", what, got, err)
		}
	}
}

func flipped(c byte) string {
	if c == 'A' {
		return "B"
	}
	return "A"
}

func tokenOfAnotherFamily() string {
	f, code, _ := newFamily()
	return f.RedeemCode(code, approval)
}

func TestSealSeesEveryChange(t *testing.T) {
	sealed, err := sealSuccessor("token", "next")
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		for _, s := range [][]byte{changed, sealed[:i]} {
			if got, err := openSuccessor("token", s); !errors.Is(err, errSuccessor) || got != "" {
				t.Errorf("changed or cut at byte %d it opens %q with error %v", i, got, err)
			}
		}
	}
}

// Sealing the same again gives other bytes: a nonce that repeats would give the tokens away.
func TestSealDrawsItsNonce(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		sealed, err := sealSuccessor("token", strings.Repeat("x", sha256.Size))
		if err != nil {
			t.Fatal(err)
		}
		if nonce := string(sealed[:12]); seen[nonce] {
			t.Fatal("the nonce was used before")
		} else {
			seen[nonce] = true
		}
	}
}

func FuzzOpenSuccessor(f *testing.F) {
	whole, err := sealSuccessor("token", "next")
	if err != nil {
		f.Fatal(err)
	}
	f.Add("token", whole)
	f.Add("token", whole[:11])
	f.Add("", []byte{})
	f.Add("other", bytes.Repeat([]byte{0}, 28))
	f.Fuzz(func(t *testing.T, token string, sealed []byte) {
		got, err := openSuccessor(token, sealed)
		if err != nil && got != "" {
			t.Fatalf("both %q and error %v", got, err)
		}
		if err == nil && (token != "token" || got != "next") {
			t.Fatalf("%q opens %x", token, sealed)
		}
	})
}
