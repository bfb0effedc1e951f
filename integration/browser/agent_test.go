package browser_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// agentSite is a site with an MCP server, whose people are signed in.
const agentSite = `
{$SITE} {
	oauth {$ISSUER} {
		mcp
		scope orders "your orders"
		user {vars.person}
	}
	vars person alice
	oauth_guard /mcp {
		mcp
		scopes orders
	}
	handle /mcp {
		header {
			Content-Type application/json
			Mcp-Session-Id s1
		}
		respond ` + "`" + `{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"get_order","inputSchema":{"type":"object"}}]}}` + "`" + `
	}
}
`

// An agent that is a page of another origin does everything by script, but for the consent, for which it opens a window.
func TestAgentInABrowser(t *testing.T) {
	t.Parallel()
	ctx := inChromium(t, chromedp.Flag("disable-popup-blocking", true))
	s := integration.Start(t, integration.Config{Sites: agentSite})
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join("testdata", "agent.html"))
	}))
	t.Cleanup(agent.Close)

	opened := chromedp.WaitNewTarget(ctx, func(info *target.Info) bool { return strings.HasPrefix(info.URL, s.URL) })
	in(ctx, t, chromedp.Navigate(agent.URL+"/?server="+url.QueryEscape(s.URL+"/mcp")))
	in(ctx, t, chromedp.Click(chromedp.CSS("button")))
	select {
	case id := <-opened:
		window, closeWindow := chromedp.NewContext(ctx, chromedp.WithTargetID(id))
		defer closeWindow()
		if shown := in(window, t, chromedp.Text(chromedp.CSS("main"))); !strings.Contains(shown, "An agent in a browser") {
			t.Errorf("the window shows %q", shown)
		}
		press(window, t, "allow")
	case <-ctx.Done():
		t.Fatal("no window:", in(ctx, t, chromedp.Evaluate[[]string]("steps")))
	}
	in(ctx, t, chromedp.Poll[bool]("window.done"))
	want := []string{
		"challenge", "protected resource metadata", "authorization server metadata", "keys", "registration", "authorization in a window",
		"token", "call", "refresh", "call with the next token", "revocation", "refusal of the revoked token",
	}
	for i := range want {
		want[i] += ": ok"
	}
	if got := in(ctx, t, chromedp.Evaluate[[]string]("steps")); !slices.Equal(got, want) {
		t.Errorf("got %s", strings.Join(got, "\n"))
	}
}
