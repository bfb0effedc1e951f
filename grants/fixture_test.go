package grants_test

import (
	"cmp"
	"errors"
	"maps"
	"net/url"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/memory"
)

// Tests that depend on time run in a testing/synctest bubble. There, the store and the requests share a clock that advances only
// while the test sleeps.

const (
	api   = "https://api.example.com"
	files = "https://files.example.com"

	callback = "https://app.example.com/callback"

	// The example of RFC 7636 appendix B.
	verifier  = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"

	day = 24 * time.Hour
)

// params are the parameters of a request. One with several values is resource.
type params map[string][]string

// site is an authorization server as one of its clients meets it.
type site struct {
	t      *testing.T
	store  storage.Store
	client *storage.Client

	accounts *accounts     // asked on refreshes; nil: not
	keyed    bool          // the client, which may do without, uses its key
	later    time.Duration // how much later than now requests come, in tests without a clock of their own
}

// newSite returns a site with a public app that has no settings for refresh tokens.
func newSite(t *testing.T) *site {
	t.Helper()
	return &site{t: t, store: memory.New(), client: &storage.Client{
		ID:           "app",
		RedirectURIs: []string{callback, "https://app.example.com/other"},
		GrantTypes:   []string{"authorization_code", "refresh_token"},
		Scopes:       []string{"profile", "orders"},
		Audience:     []string{api, files},
		CodeLifetime: time.Minute,
		RefreshToken: storage.RefreshPolicy{Lifetime: 30 * day, Idle: 14 * day, Retry: 10 * time.Second},
	}}
}

// reconfigured is the site after its owner changed the client's settings.
func (s *site) reconfigured(change func(*storage.Client)) *site {
	client := *s.client
	if change != nil {
		change(&client)
	}
	again := *s
	again.client = &client
	return &again
}

// approve issues a code as the authorization endpoint does when alice approves, and returns it.
func (s *site) approve(code storage.Code) string {
	s.t.Helper()
	now := time.Now()
	code.Expires = now.Add(s.client.CodeLifetime)
	if code.RedirectURI == "" {
		code.RedirectURI = callback
	}
	f := &storage.Family{
		Client:   s.client.ID,
		Subject:  "alice",
		Scopes:   s.client.Scopes,
		Audience: s.client.Audience,
		Claims:   map[string]any{"email": "alice@example.com"},
		AuthTime: now.Add(-time.Hour),
		Started:  now,
		Ends:     code.Expires,
		Code:     &code,
	}
	if code.Offline {
		f.Ends = s.client.RefreshToken.Ends(now)
	}
	text, key := f.IssueCode()
	record, err := f.Encode()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.store.Put(s.t.Context(), key, record, code.Expires); err != nil {
		s.t.Fatal(err)
	}
	return text
}

// firstToken approves the client and redeems the code for the first refresh token.
func (s *site) firstToken() string {
	s.t.Helper()
	auth, err := s.redeem(s.approve(storage.Code{Offline: true}), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return auth.RefreshToken
}

func (s *site) redeem(code string, more params) (*grants.Authorization, error) {
	s.t.Helper()
	return s.exchange(grants.AuthorizationCode{}, "code", code, more)
}

func (s *site) refresh(token string, more params) (*grants.Authorization, error) {
	s.t.Helper()
	return s.exchange(grants.RefreshToken{}, "refresh_token", token, more)
}

// exchange makes a token request. It checks that there is either an answer or an error, and that an error is a refusal with a
// description for the developer of the client (RFC 6749 §5.2).
func (s *site) exchange(grant grants.Grant, parameter, value string, more params) (*grants.Authorization, error) {
	s.t.Helper()
	form := url.Values{}
	maps.Copy(form, more)
	if value != "" {
		form.Set(parameter, value)
	}
	auth, err := grant.Exchange(s.t.Context(), s.request(form))
	if (auth == nil) == (err == nil) {
		s.t.Errorf("got %+v and error %v", auth, err)
	}
	if err != nil {
		s.checkRefusal(err)
	}
	if replay, ok := errors.AsType[*grants.Replay](err); ok {
		s.revoke(replay)
	}
	return auth, err
}

func (s *site) request(form url.Values) *grants.Request {
	req := &grants.Request{
		Issuer: "https://example.com",
		Client: s.client,
		Form:   form,
		Store:  s.store,
		Now:    time.Now().Add(s.later),

		Authenticated: !s.client.Public() || s.keyed,
	}
	if s.accounts != nil {
		req.Accounts = s.accounts
	}
	return req
}

// revoke revokes a family after reuse, as the server does.
func (s *site) revoke(replay *grants.Replay) {
	s.t.Helper()
	key := storage.Key{Kind: storage.KindFamily, ID: replay.Family}
	err := s.store.Update(s.t.Context(), key, func(record []byte) ([]byte, time.Time, error) {
		f, err := storage.DecodeFamily(record)
		if err != nil {
			return nil, time.Time{}, err
		}
		f.Revoke("test", time.Now())
		value, err := f.Encode()
		return value, f.Expires(time.Now(), 0), err
	})
	if err != nil {
		s.t.Errorf("revoking the family: %v", err)
	}
}

func (s *site) checkRefusal(err error) {
	s.t.Helper()
	refusal, ok := errors.AsType[*grants.Error](err)
	if !ok {
		s.t.Errorf("the request failed: %v", err)
		return
	}
	if want := map[string]int{grants.InvalidClient: 401}[refusal.Code]; refusal.HTTPStatus() != cmp.Or(want, 400) {
		s.t.Errorf("refused with status %d: %v", refusal.HTTPStatus(), err)
	}
	for _, r := range refusal.Description {
		if r < 0x20 || r > 0x7e || r == '"' || r == '\\' {
			s.t.Errorf("%q must not be in a description (RFC 6749 §5.2): %s", r, refusal.Description)
		}
	}
}

// codeOf returns the error code for the client, "" for no error.
func codeOf(err error) string {
	if refusal, ok := errors.AsType[*grants.Error](err); ok {
		return refusal.Code
	}
	return ""
}

// revoked reports whether a refusal is the reuse of a code or a refresh token, after which the server revokes the family.
func revoked(err error) bool {
	_, ok := errors.AsType[*grants.Replay](err)
	return ok
}

func (s *site) wantRefused(what string, err error, code string) {
	s.t.Helper()
	if codeOf(err) != code {
		s.t.Errorf("%s: got error %v, want %s", what, err, code)
	}
}
