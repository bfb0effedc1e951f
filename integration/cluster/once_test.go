package cluster_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
)

// A DPoP proof that comes to both nodes at the same time is good for one token, whatever store the nodes share (RFC 9449 §11.1).
func TestProofAtBothNodes(t *testing.T) { onBothStores(t, proofsOnce) }

func proofsOnce(t *testing.T, b backend) {
	t.Helper()
	b.setting += "\nclient machine {\n secret machine-secret\n dpop_bound_access_tokens\n}\n"
	c := start(t, b)
	p := jwttest.NewProver(t, "ES256", time.Now)
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"machine"}, "client_secret": {"machine-secret"}}
	for range 20 {
		proof := p.Prove(t, http.MethodPost, c.nodes[0].Issuer+"/oauth/token", "")
		type outcome struct {
			status int
			answer integration.Answer
			err    error
		}
		outcomes := make([]outcome, 4)
		var group sync.WaitGroup
		for i := range outcomes {
			group.Go(func() {
				o, node := &outcomes[i], c.nodes[i%nodes]
				o.status, o.err = postJSON(t.Context(), node.Client(t), node.TokenURL(), form, &o.answer, "DPoP", proof)
			})
		}
		group.Wait()
		tokens := 0
		for _, o := range outcomes {
			must(t, o.err)
			switch {
			case o.status == http.StatusOK && o.answer.TokenType == "DPoP":
				tokens++
			case o.status != http.StatusBadRequest || o.answer.Error != "invalid_dpop_proof" || !strings.Contains(o.answer.Description, "used before"):
				t.Errorf("got %d %s %s", o.status, o.answer.Error, o.answer.Description)
			}
		}
		if tokens != 1 {
			t.Errorf("%d of %d requests with one proof got a token", tokens, len(outcomes))
		}
	}
}

// A client pushes its request to one node, and browsers come with it to both: people see the consent page at each, and the first who
// allows it gets the only code.
func TestPushedRequestAtBothNodes(t *testing.T) { onBothStores(t, pushedOnce) }

func pushedOnce(t *testing.T, b backend) {
	t.Helper()
	c := start(t, b)
	first, second := c.nodes[0], c.nodes[1]
	for round := range 10 {
		verifier := oauth2.GenerateVerifier()
		first.Secrets.Add(verifier)
		app := first.AppClient()
		asked, err := url.Parse(app.AuthCodeURL("a-state", oauth2.S256ChallengeOption(verifier)))
		must(t, err)
		var pushed struct {
			RequestURI string `json:"request_uri"`
		}
		status, err := postJSON(t.Context(), first.Client(t), first.URL+first.Path+"/oauth/par", asked.Query(), &pushed)
		must(t, err)
		if status != http.StatusCreated || pushed.RequestURI == "" {
			t.Fatalf("the push: %d", status)
		}
		if round == 0 { // the request survives the node that took it
			first.Kill()
			first.Run()
		}
		query := "?" + url.Values{"client_id": {app.ClientID}, "request_uri": {pushed.RequestURI}}.Encode()
		browsers, answers, errs := make([]*integration.Person, 4), make([]*integration.Page, 4), make([]error, 4)
		pages := make([]*integration.Page, len(browsers))
		for i := range browsers {
			node := c.nodes[(i+1)%nodes] // the second first
			browsers[i] = node.Customer(t)
			browsers[i].Name = customer(0)
			pages[i] = browsers[i].Open(t, node.URL+node.Path+"/oauth/authorize"+query)
			if pages[i].Status != http.StatusOK {
				t.Fatalf("browser %d gets %d %s", i, pages[i].Status, pages[i].Text)
			}
		}
		var group sync.WaitGroup
		for i := range browsers {
			group.Go(func() { answers[i], errs[i] = browsers[i].Press(t.Context(), pages[i], "allow") })
		}
		group.Wait()
		code := ""
		for i, answer := range answers {
			must(t, errs[i])
			location, err := url.Parse(answer.Location)
			must(t, err)
			switch got, refused := location.Query().Get("code"), location.Query().Get("error"); {
			case got != "" && code == "":
				code = got
			case got != "" || refused != "invalid_request_uri":
				t.Errorf("browser %d gets %d %s, and a code: %t", i, answer.Status, refused, got != "")
			}
		}
		if late := browsers[0].Open(t, second.URL+second.Path+"/oauth/authorize"+query); late.Status != http.StatusBadRequest {
			t.Errorf("a browser that comes later gets %d", late.Status)
		}
		answer, err := integration.Post(t.Context(), second.Client(t), second.TokenURL(), integration.CodeRequest(app, code, verifier))
		must(t, err)
		if answer.AccessToken == "" {
			t.Errorf("the code: %d %s", answer.Status, answer.Error)
		}
	}
}

// postJSON posts a form, with a header, and reads the answer.
func postJSON(ctx context.Context, client *http.Client, target string, form url.Values, answer any, header ...string) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if len(header) == 2 {
		req.Header.Set(header[0], header[1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, json.NewDecoder(resp.Body).Decode(answer)
}
