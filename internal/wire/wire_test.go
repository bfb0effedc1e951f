package wire

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"
	"time"
)

// RFC 9110 §8.8.3
func TestDocumentsHaveEntityTags(t *testing.T) {
	serve := func(body, known string) *httptest.ResponseRecorder {
		r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
		r.Header.Set("If-None-Match", known)
		ServeDocument(w, r, []byte(body), time.Hour)
		return w
	}
	one, other := serve(`{"keys":[]}`, ""), serve(`{"keys":[{}]}`, "")
	tag := one.Header().Get("ETag")
	if !regexp.MustCompile(`^"[\w-]+"$`).MatchString(tag) || tag == other.Header().Get("ETag") {
		t.Errorf("the tags are %s and %s", tag, other.Header().Get("ETag"))
	}
	if got := one.Header().Get("Cache-Control"); got != "public, max-age=3600" || one.Body.String() != `{"keys":[]}` {
		t.Errorf("Cache-Control %q, body %s", got, one.Body)
	}
	if w := serve(`{"keys":[]}`, tag); w.Code != http.StatusNotModified || w.Body.Len() != 0 {
		t.Errorf("a cached document is sent again: %d %s", w.Code, w.Body)
	}
	if w := serve(`{"keys":[{}]}`, tag); w.Code != http.StatusOK {
		t.Errorf("a document that has changed is not sent: %d", w.Code)
	}
}

func TestErrorIDs(t *testing.T) {
	seen := make(map[string]bool)
	for range 1000 {
		id := NewErrorID()
		if !regexp.MustCompile(`^[a-z2-7]{8}$`).MatchString(id) || seen[id] {
			t.Fatalf("%q after %d", id, len(seen))
		}
		seen[id] = true
	}
}
