// Package browser_test tests logins and consents with a real browser.
package browser_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/internal/pages/pagestest"
)

func TestMain(m *testing.M) { os.Exit(integration.Main(m)) }

var must = integration.Must

func inChromium(t *testing.T, options ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	return pagestest.Chromium(t, integration.Patience,
		append(options, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))...)
}

// in runs an action in the browser and returns its value.
func in[T any](ctx context.Context, t *testing.T, action chromedp.Action[T]) T {
	t.Helper()
	value, err := chromedp.Run(ctx, action)
	must(t, err)
	return value
}

// press clicks one of the buttons of the consent page.
func press(ctx context.Context, t *testing.T, decision string) {
	t.Helper()
	in(ctx, t, chromedp.Click(chromedp.CSS(`button[value="`+decision+`"]`)))
}

// app is a client of the shop: a server that accepts authorization responses at /callback, and at /start, which then redirects to
// /done of another origin, as apps do.
type app struct {
	*httptest.Server
	secrets *integration.Secrets
	mu      sync.Mutex
	answers []answer
}

// answer is an authorization response as the client receives it.
type answer struct {
	method string
	params url.Values
}

func newApp(t *testing.T, s *integration.Server, elsewhere func(own *url.URL) string) *app {
	t.Helper()
	a := &app{secrets: s.Secrets}
	mux := http.NewServeMux()
	done := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprint(w, "<!doctype html><p id=done>You are signed in.")
	}
	mux.HandleFunc("/done", done)
	mux.HandleFunc("/callback", func(w http.ResponseWriter, r *http.Request) {
		a.take(t, r)
		done(w, r)
	})
	mux.HandleFunc("/start", func(w http.ResponseWriter, r *http.Request) {
		a.take(t, r)
		own, err := url.Parse(a.URL)
		if err != nil {
			t.Error(err)
			return
		}
		http.Redirect(w, r, elsewhere(own)+"/done", http.StatusFound)
	})
	a.Server = httptest.NewServer(mux)
	t.Cleanup(a.Close)
	return a
}

func (a *app) take(t *testing.T, r *http.Request) {
	t.Helper()
	if err := r.ParseForm(); err != nil {
		t.Error(err)
	}
	a.secrets.AddFrom(r.Form)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answers = append(a.answers, answer{r.Method, r.Form})
}

// answer waits until the browser is at /done, and returns the only answer that the app has received.
func (a *app) answer(ctx context.Context, t *testing.T) answer {
	t.Helper()
	in(ctx, t, chromedp.WaitReady(chromedp.ID("done")))
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.answers) != 1 {
		t.Fatalf("the app has received %d answers, want one", len(a.answers))
	}
	return a.answers[0]
}

// untouched checks that the app has received no answer.
func (a *app) untouched(t *testing.T) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.answers) > 0 {
		t.Errorf("the app has received %v, want nothing", a.answers)
	}
}
