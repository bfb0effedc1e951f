package authserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// testAccounts is a site that is asked about accounts at most once an hour.
type testAccounts struct {
	asked  int
	claims map[string]any
	err    error
	during func(ctx context.Context) // runs while the server waits for the answer
}

func (a *testAccounts) Due(last, now time.Time) bool { return now.Sub(last) >= time.Hour }

func (a *testAccounts) Ask(ctx context.Context, _ *grants.Account) (map[string]any, error) {
	a.asked++
	if a.during != nil {
		a.during(ctx)
	}
	return a.claims, a.err
}

func accountsAt(a *testAccounts) func(*Config) { return func(c *Config) { c.Accounts = a } }

func noAccount() error { return fmt.Errorf("it responded with status 404: %w", grants.ErrNoAccount) }

func TestRefreshRenewsClaims(t *testing.T) {
	for name, edit := range map[string]func(*Config){"JWT": func(*Config) {}, "opaque": opaque("acc_", 0)} {
		t.Run(name, func(t *testing.T) {
			a := &testAccounts{claims: map[string]any{"role": "admin", "sub": "root"}}
			s := newTestServer(t, edit, accountsAt(a))
			token := s.tokens(t)["refresh_token"].(string)
			for n, want := range []any{"admin", "admin", nil} {
				if n != 1 {
					s.clock.Advance(time.Hour)
				}
				answer := s.token(t, refreshes(token))
				answer.check(t, http.StatusOK, "")
				claims, err := s.AccessToken(t.Context(), answer.json(t)["access_token"].(string), jwt.Leeway)
				if err != nil || claims.Raw["role"] != want || claims.Subject != "alice" {
					t.Errorf("refresh %d: %+v, %v; want the role %v", n, claims, err, want)
				}
				token = answer.json(t)["refresh_token"].(string)
				a.claims = map[string]any{"role": nil}
			}
			if a.asked != 2 {
				t.Errorf("the site was asked %d times", a.asked)
			}
		})
	}
}

// Only refreshes ask the site.
func TestWhoAsksAboutNoAccount(t *testing.T) {
	a := &testAccounts{err: noAccount()}
	s := newPasswordServer(t, new(testPasswords), accountsAt(a))
	code := s.code(t, asks("webapp"))
	s.token(t, redeems(code)).check(t, http.StatusOK, "")
	s.token(t, asBilling()).check(t, http.StatusOK, "")
	s.login(t, here, "hatter", wonderland).check(t, http.StatusOK, "")
	if a.asked != 0 {
		t.Errorf("the site was asked %d times", a.asked)
	}
}

func TestRefreshWithoutAnAccount(t *testing.T) {
	a := new(testAccounts)
	s, events := audited(t, accountsAt(a))
	tokens := s.tokens(t)
	other := s.token(t, redeems(s.code(t, asks("webapp")))).json(t)
	s.clock.Advance(time.Hour)
	access := s.token(t, refreshes(other["refresh_token"].(string))).json(t)["access_token"]
	fresh := s.token(t, refreshes(tokens["refresh_token"].(string))).json(t)
	s.clock.Advance(time.Hour)
	a.err, *events = noAccount(), nil

	answer := s.token(t, refreshes(fresh["refresh_token"].(string)))
	answer.check(t, http.StatusBadRequest, "invalid_grant")
	entry := s.logs.FilterMessage("account closed: family revoked").All()
	if len(entry) != 1 || entry[0].Level != zap.InfoLevel {
		t.Fatalf("logged %v", entry)
	}
	fields := entry[0].ContextMap()
	if fields["setting"] != "refresh_check" || fields["sub"] != "alice" || fields["client_id"] != "webapp" ||
		fields["error_id"] != answer.json(t)["error_id"] || !strings.Contains(fmt.Sprint(fields["cause"]), "status 404") {
		t.Errorf("logged %v", fields)
	}
	if len(*events) != 2 || (*events)[0].Name != eventRevoked || (*events)[1].Name != "token_refused" {
		t.Fatalf("events %v", *events)
	}
	for _, e := range *events {
		if e.Subject != "alice" || e.Client != "webapp" || e.Family == "" || e.Reason != reasonClosed {
			t.Errorf("event %+v", e)
		}
	}
	// It has ended for good, even if the site should change its mind.
	asked := a.asked
	a.err = nil
	s.refused(t, fresh["refresh_token"].(string))
	if a.asked != asked {
		t.Error("the site was asked about a revoked family")
	}
	s.clock.Advance(-time.Hour) // when the access tokens were valid
	s.state(t, fresh["access_token"], jwt.ErrRevoked)
	s.state(t, access, nil) // of another approval
}

func TestSiteIsAwayOnRefresh(t *testing.T) {
	a := new(testAccounts)
	s := newTestServer(t, accountsAt(a))
	token := s.tokens(t)["refresh_token"].(string)
	s.clock.Advance(time.Hour)
	for _, err := range []error{errors.New("asking the site about an account: it responded with status 500"), context.DeadlineExceeded} {
		a.err = err
		for range 40 { // which does not count as failures
			answer := s.token(t, refreshes(token))
			unavailableInJSON(t, answer)
		}
		entry := s.logs.All()[s.logs.Len()-1]
		fields := entry.ContextMap()
		if entry.Level != zap.ErrorLevel || fields["setting"] != "refresh_check" || fields["cause"] != err.Error() {
			t.Errorf("logged as %v: %v", entry.Level, fields)
		}
	}
	a.err = nil
	s.refresh(t, s.refresh(t, token))
	if a.asked != 81 {
		t.Errorf("the site was asked %d times", a.asked)
	}
}

// A client that gives up while the site is asked has lost nothing, and the log has no error.
func TestClientGivesUpDuringTheCheck(t *testing.T) {
	a := new(testAccounts)
	s := newTestServer(t, accountsAt(a))
	token := s.tokens(t)["refresh_token"].(string)
	s.clock.Advance(time.Hour)
	ctx, giveUp := context.WithCancel(t.Context())
	a.during, a.err = func(context.Context) { giveUp() }, context.Canceled
	s.token(t, refreshes(token), func(r *http.Request) { *r = *r.WithContext(ctx) })
	if n := s.logs.FilterLevelExact(zap.ErrorLevel).Len(); n != 0 {
		t.Errorf("the log has %d errors", n)
	}
	a.during, a.err = nil, nil
	s.refresh(t, token)
}

// The site can take its time: it uses up no time that the request has for the store.
func TestSlowSiteLeavesTimeForTheStore(t *testing.T) {
	a := new(testAccounts)
	s := newTestServer(t, accountsAt(a))
	token := s.tokens(t)["refresh_token"].(string)
	s.clock.Advance(time.Hour)
	a.during = func(ctx context.Context) {
		if deadline, ok := ctx.Deadline(); ok {
			t.Errorf("the request ends at %v", deadline)
		}
	}
	s.refresh(t, token)
	if a.asked != 1 {
		t.Errorf("the site was asked %d times", a.asked)
	}
}

// If the store does not take the revocation, this node refuses the family nevertheless, and tries again.
func TestNoAccountWhileTheStoreFails(t *testing.T) {
	a := new(testAccounts)
	s, events := audited(t, accountsAt(a))
	tokens := s.tokens(t)
	s.clock.Advance(time.Hour)
	tokens = s.token(t, refreshes(tokens["refresh_token"].(string))).json(t)
	s.clock.Advance(5 * time.Minute) // the access token is valid
	a.err = noAccount()
	config := s.config
	config.Store = noTombstones{noCutoffs{s.store}}
	config.Accounts = alwaysDue{a}
	s.restart(t, config)
	*events = nil
	s.refused(t, tokens["refresh_token"].(string))
	s.state(t, tokens["access_token"], jwt.ErrRevoked)
	const message = "account closed, but the store does not take the revocation of the family: this node refuses its tokens, and tries again"
	if n := s.logs.FilterMessage(message).FilterLevelExact(zap.ErrorLevel).Len(); n != 1 {
		t.Errorf("the log says it %d times: %v", n, s.logs.All()[s.logs.Len()-1].Message)
	}
	s.cutoffs.Store, s.revoker.store = s.store, s.store
	if err := s.upkeep.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if last := (*events)[len(*events)-1]; last.Name != eventRevoked || last.Reason != reasonClosed {
		t.Errorf("the last event is %+v", last)
	}
	config.Store, config.Revocations, config.Accounts = s.store, nil, nil
	s.restart(t, config) // as another node
	s.refused(t, tokens["refresh_token"].(string))
	s.state(t, tokens["access_token"], jwt.ErrRevoked)
}

// alwaysDue asks on every refresh.
type alwaysDue struct{ grants.Accounts }

func (alwaysDue) Due(time.Time, time.Time) bool { return true }

// A read-only issuer neither rotates nor revokes.
func TestCheckOfAReadOnlyIssuer(t *testing.T) {
	a := new(testAccounts)
	s := newTestServer(t, accountsAt(a))
	token := s.tokens(t)["refresh_token"].(string)
	s.clock.Advance(time.Hour)
	config := s.config
	config.ReadOnly = true
	for _, a.err = range []error{nil, noAccount()} {
		s.restart(t, config)
		unavailableInJSON(t, s.token(t, refreshes(token)))
	}
	config.ReadOnly, a.err = false, nil
	s.restart(t, config)
	s.refresh(t, token)
	if n := s.store.Count(t, storage.KindCutoff); n != 0 {
		t.Errorf("there are %d revocations", n)
	}
}
