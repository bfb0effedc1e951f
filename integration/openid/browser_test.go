package openid

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/internal/pages/pagestest"
)

// TestSinglePageApp signs alice in at an app without a server, whose library runs in Chromium, at another origin than the issuer.
func TestSinglePageApp(t *testing.T) {
	_, dir := project(t)
	ctx := pagestest.Chromium(t, integration.Patience, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	s := start(t, `
		client spa {
			redirect_uris http://localhost/callback
			scopes openid profile email groups
		}
`)
	mux := http.NewServeMux()
	mux.HandleFunc("/oidc-client-ts.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join(dir, "node_modules", "oidc-client-ts", "dist", "browser", "oidc-client-ts.min.js"))
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, `<!doctype html>
<script src="/oidc-client-ts.js"></script>
<script type="module">
const manager = new oidc.UserManager({
	authority: %q, client_id: 'spa', redirect_uri: location.origin + '/callback', scope: 'openid profile email groups', loadUserInfo: true,
})
const claims = (token) => JSON.parse(atob(token.split('.')[1].replace(/-/g, '+').replace(/_/g, '/')))
const show = (value) => { document.body.innerHTML = '<pre id=done></pre>'; document.getElementById('done').textContent = JSON.stringify(value) }
try {
	if (location.pathname === '/callback') {
		const user = await manager.signinCallback()
		const nonce = claims(user.id_token).nonce
		if (nonce !== 'a-nonce') throw new Error('the nonce is ' + nonce)
		const { sub, preferred_username, name, email, email_verified, groups } = user.profile
		const renewed = await manager.signinSilent()
		show({ claims: claims(user.id_token), userinfo: { sub, preferred_username, name, email, email_verified, groups }, refreshed: claims(renewed.id_token) })
	} else {
		await manager.signinRedirect({ nonce: 'a-nonce' })
	}
} catch (error) {
	show({ error: String(error) })
}
</script>`, s.URL)
	})
	app := httptest.NewServer(mux)
	t.Cleanup(app.Close)

	account := &url.URL{Scheme: "http", Host: s.Address, Path: "/oauth/apps", User: url.UserPassword(integration.Customer, integration.Password)}
	in(ctx, t, chromedp.Navigate(account.String())) // the browser asks for the password once
	in(ctx, t, chromedp.Navigate("http://localhost:"+integration.Port(strings.TrimPrefix(app.URL, "http://"))+"/"))
	in(ctx, t, chromedp.Click(chromedp.CSS(`button[value="allow"]`)))
	in(ctx, t, chromedp.WaitReady(chromedp.ID("done")))
	check(t, "spa", in(ctx, t, chromedp.Evaluate[string](`document.getElementById("done").textContent`)))
}

// in runs an action in the browser and returns its value.
func in[T any](ctx context.Context, t *testing.T, action chromedp.Action[T]) T {
	t.Helper()
	value, err := chromedp.Run(ctx, action)
	must(t, err)
	return value
}
