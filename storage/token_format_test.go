package storage

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// approval is when the families of the tests start.
var approval = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// newFamily returns a family with an Offline code, and the code.
func newFamily() (f *Family, code string, key Key) {
	f = &Family{
		Client:  "app",
		Subject: "alice",
		Scopes:  []string{"profile"},
		Started: approval,
		Ends:    approval.Add(30 * 24 * time.Hour),
		Code: &Code{
			Expires:     approval.Add(time.Minute),
			RedirectURI: "https://app.example.com/callback",
			Challenge:   "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
			Offline:     true,
		},
	}
	code, key = f.IssueCode()
	return f, code, key
}

func encoded(t *testing.T, f *Family) []byte {
	t.Helper()
	record, err := f.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return record
}

func rotated(t *testing.T, f *Family, token string, now time.Time) (successor string) {
	t.Helper()
	successor, err := f.Rotate(token, now)
	if err != nil {
		t.Fatal(err)
	}
	return successor
}

// The forms must not change by accident: clients and older versions hold such tokens.
func TestTokenForms(t *testing.T) {
	f, code, key := newFamily()
	first := f.RedeemCode(code, approval)
	second := rotated(t, f, first, approval)

	brief := &Family{Client: "app", Subject: "alice", Ends: approval.Add(time.Hour), Code: &Code{Offline: true, RefreshLength: 30}}
	briefCode, briefKey := brief.IssueCode()
	briefFirst := brief.RedeemCode(briefCode, approval)
	briefSecond := rotated(t, brief, briefFirst, approval)

	alone := &Family{Client: "app", Subject: "alice", Started: approval}
	started, startedKey := alone.Start(0)

	for _, c := range []struct {
		name  string
		token string
		form  string
		find  func(string) (Key, bool)
		key   Key
	}{
		{"code", code, `[0-9a-z]{4}[0-9A-Za-z]{16}[0-9A-Za-z]{43}[0-9A-Za-z]{6}`, CodeKey, key},
		{"first refresh token", first, `[0-9a-z]{4}[0-9A-Za-z]{16}[0-9A-Za-z]{22}[0-9A-Za-z]{43}[0-9A-Za-z]{6}`, RefreshKey, key},
		{"its successor", second, `[0-9a-z]{4}[0-9A-Za-z]{16}[0-9A-Za-z]{22}[0-9A-Za-z]{43}[0-9A-Za-z]{6}`, RefreshKey, key},
		{"refresh token of a family without code and end", started, `zzzz[0-9A-Za-z]{16}[0-9A-Za-z]{22}[0-9A-Za-z]{43}[0-9A-Za-z]{6}`, RefreshKey, startedKey},
		{"code of a family with short tokens", briefCode, `[0-9a-z]{4}[0-9A-Za-z]{8}[0-9A-Za-z]{43}[0-9A-Za-z]{6}`, CodeKey, briefKey},
		{"its first refresh token", briefFirst, `[0-9a-z]{4}[0-9A-Za-z]{8}[0-9A-Za-z]{4}[0-9A-Za-z]{11}[0-9A-Za-z]{3}`, RefreshKey, briefKey},
		{"the successor of that", briefSecond, `[0-9a-z]{4}[0-9A-Za-z]{8}[0-9A-Za-z]{4}[0-9A-Za-z]{11}[0-9A-Za-z]{3}`, RefreshKey, briefKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !regexp.MustCompile(`^(?:` + c.form + `)$`).MatchString(c.token) {
				t.Errorf("%s does not have the form %s", c.token, c.form)
			}
			if got, ok := c.find(c.token); !ok || got != c.key {
				t.Errorf("it leads to %v and %v, want %v", got, ok, c.key)
			}
			if err := c.key.Check(); err != nil {
				t.Error(err)
			}
			if c.key.Kind != KindFamily || !regexp.MustCompile(`^[0-9a-z]{4}\.[0-9a-f]{32}$`).MatchString(c.key.ID) {
				t.Errorf("the key is %v, want a bucket and a hash", c.key)
			}
		})
	}
}

// A code is not a refresh token and vice versa, and a changed one does not lead to its family.
func TestTextsThatDoNotLeadToTheFamily(t *testing.T) {
	f, code, family := newFamily()
	token := f.RedeemCode(code, approval)
	for _, c := range []struct {
		name, text string
		find       func(string) (Key, bool)
	}{
		{"no code", "", CodeKey},
		{"no refresh token", "", RefreshKey},
		{"refresh token as code", token, CodeKey},
		{"code as refresh token", code, RefreshKey},
		{"truncated code", code[:len(code)-1], CodeKey},
		{"longer code", code + "A", CodeKey},
		{"refresh token cut to another layout", token[:len(token)-1], RefreshKey},
		{"refresh token that is too short for any", token[:MinTokenLength-1], RefreshKey},
		{"refresh token that is too long for any", token + strings.Repeat("A", MaxTokenLength), RefreshKey},
		{"code with another bucket", "zzzz" + code[bucketLength:], CodeKey},
		{"code with the checksum of a refresh token", string(appendChecksum(isRefresh, []byte(code[:len(code)-longChecksum]), longChecksum)), CodeKey},
		{"code with a bucket in upper case", strings.ToUpper(code[:bucketLength-1]) + "A" + code[bucketLength:], CodeKey},
		{"code with a path as bucket", "../." + code[bucketLength:], CodeKey},
		{"refresh token with NUL in the bucket", "ab\x00d" + token[bucketLength:], RefreshKey},
		{"refresh token with white space before it", " " + token, RefreshKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			key, ok := c.find(c.text)
			if ok && key == family {
				t.Error("it leads to the family")
			}
			if !ok && key != (Key{}) {
				t.Errorf("it leads to %v and nowhere", key)
			}
		})
	}
}

// The length, the alphabet and the checksum tell that a damaged token was never issued, so that it is refused without asking the store.
func TestDamagedTokensLeadNowhere(t *testing.T) {
	f, code, _ := newFamily()
	brief := &Family{Ends: approval.Add(time.Hour), Code: &Code{Offline: true, RefreshLength: MinTokenLength}}
	briefCode, _ := brief.IssueCode()
	_, access, _ := newAccess(0)
	_, briefAccess, _ := newAccess(MinTokenLength)
	for _, c := range []struct {
		name, token string
		find        func(string) (Key, bool)
	}{
		{"code", code, CodeKey},
		{"refresh token", f.RedeemCode(code, approval), RefreshKey},
		{"opaque access token", access, AccessKey},
		{"code of a family with short tokens", briefCode, CodeKey},
		{"short refresh token", brief.RedeemCode(briefCode, approval), RefreshKey},
		{"short opaque access token", briefAccess, AccessKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, ok := c.find(c.token); !ok {
				t.Fatalf("%q leads nowhere", c.token)
			}
			for _, text := range damaged(c.token) {
				if key, ok := c.find(text); ok {
					t.Errorf("%q, which was %q, leads to %v", text, c.token, key)
				}
			}
		})
	}
}

// damaged returns damaged forms of a token: with another character in each position, with two other adjacent characters in each
// position, and with the characters that programs add to a text or remove from it.
func damaged(token string) []string {
	texts := []string{token + "\n", token + "\r\n", token + " ", " " + token, token + "=", token + "\x00", "\ufeff" + token, `"` + token + `"`}
	edit := func(change func(text []byte)) {
		text := []byte(token)
		if change(text); string(text) != token {
			texts = append(texts, string(text))
		}
	}
	for i := range len(token) {
		for _, c := range []byte(alphabet + "-_.\x00\xff") {
			edit(func(text []byte) { text[i] = c })
		}
		for range 100 {
			edit(func(text []byte) { appendRandom(text[:i], 2) })
		}
		edit(func(text []byte) { slices.Reverse(text[i:min(i+2, len(text))]) })
	}
	return texts
}

// The kind is part of the checksum.
func TestTokenOfAnotherKind(t *testing.T) {
	text := string(appendRandom([]byte(Never), 40))
	for _, n := range []int{shortChecksum, longChecksum} {
		for _, kind := range []tokenKind{isCode, isRefresh, isAccess} {
			token := string(appendChecksum(kind, []byte(text), n))
			for _, other := range []tokenKind{isCode, isRefresh, isAccess} {
				if got := intact(other, token, n); got != (other == kind) {
					t.Errorf("a token of kind %d is one of kind %d: %v", kind, other, got)
				}
			}
		}
	}
}

func TestTokensAreDrawnAnew(t *testing.T) {
	selector, family := standard.selectorEnd(), standard.familyEnd()
	seen := map[string]string{}
	differs := func(what, part string) {
		t.Helper()
		if other, ok := seen[part]; ok {
			t.Errorf("the %s was drawn before, as %s", what, other)
		}
		seen[part] = what
	}
	for range 100 {
		f, code, _ := newFamily()
		first := f.RedeemCode(code, approval)
		second := rotated(t, f, first, approval)
		differs("selector", code[bucketLength:selector])
		differs("secret of the code", code[selector:])
		differs("family secret", first[selector:family])
		differs("secret of the first token", first[family:])
		differs("secret of the second token", second[family:])
	}
}

// A stolen store yields no token: no eight consecutive characters of a token occur in a record or its key.
func TestRecordsHoldNothingOfTokens(t *testing.T) {
	f, code, key := newFamily()
	atStart := encoded(t, f)
	first := f.RedeemCode(code, approval)
	redeemed := encoded(t, f)
	second := rotated(t, f, first, approval)
	rotatedOnce := encoded(t, f)
	third := rotated(t, f, second, approval)
	rotatedTwice := encoded(t, f)
	f.Revoke("refresh token used again", approval)
	records := [][]byte{atStart, redeemed, rotatedOnce, rotatedTwice, encoded(t, f)}

	const run = 8
	for what, token := range map[string]string{"code": code, "first token": first, "second token": second, "third token": third} {
		for i := bucketLength; i+run <= len(token); i++ {
			part := token[i : i+run]
			for n, record := range records {
				if bytes.Contains(record, []byte(part)) {
					t.Errorf("record %d holds %q of the %s: %s", n, part, what, record)
				}
			}
			if strings.Contains(key.ID, part) {
				t.Errorf("the name %s of the record holds %q of the %s", key.ID, part, what)
			}
		}
	}
}

// The key for any text is safe, and in the bucket that the text begins with.
func FuzzTokenKey(f *testing.F) {
	family, code, _ := newFamily()
	f.Add(code)
	f.Add(family.RedeemCode(code, approval))
	f.Add("")
	f.Add(strings.Repeat("z", len(code)))
	f.Add(strings.Repeat("\x00", refreshLength))
	f.Add("../." + strings.Repeat("/", len(code)-4))
	f.Add("zzzz" + strings.Repeat("é", (refreshLength-4)/2) + "x")
	f.Fuzz(func(t *testing.T, text string) {
		one, isCode := CodeKey(text)
		two, isRefresh := RefreshKey(text)
		for _, found := range []struct {
			key Key
			ok  bool
		}{{one, isCode}, {two, isRefresh}} {
			key := found.key
			if !found.ok {
				if key != (Key{}) {
					t.Errorf("%q: both a key %v and none", text, key)
				}
				continue
			}
			if err := key.Check(); err != nil {
				t.Errorf("%q: %v", text, err)
			}
			if key.Kind != KindFamily || string(key.Bucket()) != text[:bucketLength] {
				t.Errorf("%q leads to %v", text, key)
			}
		}
	})
}
