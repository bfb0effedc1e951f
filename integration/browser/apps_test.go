package browser_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"golang.org/x/oauth2"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// A person allows an app, finds it among the connected apps, and removes it, which the page asks about: once that app, and once
// all apps.
func TestConnectedApps(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		buttons []string
		removed string // a selector for the page that follows
		says    string
	}{
		{"one", []string{`a[href$="?client=app"]`, `button[value="app"]`}, `p[role="status"]`, "Example app has no access any more."},
		{"all", []string{`a[href$="?all=1"]`, `button[name="all"]`}, `main:not(:has(form))`, "No app has access to your account."},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx, s := inChromium(t), integration.Start(t, integration.Shop())
			f := newFlow(t, s, newApp(t, s, nil), "/callback")
			in(ctx, t, chromedp.Navigate(f.signedIn(t)))
			press(ctx, t, "allow")
			tokens := f.approved(ctx, t, http.MethodGet)
			s.Customer(t).Allow(t, partnerURL(s))

			apps, err := url.Parse(s.URL + "/oauth/apps")
			must(t, err)
			apps.User = url.UserPassword(integration.Customer, integration.Password)
			in(ctx, t, chromedp.Navigate(apps.String()))
			page := in(ctx, t, chromedp.Text(chromedp.CSS("main")))
			for _, shown := range []string{"Example app", "a device of yours (127.0.0.1)", "your name", "your orders", integration.Customer, "within the last hour", "partner.example.com", "not yet"} {
				if !strings.Contains(page, shown) {
					t.Errorf("the page does not show %q:\n%s", shown, page)
				}
			}
			// The names of the links for screen readers.
			names := in(ctx, t, chromedp.Evaluate[string](`[...document.querySelectorAll("a.button")].map(b =>
				b.getAttribute("aria-labelledby").split(" ").map(id => document.getElementById(id).textContent).join(" ")).sort().join()`))
			if names != "Remove Example app,Remove partner" {
				t.Errorf("the links are named %q", names)
			}
			for _, button := range c.buttons {
				in(ctx, t, chromedp.Click(chromedp.CSS(button)))
			}
			in(ctx, t, chromedp.WaitReady(chromedp.CSS(c.removed)))
			if page := in(ctx, t, chromedp.Text(chromedp.CSS("main"))); !strings.Contains(page, c.says) || strings.Contains(page, "a device of yours") {
				t.Errorf("after the removal the page says %q", page)
			}

			again, err := integration.Post(ctx, s.Client(t), s.TokenURL(), integration.RefreshRequest("app", tokens.RefreshToken))
			must(t, err)
			if !again.Refused("invalid_grant") {
				t.Errorf("a refresh after the removal: %d %s", again.Status, again.Error)
			}
			in(ctx, t, chromedp.Navigate(f.signedIn(t)))
			if asks := in(ctx, t, chromedp.Text(chromedp.CSS("main"))); !strings.Contains(asks, "wants to access your account") {
				t.Errorf("the next authorization request shows %q", asks)
			}
		})
	}
}

// partnerURL returns the authorization request of the shop's partner.
func partnerURL(s *integration.Server) string {
	config := s.AppClient()
	config.ClientID, config.RedirectURL = "partner", "https://partner.example.com/callback"
	return config.AuthCodeURL("a-state", oauth2.S256ChallengeOption(oauth2.GenerateVerifier()))
}
