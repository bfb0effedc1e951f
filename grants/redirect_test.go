package grants_test

import (
	"testing"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

const (
	asSent   = storage.RedirectAsSent
	required = storage.RedirectRequired
	optional = storage.RedirectOptional
	ignored  = storage.RedirectIgnored

	missing = grants.InvalidRequest
	wrong   = grants.InvalidGrant

	otherRedirect = "https://app.example.com/other" // registered, but not where the code went
)

func redirectParam(uri string) params {
	if uri == "" {
		return nil
	}
	return params{"redirect_uri": {uri}}
}

func TestRedirectOfTheExchange(t *testing.T) {
	for _, tt := range []struct {
		name string
		rule storage.RedirectRule
		sent bool // in the authorization request
		uri  string
		code string
	}{
		{"RFC 6749 §4.1.3 sent, the same", "", true, callback, ""},
		{"RFC 6749 §4.1.3 sent, none", "", true, "", missing},
		{"RFC 6749 §4.1.3 sent, another", "", true, otherRedirect, wrong},
		{"RFC 6749 §4.1.3 not sent, none", "", false, "", ""},
		{"RFC 6749 §4.1.3 not sent, where the code went", "", false, callback, ""},
		{"RFC 6749 §4.1.3 not sent, another", "", false, otherRedirect, wrong},
		{"as_sent is that rule: none", asSent, true, "", missing},
		{"as_sent is that rule: not sent, none", asSent, false, "", ""},
		{"required: the same", required, true, callback, ""},
		{"required: not sent, where the code went", required, false, callback, ""},
		{"required: not sent, none", required, false, "", missing},
		{"required: not sent, another", required, false, otherRedirect, wrong},
		{"optional: none", optional, true, "", ""},
		{"optional: the same", optional, true, callback, ""},
		{"optional: another", optional, true, otherRedirect, wrong},
		{"optional: letter by letter", optional, true, callback + "/", wrong},
		{"optional: in another case", optional, true, "https://APP.example.com/callback", wrong},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			s.client.RedirectRules.Code = tt.rule
			code := s.approve(storage.Code{RedirectSent: tt.sent})
			_, err := s.redeem(code, redirectParam(tt.uri))
			s.wantRefused("the exchange", err, tt.code)
			if tt.code == "" {
				return
			}
			if _, err := s.redeem(code, redirectParam(callback)); err != nil {
				t.Errorf("a refused request has used the code up: %v", err)
			}
		})
	}
}

func TestRedirectOfTheRefresh(t *testing.T) {
	for _, tt := range []struct {
		name   string
		rule   storage.RedirectRule
		before string // of the exchange of the code
		uri    string
		code   string
	}{
		{"RFC 6749 §6 none", "", callback, "", ""},
		{"RFC 6749 §6 not looked at", "", callback, "https://evil.example/", ""},
		{"ignored is that rule", ignored, callback, "https://evil.example/", ""},
		{"as_sent: the same", asSent, callback, callback, ""},
		{"as_sent: none", asSent, callback, "", missing},
		{"as_sent: another", asSent, callback, otherRedirect, wrong},
		{"as_sent: not sent before, none", asSent, "", "", ""},
		{"as_sent: not sent before, another", asSent, "", otherRedirect, wrong},
		{"required: the same", required, "", callback, ""},
		{"required: none", required, "", "", missing},
		{"required: another", required, callback, otherRedirect, wrong},
		{"optional: none", optional, callback, "", ""},
		{"optional: the same", optional, callback, callback, ""},
		{"optional: another", optional, callback, otherRedirect, wrong},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			s.client.RedirectRules.Refresh = tt.rule
			first, err := s.redeem(s.approve(storage.Code{Offline: true}), redirectParam(tt.before))
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.refresh(first.RefreshToken, redirectParam(tt.uri))
			s.wantRefused("the refresh", err, tt.code)
			if tt.code == "" {
				return
			}
			if _, err := s.refresh(first.RefreshToken, redirectParam(callback)); err != nil {
				t.Errorf("a refused request has used the token up: %v", err)
			}
		})
	}
	t.Run("a used token is a used token, whatever its redirect_uri", func(t *testing.T) {
		s := newSite(t)
		s.client.RedirectRules.Refresh = required
		s.client.RefreshToken.Retry = 0
		token := s.firstToken()
		if _, err := s.refresh(token, redirectParam(callback)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.refresh(token, nil); !revoked(err) {
			t.Errorf("got error %v, want the family revoked", err)
		}
	})
}
