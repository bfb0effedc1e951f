package browser_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"golang.org/x/oauth2"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// flow is an authorization request of an app at the shop, and the exchange of its code.
type flow struct {
	s        *integration.Server
	app      *app
	config   *oauth2.Config
	verifier string
}

func newFlow(t *testing.T, s *integration.Server, a *app, path string) *flow {
	t.Helper()
	f := &flow{s: s, app: a, config: s.AppClient(), verifier: oauth2.GenerateVerifier()}
	s.Secrets.Add(f.verifier)
	f.config.RedirectURL = a.URL + path
	return f
}

// url returns the authorization request.
func (f *flow) url(more ...oauth2.AuthCodeOption) string {
	return f.config.AuthCodeURL("a state & more", append(more, oauth2.S256ChallengeOption(f.verifier))...)
}

// signedIn returns the authorization request with the customer's user name and password in its URL, with which the browser answers
// Caddy's challenge.
func (f *flow) signedIn(t *testing.T, more ...oauth2.AuthCodeOption) string {
	t.Helper()
	u, err := url.Parse(f.url(more...))
	must(t, err)
	u.User = url.UserPassword(integration.Customer, integration.Password)
	return u.String()
}

// approved checks that the app has received a code that it can exchange for tokens.
func (f *flow) approved(ctx context.Context, t *testing.T, method string) *integration.Answer {
	t.Helper()
	got := f.app.answer(ctx, t)
	f.fromIssuer(t, got, method)
	tokens, err := integration.Post(ctx, f.s.Client(t), f.s.TokenURL(),
		integration.CodeRequest(f.config, got.params.Get("code"), f.verifier))
	must(t, err)
	if tokens.Status != http.StatusOK || tokens.AccessToken == "" {
		t.Fatalf("the exchange of the code: %d %s %s", tokens.Status, tokens.Error, tokens.Description)
	}
	return tokens
}

// fromIssuer checks the method and the parameters that every answer must have.
func (f *flow) fromIssuer(t *testing.T, got answer, method string) {
	t.Helper()
	if got.method != method {
		t.Errorf("the answer came by %s, want %s", got.method, method)
	}
	if state := got.params.Get("state"); state != "a state & more" { // RFC 6749 §4.1.2
		t.Errorf("state is %q", state)
	}
	if iss := got.params.Get("iss"); iss != f.s.Issuer { // RFC 9207 §2
		t.Errorf("iss is %q, want %q", iss, f.s.Issuer)
	}
}

func (f *flow) denied(ctx context.Context, t *testing.T) {
	t.Helper()
	got := f.app.answer(ctx, t)
	f.fromIssuer(t, got, http.MethodGet)
	if got.params.Get("error") != "access_denied" || got.params.Has("code") { // RFC 6749 §4.1.2.1
		t.Errorf("the app received error %q, code %v", got.params.Get("error"), got.params.Has("code"))
	}
}

func TestConsent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, decision string
		keyboard       bool
	}{
		{name: "allow", decision: "allow"},
		{name: "deny", decision: "deny"},
		{name: "allow with the keyboard only", decision: "allow", keyboard: true},
		{name: "deny with the keyboard only", decision: "deny", keyboard: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, s := inChromium(t), integration.Start(t, integration.Shop())
			f := newFlow(t, s, newApp(t, s, nil), "/callback")
			in(ctx, t, chromedp.Navigate(f.signedIn(t)))
			page := in(ctx, t, chromedp.Text(chromedp.CSS("body")))
			for _, shown := range []string{"Example app", "your name", "your orders", integration.Customer, "127.0.0.1"} {
				if !strings.Contains(page, shown) {
					t.Errorf("the page does not show %q:\n%s", shown, page)
				}
			}
			f.app.untouched(t)
			if c.keyboard {
				typeUntil(ctx, t, c.decision)
			} else {
				press(ctx, t, c.decision)
			}
			if c.decision == "allow" {
				f.approved(ctx, t, http.MethodGet)
			} else {
				f.denied(ctx, t)
			}
		})
	}
}

// typeUntil presses Tab until the button of the decision has the focus, and then Enter.
func typeUntil(ctx context.Context, t *testing.T, decision string) {
	t.Helper()
	var reached []string
	for range 8 {
		in(ctx, t, chromedp.KeyEvent(kb.Tab))
		reached = append(reached, in(ctx, t, chromedp.Evaluate[string](`document.activeElement.value ?? ""`)))
		if reached[len(reached)-1] == decision {
			in(ctx, t, chromedp.KeyEvent(kb.Enter))
			return
		}
	}
	t.Fatalf("Tab reaches %q, but not %q", reached, decision)
}

// An authorization request of an unknown client gets an error page, without a redirect (RFC 6749 §4.1.2.1).
func TestErrorPage(t *testing.T) {
	t.Parallel()
	ctx, s := inChromium(t), integration.Start(t, integration.Shop())
	f := newFlow(t, s, newApp(t, s, nil), "/callback")
	f.config.ClientID = "nobody"
	resp := in(ctx, t, chromedp.NavigateResponse(f.signedIn(t)))
	if resp.Status != http.StatusBadRequest {
		t.Errorf("the status is %d, want 400", resp.Status)
	}
	id := in(ctx, t, chromedp.Text(chromedp.CSS("code.id")))
	if id == "" || !strings.Contains(string(s.Log()), `"error_id":"`+id+`"`) {
		t.Errorf("the error ID of the page, %q, is not in the log", id)
	}
	f.app.untouched(t)
}

// Chromium applies the form-action policy of the page to every redirect that follows the post.
func TestAppRedirectsToAnotherOrigin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		host string
	}{
		{"another port", "127.0.0.1"},
		{"another name and port", "localhost"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, s := inChromium(t), integration.Start(t, integration.Shop())
			other := newApp(t, s, nil)
			f := newFlow(t, s, newApp(t, s, func(*url.URL) string {
				return strings.Replace(other.URL, "127.0.0.1", c.host, 1)
			}), "/start")
			in(ctx, t, chromedp.Navigate(f.signedIn(t)))
			press(ctx, t, "allow")
			f.approved(ctx, t, http.MethodGet)
			if at := in(ctx, t, chromedp.Location()); !strings.HasPrefix(at, "http://"+c.host+":"+integration.Port(other.URL)+"/") {
				t.Errorf("the browser is at %s", at)
			}
		})
	}
}

// OAuth 2.0 Form Post Response Mode §2: the answer comes by POST.
func TestFormPost(t *testing.T) {
	t.Parallel()
	mode := oauth2.SetAuthURLParam("response_mode", "form_post")
	t.Run("with scripts", func(t *testing.T) {
		t.Parallel()
		ctx, s := inChromium(t), integration.Start(t, integration.Shop())
		f := newFlow(t, s, newApp(t, s, nil), "/callback")
		in(ctx, t, chromedp.Navigate(f.signedIn(t, mode)))
		press(ctx, t, "allow")
		f.approved(ctx, t, http.MethodPost)
		if at := in(ctx, t, chromedp.Location()); at != f.config.RedirectURL {
			t.Errorf("the browser is at %s, want no parameters in the URL", at)
		}
	})
	t.Run("without scripts", func(t *testing.T) {
		t.Parallel()
		ctx, s := inChromium(t), integration.Start(t, integration.Shop())
		f := newFlow(t, s, newApp(t, s, nil), "/callback")
		_, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		must(t, err)
		in(ctx, t, chromedp.Navigate(f.signedIn(t, mode)))
		press(ctx, t, "allow")
		in(ctx, t, chromedp.WaitReady(chromedp.CSS(`input[name="code"]`)))
		f.app.untouched(t) // without scripts, the person has to send the form
		in(ctx, t, chromedp.Click(chromedp.CSS("button.main")))
		f.approved(ctx, t, http.MethodPost)
	})
	t.Run("with a redirect to another origin afterwards", func(t *testing.T) {
		t.Parallel()
		ctx, s := inChromium(t), integration.Start(t, integration.Shop())
		other := newApp(t, s, nil)
		f := newFlow(t, s, newApp(t, s, func(*url.URL) string { return other.URL }), "/start")
		in(ctx, t, chromedp.Navigate(f.signedIn(t, mode)))
		press(ctx, t, "allow")
		f.approved(ctx, t, http.MethodPost)
	})
}
