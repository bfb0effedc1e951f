package caddystore

import (
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

func TestListFor(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	hour := string(storage.BucketFor(now.Add(time.Minute))) // until 04:00
	at := func(after time.Duration) time.Time { return now.Add(after) }
	month := string(storage.BucketFor(at(30 * 24 * time.Hour)))
	for _, c := range []struct {
		name    string
		kind    storage.Kind
		bucket  string
		expires time.Time
		want    string
	}{
		{"a code, in the second five minutes", storage.KindFamily, month, at(time.Minute), hour + "1"},
		{"to the end of five minutes", storage.KindFamily, month, at(55 * time.Second), hour + "0"},
		{"a millisecond after it", storage.KindFamily, month, at(55*time.Second + time.Millisecond), hour + "1"},
		{"a code without refresh tokens", storage.KindFamily, hour, at(10 * time.Minute), hour + "2"},
		{"an opaque token", storage.KindAccess, hour, at(10 * time.Minute), ""},
		{"a family that idles for an hour", storage.KindFamily, month, at(55 * time.Minute), hour + "z"},
		{"a family that lives as long as its bucket", storage.KindFamily, month, at(30 * 24 * time.Hour), ""},
		{"a record in no bucket", storage.KindClient, "", at(time.Minute), hour + "z"},
		{"a record in the bucket that never ends", storage.KindFamily, "zzzz", at(time.Minute), hour + "z"},
		{"a record that never expires", storage.KindFamily, "zzzz", time.Time{}, ""},
	} {
		key := storage.Key{Kind: c.kind, ID: "id"}
		if c.bucket != "" {
			key.ID = c.bucket + ".id"
		}
		got := listFor(key, c.expires, now)
		if string(got) != c.want {
			t.Errorf("%s: the list is %q, want %q", c.name, got, c.want)
		}
		if end, ok := got.end(); got != "" && (!ok || end.Before(c.expires)) {
			t.Errorf("%s: the list ends at %v, before %v", c.name, end, c.expires)
		}
	}
	for _, name := range []dueList{"", "abcd", "abcdc", "abcdZ", "abcd-", "zzzz0", "zzzzz", "ABCD0", "abcdz0"} {
		if name.valid() {
			t.Errorf("%q is the name of a list", name)
		}
	}
}
