package crash_test

import (
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// visitor requests everything that a site has: every endpoint, and a page behind the guard.
type visitor struct{ client }

func newVisitor(t *testing.T, s *integration.Server, l *load) *visitor {
	t.Helper()
	return &visitor{client{site: s, http: s.Client(t), person: customer(0), figures: &l.figures}}
}

// visit is a request, with its status when the store works.
type visit struct {
	method, path string
	form         url.Values
	edit         func(*http.Request)
	status       int
}

func visits() []visit {
	as := func(name, secret string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(name, url.QueryEscape(secret)) }
	}
	access, _ := new(storage.Access).IssueToken(0)
	bearer := func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+access) }
	refresh, _ := new(storage.Family).Start(0)
	partner, unknown := as("partner", integration.PartnerSecret), url.Values{"token": {refresh}}
	return []visit{
		{http.MethodGet, "/oauth/jwks", nil, nil, http.StatusOK},
		{http.MethodGet, "/.well-known/oauth-authorization-server", nil, nil, http.StatusOK},
		{http.MethodPost, "/oauth/token", url.Values{"grant_type": {"client_credentials"}}, as("script", integration.ScriptSecret), http.StatusOK},
		{http.MethodPost, "/oauth/introspect", unknown, partner, http.StatusOK},
		{http.MethodPost, "/oauth/revoke", unknown, partner, http.StatusOK},
		{http.MethodGet, "/oauth/apps", nil, nil, http.StatusOK},
		{http.MethodGet, "/oauth/authorize?client_id=unknown", nil, nil, http.StatusBadRequest},
		{http.MethodGet, "/api/orders", nil, bearer, http.StatusUnauthorized},
		{http.MethodGet, "/", nil, nil, http.StatusOK},
	}
}

// visitAll sends all requests at the same time. Each must get its status, or a proper 503. wait waits for the answers.
func (v *visitor) visitAll(t *testing.T) (wait func()) {
	t.Helper()
	var running sync.WaitGroup
	for _, visit := range visits() {
		running.Go(func() {
			if err := v.visit(t, visit); err != nil {
				t.Errorf("%s: %v", visit.path, err)
			}
		})
	}
	return running.Wait
}

func (v *visitor) visit(t *testing.T, visit visit) error {
	t.Helper()
	var edits []func(*http.Request)
	if visit.edit != nil {
		edits = append(edits, visit.edit)
	}
	began := time.Now()
	answer, err := v.once(t.Context(), visit.method, v.site.URL+visit.path, visit.form, edits)
	took := time.Since(began)
	switch {
	case err != nil:
		return err
	case took > bound:
		return fmt.Errorf("an answer took %v", took)
	case answer.unavailable():
		return answer.check()
	case answer.status != visit.status:
		return fmt.Errorf("%d %.200s", answer.status, answer.body)
	}
	return nil
}
