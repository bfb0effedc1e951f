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

// atOnce runs do many times at once, and returns the authorizations and the errors.
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

// RFC 6749 §4.1.2: of many exchanges of one code at the same time, one succeeds, and the others revoke its tokens.
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
		if replays == 0 { // several may be noticed before the family is revoked
			t.Error("no reuse of the code was noticed")
		}
		_, err := sites[0].refresh(got[0].RefreshToken, nil)
		sites[0].wantRefused("the refresh token of the exchange", err, grants.InvalidGrant)
	})
}

// Of many exchanges with the right verifier at the same time, one gets tokens, and they are not revoked.
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
			t.Errorf("the refresh token of the exchange: %v", err)
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
					t.Fatalf("generation %d: the family has two current tokens", generation)
				}
			}
			token = successor
		}
	})
}

// Without retry, exactly one of many refreshes at the same time gets the successor, and it is revoked, since the others may be thieves.
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

// A code and its refresh token are presented at the same time. At the end, no token of the family is valid.
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
