package authserver

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/pages"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// maxApps is how long the buttons of the page work. After that, they ask once more.
const maxApps = time.Hour

// appsEndpoint is the page on which people see which apps have access to their account, and remove them.
type appsEndpoint struct{ *core }

// serve shows the page. A GET with client=<ID> or all asks whether to remove that app or all of them; only a POST does it.
func (e *appsEndpoint) serve(c *call) error {
	params, user, err := e.readPage(c)
	switch {
	case err != nil:
		return err
	case user == nil:
		return e.signInToApps(c, params)
	case c.r.Method == http.MethodPost:
		return e.disconnect(c, user, params)
	}
	return e.showApps(c, user, params)
}

// signInToApps sends the person to the site's login page. It returns to the question whether to remove, because the
// person who signs in is not necessarily the one who pressed the button.
func (e *appsEndpoint) signInToApps(c *call, params url.Values) error {
	return e.signInTo(c, e.appsURL(params))
}

// signInTo sends the person to the site's login page, which returns to the given path and query. If the site has none, the response is
// 401, so that basic_auth or another directive of the site can ask for credentials.
func (s *core) signInTo(c *call, returnTo string) error {
	if login := c.site.LoginURL(LoginRequest{ReturnTo: returnTo}); login != "" {
		redirect(c.w, login)
		return nil
	}
	return &grants.Error{
		Code: "login_required", Description: "you are not signed in", Status: http.StatusUnauthorized,
		Cause:   errors.New("the site names no user; put its login before this endpoint, or set login"),
		Setting: "user and login of the oauth directive",
	}
}

// appsURL returns the path and query of the page that asks whether to do what the parameters say.
func (e *appsEndpoint) appsURL(params url.Values) string {
	query := make(url.Values)
	for _, name := range []string{"client", "all"} {
		if params.Has(name) {
			query.Set(name, params.Get(name))
		}
	}
	if len(query) == 0 {
		return e.config.Paths.Apps
	}
	return e.config.Paths.Apps + "?" + query.Encode()
}

// showApps lists the apps, or asks whether to remove one or all of them.
func (e *appsEndpoint) showApps(c *call, user *User, params url.Values) error {
	ctx := c.ctx
	sealed, err := e.sealer.seal(ctx, appsPurpose(user), "", maxApps)
	if err != nil {
		return err
	}
	page := pages.AppsPage{
		User: displayName(user), Action: e.config.Paths.Apps, Request: sealed,
		Now: e.now(), SwitchURL: c.site.LoginURL(LoginRequest{ReturnTo: e.config.Paths.Apps}),
	}
	if page.Apps, err = e.appLines(ctx, user); err != nil {
		return err
	}
	client := params.Get("client")
	switch i := slices.IndexFunc(page.Apps, func(a pages.ConnectedApp) bool { return a.ID == client }); {
	case client != "" && i >= 0:
		page.Apps, page.RemoveOne = page.Apps[i:i+1], true
	case params.Has("all") && len(page.Apps) > 0:
		page.RemoveAll = true
	}
	if gone, err := e.clients.Find(ctx, params.Get("removed")); err != nil {
		return err
	} else if gone != nil && !slices.ContainsFunc(page.Apps, func(a pages.ConnectedApp) bool { return a.ID == gone.ID }) {
		page.Removed = appOf(gone).Name
	}
	return e.pages.Apps(c.w, c.r, page)
}

func appsPurpose(user *User) string { return "apps\x00" + user.Subject }

// connected returns the clients that have access to the account, including uses that this node has not written yet.
func (e *appsEndpoint) connected(ctx context.Context, user *User) (*storage.Consents, error) {
	if err := e.lastUses.write(ctx, user.Subject); err != nil {
		return nil, err
	}
	return e.consents.of(ctx, user.Subject)
}

// appLines returns the apps as the page shows them, the most recently used first.
func (e *appsEndpoint) appLines(ctx context.Context, user *User) ([]pages.ConnectedApp, error) {
	consents, err := e.connected(ctx, user)
	if err != nil {
		return nil, err
	}
	latest := func(id string) time.Time {
		consent := consents.Clients[id]
		return slices.MaxFunc([]time.Time{consent.Since, consent.Last, consent.Used}, time.Time.Compare)
	}
	var ids []string
	for id, consent := range consents.Clients {
		if !consent.Expired(e.now()) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b string) int {
		return cmp.Or(latest(b).Compare(latest(a)), strings.Compare(a, b))
	})
	var lines []pages.ConnectedApp
	for _, id := range ids {
		line, err := e.appLine(ctx, id, consents.Clients[id])
		if err != nil {
			return nil, err
		}
		lines = append(lines, line)
	}
	return lines, nil
}

func (e *appsEndpoint) appLine(ctx context.Context, id string, consent storage.Consent) (pages.ConnectedApp, error) {
	consent = consent.ValidAt(e.now())
	line := pages.ConnectedApp{App: pages.App{ID: id, Name: id}, Since: consent.Since, Used: consent.Used, Ends: consent.Ends()}
	for _, name := range e.inOrder(consent.All()) {
		line.Scopes = append(line.Scopes, pages.Scope{Name: name})
	}
	client, err := e.clients.Find(ctx, id)
	if client == nil || err != nil { // a client that no longer exists can be removed too
		return line, err
	}
	line.App, line.Trusted = appOf(client), client.Consent == storage.ConsentNever
	line.RedirectURIs = client.RedirectURIs
	return line, nil
}

// inOrder returns scopes in the order of the configuration.
func (e *appsEndpoint) inOrder(scopes []string) []string {
	position := func(name string) int {
		return slices.IndexFunc(e.config.Scopes, func(scope Scope) bool { return scope.Name == name })
	}
	slices.SortStableFunc(scopes, func(a, b string) int { return cmp.Compare(position(a), position(b)) })
	return scopes
}

// disconnect removes one app or all of them. If the form is not one that this user got within maxApps, it removes nothing
// and leads to the page that asks.
func (e *appsEndpoint) disconnect(c *call, user *User, form url.Values) error {
	ctx := c.ctx
	_, err := e.sealer.open(ctx, appsPurpose(user), form.Get("request"))
	if errors.Is(err, errStale) || !e.fromThisSite(c.r) {
		redirect(c.w, e.appsURL(form))
		return nil
	}
	if err != nil {
		return err
	}
	consents, err := e.connected(ctx, user)
	if err != nil {
		return err
	}
	client, done := form.Get("client"), url.Values{}
	_, connected := consents.Clients[client]
	switch { // an app without access is not revoked again: every revocation takes a record
	case client != "" && connected:
		err = e.revoker.Revoke(ctx, user.Subject, client, reasonUser, c.peer.Address)
		done.Set("removed", client)
	case client == "" && form.Has("all") && len(consents.Clients) > 0:
		err = e.revoker.Revoke(ctx, user.Subject, "", reasonUser, c.peer.Address)
	}
	if err != nil {
		return err
	}
	redirect(c.w, strings.TrimSuffix(e.config.Paths.Apps+"?"+done.Encode(), "?"))
	return nil
}
