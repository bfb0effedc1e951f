package storage

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// Classification after two rotations, the second one at approval.
func TestClassify(t *testing.T) {
	f, code, _ := newFamily()
	first := f.RedeemCode(code, approval)
	second := rotated(t, f, first, approval)
	third := rotated(t, f, second, approval)

	handle, family := standard.handle(), standard.family()
	shared := third[:family]
	made := func(family string) string { return nextRefreshToken(family, refreshLength) }
	const window = 10 * time.Second
	for _, c := range []struct {
		name  string
		token string
		after time.Duration
		retry time.Duration
		want  Presented
	}{
		{"the newest", third, 0, window, Current},
		{"the newest, long after", third, 24 * time.Hour, window, Current},
		{"the newest, strict", third, 0, 0, Current},
		{"the one before, at once", second, 0, window, Retried},
		{"the one before, in the last moment", second, window - 1, window, Retried},
		{"the one before, too late", second, window, window, Spent},
		{"the one before, strict", second, 0, 0, Spent},
		{"the one before, by a clock that is behind", second, -time.Second, window, Retried},
		{"the one before, strict, by a clock that is behind", second, -time.Second, 0, Spent},
		{"the one before, without a limit of time", second, 365 * 24 * time.Hour, RetryUntilUsed, Retried},
		{"the one before that", first, 0, window, Spent},
		{"the one before that, without a limit of time", first, 0, RetryUntilUsed, Spent},
		{"a secret that was never issued", made(shared), 0, window, Spent}, // it has the member part of the family
		{"damaged", shared + strings.Repeat("A", refreshLength-family), 0, window, Foreign},
		{"another member part", made(third[:handle] + strings.Repeat("A", family-handle)), 0, window, Foreign},
		{"made from an old code", made(code[:handle] + code[handle:family]), 0, window, Foreign},
		{"the code itself", code, 0, window, Foreign},
		{"nothing", "", 0, window, Foreign},
		{"cut to another layout", third[:len(third)-1], 0, window, Foreign},
		{"cut to less than any", third[:5], 0, window, Foreign},
		{"longer", third + "A", 0, window, Foreign},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := f.Classify(c.token, approval.Add(c.after), c.retry); got != c.want {
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
	if got := f.Classify(code, approval, time.Hour); got != Foreign {
		t.Errorf("the code is %v, want Foreign", got)
	}
	next := rotated(t, f, token, approval)
	made := nextRefreshToken(token[:short.family()], len(token))
	for presented, want := range map[string]Presented{token: Retried, next: Current, made: Spent, token[:len(token)-1] + "-": Foreign} {
		if got := f.Classify(presented, approval, time.Hour); got != want {
			t.Errorf("%q is %v, want %v", presented, got, want)
		}
	}
}

// No token is current or spent for a family whose code was not redeemed, or that was revoked.
func TestClassifyWithoutRefreshTokens(t *testing.T) {
	f, code, _ := newFamily()
	if got := f.Classify(tokenOfAnotherFamily(), approval, time.Hour); got != Foreign {
		t.Errorf("before the code is redeemed: %v, want Foreign", got)
	}
	token := f.RedeemCode(code, approval)
	f.Revoke("test", approval)
	if got := f.Classify(token, approval, time.Hour); got != Foreign {
		t.Errorf("after the revocation: %v, want Foreign", got)
	}
}

// Whatever happens to one character of a used token or to two neighbours, the result was never issued, and must not end the family.
func TestDamagedTokenIsForeign(t *testing.T) {
	for _, length := range []int{MinTokenLength, MinTokenLength + 1, refreshLength - 1, refreshLength, MaxTokenLength} {
		f := &Family{}
		first, _ := f.Start(length)
		token := rotated(t, f, first, approval)
		rotated(t, f, token, approval.Add(-time.Hour)) // token is spent now
		if got := f.Classify(token, approval, time.Second); got != Spent {
			t.Fatalf("%q is %v, want Spent", token, got)
		}
		for _, text := range damaged(token) {
			if got := f.Classify(text, approval, time.Second); got != Foreign {
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
	has("another secret", code[:standard.handle()]+other[standard.handle():], false)
	has("no code", "", false)
	has("part of it", code[:standard.handle()], false)

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

// The member part of refresh tokens does not follow from the code: it is random, made when the code is redeemed.
func TestMemberPartDoesNotComeFromTheCode(t *testing.T) {
	f, code, _ := newFamily()
	record := encoded(t, f)
	one, two := decoded(t, record).RedeemCode(code, approval), decoded(t, record).RedeemCode(code, approval)
	if one[:standard.handle()] != code[:standard.handle()] || two[:standard.handle()] != code[:standard.handle()] {
		t.Fatalf("%q and %q do not lead to the family of %q", one, two, code)
	}
	if one[standard.handle():standard.family()] == two[standard.handle():standard.family()] {
		t.Errorf("two exchanges of one code made the same member part: %q", one)
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
