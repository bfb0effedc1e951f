package browser_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"golang.org/x/oauth2"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// navigations are where a browser went, and what a policy kept it from.
type navigations struct {
	mu         sync.Mutex
	urls       []string
	violations []string
}

func (n *navigations) see(event any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if e.Type == network.ResourceTypeDocument {
			n.urls = append(n.urls, e.Request.URL)
		}
	case *audits.EventIssueAdded:
		if d := e.Issue.Details.ContentSecurityPolicyIssueDetails; d != nil {
			n.violations = append(n.violations, d.ViolatedDirective+" "+d.BlockedURL)
		}
	case *log.EventEntryAdded:
		if strings.Contains(e.Entry.Text, "Content Security Policy") {
			n.violations = append(n.violations, e.Entry.Text)
		}
	}
}

// arrived returns the query with which the browser went to a URL.
func (n *navigations) arrived(at string) (query url.Values, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, to := range n.urls {
		if to, raw, _ := strings.Cut(to, "?"); to == at {
			query, err := url.ParseQuery(raw)
			return query, err == nil
		}
	}
	return nil, false
}

func (n *navigations) forbidden() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.violations)
}

// watchedTab opens a tab, and watches where it goes.
func watchedTab(browser context.Context, t *testing.T) (context.Context, *navigations) {
	t.Helper()
	ctx, closeTab := chromedp.NewContext(browser)
	t.Cleanup(closeTab)
	seen := new(navigations)
	must(t, chromedp.Listen(ctx, seen.see))
	for _, enable := range []cdp.Command[cdp.Empty, cdp.Empty]{audits.Enable, log.Enable} {
		_, err := chromedp.Call(ctx, enable, cdp.Empty{})
		must(t, err)
	}
	_, err := chromedp.Call(ctx, network.Enable, network.EnableParams{})
	must(t, err)
	return ctx, seen
}

// hopper is an app's server that accepts every answer, by query or by form, and redirects with its parameters to what its path names.
func hopper(secrets *integration.Secrets, to map[string]string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ParseForm() != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		secrets.AddFrom(r.Form)
		if next := to[r.URL.Path]; next != "" {
			w.Header().Set("Location", next+"?"+r.Form.Encode())
			w.WriteHeader(http.StatusFound)
		}
	})
}

// The browser follows every redirect that comes after the person's decision, wherever it leads. Nothing on this machine opens an app's
// scheme, but the browser says that it would.
func TestRedirectsAfterTheDecision(t *testing.T) {
	const app, bare, lan = "com.example.app:/cb", "cursor://anysphere.cursor-mcp/oauth/callback", "http://printer.lan"
	to := make(map[string]string)
	config := integration.Shop()
	plain, other := httptest.NewServer(hopper(config.Secrets, to)), httptest.NewServer(hopper(config.Secrets, nil))
	secure := httptest.NewTLSServer(hopper(config.Secrets, to))
	for _, server := range []*httptest.Server{plain, other, secure} {
		t.Cleanup(server.Close)
	}
	elsewhere := strings.Replace(other.URL, "127.0.0.1", "localhost", 1) + "/done"
	printer := lan + ":" + integration.Port(plain.URL)
	to["/to-app"], to["/to-bare"], to["/to-other"], to["/to-lan"], to["/to-https"] = app, bare, elsewhere, printer+"/done", secure.URL+"/to-app"
	config.Global = strings.Replace(config.Global, "client partner {", "client hops {\nredirect_uris "+strings.Join([]string{
		"http://127.0.0.1/cb", "http://127.0.0.1/to-app", "http://127.0.0.1/to-bare", "http://127.0.0.1/to-other", "http://127.0.0.1/to-lan",
		"http://127.0.0.1/to-https", secure.URL + "/cb", secure.URL + "/to-app", secure.URL + "/to-other", app, bare, printer + "/cb", printer + "/to-app",
	}, " ")+"\nallow_insecure_redirects\nscopes orders\nconsent always\n}\nclient partner {", 1)
	s := integration.Start(t, config)

	browser := inChromium(t, chromedp.Flag("ignore-certificate-errors", true), chromedp.Flag("host-resolver-rules", "MAP printer.lan 127.0.0.1"))
	request := s.AppClient()
	request.ClientID, request.Scopes = "hops", []string{"orders"}
	u, err := url.Parse(request.AuthCodeURL(""))
	must(t, err)
	u.User = url.UserPassword(integration.Customer, integration.Password)
	in(browser, t, chromedp.Navigate(u.String())) // from now on, the browser sends them by itself

	for _, c := range []struct {
		name, redirectURI, end string
		byForm                 bool // a form can go there
	}{
		{"http on loopback, another port", plain.URL + "/cb", plain.URL + "/cb", true},
		{"https", secure.URL + "/cb", secure.URL + "/cb", true},
		{"https, then an app's scheme", secure.URL + "/to-app", app, true},
		{"https, then another origin", secure.URL + "/to-other", elsewhere, true},
		{"http on loopback, then an app's scheme", plain.URL + "/to-app", app, true},
		{"http on loopback, then a scheme without a period", plain.URL + "/to-bare", bare, true},
		{"http on loopback, then another origin", plain.URL + "/to-other", elsewhere, true},
		{"http on loopback, then a host of the network", plain.URL + "/to-lan", printer + "/done", true},
		{"http on loopback, then https, then an app's scheme", plain.URL + "/to-https", app, true},
		{"an app's scheme", app, app, false},
		{"a scheme without a period", bare, bare, false},
		{"http on a host of the network", printer + "/cb", printer + "/cb", true},
		{"http on a host of the network, then an app's scheme", printer + "/to-app", app, true},
	} {
		for _, decision := range []string{"allow", "deny"} {
			for _, mode := range []string{"query", "form_post"} {
				if mode == "form_post" && !c.byForm {
					continue
				}
				t.Run(c.name+", "+decision+", "+mode, func(t *testing.T) {
					t.Parallel()
					ctx, seen := watchedTab(browser, t)
					request := *request
					request.RedirectURL = c.redirectURI
					in(ctx, t, chromedp.Navigate(request.AuthCodeURL("a-state", oauth2.S256ChallengeOption(oauth2.GenerateVerifier()),
						oauth2.SetAuthURLParam("response_mode", mode))))
					press(ctx, t, decision)
					var query url.Values
					integration.Eventually(t, "the browser goes to "+c.end+" or a policy forbids it", func() (arrived bool) {
						query, arrived = seen.arrived(c.end)
						return arrived || len(seen.forbidden()) > 0
					})
					s.Secrets.AddFrom(query)
					if forbidden := seen.forbidden(); len(forbidden) > 0 {
						t.Errorf("a policy forbids %q", forbidden)
					}
					direct := mode == "query" || c.end != c.redirectURI // otherwise the parameters are in the form
					if direct && (query.Has("code") != (decision == "allow") || query.Get("state") != "a-state") {
						t.Errorf("the browser went there with %v", query)
					}
				})
			}
		}
	}
}
