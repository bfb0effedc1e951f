package crash_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// session is the app of a customer. In a loop, it gets a code and tokens, refreshes them some times, and begins again. The families
// that it leaves must remain valid until the session itself revokes them.
type session struct {
	*client

	replays   bool          // it also presents used refresh tokens, while that is a retry
	forgotten *atomic.Int64 // how often the store has lost all records
	troubled  *atomic.Bool  // the store has a fault, so that the revocation of a family may have to wait

	family
	left []family // the families that it has left and not revoked

	steps atomic.Int64 // steps that got a definite answer
}

// family is what the app knows about a family.
type family struct {
	code, verifier string
	access         string
	refresh        []string // its refresh tokens, the newest last
	forgotten      int64    // how often the store had lost all records when the family began
	began          time.Time
}

// codeLife is how long the server certainly knows that a code was used; it leaves time for a busy machine.
const codeLife = 5 * time.Minute

// maxLeft is how many families a session leaves before it revokes the next ones.
const maxLeft = 5

// errForgotten says that the store has lost the family. The app has to begin again.
var errForgotten = errors.New("the store has lost the family")

// errLostCode says that the code was used, but its answer was lost. The app has to begin again (RFC 6749 §4.1.2).
var errLostCode = errors.New("the answer to the code was lost")

// step does the next step of the app.
func (s *session) step(ctx context.Context) error {
	defer s.steps.Add(1)
	err := s.goOn(ctx)
	if errors.Is(err, errForgotten) {
		s.figures.forgotten.Add(1)
		s.family = family{}
		return nil
	}
	return err
}

func (s *session) goOn(ctx context.Context) error {
	switch n := len(s.family.refresh); {
	case n == 0:
		return s.begin(ctx)
	case n > 4+rand.IntN(20):
		return s.leave(ctx)
	case s.replays && n > 1 && rand.IntN(4) == 0:
		return s.repeat(ctx)
	}
	return s.renew(ctx)
}

// begin gets a code and the first tokens.
func (s *session) begin(ctx context.Context) error {
	for {
		s.family = family{verifier: oauth2.GenerateVerifier(), forgotten: s.forgotten.Load(), began: time.Now()}
		s.site.Secrets.Add(s.verifier)
		answer, err := s.consent(ctx, s.site.AppClient().AuthCodeURL("a-state", oauth2.S256ChallengeOption(s.verifier)))
		if err != nil {
			return err
		}
		s.code = answer.Get("code")
		if err = s.redeem(ctx); !errors.Is(err, errLostCode) {
			return err
		}
		s.figures.anew.Add(1)
	}
}

func (s *session) post(ctx context.Context, form url.Values) (*reply, error) {
	app := *s.client
	app.person = ""
	return app.ask(ctx, http.MethodPost, s.site.TokenURL(), form)
}

func (s *session) redeem(ctx context.Context) error {
	r, err := s.post(ctx, integration.CodeRequest(s.site.AppClient(), s.code, s.verifier))
	if err != nil {
		return err
	}
	answer := r.tokens()
	switch {
	case s.isForgotten(&answer):
		return errForgotten
	case answer.Refused("invalid_grant") && r.again:
		return errLostCode
	}
	if err := s.take(&answer); err != nil {
		return fmt.Errorf("the code: %w", err)
	}
	s.figures.flows.Add(1)
	return nil
}

// present sends a refresh token.
func (s *session) present(ctx context.Context, token string) (answer integration.Answer, again bool, err error) {
	r, err := s.post(ctx, integration.RefreshRequest("app", token))
	if err != nil {
		return integration.Answer{}, false, err
	}
	return r.tokens(), r.again, nil
}

// isForgotten reports whether an answer is invalid_grant because the store has lost the family.
func (s *session) isForgotten(answer *integration.Answer) bool {
	return answer.Refused("invalid_grant") && s.family.forgotten < s.forgotten.Load()
}

// renew presents the newest refresh token, which must be valid even if earlier answers were lost.
func (s *session) renew(ctx context.Context) error {
	answer, again, err := s.present(ctx, s.newest())
	if err != nil {
		return err
	}
	if s.isForgotten(&answer) {
		return errForgotten
	}
	if err := s.take(&answer); err != nil {
		return fmt.Errorf("the newest of %d refresh tokens (request repeated: %v): %w", len(s.family.refresh), again, err)
	}
	s.figures.refreshes.Add(1)
	if again {
		s.figures.repaired.Add(1)
	}
	return nil
}

// repeat presents the previous refresh token, as an app does that has lost the answer.
func (s *session) repeat(ctx context.Context) error {
	answer, _, err := s.present(ctx, s.family.refresh[len(s.family.refresh)-2])
	if err == nil && answer.RefreshToken != s.newest() {
		err = fmt.Errorf("a retry with the previous token: %d %s, want the newest token again", answer.Status, answer.Error)
	}
	return err
}

func (f *family) newest() string { return f.refresh[len(f.refresh)-1] }

// take adds the tokens of an answer to the family.
func (f *family) take(answer *integration.Answer) error {
	if answer.Status != http.StatusOK || answer.AccessToken == "" || answer.RefreshToken == "" {
		return fmt.Errorf("%d %s %s", answer.Status, answer.Error, answer.Description)
	}
	if len(f.refresh) > 0 && answer.RefreshToken == f.newest() {
		return errors.New("the refresh token was not rotated")
	}
	f.access, f.refresh = answer.AccessToken, append(f.refresh, answer.RefreshToken)
	return nil
}

// leave leaves the family, or if enough are left, revokes it by reuse.
func (s *session) leave(ctx context.Context) error {
	old := s.family
	s.family = family{}
	if len(s.left) < maxLeft {
		s.left = append(s.left, old)
		return nil
	}
	return s.end(ctx, old)
}

// end presents a used code or refresh token. It must be refused, and must revoke the family.
func (s *session) end(ctx context.Context, f family) error {
	replay := integration.CodeRequest(s.site.AppClient(), f.code, f.verifier)
	if rand.IntN(2) == 0 || time.Since(f.began) > codeLife {
		replay = integration.RefreshRequest("app", f.refresh[rand.IntN(len(f.refresh)-2)])
	}
	for _, form := range []url.Values{replay, integration.RefreshRequest("app", f.newest()), replay} {
		r, err := s.post(ctx, form)
		if err != nil {
			return err
		}
		if answer := r.tokens(); !answer.Refused("invalid_grant") {
			return fmt.Errorf("after reuse, %s: %d %s, want 400 invalid_grant", form.Get("grant_type"), answer.Status, answer.Error)
		}
		if s.troubled.Load() {
			return nil
		}
	}
	s.figures.ended.Add(1)
	return nil
}

// finish checks all families that the session has not revoked: each has one current refresh token that works. Then it revokes
// them.
func (s *session) finish(ctx context.Context) error {
	if len(s.family.refresh) > 0 {
		s.left = append(s.left, s.family)
	}
	for _, f := range s.left {
		s.family = f
		if err := s.prove(ctx); err != nil && !errors.Is(err, errForgotten) {
			return err
		}
	}
	s.left, s.family = nil, family{}
	return nil
}

func (s *session) prove(ctx context.Context) error {
	for len(s.family.refresh) < 4 {
		if err := s.renew(ctx); err != nil {
			return err
		}
	}
	for _, check := range []func(context.Context) error{s.renew, s.repeat, s.renew} {
		if err := check(ctx); err != nil {
			return err
		}
	}
	return s.end(ctx, s.family)
}
