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
	config := integration.Partner(told.URL, b.setting+"\nthrottle {\n codes 100000 1m\n}")
	config.Global, config.Ailing = "servers {\n trusted_proxies static 127.0.0.1/32\n }\n", true
	c := startWith(t, b, config)

	// Half of the people sign in at one node and out at the other.
	var group sync.WaitGroup
	for n := range healthy {
		session := fmt.Sprint("session-", n)
		group.Go(func() {
			out := newApp(c, n%nodes, session)
			tokens, err := out.SignIn(t.Context())
			if err == nil {
				out.client.at = n / 2 % nodes
				err = out.SignOut(t.Context(), tokens)
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
	tokens, err := out.SignIn(t.Context())
	must(t, err)
	must(t, out.SignOut(t.Context(), tokens))
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
	answer, err := integration.Post(t.Context(), out.Browser, c.nodes[0].TokenURL(), url.Values{
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
	integration.PartnerSession
	client *client
}

func newApp(c *cluster, node int, session string) *signingApp {
	client := c.newClient(node)
	client.pinned = true
	return &signingApp{integration.PartnerSession{Browser: client.browser(), URL: c.nodes[0].URL, ID: session}, client}
}
