package authserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// A client that fails is told three times more within a minute, with the same jti. Then the server gives up, and says so.
func TestLogoutTriedAgain(t *testing.T) {
	for _, status := range []int{500, 400, 302} {
		s := newLogoutServer(t)
		s.told.answer(status)
		s.atSite(t, s.logout(t, hinted(s.signIn(t, "webapp"))))
		began := s.clock.Now()
		for range 10 {
			next, err := s.logouts.work(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if s.store.Count(t, storage.KindLogout) == 0 {
				break
			}
			s.clock.Advance(next.Sub(s.clock.Now()))
		}
		if took := s.clock.Now().Sub(began); len(s.told.got()) != 4 || took > time.Minute {
			t.Errorf("%d: %d attempts in %s", status, len(s.told.got()), took)
		}
		ids := make(map[any]bool)
		for _, token := range s.told.got() {
			ids[s.idToken(t, "ES256", token)["jti"]] = true
		}
		if len(ids) != 1 || s.store.Count(t, storage.KindLogout) != 0 || s.logs.FilterMessage("client not told of a logout; given up").Len() != 1 {
			t.Errorf("%d: jtis %v, %d left", status, ids, s.store.Count(t, storage.KindLogout))
		}
	}
}

func TestLogoutReceiverRecovers(t *testing.T) {
	s := newLogoutServer(t)
	s.told.answer(503)
	s.atSite(t, s.logout(t, hinted(s.signIn(t, "webapp"))))
	s.send(t)
	s.told.answer(0)
	s.clock.Advance(noticePauses[0])
	s.send(t)
	if n := s.store.Count(t, storage.KindLogout); n != 0 || len(s.told.got()) != 2 {
		t.Errorf("%d left, %d attempts", n, len(s.told.got()))
	}
}

// What a node has claimed, no other does, until that node must be dead.
func TestLogoutOfANodeThatDied(t *testing.T) {
	s := newLogoutServer(t)
	s.atSite(t, s.logout(t, hinted(s.signIn(t, "webapp"))))
	for id, err := range s.store.List(t.Context(), storage.KindLogout) {
		if err != nil {
			t.Fatal(err)
		}
		claimed, _, err := s.logouts.claim(t.Context(), storage.Key{Kind: storage.KindLogout, ID: id})
		if claimed == nil || err != nil {
			t.Fatal(err)
		}
	}
	other := s.logouts
	other.send2(t, 0, s)
	s.clock.Advance(logoutClaim)
	other.send2(t, 1, s)
}

func (l *logouts) send2(t *testing.T, want int, s *logoutServer) {
	t.Helper()
	if _, err := l.work(t.Context()); err != nil || len(s.told.got()) != want {
		t.Errorf("%d logout tokens, want %d: %v", len(s.told.got()), want, err)
	}
}

// Many nodes at once tell each client once.
func TestLogoutOnManyNodes(t *testing.T) {
	s := newLogoutServer(t)
	s.signIn(t, "other")
	s.atSite(t, s.logout(t, hinted(s.signIn(t, "webapp"))))
	var nodes sync.WaitGroup
	for range 8 {
		nodes.Go(func() {
			if _, err := s.logouts.work(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		})
	}
	nodes.Wait()
	if n := len(s.told.got()); n != 2 {
		t.Errorf("%d logout tokens, want 2", n)
	}
}

// A logout that the store does not take is not said to have happened, and what it has taken is not lost.
func TestLogoutWhileTheStoreFails(t *testing.T) {
	for fails := 1; ; fails++ {
		s := newLogoutServer(t)
		faulty := &faultyStore{Store: s.store}
		config := s.config
		config.Store, config.StoreTimeout = faulty, time.Minute
		s.restart(t, config)
		tokens := s.signIn(t, "webapp")
		left := fails
		faulty.fail(func(context.Context) error {
			if left--; left == 0 {
				return errDown
			}
			return nil
		})
		a := s.logout(t, hinted(tokens))
		faulty.mend()
		if left > 0 {
			if fails < 4 {
				t.Errorf("%d operations of the store", fails)
			}
			break
		}
		if a.Code == http.StatusServiceUnavailable { // the person tries again
			a = s.logout(t, hinted(tokens))
		}
		s.atSite(t, a)
		s.send(t)
		if s.alive(t, tokens) || len(s.told.got()) == 0 || s.store.Count(t, storage.KindLogout) != 0 {
			t.Errorf("operation %d failed: tokens live %v, %d told, %d left", fails, s.alive(t, tokens), len(s.told.got()), s.store.Count(t, storage.KindLogout))
		}
	}
}

// Addresses that the owner has not written into the configuration are reached by the rules for those of strangers.
func TestLogoutAddressOfAnotherClient(t *testing.T) {
	s := newLogoutServer(t)
	config := s.config
	config.Resolve = func(r *storage.AddedClient, hashes []string) (*storage.Client, error) {
		c := *config.Clients["webapp"]
		c.ID, c.SecretHashes = r.ID, hashes
		return &c, nil
	}
	s.restart(t, config)
	added, secret, err := s.Owner().Clients().Add(t.Context(), clients.Addition{ID: "added", Settings: json.RawMessage(`{}`)})
	if err != nil {
		t.Fatal(err)
	}
	params := merge(asks("webapp"), "client_id", added.ID, "scope", "openid")
	s.seen = append(s.seen, secret)
	s.code(t, params)
	if _, err := s.Owner().EndSession(t.Context(), "s1"); err != nil {
		t.Fatal(err)
	}
	s.send(t)
	if len(s.told.got()) != 0 || s.logs.FilterMessage("client not told of a logout; given up").Len() != 1 {
		t.Errorf("%d logout tokens reached an address of this machine", len(s.told.got()))
	}
}

// A queue that is full loses no tokens that should end.
func TestLogoutQueueIsBounded(t *testing.T) {
	s := newLogoutServer(t)
	tokens := s.signIn(t, "webapp")
	s.logouts.queued.Store(maxLogouts)
	s.atSite(t, s.logout(t, hinted(tokens)))
	if s.alive(t, tokens) || s.store.Count(t, storage.KindLogout) != 0 || s.logs.FilterMessage("client not told of a logout; given up").Len() != 1 {
		t.Error("the tokens live on, or nothing says that the client was not told")
	}
}

// Only what was due when a node claimed the record is sent, and counts as an attempt, however slow the node is.
func TestLogoutNoticeThatComesDueMeanwhile(t *testing.T) {
	s := newLogoutServer(t)
	s.told.answer(500)
	now := s.clock.Now()
	logout := &storage.Logout{Subject: "alice", Created: now, Notices: []storage.Notice{
		{ID: "one", Client: "webapp", Session: "s1", Next: now}, {ID: "two", Client: "other", Session: "s1", Next: now.Add(3 * time.Second)},
	}}
	key := storage.LogoutKey(now.Add(logoutLife))
	record, err := logout.Encode()
	if err == nil {
		err = s.store.Put(t.Context(), key, record, now.Add(logoutLife))
	}
	if err != nil {
		t.Fatal(err)
	}
	claimed, at, err := s.logouts.claim(t.Context(), key)
	if claimed == nil || err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(time.Minute)
	results := s.logouts.tellAll(t.Context(), claimed, at)
	if len(results) != 1 || results["one"] == nil || results["one"].Attempts != 1 || len(s.told.got()) != 1 {
		t.Errorf("%d logout tokens, and %v, want that of the notice that was due", len(s.told.got()), results)
	}
	// What an older record says of attempts is no reason to panic.
	if again := s.logouts.sendNotice(t.Context(), claimed, storage.Notice{ID: "three", Client: "webapp", Session: "s1", Attempts: -1}); again == nil || again.Next.Before(s.clock.Now()) {
		t.Errorf("%+v", again)
	}
}

// A panic ends no process: who is told then is given up.
func TestLogoutPanic(t *testing.T) {
	s := newLogoutServer(t)
	s.atSite(t, s.logout(t, hinted(s.signIn(t, "webapp"))))
	s.logouts.fetcher = nil
	s.send(t)
	if n := s.store.Count(t, storage.KindLogout); n != 0 || s.logs.FilterMessage("client not told of a logout; given up").Len() != 1 {
		t.Errorf("%d left", n)
	}
	s.logouts.sessions, s.logouts.store = nil, nil
	if _, err := s.logouts.workOn(t.Context(), storage.LogoutKey(s.clock.Now())); err == nil || !strings.HasPrefix(err.Error(), "panic:") {
		t.Errorf("%v", err)
	}
}

// On a full disk, the tokens end. The person gets an error, since the clients are not told, and can try again.
func TestLogoutOnAFullDisk(t *testing.T) {
	s := newLogoutServer(t)
	full := false
	s.choosy(t, func(_ storage.Key, anew bool) error {
		if full && anew {
			return syscall.ENOSPC
		}
		return nil
	})
	tokens := s.signIn(t, "webapp")
	full = true
	s.logout(t, hinted(tokens)).check(t, http.StatusServiceUnavailable, "temporarily_unavailable")
	if s.alive(t, tokens) {
		t.Error("the access token lives on")
	}
	s.token(t, refreshes(tokens["refresh_token"].(string))).check(t, http.StatusBadRequest, "invalid_grant")
	full = false
	s.atSite(t, s.logout(t, hinted(tokens)))
	if s.send(t); len(s.told.got()) != 1 {
		t.Errorf("%d clients told", len(s.told.got()))
	}
}

// A family that cannot be read ends later, and the others at once.
func TestLogoutWithAnUnreadableFamily(t *testing.T) {
	s := newLogoutServer(t)
	var unreadable string
	s.choosy(t, func(key storage.Key, _ bool) error {
		if key.Kind == storage.KindFamily && key.ID == unreadable {
			return storage.ErrUnknownKey
		}
		return nil
	})
	all := []map[string]any{s.signIn(t, "webapp"), s.signIn(t, "webapp"), s.signIn(t, "webapp")}
	sessions, err := s.sessions.of(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	unreadable = sessions.SignIns[0].Families[0].ID
	s.atSite(t, s.logout(t, hinted(all[0])))
	if s.alive(t, all[1]) || s.alive(t, all[2]) {
		t.Error("the other tokens live on")
	}
	if _, err := s.logouts.work(t.Context()); !errors.Is(err, storage.ErrUnknownKey) {
		t.Errorf("%v", err)
	}
	unreadable = ""
	if s.send(t); s.alive(t, all[0]) || s.store.Count(t, storage.KindLogout) != 0 {
		t.Error("the family lives on when it can be read")
	}
}

// Nobody is woken to end the tokens that the request is ending.
func TestLogoutWakesWhenTheTokensHaveEnded(t *testing.T) {
	s := newLogoutServer(t)
	ending := 0
	s.choosy(t, func(key storage.Key, _ bool) error {
		if key.Kind == storage.KindFamily && len(s.logouts.wake) > 0 {
			t.Error("woken too early")
		}
		if key.Kind == storage.KindCutoff {
			ending++
		}
		return nil
	})
	s.atSite(t, s.logout(t, hinted(s.signIn(t, "webapp"))))
	if ending == 0 || len(s.logouts.wake) == 0 {
		t.Errorf("%d tokens ended, %d waits", ending, len(s.logouts.wake))
	}
}

// A client that does not answer holds up no other, and is not told twice at the same time.
func TestLogoutRoundsWaitForNobody(t *testing.T) {
	s := newLogoutServer(t)
	arrived, release := make(chan string, 10), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		arrived <- r.URL.Path
		if r.URL.Path == "/webapp" {
			<-release
		}
	}))
	t.Cleanup(slow.Close)
	for _, id := range []string{"webapp", "other"} {
		s.config.Clients[id].OpenID.BackchannelLogoutURI = slow.URL + "/" + id
	}
	rounds := s.logouts.newRounds()
	for i, id := range []string{"webapp", "other"} {
		s.site.user = &User{Subject: "alice", Session: storage.SiteSession{ID: fmt.Sprint("s", i)}}
		s.atSite(t, s.logout(t, hinted(s.signIn(t, id))))
		if err := rounds.round(t.Context()); err != nil {
			t.Error(err)
		}
		if path := <-arrived; path != "/"+id {
			t.Errorf("told %s, want %s", path, id)
		}
	}
	close(release)
	rounds.working.Wait()
	if left := s.store.Count(t, storage.KindLogout); left != 0 || len(arrived) != 0 {
		t.Errorf("%d left, %d told again", left, len(arrived))
	}
}

// The next round is due when the first of the records is, also one that has only just ended.
func TestLogoutRoundIsDue(t *testing.T) {
	s := newLogoutServer(t)
	s.told.answer(503)
	s.atSite(t, s.logout(t, hinted(s.signIn(t, "webapp"))))
	rounds := s.logouts.newRounds()
	began := s.clock.Now()
	if err := rounds.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-rounds.sooner
	rounds.working.Wait()
	if rounds.next.Sub(began) != noticePauses[0] {
		t.Errorf("due after %s, want %s", rounds.next.Sub(began), noticePauses[0])
	}
	s.told.answer(0)
	s.clock.Advance(noticePauses[0])
	if !rounds.wait(t.Context()) {
		t.Error("the time is over")
	}
	if err := rounds.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	rounds.working.Wait()
	if left := s.store.Count(t, storage.KindLogout); left != 0 || len(s.told.got()) != 2 {
		t.Errorf("%d left, told %d times", left, len(s.told.got()))
	}
	ctx, cancel := context.WithCancel(t.Context())
	for len(s.logouts.wake) > 0 {
		<-s.logouts.wake
	}
	if cancel(); rounds.wait(ctx) {
		t.Error("another round, though the time is over")
	}
}
