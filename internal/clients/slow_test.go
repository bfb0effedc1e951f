package clients

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/mtls"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
)

func TestWaitForASlowHashEndsWithTheRequest(t *testing.T) {
	slow := &countedHash{gather: make(chan struct{})}
	a := newAuthenticator(Secrets{"$slow$": slow}, throttle.Limits{}, map[string][]string{"billing": {"$slow$x"}})
	if !a.slow.TryAcquire(slowAtOnce) {
		t.Fatal("a comparison is running")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.authenticate(ctx, "billing", "wrong"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// Wrong secrets can make all others wait, but not those that were right before, whatever else the header can mean: RFC 6749 §2.3.1.
func TestVerifiedSecretsDoNotWaitForSlowHashes(t *testing.T) {
	for _, tt := range []struct{ name, id, secret string }{
		{"plain", "billing", "secret"},
		{"with a percent sign, encoded", "50%25off", "secret"},
		{"with a percent sign, not encoded", "50%25off", "100%25"},
		{"with a plus sign, not encoded", "my+app", "a+b"},
		{"with a plus sign, encoded", "my%2Bapp", "a%2Bb"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var compared []string
			a := newAuthenticator(Secrets{"$slow$": slowHash{&compared}}, throttle.Limits{}, map[string][]string{
				"billing": {"$slow$terces"}, "50%off": {"$slow$terces"}, "50%25off": {"$slow$52%001"}, "my+app": {"$slow$b+a"}, "my app": {"$slow$x"},
			})
			request := tokenRequest()
			request.SetBasicAuth(tt.id, tt.secret)
			first, _, err := a.Authenticate(t.Context(), request, nil, mtls.Peer{Address: "192.0.2.1"})
			if err != nil {
				t.Fatal(err)
			}
			compared = nil
			if !a.slow.TryAcquire(slowAtOnce) {
				t.Fatal("a comparison is running")
			}
			again, _, err := a.Authenticate(t.Context(), request, nil, mtls.Peer{Address: "192.0.2.1"})
			if err != nil || again != first || len(compared) > 0 {
				t.Errorf("again it is %v, error %v, after %d slow hashes", again, err, len(compared))
			}
		})
	}
}

func TestWaitForASlowHashIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var compared []string
		a := newAuthenticator(Secrets{"$slow$": slowHash{&compared}}, throttle.Limits{}, map[string][]string{"billing": {"$slow$terces"}})
		if !a.slow.TryAcquire(slowAtOnce) {
			t.Fatal("a comparison is running")
		}
		_, err := a.authenticate(t.Context(), "billing", "secret")
		refusal, ok := errors.AsType[*grants.Error](err)
		if !ok || refusal.Code != grants.TemporarilyUnavailable || refusal.HTTPStatus() != http.StatusTooManyRequests || refusal.Setting != "secret_hash" {
			t.Errorf("%v", err)
		}
		a.slow.Release(slowAtOnce)
		if _, err := a.authenticate(t.Context(), "billing", "secret"); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// An address that is to wait is told so at once, and takes no time from others.
func TestThrottledGuessesDoNotWaitForSlowHashes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var compared []string
		once := throttle.Limits{Clients: throttle.Limit{Burst: 1, Every: time.Hour}}
		a := newAuthenticator(Secrets{"$slow$": slowHash{&compared}}, once, map[string][]string{"billing": {"$slow$terces"}})
		if _, err := a.authenticate(t.Context(), "billing", "wrong"); codeOf(err) != grants.InvalidClient {
			t.Fatal(err)
		}
		if !a.slow.TryAcquire(slowAtOnce) {
			t.Fatal("a comparison is running")
		}
		began := time.Now()
		if _, err := a.authenticate(t.Context(), "billing", "wrong again"); !tooManyFailures(err) {
			t.Errorf("%v", err)
		}
		if waited := time.Since(began); waited > 0 {
			t.Errorf("it has waited for %s", waited)
		}
	})
}

// Of the guesses that wait for slow hashes, those are not compared whose limit the guesses before them have reached.
func TestLimitIsReachedWhileGuessesWaitForSlowHashes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var compared []string
		twice := throttle.Limits{Clients: throttle.Limit{Burst: 2, Every: time.Hour}}
		a := newAuthenticator(Secrets{"$slow$": slowHash{&compared}}, twice, map[string][]string{"billing": {"$slow$terces"}})
		if !a.slow.TryAcquire(slowAtOnce) {
			t.Fatal("a comparison is running")
		}
		errs := make(chan error)
		for range 5 {
			go func() {
				_, err := a.authenticate(t.Context(), "billing", "wrong")
				errs <- err
			}()
		}
		synctest.Wait()   // all of them wait
		a.slow.Release(1) // one after another gets its turn
		wrong, throttled := 0, 0
		for range 5 {
			switch err := <-errs; {
			case codeOf(err) == grants.InvalidClient:
				wrong++
			case tooManyFailures(err):
				throttled++
			default:
				t.Error(err)
			}
		}
		if wrong != 2 || throttled != 3 || len(compared) != 2 {
			t.Errorf("%d guesses were wrong, %d throttled, after %d slow hashes", wrong, throttled, len(compared))
		}
	})
}

// tooManyFailures tells the refusal of TooManyFailures from errBusy, which has the same code and status.
func tooManyFailures(err error) bool {
	refusal, ok := errors.AsType[*grants.Error](err)
	return ok && refusal.Description == TooManyFailures(0).Description
}
