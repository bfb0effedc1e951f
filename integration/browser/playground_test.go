package browser_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// TestPlayground plays each step of the first page of Caddyfile.example.
func TestPlayground(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../Caddyfile.example")
	must(t, err)
	var port string
	integration.Start(t, integration.Config{Leaky: true, Caddyfile: func(s *integration.Server) string { // its page shows the secrets
		port = integration.Port(s.Address)
		return strings.NewReplacer("localhost:2018", s.Admin, "localhost:8080", "localhost:"+port, "root examples/", "root ../../examples/").
			Replace(string(text))
	}})
	ctx := inChromium(t)
	in(ctx, t, chromedp.Navigate("http://alice:wonderland@localhost:"+port+"/oauth/apps")) // the browser asks for the password once
	in(ctx, t, chromedp.Navigate("http://localhost:"+port+"/"))
	entries := 0
	step := func(id, want string) {
		t.Helper()
		in(ctx, t, chromedp.Click(chromedp.CSS("#"+id+":enabled")))
		entries++
		entry := fmt.Sprintf(`document.querySelectorAll("#log article")[%d]?.innerText ?? ""`, entries-1)
		var text string
		integration.Eventually(t, "the step "+id, func() bool {
			text = in(ctx, t, chromedp.Evaluate[string](entry))
			return text != ""
		})
		if !strings.Contains(text, want) {
			t.Errorf("the step %s says\n%s\nwant %q", id, text, want)
		}
	}
	approve := func() {
		t.Helper()
		in(ctx, t, chromedp.Click(chromedp.CSS("#ask:enabled")))
		in(ctx, t, chromedp.WaitReady(chromedp.CSS(`button[value="allow"]`)))
		press(ctx, t, "allow")
		in(ctx, t, chromedp.WaitReady(chromedp.CSS("#exchange:enabled")))
		entries += 2 // asked, and allowed
	}

	approve()
	step("exchange", "Exchange the code: accepted")
	step("call", `"user": "alice"`)
	step("refresh", "Refresh: accepted")
	step("again", "Send the first refresh token: accepted") // nobody has used the second
	step("refresh", "Refresh: accepted")
	step("call", "Call the API: accepted")
	step("again", "Send the first refresh token: refused")
	step("call", "Call the API: refused")

	approve()
	step("exchange", "Exchange the code: accepted")
	step("revoke", "Revoke: accepted")
	step("call", "Call the API: refused")
	step("script", "Be a script: accepted")
}
