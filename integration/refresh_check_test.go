package integration_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// A process that is killed while it waits for the site's word about an account has changed nothing: the client repeats its request
// to the next process, which asks again.
func TestKillDuringARefreshCheck(t *testing.T) {
	t.Parallel()
	var s *integration.Server
	var kill atomic.Bool
	var asked atomic.Int64
	killed := make(chan struct{})
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		if kill.Swap(false) {
			s.Kill()
			close(killed)
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(site.Close)
	s = integration.Start(t, integration.ShopWith("refresh_check "+site.URL+" {\nevery 1s\n}"))
	latest := s.NewTokens(t)
	kill.Store(true)
	// The refreshes until a second is over ask nobody.
	integration.Eventually(t, "a refresh that asks the site", func() bool {
		answer, err := integration.Post(t.Context(), s.Client(t), s.TokenURL(), integration.RefreshRequest("app", latest.RefreshToken))
		if err != nil {
			return true
		}
		if answer.Status != http.StatusOK {
			t.Fatalf("a refresh: %d %s", answer.Status, answer.Error)
		}
		latest = answer
		return false
	})
	if n := asked.Load(); n != 1 || kill.Load() {
		t.Fatalf("the connection ended after %d questions", n)
	}
	<-killed
	s.Run()
	answer, err := integration.Post(t.Context(), s.Client(t), s.TokenURL(), integration.RefreshRequest("app", latest.RefreshToken))
	must(t, err)
	if answer.Status != http.StatusOK || answer.RefreshToken == latest.RefreshToken || asked.Load() != 2 {
		t.Errorf("the repeated refresh: %d %s, and the site was asked %d times", answer.Status, answer.Error, asked.Load())
	}
}
