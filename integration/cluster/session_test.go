package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// session is an app that a customer has approved.
type session struct {
	c              *cluster
	client         *client
	browser        *http.Client
	user           string
	code, verifier string
	access         []string // access tokens, the newest last
	refresh        []string // refresh tokens, the newest last
}

// errLost says that a node was killed before it sent the answer to a code. A repeat of the request is refused, since the code was
// used, and the app has to ask the customer again (RFC 6749 §4.1.2).
var errLost = errors.New("the answer to the code was lost")

// approve approves an app as the customer.
func (w *worker) approve(ctx context.Context) (*session, error) {
	s := &session{c: w.c, client: w.c.newClient(w.id % nodes), user: customer(w.id), verifier: oauth2.GenerateVerifier()}
	s.browser = s.client.browser()
	person := &integration.Person{Name: s.user, Password: integration.Password, Browser: s.browser}
	answer, err := person.Decide(ctx, s.app().AuthCodeURL("a-state", oauth2.S256ChallengeOption(s.verifier)), "allow")
	if err != nil {
		return nil, err
	}
	if s.code = answer.Get("code"); s.code == "" {
		return nil, fmt.Errorf("the authorization response is %v, want a code", answer)
	}
	return s, nil
}

func (s *session) app() *oauth2.Config  { return s.c.nodes[0].AppClient() }
func (s *session) codeForm() url.Values { return integration.CodeRequest(s.app(), s.code, s.verifier) }
func (s *session) newest() string       { return s.refresh[len(s.refresh)-1] }

func (s *session) post(ctx context.Context, form url.Values) (*integration.Answer, error) {
	return integration.Post(ctx, s.browser, s.c.nodes[0].TokenURL(), form)
}

// postEverywhere sends a request to all nodes at the same time. broken reports whether a connection broke, so that a node may have
// got the request twice.
func (s *session) postEverywhere(ctx context.Context, form url.Values) (answers []*integration.Answer, broken bool, err error) {
	answers, errs := make([]*integration.Answer, len(s.c.nodes)), make([]error, len(s.c.nodes))
	var mu sync.Mutex
	s.c.everywhere(func(node int) {
		client := s.c.newClient(node)
		answers[node], errs[node] = integration.Post(ctx, client.browser(), s.c.nodes[0].TokenURL(), form)
		mu.Lock()
		defer mu.Unlock()
		broken = broken || client.broken > 0
	})
	return answers, broken, errors.Join(errs...)
}

// redeem gets the first tokens for the code.
func (s *session) redeem(ctx context.Context) error {
	broken, killed := s.client.broken, s.c.kills.done.Load()
	answer, err := s.post(ctx, s.codeForm())
	if err != nil {
		return fmt.Errorf("the code: %w", err)
	}
	if answer.Refused("invalid_grant") && s.client.broken > broken && s.c.kills.since(killed) {
		return errLost
	}
	return s.take(ctx, answer)
}

// renew gets the next tokens for the newest refresh token.
func (s *session) renew(ctx context.Context) error {
	answer, err := s.post(ctx, integration.RefreshRequest("app", s.newest()))
	if err != nil {
		return fmt.Errorf("refresh %d: %w", len(s.refresh), err)
	}
	return s.take(ctx, answer)
}

// take adds the tokens of an answer to the session. The next node must accept them.
func (s *session) take(ctx context.Context, answer *integration.Answer) error {
	switch {
	case answer.Status != http.StatusOK || answer.AccessToken == "" || answer.RefreshToken == "":
		return fmt.Errorf("answer %d is %d %s %s", len(s.refresh), answer.Status, answer.Error, answer.Description)
	case len(s.refresh) > 0 && answer.RefreshToken == s.newest():
		return errors.New("the refresh token was not rotated")
	}
	if len(s.refresh) > 0 {
		s.c.figures.refreshes.Add(1)
	}
	s.refresh, s.access = append(s.refresh, answer.RefreshToken), append(s.access, answer.AccessToken)
	status, err := ask(ctx, s.browser, s.c.nodes[0].URL, answer.AccessToken)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("the API answers the new access token %d with %d", len(s.access), status)
	}
	return err
}

// ask calls the API with a token.
func ask(ctx context.Context, browser *http.Client, site, token string) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, site+"/api/orders", nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := browser.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// refused checks that all nodes refuse a refresh token.
func (s *session) refused(ctx context.Context, token string) error {
	answers, _, err := s.postEverywhere(ctx, integration.RefreshRequest("app", token))
	if err != nil {
		return err
	}
	for node, answer := range answers {
		if !answer.Refused("invalid_grant") {
			return fmt.Errorf("a revoked refresh token: node %d answers %d %s", node, answer.Status, answer.Error)
		}
	}
	return nil
}

// revoked checks that all tokens of the session are void: the refresh token at once, and the access tokens as soon as each node has
// read the revocation, which was at since.
func (s *session) revoked(ctx context.Context, since time.Time) error {
	if err := s.refused(ctx, s.newest()); err != nil {
		return err
	}
	return s.accessRevoked(ctx, since)
}

// accessRevoked checks that the access tokens of the session are void as soon as each node has read the revocation.
func (s *session) accessRevoked(ctx context.Context, since time.Time) error {
	errs := make([]error, len(s.c.nodes))
	s.c.everywhere(func(node int) {
		for _, token := range s.access {
			errs[node] = errors.Join(errs[node], s.void(ctx, node, token, since))
		}
	})
	return errors.Join(errs...)
}

// void waits until a node refuses an access token.
func (s *session) void(ctx context.Context, node int, token string, since time.Time) error {
	client := s.c.newClient(node)
	client.pinned = true
	accepted := time.Duration(0)
	for {
		asked := time.Now()
		status, err := ask(ctx, client.browser(), s.c.nodes[0].URL, token)
		switch {
		case err != nil:
			return err
		case status == http.StatusUnauthorized:
			s.c.figures.refused(accepted)
			return nil
		case status != http.StatusOK:
			return fmt.Errorf("the API answers with %d", status)
		}
		if accepted = asked.Sub(since); accepted > poll+busy {
			return fmt.Errorf("node %d accepts a revoked token after %s", node, accepted)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// checkLine checks that the family has one current token: a refresh with it returns the same next token at all nodes. With reuse, it
// also checks that an older token revokes the family.
func (s *session) checkLine(ctx context.Context, reuse bool) error {
	if err := s.renewEverywhere(ctx); err != nil || !reuse || len(s.refresh) < 3 {
		return err
	}
	if err := s.renew(ctx); err != nil {
		return err
	}
	if err := s.refused(ctx, s.refresh[len(s.refresh)-3]); err != nil {
		return err
	}
	return s.refused(ctx, s.newest())
}

// renewEverywhere presents the newest refresh token at all nodes at the same time. All must return the same next token.
func (s *session) renewEverywhere(ctx context.Context) error {
	answers, _, err := s.postEverywhere(ctx, integration.RefreshRequest("app", s.newest()))
	if err != nil {
		return err
	}
	for _, answer := range answers[1:] {
		if answer.RefreshToken != answers[0].RefreshToken {
			return fmt.Errorf("the family has forked: %d %s, %d %s", answers[0].Status, answers[0].Error, answer.Status, answer.Error)
		}
	}
	return s.take(ctx, answers[0])
}
