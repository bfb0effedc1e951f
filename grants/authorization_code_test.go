package grants_test

import (
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

func TestAuthorizationCode(t *testing.T) {
	everything := grants.Authorization{
		Subject: "alice", Scopes: []string{"profile", "orders"}, Audience: []string{api, files},
		Claims: map[string]any{"email": "alice@example.com"},
	}
	withPKCE := storage.Code{Challenge: challenge}
	with := func(change func(*grants.Authorization)) grants.Authorization {
		auth := everything
		change(&auth)
		return auth
	}
	for _, c := range []struct {
		name         string
		code         storage.Code
		reconfigured func(*storage.Client)
		after        time.Duration
		params       params
		want         grants.Authorization
	}{
		{
			name: "RFC 6749 §4.1.3 redirect_uri in neither request",
			want: everything,
		}, {
			name:   "RFC 6749 §4.1.3 redirect_uri identical in both requests",
			code:   storage.Code{RedirectURI: "http://127.0.0.1:49152/cb?x=%20", RedirectSent: true},
			params: params{"redirect_uri": {"http://127.0.0.1:49152/cb?x=%20"}},
			want:   everything,
		}, {
			name:   "RFC 6749 §4.1.3 redirect_uri in the token request only, and the one that was used",
			params: params{"redirect_uri": {callback}},
			want:   everything,
		}, {
			name:   "RFC 6749 §3.2 unknown parameters are ignored",
			params: params{"colour": {"red"}, "scope": {"admin"}},
			want:   everything,
		}, {
			name:   "RFC 7636 §4.6 the verifier matches the challenge",
			code:   withPKCE,
			params: params{"code_verifier": {verifier}},
			want:   everything,
		}, {
			name:  "RFC 6749 §4.1.2 in the last moment",
			after: time.Minute - 1,
			want:  everything,
		}, {
			name:   "RFC 8707 §2.2 resource narrows",
			params: params{"resource": {files}},
			want:   with(func(a *grants.Authorization) { a.Audience = []string{files} }),
		}, {
			name:   "RFC 8707 §2 several resources, one of them twice",
			params: params{"resource": {files, api, files, ""}},
			want:   with(func(a *grants.Authorization) { a.Audience = []string{files, api} }),
		}, {
			name: "the owner has taken a scope and a resource from the client since",
			reconfigured: func(c *storage.Client) {
				c.Scopes, c.Audience = []string{"admin", "orders"}, []string{"https://new.example.com", api}
			},
			want: with(func(a *grants.Authorization) { a.Scopes, a.Audience = []string{"orders"}, []string{api} }),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, offline := range []bool{true, false} {
				synctest.Test(t, func(t *testing.T) {
					s := newSite(t)
					c.code.Offline = offline
					c.want.Started = time.Now().UTC()
					c.want.AuthTime = c.want.Started.Add(-time.Hour)
					code := s.approve(c.code)
					time.Sleep(c.after)
					c.want.RefreshEnds = time.Time{}
					if offline {
						c.want.RefreshEnds = time.Now().Add(14 * 24 * time.Hour)
					}
					got, err := s.reconfigured(c.reconfigured).redeem(code, c.params)
					if err != nil {
						t.Fatal(err)
					}
					if (got.RefreshToken != "") != offline || got.Offline {
						t.Errorf("refresh token %q and Offline %v, for a code with Offline %v", got.RefreshToken, got.Offline, offline)
					}
					if got.Family == "" || strings.Contains(code+got.RefreshToken, got.Family) {
						t.Errorf("the family is named %q", got.Family)
					}
					if !got.RefreshEnds.Equal(c.want.RefreshEnds) {
						t.Errorf("the refresh token ends at %v, want %v", got.RefreshEnds, c.want.RefreshEnds)
					}
					got.Family, got.RefreshToken, got.RefreshEnds, c.want.RefreshEnds = "", "", time.Time{}, time.Time{}
					if !reflect.DeepEqual(*got, c.want) {
						t.Errorf("got  %+v\nwant %+v", *got, c.want)
					}
				})
			}
		})
	}
}

// A wrong request does not use the code up.
func TestAuthorizationCodeRefused(t *testing.T) {
	sent := storage.Code{RedirectSent: true}
	withPKCE := storage.Code{Challenge: challenge}
	for _, c := range []struct {
		name         string
		code         storage.Code
		reconfigured func(*storage.Client)
		presented    func(code string) string
		params       params
		want         string
	}{
		{
			name:      "RFC 6749 §4.1.3 code is required",
			presented: func(string) string { return "" },
			want:      grants.InvalidRequest,
		}, {
			name:      "RFC 6749 §5.2 no code at all",
			presented: func(string) string { return "code" },
			want:      grants.InvalidGrant,
		}, {
			name:      "RFC 6749 §5.2 cut",
			presented: func(code string) string { return code[:len(code)-1] },
			want:      grants.InvalidGrant,
		}, {
			name:      "RFC 6749 §5.2 another secret after the same beginning",
			presented: func(code string) string { return code[:len(code)-1] + "-" },
			want:      grants.InvalidGrant,
		}, {
			name:      "RFC 6749 §5.2 another bucket",
			presented: func(code string) string { return "zzzz" + code[4:] },
			want:      grants.InvalidGrant,
		}, {
			name:      "RFC 6749 §5.2 with white space",
			presented: func(code string) string { return code + " " },
			want:      grants.InvalidGrant,
		}, {
			name:         "RFC 6749 §4.1.3 the code of another client",
			reconfigured: func(c *storage.Client) { c.ID = "other" },
			want:         grants.InvalidGrant,
		}, {
			name: "RFC 6749 §4.1.3 no redirect_uri though one was sent",
			code: sent,
			want: grants.InvalidRequest,
		}, {
			name:   "RFC 6749 §4.1.3 another redirect_uri",
			code:   sent,
			params: params{"redirect_uri": {"https://app.example.com/other"}},
			want:   grants.InvalidGrant,
		}, {
			name:   "RFC 6749 §4.1.3 another redirect_uri where none was sent",
			params: params{"redirect_uri": {"https://app.example.com/other"}},
			want:   grants.InvalidGrant,
		}, {
			name:   "RFC 6749 §4.1.3 a redirect_uri that means the same",
			code:   sent,
			params: params{"redirect_uri": {"https://APP.example.com/callback"}},
			want:   grants.InvalidGrant,
		}, {
			name:   "RFC 6749 §4.1.3 another port of this device",
			code:   storage.Code{RedirectURI: "http://127.0.0.1:49152/cb", RedirectSent: true},
			params: params{"redirect_uri": {"http://127.0.0.1:49153/cb"}},
			want:   grants.InvalidGrant,
		}, {
			name: "RFC 7636 §4.6 no verifier",
			code: withPKCE,
			want: grants.InvalidGrant,
		}, {
			name:   "RFC 7636 §4.6 another verifier",
			code:   withPKCE,
			params: params{"code_verifier": {strings.Repeat("v", 43)}},
			want:   grants.InvalidGrant,
		}, {
			name:   "RFC 7636 §4.6 the challenge as verifier, as for the method plain",
			code:   withPKCE,
			params: params{"code_verifier": {challenge}},
			want:   grants.InvalidGrant,
		}, {
			name:   "RFC 7636 §4.1 a verifier that is too short",
			code:   withPKCE,
			params: params{"code_verifier": {verifier[:42]}},
			want:   grants.InvalidGrant,
		}, {
			name:   "RFC 9700 §2.1.1 a verifier without a challenge",
			params: params{"code_verifier": {verifier}},
			want:   grants.InvalidGrant,
		}, {
			name:   "RFC 8707 §2.2 a resource that was not granted",
			params: params{"resource": {api, "https://other.example.com"}},
			want:   grants.InvalidTarget,
		}, {
			name:   "RFC 8707 §2 a resource that is not absolute",
			params: params{"resource": {"/api"}},
			want:   grants.InvalidTarget,
		}, {
			name:   "RFC 8707 §2 a resource with a fragment",
			params: params{"resource": {api + "#"}},
			want:   grants.InvalidTarget,
		}, {
			name:         "RFC 8707 §2.2 a resource that the owner has taken from the client since",
			reconfigured: func(c *storage.Client) { c.Audience = []string{api} },
			params:       params{"resource": {files}},
			want:         grants.InvalidTarget,
		}, {
			name:         "RFC 9068 §2.2 the owner has taken every resource from the client: a token needs an audience",
			reconfigured: func(c *storage.Client) { c.Audience = []string{"https://new.example.com"} },
			want:         grants.InvalidTarget,
		}, {
			name:         "RFC 6749 §5.1 the owner has taken every scope from the client: no scope would mean all that was asked for",
			reconfigured: func(c *storage.Client) { c.Scopes = []string{"admin"} },
			want:         grants.InvalidScope,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t)
			c.code.Offline = true
			code := s.approve(c.code)
			presented := code
			if c.presented != nil {
				presented = c.presented(code)
			}
			_, err := s.reconfigured(c.reconfigured).redeem(presented, c.params)
			s.wantRefused("the wrong request", err, c.want)

			right := params{}
			if c.code.RedirectSent {
				right["redirect_uri"] = []string{callback}
			}
			if c.code.RedirectURI != "" {
				right["redirect_uri"] = []string{c.code.RedirectURI}
			}
			if c.code.Challenge != "" {
				right["code_verifier"] = []string{verifier}
			}
			if auth, err := s.redeem(code, right); err != nil || auth.RefreshToken == "" {
				t.Errorf("the right request after it: got %+v with error %v", auth, err)
			}
		})
	}
}

func TestAuthorizationCodeExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t)
		for _, late := range []time.Duration{0, time.Second, day} {
			code := s.approve(storage.Code{Offline: true})
			time.Sleep(s.client.CodeLifetime + late)
			_, err := s.redeem(code, nil)
			s.wantRefused("RFC 6749 §4.1.2 an expired code", err, grants.InvalidGrant)
		}
	})
}

// A page that renders twice, or a library that sends a POST again, exchanges a code twice with all that belongs to it.
func TestAuthorizationCodeRepeated(t *testing.T) {
	confidential := func(c *storage.Client) { c.SecretHashes = []string{"a-hash"} }
	keep := func(c *storage.Client) { c.RefreshToken.Keep, c.RefreshToken.Idle = true, 0 }
	right := params{"code_verifier": {verifier}}
	withPKCE := storage.Code{Challenge: challenge, Offline: true}
	for _, c := range []struct {
		name      string
		code      storage.Code
		settings  func(*storage.Client)
		first     params
		refreshed bool // with the refresh token of the first exchange, before the repeat
		after     time.Duration
		again     params
		revokes   bool
	}{
		{name: "at once, with the right verifier", code: withPKCE, first: right, again: right},
		{name: "in the last moment", code: withPKCE, first: right, after: 10*time.Second - 1, again: right},
		{name: "too late", code: withPKCE, first: right, after: 10 * time.Second, again: right, revokes: true},
		{name: "after the refresh token was used", code: withPKCE, first: right, refreshed: true, again: right, revokes: true},
		{
			name: "after the refresh token was used, which stays", code: withPKCE, settings: keep,
			first: right, refreshed: true, again: right, revokes: true,
		},
		{name: "before the refresh token was used, which stays", code: withPKCE, settings: keep, first: right, again: right},
		{name: "without the verifier", code: withPKCE, first: right, revokes: true},
		{
			name: "with another verifier", code: withPKCE,
			first: right, again: params{"code_verifier": {strings.Repeat("v", 43)}}, revokes: true,
		},
		{
			name: "another verifier of a client that authenticates", code: withPKCE, settings: confidential,
			first: right, again: params{"code_verifier": {strings.Repeat("v", 43)}}, revokes: true,
		},
		{name: "by a client that authenticates", code: storage.Code{Offline: true}, settings: confidential},
		{
			name: "by a client that authenticates, after the refresh token was used", code: storage.Code{Offline: true},
			settings: confidential, refreshed: true, revokes: true,
		},
		{
			name: "by a client that authenticates, too late", code: storage.Code{Offline: true},
			settings: confidential, after: 10 * time.Second, revokes: true,
		},
		{
			name: "for another redirect_uri", code: storage.Code{Offline: true}, settings: confidential,
			again: params{"redirect_uri": {"https://app.example.com/other"}}, revokes: true,
		},
		{name: "nothing proves that it is the same party", code: storage.Code{Offline: true}, revokes: true},
		{name: "a code without refresh tokens", code: storage.Code{Challenge: challenge}, first: right, again: right},
		{
			name: "a code without refresh tokens, too late", code: storage.Code{Challenge: challenge},
			first: right, after: 10 * time.Second, again: right, revokes: true,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite(t).reconfigured(c.settings)
				code := s.approve(c.code)
				auth, err := s.redeem(code, c.first)
				if err != nil {
					t.Fatal(err)
				}
				newest := auth.RefreshToken
				if c.refreshed {
					if auth, err = s.refresh(newest, nil); err != nil {
						t.Fatal(err)
					}
					newest = auth.RefreshToken
				}
				time.Sleep(c.after)
				_, err = s.redeem(code, c.again)
				s.wantRefused("the repeat", err, grants.InvalidGrant)
				if revoked(err) != c.revokes {
					t.Errorf("the repeat revokes: %v, want %v", revoked(err), c.revokes)
				}
				if newest == "" {
					return
				}
				if _, err = s.refresh(newest, nil); (err != nil) != c.revokes {
					t.Errorf("the tokens afterwards: error %v", err)
				}
			})
		})
	}
}

func TestAuthorizationCodeUsedAgain(t *testing.T) {
	t.Run("RFC 6749 §4.1.2 revokes the tokens of the code", func(t *testing.T) {
		s := newSite(t)
		code := s.approve(storage.Code{Offline: true})
		auth, err := s.redeem(code, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.redeem(code, nil)
		s.wantRefused("the second use", err, grants.InvalidGrant)
		if !revoked(err) || !strings.Contains(err.Error(), auth.Family) || strings.Contains(err.Error(), code) {
			t.Errorf("the cause for the log is %v", err)
		}
		_, err = s.refresh(auth.RefreshToken, nil)
		s.wantRefused("the refresh token of the first use", err, grants.InvalidGrant)
		_, err = s.redeem(code, nil)
		s.wantRefused("the third use", err, grants.InvalidGrant)
		if revoked(err) {
			t.Error("a family is revoked twice")
		}
	})
	t.Run("RFC 6749 §4.1.2 revokes all that was refreshed since", func(t *testing.T) {
		s := newSite(t)
		code := s.approve(storage.Code{Offline: true})
		auth, err := s.redeem(code, nil)
		if err != nil {
			t.Fatal(err)
		}
		next, err := s.refresh(auth.RefreshToken, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.redeem(code, nil)
		s.wantRefused("the second use", err, grants.InvalidGrant)
		_, err = s.refresh(next.RefreshToken, nil)
		s.wantRefused("the newest refresh token", err, grants.InvalidGrant)
	})
	t.Run("RFC 6749 §4.1.2 a code without refresh tokens", func(t *testing.T) {
		s := newSite(t)
		code := s.approve(storage.Code{})
		if _, err := s.redeem(code, nil); err != nil {
			t.Fatal(err)
		}
		_, err := s.redeem(code, nil)
		s.wantRefused("the second use", err, grants.InvalidGrant)
		if !revoked(err) {
			t.Errorf("the cause for the log is %v", err)
		}
	})
	t.Run("another client cannot revoke with the code", func(t *testing.T) {
		s := newSite(t)
		code := s.approve(storage.Code{Offline: true})
		auth, err := s.redeem(code, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.reconfigured(func(c *storage.Client) { c.ID = "other" }).redeem(code, nil)
		s.wantRefused("the other client", err, grants.InvalidGrant)
		if _, err := s.refresh(auth.RefreshToken, nil); err != nil {
			t.Errorf("the client afterwards: %v", err)
		}
	})
	t.Run("an expired code cannot revoke", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newSite(t)
			code := s.approve(storage.Code{Offline: true})
			auth, err := s.redeem(code, nil)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(s.client.CodeLifetime)
			_, err = s.redeem(code, nil)
			s.wantRefused("the expired code", err, grants.InvalidGrant)
			if _, err := s.refresh(auth.RefreshToken, nil); err != nil {
				t.Errorf("the refresh token afterwards: %v", err)
			}
		})
	})
}
