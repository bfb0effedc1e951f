package storage

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// The form must not change by accident. Records of a later version can be read.
func TestFamilyRecords(t *testing.T) {
	const (
		shared = "ad00AAAAAAAAAAAAAAAAmmmmmmmmmmmmmmmmmmmmmm"
		code   = "ad00AAAAAAAAAAAAAAAAcccccccccccccccccccccccccccccccccccccccccccDaGyTj"
		before = shared + "0000000000000000000000000000000000000000000IqaL2l"
		first  = shared + "1111111111111111111111111111111111111111111yq2MZO"
		second = shared + "2222222222222222222222222222222222222222222epUO64"
	)
	read := func(t *testing.T, name string) *Family {
		t.Helper()
		record := goldenHex(t, name)
		f := decoded(t, record)
		if again := encoded(t, f); !strings.Contains(name, "later") && !bytes.Equal(again, record) {
			t.Errorf("written %x\nwant    %x", again, record)
		}
		return f
	}
	for _, name := range []string{"family-code.hex", "family-code-later-version.hex"} {
		t.Run(name, func(t *testing.T) {
			f := read(t, name)
			if !f.HasCode(code) || !f.Code.Redeemed.IsZero() || !f.Code.Offline || !f.Code.RedirectSent {
				t.Errorf("the code is %+v", f.Code)
			}
			if want := []string{"profile", "orders"}; f.Client != "app" || f.Subject != "alice" || !reflect.DeepEqual(f.Scopes, want) {
				t.Errorf("got %+v", f)
			}
			if !f.Ends.Equal(approval.Add(30*24*time.Hour)) || !f.Expires(approval, 0).Equal(approval.Add(time.Minute)) {
				t.Errorf("ends at %v, the code expires at %v", f.Ends, f.Expires(approval, 0))
			}
		})
	}
	t.Run("family-refresh.hex", func(t *testing.T) {
		f := read(t, "family-refresh.hex")
		for token, want := range map[string]TokenStatus{second: TokenCurrent, first: TokenRetryable, before: TokenReused} {
			if got := f.TokenStatus(token, approval, time.Second); got != want {
				t.Errorf("%q is %v, want %v", token, got, want)
			}
		}
		if got, err := f.Successor(first); err != nil || got != second {
			t.Errorf("the successor is %q with error %v, want %q", got, err, second)
		}
	})
	t.Run("family-revoked.hex", func(t *testing.T) {
		f := read(t, "family-revoked.hex")
		if !f.Revoked.Equal(approval) || f.Reason != "refresh token used again" || f.Client != "app" {
			t.Errorf("got %+v", f)
		}
	})
}

// goldenHex returns a record that testdata has in hex.
func goldenHex(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	record, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return record
}

// Claims do not change, however often the family is rotated.
func TestFamilyKeepsClaims(t *testing.T) {
	claims := `{"admin":true,"groups":["a","b"],"ratio":0.1,"uid":9007199254740993}`
	w := fieldWriter{[]byte{fieldsFormat}}
	w.text(familyClient, "app")
	w.text(familyClaims, claims)
	record := w.record
	for range 3 {
		f := decoded(t, record)
		if got, err := json.Marshal(f.Claims); err != nil || string(got) != claims {
			t.Errorf("got %s with error %v, want %s", got, err, claims)
		}
		record = encoded(t, f)
	}
}

// A check by the site changes the claims that it names, and no other.
func TestCheckedFamily(t *testing.T) {
	f, _, _ := newFamily()
	if !f.LastChecked().Equal(approval) {
		t.Errorf("a new family counts as checked at %v", f.LastChecked())
	}
	for n, c := range []struct {
		claims map[string]any
		want   string
	}{
		{nil, "null"},
		{map[string]any{"email": nil}, "null"},
		{map[string]any{"email": "a@example.com", "uid": json.Number("9007199254740993")}, `{"email":"a@example.com","uid":9007199254740993}`},
		{map[string]any{"email": nil, "role": "admin"}, `{"role":"admin","uid":9007199254740993}`},
		{nil, `{"role":"admin","uid":9007199254740993}`},
		{map[string]any{"role": nil, "uid": nil}, "null"},
	} {
		now := approval.Add(time.Duration(n+1) * time.Hour)
		f.NoteChecked(c.claims, now)
		f = decoded(t, encoded(t, f))
		got, err := json.Marshal(f.Claims)
		if err != nil || string(got) != c.want || !f.LastChecked().Equal(now) {
			t.Errorf("check %d: claims %s, checked at %v, error %v; want %s", n, got, f.LastChecked(), err, c.want)
		}
	}
}

// No record makes DecodeFamily panic or return both a family and an error, or makes a token current or retried that was never issued.
func FuzzDecodeFamily(f *testing.F) {
	family, code, _ := newFamily()
	f.Add([]byte("{}"), code)
	f.Add([]byte(""), "")
	empty := func(messages ...protowire.Number) []byte {
		w := fieldWriter{[]byte{fieldsFormat}}
		for _, n := range messages {
			w.message(n, func(*fieldWriter) {})
		}
		return w.record
	}
	f.Add(empty(familyRefresh), tokenOfAnotherFamily())
	f.Add(empty(familyRefresh, familyCode), strings.Repeat("z", refreshLength))
	f.Add(append(empty(familyCode), "{}"...), "")
	record, err := family.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(record, code)
	f.Add(record[:len(record)-1], code)
	f.Add([]byte{fieldsFormat}, code)
	f.Fuzz(func(t *testing.T, record []byte, token string) {
		family, err := DecodeFamily(record)
		if (family == nil) == (err == nil) {
			t.Fatalf("%s: family %+v and error %v", record, family, err)
		}
		if err != nil {
			return
		}
		if record[0] != fieldsFormat {
			t.Errorf("%q is read as %+v", record, family)
		}
		again, err := family.Encode()
		if err != nil {
			t.Fatalf("%q is read as %+v, which cannot be written: %v", record, family, err)
		}
		if same, err := DecodeFamily(again); err != nil || !reflect.DeepEqual(same, tidied(family)) {
			t.Errorf("%+v is read again as %+v with error %v", family, same, err)
		}
		presented := family.TokenStatus(token, approval, time.Hour)
		if presented != TokenUnknown && (family.Refresh == nil || len(token) < MinTokenLength) {
			t.Errorf("%q is %v to %s", token, presented, record)
		}
		if presented == TokenRetryable {
			if next, err := family.Successor(token); err == nil && next == "" {
				t.Errorf("%q has neither a successor nor an error in %s", token, record)
			}
		}
		if family.HasCode(token) && family.Code == nil {
			t.Errorf("%q is a code of %s", token, record)
		}
	})
}

// tidied returns a family as it is decoded: empty fields are not written.
func tidied(f *Family) *Family {
	tidy := *f
	for _, list := range []*[]string{&tidy.Scopes, &tidy.Audience} {
		if len(*list) == 0 {
			*list = nil
		}
	}
	if len(tidy.Claims) == 0 {
		tidy.Claims = nil
	}
	times := []*time.Time{&tidy.AuthTime, &tidy.Started, &tidy.Ends, &tidy.Revoked, &tidy.Checked}
	var hashes []*[]byte
	if f.Code != nil {
		code := *f.Code
		tidy.Code = &code
		times, hashes = append(times, &code.Expires, &code.Redeemed), append(hashes, &code.Hash)
	}
	if f.Refresh != nil {
		r := *f.Refresh
		tidy.Refresh = &r
		times, hashes = append(times, &r.Rotated), append(hashes, &r.FamilySecret, &r.Current, &r.Previous, &r.Successor)
	}
	for _, at := range times {
		*at = at.UTC()
	}
	for _, hash := range hashes {
		if len(*hash) == 0 {
			*hash = nil
		}
	}
	return &tidy
}

func BenchmarkFamilyRecord(b *testing.B) {
	f, code, _ := newFamily()
	token := f.RedeemCode(code, approval)
	if _, err := f.Rotate(token, approval); err != nil {
		b.Fatal(err)
	}
	record, err := f.Encode()
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = f.Encode() // it worked once
		}
	})
	b.Run("Decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = DecodeFamily(record) // as above
		}
	})
}
