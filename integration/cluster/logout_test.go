package cluster_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// logoutSite is a site whose login says in a header which session a person has.
const logoutSite = `{$SITE} {
	vars person alice
	oauth {$ISSUER} {
		user {vars.person}
		session {
			sid {header.X-Session}
		}
		%s
		openid {
			id_token_signed_response_alg ES256
		}
		throttle {
			codes 100000 1m
		}
		client partner {
			secret {env.PARTNER_SECRET}
			redirect_uris https://partner.example.com/callback
			scopes openid
			consent never
			backchannel_logout_uri {$TOLD}?node={$ADMIN}
		}
	}
}`

// partner is an application that learns of logouts. It does not answer about one of the sessions, if there is one, the first time.
type partner struct {
	silent string
	ended  chan struct{} // ends the silence
	asked  chan string   // gets the address of the node that it does not answer

	mu   sync.Mutex
	told map[string][]string // the IDs of the logout tokens, by session
}

func (p *partner) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	var claims struct{ Jti, Sid string }
	if parts := strings.Split(r.PostFormValue("logout_token"), "."); len(parts) == 3 {
		payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
		_ = json.Unmarshal(payload, &claims) // the test sees what is missing
	}
	p.mu.Lock()
	p.told[claims.Sid] = append(p.told[claims.Sid], claims.Jti)
	silent := claims.Sid == p.silent && len(p.told[claims.Sid]) == 1
	p.mu.Unlock()
	if silent {
		p.asked <- r.URL.Query().Get("node")
		<-p.ended
	}
}

// of returns the IDs of the logout tokens for a session.
func (p *partner) of(session string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.told[session]...)
}

// Nodes that share a store tell an application once of each logout. If a node is killed while it does so, another one does.
func TestLogoutAtBothNodes(t *testing.T) { //nolint:tparallel // its subtests call t.Parallel in logouts
	t.Parallel()
	onBothStores(t, logouts)
}

func logouts(t *testing.T, b backend) {
	t.Helper()
	t.Parallel() // one store beside the other
	const fatal, healthy = "session-of-the-kill", 12
	app := &partner{silent: fatal, ended: make(chan struct{}), asked: make(chan string, 1), told: make(map[string][]string)}
	told := httptest.NewServer(app)
	t.Cleanup(told.Close)
	t.Cleanup(func() { close(app.ended) }) // before the server waits for its requests
	secrets := new(integration.Secrets)
	secrets.Add(integration.PartnerSecret)
	c := startWith(t, b, integration.Config{
		Global: "servers {\n trusted_proxies static 127.0.0.1/32\n }\n", Sites: fmt.Sprintf(logoutSite, b.setting), Secrets: secrets,
		Env: []string{"PARTNER_SECRET=" + integration.PartnerSecret, "TOLD=" + told.URL}, Ailing: true,
	})

	// Half of the people sign in at one node and out at the other.
	var group sync.WaitGroup
	for n := range healthy {
		session := fmt.Sprint("session-", n)
		group.Go(func() {
			out := newApp(c, n%nodes, session)
			tokens, err := out.signIn(t)
			if err == nil {
				out.client.at = n / 2 % nodes
				err = out.signOut(t, tokens)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for n := range healthy {
		integration.Eventually(t, "the application learns of each logout", func() bool { return len(app.of(fmt.Sprint("session-", n))) > 0 })
	}

	// The node that tells the application is killed while it has no answer.
	out := newApp(c, 0, fatal)
	tokens, err := out.signIn(t)
	must(t, err)
	must(t, out.signOut(t, tokens))
	var other int // the node that is left
	select {
	case sender := <-app.asked:
		at := slices.IndexFunc(c.nodes, func(node *integration.Server) bool { return node.Admin == sender })
		if at < 0 {
			t.Fatalf("the application was told by %q", sender)
		}
		other = (at + 1) % nodes
		c.nodes[at].Kill()
	case <-time.After(integration.Patience):
		t.Fatal("no node tells the application of the logout")
	}
	integration.Eventually(t, "the other node tells the application", func() bool { return len(app.of(fatal)) > 1 })
	if ids := app.of(fatal); ids[0] == "" || ids[1] != ids[0] {
		t.Errorf("the logout tokens have the IDs %q", ids)
	}
	out.client.at = other
	answer, err := integration.Post(t.Context(), out.browser, c.nodes[0].TokenURL(), url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {tokens.RefreshToken}, "client_id": {"partner"}, "client_secret": {integration.PartnerSecret},
	})
	if must(t, err); !answer.Refused("invalid_grant") {
		t.Errorf("the refresh token of an ended session: %+v", answer)
	}
	for n := range healthy { // half a minute later
		if ids := app.of(fmt.Sprint("session-", n)); len(ids) != 1 {
			t.Errorf("session %d: the application was told %d times: %q", n, len(ids), ids)
		}
	}
}

// signingApp is the partner in the browser of a person with a session. All its requests go to one node at a time.
type signingApp struct {
	c       *cluster
	client  *client
	browser *http.Client
	session string
}

func newApp(c *cluster, node int, session string) *signingApp {
	a := &signingApp{c: c, client: c.newClient(node), session: session}
	a.client.pinned = true
	a.browser = a.client.browser()
	return a
}

// get returns the status of a page, and the parameters of the URL to which it leads.
func (a *signingApp) get(t *testing.T, path string, query url.Values) (status int, to url.Values, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.c.nodes[0].URL+path+"?"+query.Encode(), nil)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("X-Session", a.session)
	resp, err := a.browser.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	location, err := url.Parse(resp.Header.Get("Location"))
	if err != nil {
		return 0, nil, err
	}
	return resp.StatusCode, location.Query(), nil
}

// idTokens are the tokens of somebody who has signed in.
type idTokens struct {
	IDToken      string `json:"id_token"`
	RefreshToken string `json:"refresh_token"`
}

func (a *signingApp) signIn(t *testing.T) (tokens idTokens, err error) {
	t.Helper()
	const callback = "https://partner.example.com/callback"
	_, to, err := a.get(t, "/oauth/authorize", url.Values{
		"response_type": {"code"}, "client_id": {"partner"}, "redirect_uri": {callback}, "scope": {"openid"},
	})
	if err != nil {
		return tokens, err
	}
	status, err := postJSON(t.Context(), a.browser, a.c.nodes[0].TokenURL(), url.Values{
		"grant_type": {"authorization_code"}, "code": {to.Get("code")}, "redirect_uri": {callback},
		"client_id": {"partner"}, "client_secret": {integration.PartnerSecret},
	}, &tokens)
	if err == nil && tokens.IDToken == "" {
		err = fmt.Errorf("no ID token: %d", status)
	}
	return tokens, err
}

func (a *signingApp) signOut(t *testing.T, tokens idTokens) error {
	t.Helper()
	status, _, err := a.get(t, "/oauth/logout", url.Values{"id_token_hint": {tokens.IDToken}})
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("signing out: %d", status)
	}
	return err
}
