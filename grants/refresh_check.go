package grants

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/sync/singleflight"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
)

// RefreshCheck asks the site whether a user still has an account, when a client of that user refreshes its tokens. The server
// posts a form with `sub`, `client_id` and `scope`, which has the approved scopes. A status of 2xx, with a JSON object or with
// nothing, lets the client go on. 401, 403, 404 and 410 revoke all tokens of that approval at once. Anything else, such as a
// timeout, 429, 5xx, a redirect or a page, is an outage: the client gets 503 and can repeat its request, and the log says why.
//
// It asks about the user of an assertion of an issuer elsewhere too (`jwt_bearer`), each time. There, the same statuses refuse the
// assertion.
//
// The site is not asked about a client that does not refresh: its access token expires. Nor is it asked about a client that acts
// for itself (`client_credentials`).
type RefreshCheck struct {
	// The URL to post to, such as `http://app:8080/oauth-account`. **Danger:** a URL that answers 404 because it is wrong logs
	// everybody out of all apps. Whoever else can reach it can find out who has an account.
	URL string `json:"url"`

	// How long the site is not asked again about the tokens of one approval, at least a second. After an account is closed,
	// clients can use it for as long, and for the lifetime of an access token. Default: 1 hour.
	Every caddy.Duration `json:"every,omitempty"`

	// The members of the response that become claims of the user's tokens, from this refresh on. A member that is missing or
	// null removes the claim. All other claims stay as they are. The user of an assertion gets these claims. Default: none.
	Claims []string `json:"claims,omitempty"`

	// How long to wait for the response. Default: 5 seconds.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	endpoint *siteEndpoint
	asking   singleflight.Group // by family, client, user and scopes
}

const defaultEvery = time.Hour

// Provision prepares the requests to the site.
func (c *RefreshCheck) Provision() {
	if c.Every == 0 {
		c.Every = caddy.Duration(defaultEvery)
	}
	c.endpoint = newSiteEndpoint(c.URL, time.Duration(c.Timeout))
}

// Check finds impossible settings.
func (c *RefreshCheck) Check() error {
	if err := checkSiteURL(c.URL); err != nil {
		return err
	}
	switch {
	case c.Every < 0 || c.Every > 0 && time.Duration(c.Every) < time.Second:
		return directive.At("every", errors.New("expected a duration of a second or more"))
	case c.Timeout < 0:
		return directive.At("timeout", errors.New("expected a duration"))
	}
	return nil
}

// Due implements Accounts.
func (c *RefreshCheck) Due(last, now time.Time) bool { return now.Sub(last) >= time.Duration(c.Every) }

// Ask implements Accounts. Requests with tokens of the same family ask once. The first of them may end before the answer is
// there, so the question does not end with it. Each gets a map of its own, which it may change.
func (c *RefreshCheck) Ask(ctx context.Context, a *Account) (map[string]any, error) {
	question := strings.Join([]string{a.Family, a.Client, a.Subject, strings.Join(a.Scopes, " ")}, "\x00")
	asked := c.asking.DoChan(question, func() (any, error) { return c.ask(context.WithoutCancel(ctx), a) })
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("asking the site about an account: %w", ctx.Err())
	case result := <-asked:
		if result.Err != nil {
			return nil, fmt.Errorf("asking the site about an account: %w", result.Err)
		}
		return maps.Clone(result.Val.(map[string]any)), nil
	}
}

func (c *RefreshCheck) ask(ctx context.Context, a *Account) (map[string]any, error) {
	form := url.Values{"sub": {a.Subject}, "client_id": {a.Client}, "scope": {strings.Join(a.Scopes, " ")}}
	answer, err := c.endpoint.post(ctx, formType, []byte(form.Encode()))
	if err != nil {
		return nil, err
	}
	switch answer.status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		return nil, fmt.Errorf("%w: %w", answer.unexpected(), ErrNoAccount)
	}
	if !answer.accepts() {
		return nil, answer.unexpected()
	}
	return c.claims(answer)
}

// claims returns the claims in the response about a user who has an account.
func (c *RefreshCheck) claims(answer *siteAnswer) (map[string]any, error) {
	claims := make(map[string]any, len(c.Claims))
	if len(answer.body) == 0 && len(c.Claims) == 0 {
		return claims, nil
	}
	members, err := answer.members() // a page with 200 may be that of a login
	if err != nil {
		return nil, err
	}
	for _, name := range c.Claims {
		claims[name] = members[name]
	}
	return claims, nil
}

var _ Accounts = (*RefreshCheck)(nil)
