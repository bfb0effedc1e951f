package storage

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

// The status of a token after two rotations, the second one at approval.
func TestTokenStatus(t *testing.T) {
	f, code, _ := newFamily()
	first := f.RedeemCode(code, approval)
	second := rotated(t, f, first, approval)
	third := rotated(t, f, second, approval)

	selector, family := standard.selectorEnd(), standard.familyEnd()
	shared := third[:family]
	made := func(family string) string { return nextRefreshToken(family, refreshLength) }
	const window = 10 * time.Second
	for _, c := range []struct {
		name  string
		token string
		after time.Duration
		retry time.Duration
		want  TokenStatus
	}{
		{"the newest", third, 0, window, TokenCurrent},
		{"the newest, long after", third, 24 * time.Hour, window, TokenCurrent},
		{"the newest, strict", third, 0, 0, TokenCurrent},
		{"the one before, at once", second, 0, window, TokenRetryable},
		{"the one before, in the last moment", second, window - 1, window, TokenRetryable},
		{"the one before, too late", second, window, window, TokenReused},
		{"the one before, strict", second, 0, 0, TokenReused},
		{"the one before, by a clock that is behind", second, -time.Second, window, TokenRetryable},
		{"the one before, strict, by a clock that is behind", second, -time.Second, 0, TokenReused},
		{"the one before, without a limit of time", second, 365 * 24 * time.Hour, RetryUntilUsed, TokenRetryable},
		{"the one before that", first, 0, window, TokenReused},
		{"the one before that, without a limit of time", first, 0, RetryUntilUsed, TokenReused},
		{"a secret that was never issued", made(shared), 0, window, TokenReused}, // it has the secret of the family
		{"damaged", shared + strings.Repeat("A", refreshLength-family), 0, window, TokenUnknown},
		{"another family secret", made(third[:selector] + strings.Repeat("A", family-selector)), 0, window, TokenUnknown},
		{"made from an old code", made(code[:selector] + code[selector:family]), 0, window, TokenUnknown},
		{"the code itself", code, 0, window, TokenUnknown},
		{"nothing", "", 0, window, TokenUnknown},
		{"cut to another layout", third[:len(third)-1], 0, window, TokenUnknown},
		{"cut to less than any", third[:5], 0, window, TokenUnknown},
		{"longer", third + "A", 0, window, TokenUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := f.TokenStatus(c.token, approval.Add(c.after), c.retry); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// The code of a family with short tokens leads to the family as a refresh token would, but is not accepted as one.
func TestShortCodeIsNoRefreshToken(t *testing.T) {
	f := &Family{Ends: approval.Add(time.Hour), Code: &Code{Offline: true, RefreshLength: MinTokenLength}}
	code, _ := f.IssueCode()
	token := f.RedeemCode(code, approval)
	if got := f.TokenStatus(code, approval, time.Hour); got != TokenUnknown {
		t.Errorf("the code is %v, want TokenUnknown", got)
	}
	next := rotated(t, f, token, approval)
	made := nextRefreshToken(token[:short.familyEnd()], len(token))
	for presented, want := range map[string]TokenStatus{token: TokenRetryable, next: TokenCurrent, made: TokenReused, token[:len(token)-1] + "-": TokenUnknown} {
		if got := f.TokenStatus(presented, approval, time.Hour); got != want {
			t.Errorf("%q is %v, want %v", presented, got, want)
		}
	}
}

// No token is current or reused for a family whose code was not redeemed, or that was revoked.
func TestTokenStatusWithoutRefreshTokens(t *testing.T) {
	f, code, _ := newFamily()
	if got := f.TokenStatus(tokenOfAnotherFamily(), approval, time.Hour); got != TokenUnknown {
		t.Errorf("before the code is redeemed: %v, want TokenUnknown", got)
	}
	token := f.RedeemCode(code, approval)
	f.Revoke("test", approval)
	if got := f.TokenStatus(token, approval, time.Hour); got != TokenUnknown {
		t.Errorf("after the revocation: %v, want TokenUnknown", got)
	}
}

// Whatever happens to one character of a used token or to two neighbours, the result was never issued, and must not end the family.
func TestDamagedTokenIsUnknown(t *testing.T) {
	for _, length := range []int{MinTokenLength, MinTokenLength + 1, refreshLength - 1, refreshLength, MaxTokenLength} {
		f := &Family{}
		first, _ := f.Start(length)
		token := rotated(t, f, first, approval)
		rotated(t, f, token, approval.Add(-time.Hour)) // token is replaced now
		if got := f.TokenStatus(token, approval, time.Second); got != TokenReused {
			t.Fatalf("%q is %v, want TokenReused", token, got)
		}
		for _, text := range damaged(token) {
			if got := f.TokenStatus(text, approval, time.Second); got != TokenUnknown {
				t.Errorf("%q, which was %q, is %v", text, token, got)
			}
		}
	}
}

func TestRefreshed(t *testing.T) {
	f, code, _ := newFamily()
	is := func(what string, want bool) {
		t.Helper()
		if got := decoded(t, encoded(t, f)).Refreshed(); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	is("before the code is used", false)
	token := f.RedeemCode(code, approval)
	is("after the code was used", false)
	if !f.Keep() || f.Keep() {
		t.Error("Keep must report a change only once")
	}
	is("after the token was used and kept", true)
	rotated(t, f, token, approval)
	is("after the token was rotated", true)
}

func TestSuccessorIsTheCurrentToken(t *testing.T) {
	f, code, _ := newFamily()
	token := f.RedeemCode(code, approval)
	for range 3 {
		next := rotated(t, f, token, approval)
		if got, err := f.Successor(token); err != nil || got != next {
			t.Errorf("Successor of the previous token: %q with error %v, want %q", got, err, next)
		}
		if got, err := f.Successor(next); err == nil || got != "" {
			t.Errorf("Successor of the current token: %q with error %v", got, err)
		}
		token = next
	}
}

func TestCodeOfAFamily(t *testing.T) {
	f, code, _ := newFamily()
	_, other, _ := newFamily()
	has := func(what, text string, want bool) {
		t.Helper()
		if got := f.HasCode(text); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	has("its code", code, true)
	has("the code of another family", other, false)
	has("another secret", code[:standard.selectorEnd()]+other[standard.selectorEnd():], false)
	has("no code", "", false)
	has("part of it", code[:standard.selectorEnd()], false)

	f.RedeemCode(code, approval)
	has("its code, used", code, true)
	if !f.Code.Redeemed.Equal(approval) {
		t.Errorf("used at %v, want %v", f.Code.Redeemed, approval)
	}
	f.Revoke("test", approval)
	has("its code, after the revocation", code, false)

	online := &Family{Code: new(Code)}
	code, _ = online.IssueCode()
	if token := online.RedeemCode(code, approval); token != "" || online.Refresh != nil {
		t.Errorf("a code without refresh tokens returns %q", token)
	}
}

// The family secret in refresh tokens does not follow from the code: it is random, made when the code is redeemed.
func TestFamilySecretDoesNotComeFromTheCode(t *testing.T) {
	f, code, _ := newFamily()
	record := encoded(t, f)
	one, two := decoded(t, record).RedeemCode(code, approval), decoded(t, record).RedeemCode(code, approval)
	if one[:standard.selectorEnd()] != code[:standard.selectorEnd()] || two[:standard.selectorEnd()] != code[:standard.selectorEnd()] {
		t.Fatalf("%q and %q do not lead to the family of %q", one, two, code)
	}
	if one[standard.selectorEnd():standard.familyEnd()] == two[standard.selectorEnd():standard.familyEnd()] {
		t.Errorf("two exchanges of one code made the same family secret: %q", one)
	}
}

func TestRevokedFamilyRemembersWhoseItWas(t *testing.T) {
	f, code, _ := newFamily()
	f.Claims = map[string]any{"email": "alice@example.com"}
	f.RedeemCode(code, approval)
	f.Revoke("refresh token used again", approval.Add(time.Hour))
	want := &Family{
		Client: "app", Subject: "alice", Started: approval, Ends: approval.Add(30 * 24 * time.Hour),
		Revoked: approval.Add(time.Hour), Reason: "refresh token used again",
	}
	if !reflect.DeepEqual(f, want) {
		t.Errorf("got  %+v\nwant %+v", f, want)
	}
}

func TestFamilyExpires(t *testing.T) {
	const day = 24 * time.Hour
	code := &Code{Expires: approval.Add(time.Minute)}
	for _, c := range []struct {
		name   string
		family Family
		now    time.Duration
		idle   time.Duration
		want   time.Time
	}{
		{"code", Family{Ends: approval.Add(30 * day), Code: code}, 0, 14 * day, approval.Add(time.Minute)},
		{"refreshed", Family{Ends: approval.Add(30 * day), Code: code, Refresh: &Refresh{}}, day, 14 * day, approval.Add(15 * day)},
		{"refreshed near the end", Family{Ends: approval.Add(30 * day), Refresh: &Refresh{}}, 20 * day, 14 * day, approval.Add(30 * day)},
		{"refreshed without idle time", Family{Ends: approval.Add(30 * day), Refresh: &Refresh{}}, day, 0, approval.Add(30 * day)},
		{"refreshed without end", Family{Refresh: &Refresh{}}, 400 * day, 14 * day, approval.Add(414 * day)},
		{"refreshed without end and idle time", Family{Refresh: &Refresh{}}, 400 * day, 0, time.Time{}},
		{"revoked", Family{Ends: approval.Add(30 * day), Revoked: approval}, day, time.Hour, approval.Add(30 * day)},
		{"revoked, with a far end", Family{Ends: approval.Add(900 * day), Revoked: approval}, day, time.Hour, approval.Add(31 * day)},
		{"revoked, without end", Family{Revoked: approval}, day, 0, approval.Add(31 * day)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.family.Expires(approval.Add(c.now), c.idle); !got.Equal(c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// No record is still live when its bucket ends, or a sweep would delete it too early.
func TestFamilyExpiresWithinItsBucket(t *testing.T) {
	for _, lifetime := range []time.Duration{0, time.Second, 59 * time.Minute, time.Hour, 30 * 24 * time.Hour} {
		for _, offline := range []bool{false, true} {
			now := approval.Add(time.Hour - 30*time.Second) // so that the code is still live in the next hour
			f := &Family{Code: &Code{Expires: now.Add(time.Minute), Offline: offline}}
			if lifetime > 0 {
				f.Ends = now.Add(lifetime)
			}
			code, key := f.IssueCode()
			check := func(what string) {
				t.Helper()
				end, ends := key.Bucket().End()
				expires := f.Expires(now, 0)
				if ends && (expires.IsZero() || expires.After(end)) {
					t.Errorf("lifetime %v, offline %v: %s expires at %v, its bucket ends at %v", lifetime, offline, what, expires, end)
				}
			}
			check("the code")
			f.RedeemCode(code, now)
			check("the redeemed code")
			f.Revoke("test", now)
			if !offline {
				f.Ends = now.Add(time.Minute) // as in a family without refresh tokens
			}
			check("the tombstone")
		}
	}
}

func decoded(t *testing.T, record []byte) *Family {
	t.Helper()
	f, err := DecodeFamily(record)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

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
		"the selector and the family secret":   first[:standard.familyEnd()],
		"the stored hash of it":                string(f.Refresh.Previous),
		"the stored hash of it, in hex":        hex.EncodeToString(f.Refresh.Previous),
		"the stored hash of the current token": string(f.Refresh.Current),
		"the stored hash of the family secret": string(f.Refresh.FamilySecret),
		"the token of another family":          tokenOfAnotherFamily(),
	} {
		if got, err := openSuccessor(key, sealed); !errors.Is(err, errSuccessor) || got != "" {
			t.Errorf("%s: got %q with error %v", what, got, err)
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

// Sealing the same token again gives other bytes: a repeated nonce would reveal the tokens.
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
