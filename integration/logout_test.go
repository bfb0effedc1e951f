package integration_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// failing is an application that fails until it is told to work. It keeps the IDs of the logout tokens that it got, failed or not.
type failing struct {
	mu     sync.Mutex
	works  bool
	failed []string
	taken  []string
}

func (f *failing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token := r.PostFormValue("logout_token")
	f.mu.Lock()
	defer f.mu.Unlock()
	if id := claimOf(token, "jti"); f.works {
		f.taken = append(f.taken, id)
	} else {
		f.failed = append(f.failed, id)
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func (f *failing) work(works bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.works = works
}

func (f *failing) counts() (failed, taken int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.failed), len(f.taken)
}

func claimOf(token, name string) string {
	claims := make(map[string]any)
	if parts := strings.Split(token, "."); len(parts) == 3 {
		payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
		_ = json.Unmarshal(payload, &claims)
	}
	value, _ := claims[name].(string)
	return value
}

// A logout that could not be sent yet is sent after kill -9, and by another configuration after a reload, with the same jti.
func TestLogoutIsNotLost(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{"files", "redis"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			app := new(failing)
			told := httptest.NewServer(app)
			t.Cleanup(told.Close)
			store := ""
			if backend == "redis" {
				store = integration.StartRedis(t).Store()
			}
			config := integration.Partner(told.URL, store)
			config.Ailing = true
			s := integration.Start(t, config)
			alice := alice(s, "s-1")
			for n, interrupt := range []func(){
				func() {
					s.Kill()
					s.Run()
				},
				func() { must(t, s.Load(t.Context(), s.Adapted(t))) },
			} {
				app.work(false)
				before, _ := app.counts()
				tokens, err := alice.SignIn(t.Context())
				must(t, err)
				must(t, alice.SignOut(t.Context(), tokens))
				integration.Eventually(t, "the first attempt", func() bool {
					failed, _ := app.counts()
					return failed > before
				})
				interrupt()
				app.work(true)
				integration.Eventually(t, "the logout token", func() bool {
					_, taken := app.counts()
					return taken == n+1
				})
				app.mu.Lock()
				if last := len(app.failed) - 1; app.taken[n] == "" || app.taken[n] != app.failed[last] {
					t.Errorf("the jti is %q, and was %q", app.taken[n], app.failed[last])
				}
				app.mu.Unlock()
			}
		})
	}
}

// alice returns alice in a session, in a browser that keeps no connections, since a killed server leaves none.
func alice(s *integration.Server, session string) *integration.PartnerSession {
	return &integration.PartnerSession{
		Browser: &http.Client{
			Transport:     s.Secrets.Record(&http.Transport{DisableKeepAlives: true}),
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		URL: s.URL, ID: session,
	}
}

// heard has the sessions whose end an application has learned of.
type heard struct{ sync.Map }

func (h *heard) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	h.Store(claimOf(r.PostFormValue("logout_token"), "sid"), true)
}

// Whoever has an ID token learns of the end of its session, also if the server was killed, or loaded its configuration again, as soon as the
// token was there or while it was made.
func TestIDTokenHasASession(t *testing.T) {
	t.Parallel()
	const sessions = 8
	app := new(heard)
	told := httptest.NewServer(app)
	t.Cleanup(told.Close)
	s := integration.Start(t, integration.Partner(told.URL, ""))
	// undisturbed calls once more as long as a listener that closes in a reload breaks connections that it has not read from.
	undisturbed := func(call func() error) {
		t.Helper()
		integration.Eventually(t, "an answer that nothing disturbs", func() bool {
			err := call()
			if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
				return false
			}
			must(t, err)
			return true
		})
	}
	kill := func() {
		s.Kill()
		s.Run()
	}
	got := make(map[string]bool)
	sid := func(token string) {
		t.Helper()
		if token != "" {
			got[claimOf(token, "sid")] = true
		}
	}
	for n := range sessions {
		var code string
		var tokens integration.PartnerTokens
		person := alice(s, "after-"+strconv.Itoa(n))
		undisturbed(func() (err error) { code, err = person.Code(t.Context()); return err })
		undisturbed(func() (err error) { tokens, err = person.Tokens(t.Context(), code); return err })
		sid(tokens.IDToken)
		if n%2 == 0 {
			kill()
		} else {
			must(t, s.Load(t.Context(), s.Adapted(t)))
		}

		person = alice(s, "while-"+strconv.Itoa(n))
		undisturbed(func() (err error) { code, err = person.Code(t.Context()); return err })
		answered := make(chan string)
		go func() {
			tokens, _ := person.Tokens(t.Context(), code) // the server may die before it has answered
			answered <- tokens.IDToken
		}()
		if time.Sleep(time.Duration(n) * time.Millisecond / 2); n%2 == 0 { // another moment each time
			s.Kill()
			sid(<-answered)
			s.Run()
		} else {
			must(t, s.Load(t.Context(), s.Adapted(t)))
			sid(<-answered)
		}
	}
	if len(got) < sessions {
		t.Fatalf("the application has ID tokens of %d sessions only", len(got))
	}
	for session := range got {
		s.Do(t, "oauth", "sessions", "end", session, "--address", s.Admin)
	}
	for session := range got {
		integration.Eventually(t, "the application learns of the end of "+session, func() bool {
			_, ok := app.Load(session)
			return ok
		})
	}
}
