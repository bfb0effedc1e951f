package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// begin redeems the code and refreshes a few times.
func (s *session) begin(ctx context.Context, refreshes int) error {
	if err := s.redeem(ctx); err != nil {
		return err
	}
	for range refreshes {
		if err := s.renew(ctx); err != nil {
			return err
		}
	}
	return nil
}

// plain refreshes, and leaves the session valid.
func (w *worker) plain(ctx context.Context, s *session) error {
	if err := s.begin(ctx, 1+rand.IntN(4)); err != nil {
		return err
	}
	w.alive = append(w.alive, s)
	return nil
}

// tabs refreshes at all nodes at the same time, as two tabs of a browser do.
func (w *worker) tabs(ctx context.Context, s *session) error {
	if err := s.begin(ctx, 1); err != nil {
		return err
	}
	w.alive = append(w.alive, s)
	return errors.Join(s.renewEverywhere(ctx), s.renewEverywhere(ctx))
}

// repeatTime is how long the repeat of an exchange revokes nothing.
const repeatTime = 10 * time.Second

// codeTwice exchanges a code several times at the same time, as a page does that renders twice. One exchange gets tokens, and the
// others do not revoke them.
func (w *worker) codeTwice(ctx context.Context, s *session) error {
	killed, began := s.c.kills.done.Load(), time.Now()
	answers, broken, err := s.postEverywhere(ctx, s.codeForm())
	if err != nil {
		return err
	}
	took := time.Since(began)
	for _, answer := range answers {
		switch {
		case answer.Refused("invalid_grant"):
		case answer.Status == http.StatusOK && len(s.refresh) == 0:
			s.refresh, s.access = []string{answer.RefreshToken}, []string{answer.AccessToken}
		default:
			return fmt.Errorf("another answer is %d %s %s", answer.Status, answer.Error, answer.Description)
		}
	}
	switch {
	case len(s.refresh) > 0 && took >= repeatTime: // the last repeat may have been too late, and have revoked the tokens
		return nil
	case len(s.refresh) > 0:
		w.alive = append(w.alive, s)
		return s.renew(ctx)
	case broken && s.c.kills.since(killed): // the answer with the tokens was lost
		return errLost
	}
	return errors.New("no answer has tokens")
}

// codeStolen presents a used code without its verifier, as a thief would (RFC 6749 §4.1.2).
func (w *worker) codeStolen(ctx context.Context, s *session) error {
	if err := s.redeem(ctx); err != nil {
		return err
	}
	form := s.codeForm()
	form.Set("code_verifier", oauth2.GenerateVerifier())
	answers, _, err := s.postEverywhere(ctx, form)
	if err != nil {
		return err
	}
	for _, answer := range answers {
		if !answer.Refused("invalid_grant") {
			return fmt.Errorf("the stolen code: %d %s", answer.Status, answer.Error)
		}
	}
	return s.revoked(ctx, time.Now())
}

// codeAgain presents a code again after its refresh token was used.
func (w *worker) codeAgain(ctx context.Context, s *session) error {
	if err := s.begin(ctx, 1+rand.IntN(2)); err != nil {
		return err
	}
	answer, err := s.post(ctx, s.codeForm())
	if err != nil {
		return err
	}
	if !answer.Refused("invalid_grant") {
		return fmt.Errorf("the code a second time: %d %s", answer.Status, answer.Error)
	}
	return s.revoked(ctx, time.Now())
}

// refreshTokenAgain presents an old refresh token, as a thief would (RFC 9700 §4.14.2).
func (w *worker) refreshTokenAgain(ctx context.Context, s *session) error {
	if err := s.begin(ctx, 3); err != nil {
		return err
	}
	if err := s.refused(ctx, s.refresh[rand.IntN(2)]); err != nil {
		return err
	}
	return s.revoked(ctx, time.Now())
}

// revokedByApp revokes the session at one node, as the app (RFC 7009). At that node, the access tokens are void at once.
func (w *worker) revokedByApp(ctx context.Context, s *session) error {
	if err := s.begin(ctx, 2); err != nil {
		return err
	}
	node := rand.IntN(nodes)
	client := s.c.newClient(node)
	client.pinned = true
	form := url.Values{"client_id": {"app"}, "token": {s.newest()}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.c.nodes[0].URL+"/oauth/revoke", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := client.browser().Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	since := time.Now()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the revocation: %s", resp.Status)
	}
	for _, token := range s.access {
		status, err := ask(ctx, client.browser(), s.c.nodes[0].URL, token)
		if err != nil || status != http.StatusUnauthorized {
			return fmt.Errorf("at the node of the revocation the API answers %d %w", status, err)
		}
	}
	return s.revoked(ctx, since)
}

// revokedByOwner revokes all tokens of the customer at one node, as the owner, while an app refreshes at another node as fast as
// it can.
func (w *worker) revokedByOwner(ctx context.Context, s *session) error {
	if err := s.begin(ctx, 1); err != nil {
		return err
	}
	here := rand.IntN(nodes)
	var last time.Time
	refreshed := make(chan error)
	go func() {
		var err error
		last, err = s.refreshUntilRefused(ctx, (here+1)%nodes)
		refreshed <- err
	}()
	since, err := w.revokeUser(ctx, here)
	if err := errors.Join(err, <-refreshed, w.c.inTime(last, since)); err != nil {
		return err
	}
	all := append(w.alive, s)
	w.alive = nil
	for _, s := range all {
		// A configuration that was just loaded may not know the revocation yet, although the one before did. One that is loaded
		// after this loop may not either, so nothing is said of the refresh token then.
		for node := range nodes {
			last, err := s.refreshUntilRefused(ctx, node)
			if err := errors.Join(err, w.c.inTime(last, since)); err != nil {
				return err
			}
		}
		if err := s.accessRevoked(ctx, since); err != nil {
			return err
		}
	}
	return nil
}

// inTime checks that the last successful refresh was in time after the revocation.
func (c *cluster) inTime(last, since time.Time) error {
	after := max(last.Sub(since), 0)
	c.figures.refused(after)
	if after > poll+busy {
		return fmt.Errorf("an app could refresh for %s after the revocation", after)
	}
	return nil
}

// refreshUntilRefused refreshes at one node until it refuses, and returns when it sent the last request that succeeded.
func (s *session) refreshUntilRefused(ctx context.Context, node int) (last time.Time, err error) {
	client := s.c.newClient(node)
	client.pinned = true
	browser := client.browser()
	for start := time.Now(); time.Since(start) < integration.Patience; {
		asked := time.Now()
		answer, err := integration.Post(ctx, browser, s.c.nodes[0].TokenURL(), integration.RefreshRequest("app", s.newest()))
		switch {
		case err != nil:
			return last, err
		case answer.Refused("invalid_grant"):
			return last, nil
		case answer.Status != http.StatusOK:
			return last, fmt.Errorf("a refresh: %d %s", answer.Status, answer.Error)
		}
		last = asked
		s.refresh, s.access = append(s.refresh, answer.RefreshToken), append(s.access, answer.AccessToken)
		s.c.figures.refreshes.Add(1)
	}
	return last, errors.New("the node still accepts the refresh token")
}

// revokeUser revokes all tokens of the customer at one node, and returns when that was done.
func (w *worker) revokeUser(ctx context.Context, node int) (done time.Time, err error) {
	w.c.up[node].RLock()
	defer w.c.up[node].RUnlock()
	body, err := json.Marshal(map[string]string{"sub": customer(w.id)})
	if err != nil {
		return time.Time{}, err
	}
	for start := time.Now(); time.Since(start) < integration.Patience; time.Sleep(20 * time.Millisecond) {
		_, err = w.c.nodes[node].Tell(ctx, "/oauth/default/revoke", body)
		_, broken := errors.AsType[*url.Error](err) // by a reload
		refusal, refused := errors.AsType[*integration.Refusal](err)
		if !broken && !(refused && refusal.Status == http.StatusServiceUnavailable) { // the node is still starting
			return time.Now(), err
		}
	}
	return time.Time{}, err
}
