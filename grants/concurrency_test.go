package grants_test

import (
	"sync"
	"testing"

	"github.com/caddyserver/certmagic"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
	caddystore "github.com/caddy-oauth/caddy-oauth/storage/caddy"
)

const crowd = 50

// atOnce runs do in a crowd and returns what each got, or was refused with.
func atOnce(do func(n int) (*grants.Authorization, error)) (got []*grants.Authorization, refusals []error) {
	var (
		mu    sync.Mutex
		all   sync.WaitGroup
		begin = make(chan struct{})
	)
	for n := range crowd {
		all.Go(func() {
			<-begin
			auth, err := do(n)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				refusals = append(refusals, err)
			} else {
				got = append(got, auth)
			}
		})
	}
	close(begin)
	all.Wait()
	return got, refusals
}

// onStores runs a test on the store in memory, and on files that two stores share as two processes would.
func onStores(t *testing.T, test func(t *testing.T, sites [2]*site)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) {
		s := newSite(t)
		test(t, [2]*site{s, s})
	})
	t.Run("files", func(t *testing.T) {
		dir := t.TempDir()
		one, two := newSite(t), newSite(t)
		one.store = caddystore.New(&certmagic.FileStorage{Path: dir}, "issuer")
		two.store = caddystore.New(&certmagic.FileStorage{Path: dir}, "issuer")
		test(t, [2]*site{one, two})
	})
}

// RFC 6749 §4.1.2: a code is redeemed once, however many ask at the same moment, and what came of it is revoked then.
func TestCrowdRedeemsOneCode(t *testing.T) {
	onStores(t, func(t *testing.T, sites [2]*site) {
		t.Helper()
		code := sites[0].approve(storage.Code{Offline: true})
		got, refusals := atOnce(func(n int) (*grants.Authorization, error) { return sites[n%2].redeem(code, nil) })
		if len(got) != 1 {
			t.Fatalf("%d of %d got tokens, want 1", len(got), crowd)
		}
		replays := 0
		for _, err := range refusals {
			sites[0].wantRefused("the others", err, grants.InvalidGrant)
			if revoked(err) {
				replays++
			}
		}
		if replays == 0 { // more than one may see it before the family has ended
			t.Error("nobody was seen to use the code again")
		}
		_, err := sites[0].refresh(got[0].RefreshToken, nil)
		sites[0].wantRefused("the refresh token of the one", err, grants.InvalidGrant)
	})
}

// Whoever sends the right exchange many times at once gets tokens once, and keeps them.
func TestCrowdRepeatsOneExchange(t *testing.T) {
	onStores(t, func(t *testing.T, sites [2]*site) {
		t.Helper()
		code := sites[0].approve(storage.Code{Offline: true, Challenge: challenge})
		got, refusals := atOnce(func(n int) (*grants.Authorization, error) {
			return sites[n%2].redeem(code, params{"code_verifier": {verifier}})
		})
		if len(got) != 1 {
			t.Fatalf("%d of %d got tokens, want 1", len(got), crowd)
		}
		for _, err := range refusals {
			if sites[0].wantRefused("the others", err, grants.InvalidGrant); revoked(err) {
				t.Errorf("the family is revoked: %v", err)
			}
		}
		if _, err := sites[0].refresh(got[0].RefreshToken, nil); err != nil {
			t.Errorf("the refresh token of the one: %v", err)
		}
	})
}

// A crowd that refreshes with the current token, such as the tabs of a browser, gets one successor, and so on.
func TestCrowdRefreshesOneToken(t *testing.T) {
	onStores(t, func(t *testing.T, sites [2]*site) {
		t.Helper()
		token := sites[0].firstToken()
		for generation := range 5 {
			got, refusals := atOnce(func(n int) (*grants.Authorization, error) { return sites[n%2].refresh(token, nil) })
			for _, err := range refusals {
				t.Fatalf("generation %d: %v", generation, err)
			}
			successor := got[0].RefreshToken
			for _, auth := range got {
				if auth.RefreshToken != successor || successor == token {
					t.Fatalf("generation %d: the family has two lines of descent", generation)
				}
			}
			token = successor
		}
	})
}

// Without a window, exactly one of a crowd gets the successor, and it is revoked, as nobody knows who is the thief.
func TestCrowdRefreshesOneTokenStrictly(t *testing.T) {
	onStores(t, func(t *testing.T, sites [2]*site) {
		t.Helper()
		token := sites[0].firstToken()
		for n := range sites {
			sites[n].client.RefreshToken.Retry = 0
		}
		got, refusals := atOnce(func(n int) (*grants.Authorization, error) { return sites[n%2].refresh(token, nil) })
		if len(got) != 1 {
			t.Fatalf("%d of %d got a successor, want 1", len(got), crowd)
		}
		for _, err := range refusals {
			sites[0].wantRefused("the others", err, grants.InvalidGrant)
		}
		_, err := sites[1].refresh(got[0].RefreshToken, nil)
		sites[1].wantRefused("the successor", err, grants.InvalidGrant)
	})
}

// A code and the refresh token that came of it are presented at once: at the end nothing of the family is good.
func TestCrowdRefreshesAndReplays(t *testing.T) {
	onStores(t, func(t *testing.T, sites [2]*site) {
		t.Helper()
		code := sites[0].approve(storage.Code{Offline: true})
		auth, err := sites[0].redeem(code, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := atOnce(func(n int) (*grants.Authorization, error) {
			if n%10 == 5 {
				return sites[n%2].redeem(code, nil)
			}
			return sites[n%2].refresh(auth.RefreshToken, nil)
		})
		for _, left := range append(got, auth) {
			_, err := sites[1].refresh(left.RefreshToken, nil)
			sites[1].wantRefused("what is left of the family", err, grants.InvalidGrant)
		}
	})
}
