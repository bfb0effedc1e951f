package authserver

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/caddy-oauth/caddy-oauth/internal/testclock"
	"github.com/caddy-oauth/caddy-oauth/storage"
	caddystore "github.com/caddy-oauth/caddy-oauth/storage/caddy"
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
		c.Store, c.Now, c.Limits.Off, c.Codes = caddystore.New(on, "default"), time.Now, true, newCodes()
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
	store, codes := testclock.NewStore(time.Now), newCodes()
	store.Err = errDown
	now := time.Now()
	for n := range 10 {
		codes.add("default", storage.Key{Kind: storage.KindFamily, ID: fmt.Sprint(n)}, now)
	}
	codes.add("other", storage.Key{Kind: storage.KindFamily, ID: "x"}, now)
	later := now.Add(time.Hour)
	if err := codes.sweep(t.Context(), "default", store, later); err == nil || len(codes.ends) != 11 {
		t.Errorf("%d codes are remembered, error %v", len(codes.ends), err)
	}
	store.Err = nil
	if err := codes.sweep(t.Context(), "default", store, later); err != nil || len(codes.ends) != 1 {
		t.Errorf("%d codes are remembered, error %v", len(codes.ends), err)
	}
}

func TestRememberedCodesAreBounded(t *testing.T) {
	codes := newCodes()
	for n := range maxCodes + 100 {
		codes.add("default", storage.Key{Kind: storage.KindFamily, ID: fmt.Sprint(n)}, epoch)
	}
	if len(codes.ends) != maxCodes {
		t.Errorf("%d codes are remembered", len(codes.ends))
	}
}

// Whoever floods the server with pushed requests does not keep it from removing the codes that nobody redeems.
func TestPushedRequestsLeaveRoomForCodes(t *testing.T) {
	codes := newCodes()
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

// Only requests that no browser has come with have a place: one that is kept for a person, and one that is used up, has none.
func TestPlaceOfAPushedRequestIsFree(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := diskServer(t, &certmagic.FileStorage{Path: dir})
		for n := range maxCodes/2 - 1 {
			s.config.Codes.addPushed("other", storage.Key{Kind: storage.KindPushed, ID: fmt.Sprint(n)}, time.Now(), false)
		}
		for _, step := range []struct {
			name string
			do   func(browser url.Values)
		}{
			{"opened", func(browser url.Values) { s.get(t, browser).check(t, http.StatusOK, "") }},
			{"answered", func(browser url.Values) { s.decide(t, s.get(t, browser), "allow") }},
			{"used", func(browser url.Values) { // approved before
				if s.get(t, browser).location().Get("code") == "" {
					t.Error("no code")
				}
			}},
		} {
			browser := s.pushed(t, asks("spa"))
			s.push(t, asks("spa")).check(t, http.StatusTooManyRequests, "temporarily_unavailable")
			step.do(browser)
			if n := s.config.Codes.pushed; n != maxCodes/2-1 {
				t.Errorf("%s: %d places are taken", step.name, n)
			}
		}
		if n := files(t, dir, "/pushed/"); n != 2 {
			t.Errorf("there are %d records, want those that were opened and answered", n)
		}
		stop := s.run(t)
		time.Sleep(4 * time.Minute)
		if n := files(t, dir, "/pushed/"); n != 1 {
			t.Errorf("there are %d records, want the one that is kept for a person", n)
		}
		stop()
		time.Sleep(time.Minute) // until the storage has noticed that its locks are gone
	})
}

// Before anybody has signed in, an address has only so many requests kept. The others keep their place, and are removed at their end.
func TestPushedRequestThatIsNotKeptHasItsPlace(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := diskServer(t, &certmagic.FileStorage{Path: dir})
		s.config.Limits.Off = false
		s.restart(t, s.config)
		s.site.user, s.site.login = nil, "https://example.com/login"
		for range 301 {
			s.get(t, s.pushed(t, asks("webapp"))).check(t, http.StatusSeeOther, "")
		}
		if n := s.config.Codes.pushed; n != 1 {
			t.Errorf("%d places are taken, want that of the request that is not kept", n)
		}
	})
}

// An issuer that a reload has taken away, or that may not write, sweeps nothing. What it has left keeps nobody out for ever.
func TestRequestsOfAnIssuerThatIsGone(t *testing.T) {
	codes := newCodes()
	key := func(n int) storage.Key { return storage.Key{Kind: storage.KindPushed, ID: fmt.Sprint(n)} }
	for n := range maxCodes {
		codes.addPushed("gone", key(n), epoch, true)
		codes.add("gone", storage.Key{Kind: storage.KindFamily, ID: fmt.Sprint(n)}, epoch)
	}
	if codes.addPushed("default", key(-1), epoch.Add(codeMargin), true) {
		t.Error("what has just ended is forgotten, and its record stays")
	}
	later := epoch.Add(abandoned + codeMargin)
	if !codes.addPushed("default", key(-1), later, true) {
		t.Error("it is refused for ever")
	}
	code := storage.Key{Kind: storage.KindFamily, ID: "x"}
	codes.add("default", code, later)
	if len(codes.ends) != 2 || codes.pushed != 1 {
		t.Errorf("%d are remembered, %d of them are pushed", len(codes.ends), codes.pushed)
	}

	// One that may not write tries again and again.
	for n := range maxCodes {
		codes.addPushed("gone", key(n), epoch, true)
	}
	store := testclock.NewStore(time.Now)
	store.Err = storage.ErrReadOnly
	for _, minute := range []int{10, 29} {
		_ = codes.sweep(t.Context(), "gone", store, epoch.Add(time.Duration(minute)*time.Minute))
	}
	if !codes.addPushed("default", key(-2), later.Add(abandoned), true) {
		t.Error("it is refused while the other issuer may not write")
	}
}
