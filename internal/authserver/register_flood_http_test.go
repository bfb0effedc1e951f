package authserver

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/storage"
	caddystore "github.com/caddy-oauth/caddy-oauth/storage/caddy"
)

// operations counts what a store has to do.
type operations struct {
	storage.Store
	n atomic.Int64
}

func (s *operations) Get(ctx context.Context, key storage.Key) ([]byte, error) {
	s.n.Add(1)
	return s.Store.Get(ctx, key)
}

func (s *operations) Update(ctx context.Context, key storage.Key, change storage.Change) error {
	s.n.Add(1)
	return s.Store.Update(ctx, key, change)
}

// sizeOf returns how many bytes the files below a directory have.
func sizeOf(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

func heap() int64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// R7: strangers register from ever other addresses, at a store of files: neither it nor the memory grows, and the logins of others cost
// what they did before. CADDY_OAUTH_TEST_FLOOD is how many strangers there are.
func TestFloodOfRegistrations(t *testing.T) {
	strangers := 1000
	if text := os.Getenv("CADDY_OAUTH_TEST_FLOOD"); text != "" {
		var err error
		if strangers, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	limit := min(strangers/20, 1000)
	dir := t.TempDir()
	var counted *operations
	s := newTestServer(t, registers(func(r *Registration) { r.Clients.Max = limit }), func(c *Config) {
		counted = &operations{Store: c.Store}
		c.Store, c.Logger, c.StoreTimeout = counted, zap.NewNop(), time.Hour // a busy disk is no outage
	})
	s.store.Store = caddystore.New(&certmagic.FileStorage{Path: dir}, "default")

	// alice is in this test as long as an agent of hers, which has registered too.
	agent := s.register(t, publicClient).json(t)["client_id"].(string)
	login := func(id, uri string) (operations int64) {
		t.Helper()
		before := counted.n.Load()
		a := s.token(t, redeems(s.code(t, merge(asks("spa"), "client_id", id, "redirect_uri", uri)), "client_id", id, "redirect_uri", uri))
		a.check(t, http.StatusOK, "")
		s.token(t, refreshes(a.json(t)["refresh_token"].(string), "client_id", id)).check(t, http.StatusOK, "")
		return counted.n.Load() - before
	}
	logins := map[string]string{"spa": "https://spa.example.com/callback", agent: "http://localhost:3118/callback"}
	want := make(map[string]int64)
	for id, uri := range logins {
		login(id, uri) // which reads keys
		s.clock.Advance(time.Hour)
		want[id] = login(id, uri)
	}

	statuses := make(map[int]int)
	var size, memory int64
	for n := range strangers {
		s.site.address = fmt.Sprintf("2001:db8:%x:%x::1", n>>16, n&0xffff)
		body := fmt.Sprintf(`{"redirect_uris":["https://a.example/%d"],"token_endpoint_auth_method":"none","client_name":"%d"}`, n, n)
		w := httptest.NewRecorder()
		if err := s.ServeHTTP(w, registerRequest(http.MethodPost, "/oauth/register", body), s.site); err != nil {
			t.Fatal(err)
		}
		if statuses[w.Code]++; w.Code == http.StatusTooManyRequests && w.Header().Get("Retry-After") == "" {
			t.Fatal("no Retry-After")
		}
		if n%10 == 0 {
			s.clock.Advance(11 * time.Second)
		}
		if n == 2*limit { // it is full
			size, memory = sizeOf(t, dir), heap()
		}
	}
	after, heapAfter := sizeOf(t, dir), heap()
	t.Logf("%d strangers: %v; the files have %d bytes, and had %d; the heap has %d bytes, and had %d", strangers, statuses, after, size, heapAfter, memory)
	if records := s.store.Count(t, storage.KindDynamic); records > limit || records < limit/2 {
		t.Errorf("%d records", records)
	}
	if statuses[201]+statuses[429] != strangers || statuses[201] <= limit || statuses[429] == 0 {
		t.Errorf("answers %v", statuses)
	}
	if after > 2*size || heapAfter > memory+8<<20 {
		t.Error("it grows")
	}
	s.site.address = ""
	for id, uri := range logins {
		login(id, uri) // which may note that the client is in use today
		s.clock.Advance(time.Hour)
		if got := login(id, uri); got > want[id] {
			t.Errorf("a login of %s has %d operations of the store, and had %d", id, got, want[id])
		}
	}
	if used, err := s.registrations.Find(t.Context(), agent); err != nil || used == nil {
		t.Errorf("the agent is not known any more: %v", err)
	}
	s.token(t, url.Values{"grant_type": {"client_credentials"}, "client_id": {"d.aaaaaaaaaaaaaaaaaaaaaaaaaa"}}).check(t, http.StatusUnauthorized, "invalid_client")
}
