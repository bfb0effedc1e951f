package storage

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

// newAccess returns an access token for an hour, its record and its key.
func newAccess(length int) (a *Access, token string, key Key) {
	a = &Access{
		Client:   "app",
		Subject:  "alice",
		Scopes:   []string{"profile", "orders"},
		Audience: []string{"https://api.example.com"},
		Claims:   map[string]any{"email": "alice@example.com", "id": json.Number("9007199254740993")},
		AuthTime: approval.Add(-time.Hour),
		IssuedAt: approval,
		Expires:  approval.Add(time.Hour),
		Family:   "zzzz.0123456789abcdef0123456789abcdef",
	}
	token, key = a.IssueToken(length)
	return a, token, key
}

func TestOpaqueTokensOfEveryLength(t *testing.T) {
	for asked, length := range map[int]int{0: 53, MinTokenLength: 30, 31: 31, 52: 52, 53: 53, 91: 91, MaxTokenLength: 128} {
		_, token, key := newAccess(asked)
		if len(token) != length || strings.Trim(token, alphabet) != "" {
			t.Errorf("asked for %d characters, got %d: %q", asked, len(token), token)
		}
		if err := key.Check(); err != nil || key.Kind != KindAccess {
			t.Errorf("key %v: %v", key, err)
		}
		if found, ok := AccessKey(token); !ok || found != key {
			t.Errorf("%q leads to %v, want %v", token, found, key)
		}
		if end, ok := key.Bucket().End(); !ok || end.Before(approval.Add(time.Hour)) {
			t.Errorf("filed under %s, which ends at %v, before the token", key.Bucket(), end)
		}
		if _, other, _ := newAccess(asked); other[bucketLength:] == token[bucketLength:] {
			t.Errorf("drawn twice: %q", token)
		}
	}
}

// Neither the key nor the record reveals the secret of the token.
func TestAccessRecordHoldsNothingOfTheToken(t *testing.T) {
	for _, length := range []int{MinTokenLength, 0, MaxTokenLength} {
		a, token, key := newAccess(length)
		stored := key.ID + string(accessRecord(t, a))
		for secret, n := token[bucketLength:], 6; len(secret) >= n; secret = secret[1:] {
			if strings.Contains(stored, secret[:n]) {
				t.Errorf("%q of the token is stored in %s", secret[:n], stored)
			}
		}
	}
}

func TestTextsThatAreNoOpaqueToken(t *testing.T) {
	_, token, key := newAccess(0)
	for name, text := range map[string]string{
		"nothing":              "",
		"too short":            token[:MinTokenLength-1],
		"too long":             token + strings.Repeat("x", MaxTokenLength),
		"no bucket":            "ABCD" + token[bucketLength:],
		"a path for a bucket":  "../." + token[bucketLength:],
		"letters of the world": "日本" + token[bucketLength:],
		"a JWT":                "eyJhbGciOiJFUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl",
	} {
		if found, ok := AccessKey(text); ok {
			t.Errorf("%s leads to %v", name, found)
		}
	}
	for name, text := range map[string]string{
		"another bucket":  string(Never) + token[bucketLength:],
		"one letter more": token + "x",
		"one letter less": token[:len(token)-1],
		"a space":         token + " ",
	} {
		if found, _ := AccessKey(text); found == key {
			t.Errorf("%s leads to the record", name)
		}
	}
}

func TestAccessRecords(t *testing.T) {
	a, _, _ := newAccess(0)
	got, err := DecodeAccess(accessRecord(t, a))
	if err != nil || !reflect.DeepEqual(got, a) {
		t.Errorf("got %+v with error %v, want %+v", got, err, a)
	}
	t.Run("claims keep every digit", func(t *testing.T) {
		if id := got.Claims["id"]; id != json.Number("9007199254740993") {
			t.Errorf("id is %v", id)
		}
	})
	t.Run("empty members are not written", func(t *testing.T) {
		record := accessRecord(t, &Access{Client: "billing", Subject: "billing", IssuedAt: approval, Expires: approval})
		want := `{"client_id":"billing","sub":"billing","iat":"2026-03-01T12:00:00Z","exp":"2026-03-01T12:00:00Z"}`
		if string(record) != want {
			t.Errorf("record %s, want %s", record, want)
		}
	})
	for _, record := range []string{"", "null x", "[]", `"a"`, `{"exp":"soon"}`, `{"claims":[]}`, "{}{}", "{} x", "{"} {
		if a, err := DecodeAccess([]byte(record)); a != nil || err == nil {
			t.Errorf("%q: got %+v and error %v", record, a, err)
		}
	}
}

func accessRecord(t *testing.T, a *Access) []byte {
	t.Helper()
	record, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return record
}
