package storage

import (
	"math"
	"path"
	"strings"
	"testing"
	"time"
)

func FuzzKeyCheck(f *testing.F) {
	for _, seed := range []string{"", ".", "..", "../x", "a/b", "a\\b", "a.", "abcd.ef", "\x00", "nul", "A", "=2f"} {
		f.Add("kind", seed)
		f.Add(seed, "id")
	}
	f.Fuzz(func(t *testing.T, kind, id string) {
		key := Key{Kind(kind), id}
		if key.Check() != nil {
			return
		}
		for _, name := range []string{kind, id} {
			if path.Join("/a", name, "b") != "/a/"+name+"/b" || strings.Contains(name, "/") {
				t.Errorf("%q passes, but is no plain file name", name)
			}
			if strings.ToLower(name) != name || strings.TrimRight(name, ". ") != name || len(name) > 128 {
				t.Errorf("%q passes, but some file systems give it another name", name)
			}
			if strings.ContainsAny(name, "\\:*?\"<>|%~\x00\n") {
				t.Errorf("%q passes, but is not a name everywhere", name)
			}
		}
		if b := key.Bucket(); b != "" && (!b.Valid() || !strings.HasPrefix(id, string(b)+".")) {
			t.Errorf("Bucket of %q: got %q, want none", id, b)
		}
	})
}

func FuzzEscapeID(f *testing.F) {
	f.Add("", "=h")
	f.Add("a=2f", "a/")
	f.Add("=h"+HashID(""), "")
	f.Add(strings.Repeat("x", 64), strings.Repeat("x", 65))
	f.Add(strings.Repeat("/", 30), "=h"+HashID(strings.Repeat("/", 30)))
	f.Add("User", "user")
	f.Fuzz(func(t *testing.T, one, two string) {
		for _, name := range []string{one, two} {
			key := Key{KindConsent, EscapeID(name)}
			if err := key.Check(); err != nil {
				t.Errorf("EscapeID(%q) is unsafe: %v", name, err)
			}
			if key.Bucket() != "" {
				t.Errorf("EscapeID(%q) begins with a bucket", name)
			}
		}
		if one != two && EscapeID(one) == EscapeID(two) {
			t.Errorf("%q and %q both become %q", one, two, EscapeID(one))
		}
	})
}

func FuzzBucket(f *testing.F) {
	f.Add(int64(0), int64(0))
	f.Add(int64(3600), int64(1))
	f.Add(int64(3599), int64(999_999_999))
	f.Add(int64(-1), int64(0))
	f.Add(int64(1679615*3600), int64(0))
	f.Add(int64(1679614*3600), int64(1))
	f.Add(int64(math.MaxInt32)*100, int64(5))
	f.Fuzz(func(t *testing.T, seconds, nanos int64) {
		const farAway = 1 << 40
		expires := time.Unix(seconds%farAway, nanos%1e9)
		if expires.IsZero() {
			return
		}
		bucket := BucketFor(expires)
		end, ends := bucket.End()
		if !ends {
			if bucket != Never || expires.Unix() < 1679614*3600 {
				t.Fatalf("%v has bucket %q, which has no end", expires, bucket)
			}
			return
		}
		if end.Before(expires) {
			t.Errorf("a record that expires at %v outlives its bucket %s, which ends at %v", expires, bucket, end)
		}
		if seconds%farAway > 0 && end.Sub(expires) >= time.Hour {
			t.Errorf("a record that expires at %v is in a bucket that ends only at %v", expires, end)
		}
		if BucketFor(end) != bucket {
			t.Errorf("bucket %s ends at %v, which is in %s", bucket, end, BucketFor(end))
		}
		if (Key{KindFamily, string(bucket) + ".id"}).Bucket() != bucket {
			t.Errorf("Bucket of an ID in bucket %s returns another one", bucket)
		}
	})
}

func TestBucketNever(t *testing.T) {
	if b := BucketFor(time.Time{}); b != Never {
		t.Errorf("a record that does not expire is in bucket %q", b)
	}
	for _, b := range []Bucket{Never, "", "abc", "abcde", "ABCD", "a-bc", "a.bc"} {
		if end, ends := b.End(); ends {
			t.Errorf("bucket %q ends at %v", b, end)
		}
	}
}

func TestKeyBucket(t *testing.T) {
	for id, want := range map[string]Bucket{
		"abcd.ef":  "abcd",
		"zzzz.ef":  Never,
		"abcd":     "",
		"abcde.f":  "",
		"abc.def":  "",
		"a=bc.def": "",
		"a.bc.def": "",
	} {
		if got := (Key{KindFamily, id}).Bucket(); got != want {
			t.Errorf("%q: bucket %q, want %q", id, got, want)
		}
	}
}
