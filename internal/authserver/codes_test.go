package authserver

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/caddy-oauth/caddy-oauth/storage"
	caddystore "github.com/caddy-oauth/caddy-oauth/storage/caddy"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
)

// someStorage is a storage that is no file system, as far as anybody knows.
type someStorage struct{ certmagic.Storage }

// familyFiles returns how many files of families there are.
func familyFiles(t *testing.T, dir string) int {
	t.Helper()
	return files(t, dir, "/family/")
}

// files returns how many files have a text in their path.
func files(t *testing.T, dir, text string) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && strings.Contains(filepath.ToSlash(path), text) {
			n++
		}
		return err
	})
	must(t, err)
	return n
}

// diskServer is a server whose records are files, on the clock of a synctest bubble.
func diskServer(t *testing.T, on certmagic.Storage) *testServer {
	t.Helper()
	return newTestServer(t, withoutConsent("webapp"), func(c *Config) {
		c.Store, c.Now, c.Limits.Off, c.Codes = caddystore.New(on, "default"), time.Now, true, NewCodes()
	})
}

// run does the upkeep of a server until the returned function is called.
func (s *testServer) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// A code that nobody redeems is gone within minutes of its end, although its record is filed by the end of the refresh
// tokens that could have come of it. So a user who starts logins and never finishes one does not fill the disk.
func TestUnredeemedCodesAreRemoved(t *testing.T) {
	for name, wrap := range map[string]func(certmagic.Storage) certmagic.Storage{
		"files":         func(on certmagic.Storage) certmagic.Storage { return on },
		"other storage": func(on certmagic.Storage) certmagic.Storage { return someStorage{on} },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				s := diskServer(t, wrap(&certmagic.FileStorage{Path: dir}))
				stop := s.run(t)
				for range 30 {
					s.code(t, asks("webapp"))
				}
				redeemed := s.tokens(t)
				stop()
				s.restart(t, s.config) // a reload
				stop = s.run(t)
				time.Sleep(50 * time.Second)
				if n := familyFiles(t, dir); n != 31 {
					t.Errorf("before their end, %d of 31 records are left", n)
				}
				time.Sleep(4 * time.Minute)
				if n := familyFiles(t, dir); n != 1 {
					t.Errorf("four minutes after their end, there are %d records, want that of the code that was redeemed", n)
				}
				s.token(t, refreshes(redeemed["refresh_token"].(string))).check(t, http.StatusOK, "")
				stop()
				time.Sleep(time.Minute) // until the storage has noticed that its locks are gone
			})
		})
	}
}

// A code that another node redeems is kept.
func TestCodeOfAnotherNodeIsKept(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		one, other := diskServer(t, &certmagic.FileStorage{Path: dir}), diskServer(t, &certmagic.FileStorage{Path: dir})
		stop := one.run(t)
		defer stop()
		a := other.token(t, redeems(one.code(t, asks("webapp"))))
		a.check(t, http.StatusOK, "")
		time.Sleep(time.Hour)
		other.token(t, refreshes(a.json(t)["refresh_token"].(string))).check(t, http.StatusOK, "")
	})
}

// What a store refuses to remove is removed later.
func TestRemovalOfCodesIsRepeated(t *testing.T) {
	store, codes := &testStore{Store: memory.New(), now: time.Now, err: errDown, expires: map[storage.Key]time.Time{}}, NewCodes()
	now := time.Now()
	for n := range 10 {
		codes.add("default", storage.Key{Kind: storage.KindFamily, ID: fmt.Sprint(n)}, now)
	}
	codes.add("other", storage.Key{Kind: storage.KindFamily, ID: "x"}, now)
	later := now.Add(time.Hour)
	if err := codes.sweep(t.Context(), "default", store, later); err == nil || len(codes.ends) != 11 {
		t.Errorf("%d codes are remembered, error %v", len(codes.ends), err)
	}
	store.err = nil
	if err := codes.sweep(t.Context(), "default", store, later); err != nil || len(codes.ends) != 1 {
		t.Errorf("%d codes are remembered, error %v", len(codes.ends), err)
	}
}

func TestRememberedCodesAreBounded(t *testing.T) {
	codes := NewCodes()
	for n := range maxCodes + 100 {
		codes.add("default", storage.Key{Kind: storage.KindFamily, ID: fmt.Sprint(n)}, epoch)
	}
	if len(codes.ends) != maxCodes {
		t.Errorf("%d codes are remembered", len(codes.ends))
	}
}

// Whoever floods the server with pushed requests does not keep it from removing the codes that nobody redeems.
func TestPushedRequestsLeaveRoomForCodes(t *testing.T) {
	codes := NewCodes()
	code, late := storage.Key{Kind: storage.KindFamily, ID: "x"}, storage.Key{Kind: storage.KindPushed, ID: "late"}
	flood := func() {
		for n := range maxCodes + 100 {
			known := n >= maxCodes/2
			if codes.addPushed("default", storage.Key{Kind: storage.KindPushed, ID: fmt.Sprint(n)}, epoch, known) != (n < maxCodes) {
				t.Errorf("request %d", n)
			}
		}
		if codes.addPushed("default", late, epoch, true) {
			t.Error("there is more room than that")
		}
	}
	flood()
	codes.add("default", code, epoch)
	if len(codes.ends) != maxCodes+1 {
		t.Errorf("%d are remembered", len(codes.ends))
	}
	codes.redeemed("default", code)
	if ended := codes.takeEnded("default", epoch.Add(time.Hour)); len(ended) != maxCodes || len(codes.ends) != 0 {
		t.Errorf("%d have ended, %d are left", len(ended), len(codes.ends))
	}
	flood()
	codes.redeemed("default", storage.Key{Kind: storage.KindPushed, ID: "0"})
	codes.redeemed("default", storage.Key{Kind: storage.KindPushed, ID: "0"})
	if codes.addPushed("default", late, epoch, false) {
		t.Error("a client that nobody knows has taken the room of those who are known")
	}
	if !codes.addPushed("default", late, epoch, true) || len(codes.ends) != maxCodes {
		t.Errorf("%d are remembered", len(codes.ends))
	}
}

// What a node cannot remember would stay for hours. It is refused until others have ended, and then gone.
func TestPushedRequestsThatNobodyOpensAreBounded(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := diskServer(t, &certmagic.FileStorage{Path: dir})
		for n := range maxCodes/2 - 1 {
			s.config.Codes.addPushed("other", storage.Key{Kind: storage.KindPushed, ID: fmt.Sprint(n)}, time.Now(), false)
		}
		s.pushed(t, asks("spa"))
		a := s.push(t, asks("spa"))
		a.check(t, http.StatusTooManyRequests, "temporarily_unavailable")
		if got := a.Header().Get("Retry-After"); got != "90" {
			t.Errorf("Retry-After is %q", got)
		}
		s.pushed(t, asks("webapp"))
		if n := files(t, dir, "/pushed/"); n != 2 {
			t.Errorf("there are %d records, want 2", n)
		}
		stop := s.run(t)
		time.Sleep(4 * time.Minute)
		if n := files(t, dir, "/pushed/"); n != 0 {
			t.Errorf("there are %d records that nobody can use", n)
		}
		s.pushed(t, asks("spa"))
		stop()
		time.Sleep(time.Minute) // until the storage has noticed that its locks are gone
	})
}
