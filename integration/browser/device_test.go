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

// A person types the code that a program shows, wrong at first, and decides, with the keyboard only: at a desk, and on a phone that is
// dark and runs no scripts (RFC 8628 §3.3).
func TestDevice(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, decision, scheme string
		width, height          int64
		options                []chromedp.ExecAllocatorOption
	}{
		{"allow on a desktop", "allow", "light", 1280, 800, nil},
		{"deny on a phone in the dark", "deny", "dark", 320, 640, nil},
		{"allow on a phone in the dark without scripts", "allow", "dark", 320, 640, []chromedp.ExecAllocatorOption{chromedp.Flag("blink-settings", "scriptEnabled=false")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ctx := inChromium(t, c.options...)
			s := integration.Start(t, integration.ShopWith("client cli {\n name \"Orders on the command line\"\n grant_types device_code refresh_token\n scopes orders\n}\n"))
			program := &oauth2.Config{ClientID: "cli", Scopes: []string{"orders"}, Endpoint: oauth2.Endpoint{
				DeviceAuthURL: s.URL + "/oauth/device_authorization", TokenURL: s.TokenURL(), AuthStyle: oauth2.AuthStyleInParams,
			}}
			device, err := program.DeviceAuth(ctx)
			must(t, err)
			s.Secrets.Add(device.DeviceCode, device.UserCode)
			device.Interval = 1 // the library waits before it asks the first time

			in(ctx, t, chromedp.EmulateViewport(c.width, c.height))
			_, err = chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: c.scheme}},
			})
			must(t, err)
			page, err := url.Parse(device.VerificationURI)
			must(t, err)
			page.User = url.UserPassword(integration.Customer, integration.Password)
			in(ctx, t, chromedp.Navigate(page.String()))
			fits(ctx, t, c.width, "enter")

			in(ctx, t, chromedp.KeyEvent("bcdf-ghjk"+kb.Enter)) // the field has the focus
			wrong := in(ctx, t, chromedp.Text(chromedp.CSS(`[role="alert"]`)))
			if !strings.Contains(wrong, "This code is wrong") {
				t.Errorf("after a wrong code, the page says %q", wrong)
			}
			fits(ctx, t, c.width, "wrong")

			in(ctx, t, chromedp.KeyEvent(strings.ToLower(strings.ReplaceAll(device.UserCode, "-", ""))+kb.Enter))
			in(ctx, t, chromedp.WaitVisible(chromedp.CSS(`button[value="deny"]`)))
			asked := in(ctx, t, chromedp.Text(chromedp.CSS("body")))
			for _, shown := range []string{"Orders on the command line", "your orders", device.UserCode, "127.0.0.1", integration.Customer, "started it yourself"} {
				if !strings.Contains(asked, shown) {
					t.Errorf("the page does not show %q:\n%s", shown, asked)
				}
			}
			fits(ctx, t, c.width, "ask")
			if pending := poll(t, s, device); !pending.Refused("authorization_pending") {
				t.Errorf("before the person decides, the program gets %d %s", pending.Status, pending.Error)
			}

			typeUntil(ctx, t, c.decision)
			heading, want := in(ctx, t, chromedp.Text(chromedp.CSS(`body:not(:has(form)) h1`))), "Orders on the command line now has access"
			if c.decision == "deny" {
				want = "Orders on the command line did not get access"
			}
			if heading != want {
				t.Errorf("at the end the page says %q, want %q", heading, want)
			}
			fits(ctx, t, c.width, "done")
			if c.decision == "deny" {
				if denied := poll(t, s, device); !denied.Refused("access_denied") {
					t.Errorf("the program gets %d %s", denied.Status, denied.Error)
				}
				return
			}
			token, err := program.DeviceAccessToken(context.WithValue(ctx, oauth2.HTTPClient, &http.Client{Timeout: integration.Patience}), device)
			must(t, err)
			s.Secrets.Add(token.AccessToken, token.RefreshToken)
		})
	}
}

// fits checks that a page is not wider than the window.
func fits(ctx context.Context, t *testing.T, width int64, page string) {
	t.Helper()
	if got := in(ctx, t, chromedp.Evaluate[int64](`document.documentElement.scrollWidth`)); got > width {
		t.Errorf("the page %q is %d px wide, in a window of %d", page, got, width)
	}
}

// poll asks for the tokens once.
func poll(t *testing.T, s *integration.Server, device *oauth2.DeviceAuthResponse) *integration.Answer {
	t.Helper()
	answer, err := integration.Post(t.Context(), s.Client(t), s.TokenURL(), url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "client_id": {"cli"}, "device_code": {device.DeviceCode},
	})
	must(t, err)
	return answer
}
