package grants_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// use is one refresh. Tokens have numbers, in the order in which the client received them.
type use struct {
	after     time.Duration             // since the previous use
	token     int                       // the token to present
	presented func(token string) string // returns another text to present instead
	settings  func(*storage.Client)     // changes of the configuration
	params    params

	gives            int      // the returned token
	scopes, audience []string // nil: all
	refused          string
	revokes          bool
}

func TestRefreshToken(t *testing.T) {
	const bad = grants.InvalidGrant
	strict := func(c *storage.Client) { c.RefreshToken.Retry = 0 }
	keep := func(c *storage.Client) { c.RefreshToken.Keep = true }
	publicDefault := func(c *storage.Client) { c.RefreshToken.Retry = time.Minute }
	untilUsed := func(c *storage.Client) { c.RefreshToken.Retry = storage.RetryUntilUsed }
	for _, c := range []struct {
		name string
		uses []use
	}{
		{"RFC 9700 §4.14.2 every refresh returns a new token", []use{
			{token: 0, gives: 1}, {token: 1, gives: 2}, {token: 2, gives: 3}, {after: day, token: 3, gives: 4},
		}},
		{"an answer was lost: a retry with the previous token returns the newest again", []use{
			{token: 0, gives: 1}, {after: 9 * time.Second, token: 0, gives: 1}, {token: 0, gives: 1}, {token: 1, gives: 2},
		}},
		{"unused: a retry with the previous token returns the newest until that is used", []use{
			{token: 0, gives: 1, settings: untilUsed},
			{after: 10 * day, token: 0, gives: 1, settings: untilUsed},
			{token: 1, gives: 2, settings: untilUsed},
			{token: 0, refused: bad, revokes: true, settings: untilUsed},
			{token: 2, refused: bad, settings: untilUsed},
		}},
		{"a test that refreshes with the same token twelve seconds later, as Google's does", []use{
			{token: 0, gives: 1, settings: untilUsed},
			{after: 12 * time.Second, token: 0, gives: 1, settings: untilUsed},
			{token: 1, gives: 2, settings: untilUsed},
			{after: 12 * time.Second, token: 2, gives: 3, settings: publicDefault},
			{after: 12 * time.Second, token: 2, gives: 3, settings: publicDefault},
			{token: 3, gives: 4, settings: publicDefault},
		}},
		{"unused: the token before the previous one is reuse", []use{
			{token: 0, gives: 1, settings: untilUsed},
			{token: 1, gives: 2, settings: untilUsed},
			{token: 1, gives: 2, settings: untilUsed},
			{token: 0, refused: bad, revokes: true, settings: untilUsed},
		}},
		{"asking again does not open the window again", []use{
			{token: 0, gives: 1},
			{after: 9 * time.Second, token: 0, gives: 1},
			{after: time.Second, token: 0, refused: bad, revokes: true},
		}},
		{"RFC 9700 §4.14.2 the token before, after the window, revokes the family", []use{
			{token: 0, gives: 1},
			{after: 10 * time.Second, token: 0, refused: bad, revokes: true},
			{token: 1, refused: bad},
			{token: 0, refused: bad},
		}},
		{"RFC 9700 §4.14.2 the token before, once the newest was used, revokes the family", []use{
			{token: 0, gives: 1},
			{token: 1, gives: 2},
			{token: 0, refused: bad, revokes: true},
			{token: 2, refused: bad},
			{token: 1, refused: bad},
		}},
		{"RFC 9700 §4.14.2 an old token revokes the family, however old", []use{
			{token: 0, gives: 1},
			{token: 1, gives: 2},
			{token: 2, gives: 3},
			{after: 10 * day, token: 0, refused: bad, revokes: true},
			{token: 3, refused: bad},
		}},
		{"without a window a token works once", []use{
			{token: 0, settings: strict, gives: 1},
			{token: 0, settings: strict, refused: bad, revokes: true},
			{token: 1, settings: strict, refused: bad},
		}},
		{"the owner sets retry afterwards", []use{
			{token: 0, settings: strict, gives: 1}, {token: 0, gives: 1}, {token: 1, gives: 2},
		}},

		{"RFC 6749 §6 refresh_token is required", []use{
			{presented: func(string) string { return "" }, refused: grants.InvalidRequest}, {token: 0, gives: 1},
		}},
		{"a token that was damaged on its way revokes nothing", []use{
			{token: 0, gives: 1},
			{token: 1, presented: func(token string) string { return token + "\n" }, refused: bad},
			{token: 1, presented: func(token string) string { return token + "x" }, refused: bad},
			{token: 1, presented: func(token string) string { return " " + token }, refused: bad},
			{token: 1, presented: func(token string) string { return token[:90] + otherThan(token[90]) }, refused: bad},
			{token: 1, presented: func(token string) string { return token[:60] + otherThan(token[60]) + token[61:] }, refused: bad},
			{token: 1, presented: func(token string) string { return token[:30] + otherThan(token[30]) + token[31:] }, refused: bad},
			{token: 1, presented: func(token string) string { return token[:10] + otherThan(token[10]) + token[11:] }, refused: bad},
			{token: 1, presented: func(token string) string { return token[:42] + strings.Repeat("A", 49) }, refused: bad},
			{token: 0, presented: func(token string) string { return token + "\n" }, refused: bad},
			{token: 0, presented: func(token string) string { return token[:90] + otherThan(token[90]) }, refused: bad},
			{token: 1, gives: 2},
		}},
		{"a text that is not a token of the family revokes nothing", []use{
			{presented: func(string) string { return "refresh_token" }, refused: bad},
			{presented: func(string) string { return strings.Repeat("\x00", 91) }, refused: bad},
			{presented: func(token string) string { return "zzzz" + token[4:] }, refused: bad},
			{presented: func(token string) string { return token[:60] }, refused: bad},
			{presented: func(token string) string { return token + strings.Repeat("A", 100) }, refused: bad},
			{presented: func(token string) string { return token[:69] }, refused: bad}, // as long as a code
			{token: 0, gives: 1},
		}},
		{"RFC 6749 §6 another client, which revokes nothing", []use{
			{settings: func(c *storage.Client) { c.ID = "other" }, refused: bad},
			{token: 0, gives: 1},
			{token: 0, after: day, settings: func(c *storage.Client) { c.ID = "other" }, refused: bad},
			{token: 1, gives: 2},
		}},

		{"RFC 6749 §6 a narrower scope, and the original one again", []use{
			{token: 0, params: params{"scope": {"orders"}}, gives: 1, scopes: []string{"orders"}},
			{token: 1, gives: 2},
			{token: 2, params: params{"scope": {"orders profile"}}, gives: 3, scopes: []string{"orders", "profile"}},
		}},
		{"RFC 6749 §6 never a wider scope, which uses up nothing", []use{
			{token: 0, params: params{"scope": {"profile admin"}}, refused: grants.InvalidScope},
			{token: 0, params: params{"scope": {"PROFILE"}}, refused: grants.InvalidScope},
			{token: 0, params: params{"scope": {"profile\torders"}}, refused: grants.InvalidScope},
			{token: 0, gives: 1},
		}},
		{"RFC 6749 §6 never a wider scope, though the client may ask for more since", []use{
			{
				token: 0, gives: 1, scopes: []string{"profile", "orders"},
				settings: func(c *storage.Client) { c.Scopes = []string{"admin", "profile", "orders"} },
			},
			{
				token: 1, params: params{"scope": {"admin"}}, refused: grants.InvalidScope,
				settings: func(c *storage.Client) { c.Scopes = []string{"admin", "profile", "orders"} },
			},
		}},
		{"RFC 9700 §4.14.2 scope and resource narrow with the settings, and come back with them", []use{
			{
				token: 0, gives: 1, scopes: []string{"orders"}, audience: []string{files},
				settings: func(c *storage.Client) { c.Scopes, c.Audience = []string{"orders"}, []string{files} },
			},
			{token: 1, gives: 2},
			{token: 2, settings: func(c *storage.Client) { c.Scopes = nil }, refused: grants.InvalidScope},
			{token: 2, settings: func(c *storage.Client) { c.Audience = []string{"https://new.example.com"} }, refused: grants.InvalidTarget},
			{token: 2, gives: 3},
		}},
		{"asking again may narrow differently", []use{
			{token: 0, params: params{"scope": {"orders"}}, gives: 1, scopes: []string{"orders"}},
			{token: 0, params: params{"scope": {"profile"}}, gives: 1, scopes: []string{"profile"}},
			{token: 0, params: params{"scope": {"admin"}}, refused: grants.InvalidScope},
			{token: 0, gives: 1},
		}},
		{"RFC 8707 §2.2 resource narrows, and the original ones come back", []use{
			{token: 0, params: params{"resource": {files}}, gives: 1, audience: []string{files}},
			{token: 1, params: params{"resource": {"https://other.example.com"}}, refused: grants.InvalidTarget},
			{token: 1, params: params{"resource": {api + "#f"}}, refused: grants.InvalidTarget},
			{token: 1, gives: 2},
		}},

		{"RFC 9700 §4.14.2 unused for the idle time", []use{
			{after: 14*day - 1, token: 0, gives: 1}, {after: 14 * day, token: 1, refused: bad},
		}},
		{"RFC 9700 §4.14.2 the first token, unused for the idle time", []use{{after: 14 * day, token: 0, refused: bad}}},
		{"the end of the family, though it is used", []use{
			{after: 10 * day, token: 0, gives: 1},
			{after: 10 * day, token: 1, gives: 2},
			{after: 10*day - 1, token: 2, gives: 3},
			{after: 1, token: 3, refused: bad},
		}},
		{"asking again is no use: the idle time counts from the rotation", []use{
			{token: 0, gives: 1}, {after: 9 * time.Second, token: 0, gives: 1}, {after: 14*day - 9*time.Second, token: 1, refused: bad},
		}},
		{"a refusal is no use", []use{
			{after: 10 * day, token: 0, params: params{"scope": {"admin"}}, refused: grants.InvalidScope},
			{after: 4 * day, token: 0, refused: bad},
		}},

		{"kept, the token stays, and its idle time begins anew", []use{
			{after: 13 * day, token: 0, settings: keep, gives: 0},
			{after: 13 * day, token: 0, settings: keep, gives: 0},
			{after: 4*day - 1, token: 0, settings: keep, gives: 0},
			{after: 1, token: 0, settings: keep, refused: bad},
		}},
		{"kept, and unused for the idle time", []use{
			{token: 0, settings: keep, gives: 0}, {after: 14 * day, token: 0, settings: keep, refused: bad},
		}},
		{"RFC 9700 §4.14.2 kept from now on: the tokens before are still reused", []use{
			{token: 0, gives: 1},
			{token: 0, settings: keep, gives: 1},
			{token: 1, settings: keep, gives: 1},
			{after: 10 * time.Second, token: 0, settings: keep, refused: bad, revokes: true},
			{token: 1, settings: keep, refused: bad},
		}},
		{"rotated from now on", []use{
			{token: 0, settings: keep, gives: 0}, {token: 0, gives: 1}, {token: 1, gives: 2}, {token: 0, refused: bad, revokes: true},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t)
				tokens := []string{s.firstToken()}
				for n, u := range c.uses {
					time.Sleep(u.after)
					tokens = s.reconfigured(u.settings).check(n, u, tokens)
				}
			})
		})
	}
}

// otherThan returns another character of the alphabet.
func otherThan(c byte) string {
	if c == 'x' {
		return "y"
	}
	return "x"
}

// check makes the n-th use and returns the tokens that are known then.
func (s *site) check(n int, u use, tokens []string) []string {
	s.t.Helper()
	token := tokens[u.token]
	if u.presented != nil {
		token = u.presented(token)
	}
	auth, err := s.refresh(token, u.params)
	if codeOf(err) != u.refused {
		s.t.Fatalf("use %d: got error %v, want %q", n, err, u.refused)
	}
	if revoked(err) != u.revokes {
		s.t.Errorf("use %d: the family is revoked: %v, want %v", n, revoked(err), u.revokes)
	}
	if err != nil {
		return tokens
	}
	if !slices.Contains(tokens, auth.RefreshToken) {
		tokens = append(tokens, auth.RefreshToken)
	}
	if got := slices.Index(tokens, auth.RefreshToken); got != u.gives {
		s.t.Errorf("use %d: returns token %d, want %d", n, got, u.gives)
	}
	want := use{scopes: []string{"profile", "orders"}, audience: []string{api, files}}
	if u.scopes != nil {
		want.scopes = u.scopes
	}
	if u.audience != nil {
		want.audience = u.audience
	}
	if !slices.Equal(auth.Scopes, want.scopes) || !slices.Equal(auth.Audience, want.audience) {
		s.t.Errorf("use %d: returns %q for %q, want %q for %q", n, auth.Scopes, auth.Audience, want.scopes, want.audience)
	}
	if auth.Subject != "alice" || auth.Claims["email"] != "alice@example.com" || auth.AuthTime.IsZero() {
		s.t.Errorf("use %d: returns %+v", n, auth)
	}
	return tokens
}

func TestRefreshTokenWithoutEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		s.client.RefreshToken = storage.RefreshPolicy{}
		token := s.firstToken()
		for range 3 {
			time.Sleep(400 * day)
			auth, err := s.refresh(token, nil)
			if err != nil {
				t.Fatal(err)
			}
			token = auth.RefreshToken
		}
	})
}

func TestRefreshTokenOfItsLength(t *testing.T) {
	for _, length := range []int{30, 31, 58, 69, 90, 91, 92, 128} {
		s := newSite(t)
		auth, err := s.redeem(s.approve(storage.Code{Offline: true, RefreshLength: length}), nil)
		if err != nil {
			t.Fatalf("length %d: %v", length, err)
		}
		tokens := []string{auth.RefreshToken}
		for n, u := range []use{
			{token: 0, gives: 1},
			{token: 0, gives: 1},
			{token: 1, gives: 2},
			{token: 0, refused: grants.InvalidGrant, revokes: true},
			{token: 2, refused: grants.InvalidGrant},
		} {
			tokens = s.check(n, u, tokens)
		}
		for _, token := range tokens {
			if len(token) != length {
				t.Errorf("%q is %d long, want %d", token, len(token), length)
			}
		}
	}
}

// Who has the code, from the history of a browser, cannot make a refresh token that ends the family.
func TestRefreshTokenMadeOfACode(t *testing.T) {
	s := newSite(t)
	code := s.approve(storage.Code{Offline: true})
	auth, err := s.redeem(code, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, made := range []string{
		code, code + code[47:], code[:20] + code[20:42] + code[20:], code[:20] + code[4:20] + code[:6] + code[20:], code + strings.Repeat("A", 22),
	} {
		_, err := s.refresh(made, nil)
		s.wantRefused("made of a code", err, grants.InvalidGrant)
	}
	if _, err := s.refresh(auth.RefreshToken, nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A token without the prefix that the owner has set since is of the right kind, and the log must not say otherwise.
func TestTokensWithoutTheirPrefix(t *testing.T) {
	s := newSite(t)
	token := s.firstToken()
	s.client.RefreshToken.Prefix = "refresh_"
	for sent, cause := range map[string]string{
		token:                   "without the prefix",
		"refresh-" + token:      "never issued here, or damaged on its way: ",
		"eyJhbGciOiJub25lIn0.e": "never issued as one: it is a JWT",
	} {
		_, err := s.refresh(sent, nil)
		refusal, ok := errors.AsType[*grants.Error](err)
		if !ok || refusal.Code != grants.InvalidGrant || refusal.Setting != "client app: refresh_token prefix" {
			t.Fatalf("%v", err)
		}
		if got := refusal.Cause.Error(); !strings.HasPrefix(got, cause) {
			t.Errorf("%q: cause %q, want %q", sent, got, cause)
		}
	}
	if _, err := s.refresh("refresh_"+token, nil); err != nil {
		t.Error(err)
	}
}
