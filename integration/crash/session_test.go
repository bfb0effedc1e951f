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

// session is an app of a customer's that knows only what it was told: it gets a code and tokens, refreshes them again and
// again, and begins anew. What it left behind must stay as it was, until the session itself ends it.
type session struct {
	*client

	replays   bool          // it presents again what it has used, within the time in which that is allowed
	forgotten *atomic.Int64 // how often the store has forgotten all there was
	troubled  *atomic.Bool  // the store may not be there to end a family, which then is put off

	family
	left []family // those it has not ended

	steps atomic.Int64 // definite answers to steps of its way
}

// family is what the app knows of one.
type family struct {
	code, verifier string
	access         string
	refresh        []string // the tokens it was told, the newest last
	forgotten      int64    // how often the store had forgotten all there was, when the app began
	began          time.Time
}

// codeLife is how long a code is known for a used one, with some time to say so on a busy machine.
const codeLife = 30 * time.Second

// maxLeft is how many families a session goes on to look after.
const maxLeft = 5

// errForgotten says that the store has forgotten what the app knows: the app has to begin anew.
var errForgotten = errors.New("the store has forgotten it")

// errLostCode says that the code was used with an answer that nobody got: the app has to begin anew (RFC 6749 §4.1.2).
var errLostCode = errors.New("the answer to the code was lost")

// step takes the app one step further.
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

// isForgotten reports whether an answer, which is the refusal of what nobody knows, is right.
func (s *session) isForgotten(answer *integration.Answer) bool {
	return answer.Refused("invalid_grant") && s.family.forgotten < s.forgotten.Load()
}

// renew presents the newest refresh token, which must be good, whatever became of an answer before.
func (s *session) renew(ctx context.Context) error {
	answer, again, err := s.present(ctx, s.newest())
	if err != nil {
		return err
	}
	if s.isForgotten(&answer) {
		return errForgotten
	}
	if err := s.take(&answer); err != nil {
		return fmt.Errorf("the newest of %d refresh tokens, asked for again %v: %w", len(s.family.refresh), again, err)
	}
	s.figures.refreshes.Add(1)
	if again {
		s.figures.repaired.Add(1)
	}
	return nil
}

// repeat presents the refresh token before the newest, as an app does that has not got the answer.
func (s *session) repeat(ctx context.Context) error {
	answer, _, err := s.present(ctx, s.family.refresh[len(s.family.refresh)-2])
	if err == nil && answer.RefreshToken != s.newest() {
		err = fmt.Errorf("the token before the newest: %d %s, want the newest once more", answer.Status, answer.Error)
	}
	return err
}

func (f *family) newest() string { return f.refresh[len(f.refresh)-1] }

// take keeps new tokens.
func (f *family) take(answer *integration.Answer) error {
	if answer.Status != http.StatusOK || answer.AccessToken == "" || answer.RefreshToken == "" {
		return fmt.Errorf("%d %s %s", answer.Status, answer.Error, answer.Description)
	}
	if len(f.refresh) > 0 && answer.RefreshToken == f.newest() {
		return errors.New("the refresh token stays")
	}
	f.access, f.refresh = answer.AccessToken, append(f.refresh, answer.RefreshToken)
	return nil
}

// leave leaves a family alone, or has a thief end it.
func (s *session) leave(ctx context.Context) error {
	old := s.family
	s.family = family{}
	if len(s.left) < maxLeft {
		s.left = append(s.left, old)
		return nil
	}
	return s.end(ctx, old)
}

// end proves that nothing works twice: what was used before is refused, and ends the family.
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
			return fmt.Errorf("after a replay, %s: %d %s", form.Get("grant_type"), answer.Status, answer.Error)
		}
		if s.troubled.Load() {
			return nil
		}
	}
	s.figures.ended.Add(1)
	return nil
}

// finish checks all that the app was told and did not end: each family goes on, in one line, and then is ended.
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
