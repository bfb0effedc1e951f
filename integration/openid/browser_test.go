package openid

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/internal/pages/pagestest"
)

// singlePageApp is an app without a server. It shows what it has found out in the element "done", at /bye after it has signed out.
const singlePageApp = `<!doctype html>
<script src="/oidc-client-ts.js"></script>
<script type="module">
const manager = new oidc.UserManager({
	authority: %q, client_id: 'spa', redirect_uri: location.origin + '/callback', scope: 'openid profile email groups', loadUserInfo: true,
	post_logout_redirect_uri: location.origin + '/bye',
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
		localStorage.setItem('left', renewed.refresh_token)
		show({ claims: claims(user.id_token), userinfo: { sub, preferred_username, name, email, email_verified, groups }, refreshed: claims(renewed.id_token) })
	} else if (location.pathname === '/leave') {
		await manager.signoutRedirect({ state: 'a-state' })
	} else if (location.pathname === '/bye') {
		const { userState } = await manager.signoutCallback()
		const endpoint = await manager.metadataService.getTokenEndpoint()
		const answer = await fetch(endpoint, {
			method: 'POST', body: new URLSearchParams({ grant_type: 'refresh_token', refresh_token: localStorage.getItem('left'), client_id: 'spa' }),
		})
		show({ state: userState, user: await manager.getUser(), left: (await answer.json()).error })
	} else {
		await manager.signinRedirect({ nonce: 'a-nonce' })
	}
} catch (error) {
	show({ error: String(error) })
}
</script>`

// TestSinglePageApp signs alice in at an app without a server, and out again. Its library runs in Chromium, at another origin than the
// issuer.
func TestSinglePageApp(t *testing.T) {
	t.Parallel()
	_, dir := project(t)
	ctx := pagestest.Chromium(t, integration.Patience, chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true))
	appAddress := integration.NewAddress(t)
	appURL := "http://localhost:" + integration.Port(appAddress)
	s := start(t, `
		client spa {
			redirect_uris http://localhost/callback
			scopes openid profile email groups
			post_logout_redirect_uris `+appURL+`/bye
		}
`)
	mux := http.NewServeMux()
	mux.HandleFunc("/oidc-client-ts.js", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join(dir, "node_modules", "oidc-client-ts", "dist", "browser", "oidc-client-ts.min.js"))
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, singlePageApp, s.URL)
	})
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", appAddress)
	must(t, err)
	app := httptest.NewUnstartedServer(mux)
	must(t, app.Listener.Close())
	app.Listener = listener
	app.Start()
	t.Cleanup(app.Close)

	account := &url.URL{Scheme: "http", Host: s.Address, Path: "/oauth/apps", User: url.UserPassword(integration.Customer, integration.Password)}
	in(ctx, t, chromedp.Navigate(account.String())) // the browser asks for the password once
	in(ctx, t, chromedp.Navigate(appURL+"/"))
	in(ctx, t, chromedp.Click(chromedp.CSS(`button[value="allow"]`)))
	shown := func() string {
		t.Helper()
		in(ctx, t, chromedp.WaitReady(chromedp.ID("done")))
		return in(ctx, t, chromedp.Evaluate[string](`document.getElementById("done").textContent`))
	}
	check(t, "spa", shown())

	// The ID token says whose session ends, so that nobody asks her. Her tokens end with it.
	in(ctx, t, chromedp.Navigate(appURL+"/leave"))
	if got := shown(); got != `{"state":"a-state","user":null,"left":"invalid_grant"}` {
		t.Errorf("after signing out, the app says %s", got)
	}
	if at := in(ctx, t, chromedp.Evaluate[string](`location.pathname`)); at != "/bye" {
		t.Errorf("signing out ends at %s", at)
	}
}

// in runs an action in the browser and returns its value.
func in[T any](ctx context.Context, t *testing.T, action chromedp.Action[T]) T {
	t.Helper()
	value, err := chromedp.Run(ctx, action)
	must(t, err)
	return value
}
