package bearer

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

// fakeSource accepts one token.
type fakeSource struct {
	claims *jwt.Claims
	err    error
}

func (s fakeSource) AccessToken(_ context.Context, token string, _ time.Duration) (*jwt.Claims, error) {
	if s.err != nil {
		return nil, s.err
	}
	if token != "good" {
		return nil, jwt.ErrMalformed
	}
	return s.claims, nil
}

func testResource() *Resource {
	return &Resource{
		Source:   fakeSource{claims: &jwt.Claims{Subject: "alice", Scope: "orders profile", Audience: []string{"other", testAPI}}},
		Audience: []string{testAPI}, Scopes: []string{"orders"}, MetadataURL: testAPI + "/.well-known/oauth-protected-resource",
	}
}

func TestRFC6750Transport(t *testing.T) {
	const challenge = `Bearer scope="orders", resource_metadata="` + testAPI + `/.well-known/oauth-protected-resource"`
	named := func(r *Resource) { r.Header = "X-Token" }
	for _, tt := range []struct {
		name   string
		edit   func(*Resource)
		header []string // names and values
		query  string
		status int // 0: let pass
		code   string
	}{
		{"§2.1 Authorization: Bearer", nil, []string{"Authorization", "Bearer good"}, "", 0, ""},
		{"RFC 9110 §11.1 scheme in another case", nil, []string{"Authorization", "bEARER good"}, "", 0, ""},
		{"more spaces", nil, []string{"Authorization", "Bearer   good "}, "", 0, ""},
		{"§3.1 no token", nil, nil, "", 401, ""},
		{"§3.1 another scheme", nil, []string{"Authorization", "Basic Z29vZA=="}, "", 401, ""},
		{"a scheme that begins with Bearer", nil, []string{"Authorization", "Bearer2 good"}, "", 401, ""},
		{"no scheme", nil, []string{"Authorization", "good"}, "", 401, ""},
		{"an empty header", nil, []string{"Authorization", ""}, "", 401, ""},
		{"an empty token", nil, []string{"Authorization", "Bearer "}, "", 400, "invalid_request"},
		{"no token after the scheme", nil, []string{"Authorization", "Bearer"}, "", 400, "invalid_request"},
		{"a token with a space", nil, []string{"Authorization", "Bearer good good"}, "", 401, "invalid_token"},
		{"10 kB of garbage", nil, []string{"Authorization", "Bearer " + strings.Repeat("\xff", 10<<10)}, "", 401, "invalid_token"},
		{"§3.1 two tokens", nil, []string{"Authorization", "Bearer good", "Authorization", "Bearer good"}, "", 400, "invalid_request"},
		{"§3.1 header and query", nil, []string{"Authorization", "Bearer good"}, "access_token=good", 400, "invalid_request"},
		{"RFC 9700 §4.3.2 query", nil, nil, "access_token=good", 400, "invalid_request"},
		{"RFC 9700 §4.3.2 query, escaped", nil, nil, "a=b&acces%73%5ftoken=good", 400, "invalid_request"},
		{"another parameter", nil, []string{"Authorization", "Bearer good"}, "my_access_token=good", 0, ""},
		{"own header", named, []string{"X-Token", "good"}, "", 0, ""},
		{"own header is no scheme", named, []string{"X-Token", "Bearer good"}, "", 401, "invalid_token"},
		{"own header twice", named, []string{"X-Token", "good", "X-Token", "good"}, "", 400, "invalid_request"},
		{"§3.1 own header and Authorization", named, []string{"X-Token", "good", "Authorization", "Bearer good"}, "", 400, "invalid_request"},
		{"own header beside another scheme", named, []string{"X-Token", "good", "Authorization", "Basic Z29vZA=="}, "", 0, ""},
		{"not in its own header", named, []string{"Authorization", "Bearer good"}, "", 401, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := testResource()
			if tt.edit != nil {
				tt.edit(p)
			}
			r := httptest.NewRequest(http.MethodGet, "/?"+tt.query, nil)
			for i := 0; i < len(tt.header); i += 2 {
				r.Header.Add(tt.header[i], tt.header[i+1])
			}
			claims, err := p.Check(r, new(Tokens), "")
			if tt.status == 0 {
				if err != nil || claims.Subject != "alice" {
					t.Errorf("refused: %v", err)
				}
				return
			}
			var refusal *Error
			if !errors.As(err, &refusal) || claims != nil || refusal.Status != tt.status || refusal.Code != tt.code {
				t.Fatalf("%v, %#v; want %d %s", claims, err, tt.status, tt.code)
			}
			if tt.code == "" && refusal.Challenge != challenge { // §3.1: no error code
				t.Errorf("the challenge is %s", refusal.Challenge)
			}
			if tt.code != "" && !strings.HasPrefix(refusal.Challenge, `Bearer error="`+tt.code+`", error_description="`) {
				t.Errorf("the challenge is %s", refusal.Challenge)
			}
		})
	}
}

func TestRFC6750Refusals(t *testing.T) {
	for _, tt := range []struct {
		name      string
		edit      func(*Resource)
		status    int
		challenge string
	}{
		{
			"§3.1 a bad token", func(p *Resource) { p.Source = fakeSource{err: jwt.ErrExpired} }, 401,
			`Bearer error="invalid_token", error_description="access token: expired", scope="orders", resource_metadata="` + testAPI + `/.well-known/oauth-protected-resource"`,
		},
		{
			"RFC 9068 §4 for another resource", func(p *Resource) { p.Audience = []string{"https://other.example"} }, 401,
			`Bearer error="invalid_token", error_description="access token: other audience", scope="orders", resource_metadata="` + testAPI + `/.well-known/oauth-protected-resource"`,
		},
		{
			"§3.1 a scope is missing", func(p *Resource) { p.Scopes = []string{"orders", "admin"} }, 403,
			`Bearer error="insufficient_scope", scope="orders admin", resource_metadata="` + testAPI + `/.well-known/oauth-protected-resource"`,
		},
		{
			"RFC 6749 §3.3 a scope is no prefix", func(p *Resource) { p.Scopes = []string{"order"} }, 403,
			`Bearer error="insufficient_scope", scope="order", resource_metadata="` + testAPI + `/.well-known/oauth-protected-resource"`,
		},
		{
			"RFC 6749 §3.3 nor has it another case", func(p *Resource) { p.Scopes = []string{"Orders"} }, 403,
			`Bearer error="insufficient_scope", scope="Orders", resource_metadata="` + testAPI + `/.well-known/oauth-protected-resource"`,
		},
		{"nothing is known", func(p *Resource) { p.Source = fakeSource{err: errors.New("the store is away")} }, 503, ""},
		{
			"a token for nobody", func(p *Resource) { p.Source = fakeSource{claims: &jwt.Claims{Subject: "alice", Scope: "orders"}} }, 401,
			`Bearer error="invalid_token", error_description="access token: other audience", scope="orders", resource_metadata="` + testAPI + `/.well-known/oauth-protected-resource"`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := testResource()
			tt.edit(p)
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header.Set("Authorization", "Bearer good")
			_, err := p.Check(r, new(Tokens), "")
			var refusal *Error
			if !errors.As(err, &refusal) || refusal.Status != tt.status || refusal.Challenge != tt.challenge {
				t.Errorf("%#v\nwant %d %s", err, tt.status, tt.challenge)
			}
		})
	}
}

// RFC 9470 §3.
func TestStepUp(t *testing.T) {
	ago := func(d time.Duration) json.Number {
		return json.Number(strconv.FormatInt(time.Now().Add(-d).Unix(), 10))
	}
	const weak, old = "another way of signing in is required", "a more recent login is required"
	for _, tt := range []struct {
		name   string
		acr    []string
		maxAge time.Duration
		claims map[string]any
		cause  string // "": let pass
	}{
		{"nothing is needed", nil, 0, nil, ""},
		{"one of the values", []string{"mfa", "hw"}, 0, map[string]any{"acr": "hw"}, ""},
		{"another value", []string{"mfa", "hw"}, 0, map[string]any{"acr": "pwd"}, weak},
		{"a part of a value", []string{"mfa"}, 0, map[string]any{"acr": "mf"}, weak},
		{"no value", []string{"mfa"}, 0, nil, weak},
		{"a value that is no text", []string{"mfa"}, 0, map[string]any{"acr": []any{"mfa"}}, weak},
		{"a recent login", nil, time.Hour, map[string]any{"auth_time": ago(59 * time.Minute)}, ""},
		{"an old login", nil, time.Hour, map[string]any{"auth_time": ago(61 * time.Minute)}, old},
		{"a login at no time", nil, time.Hour, nil, old},
		{"a time that is no number", nil, time.Hour, map[string]any{"auth_time": "now"}, old},
		{"an old login of another kind", []string{"mfa"}, time.Hour, map[string]any{"auth_time": ago(2 * time.Hour), "acr": "pwd"}, weak},
		{"both", []string{"mfa"}, time.Hour, map[string]any{"auth_time": ago(time.Minute), "acr": "mfa"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := testResource()
			p.ACR, p.MaxAge, p.Scopes = tt.acr, tt.maxAge, []string{"admin"} // which the token lacks
			p.Source = fakeSource{claims: &jwt.Claims{Subject: "alice", Audience: []string{testAPI}, Raw: tt.claims}}
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header.Set("Authorization", "Bearer good")
			_, err := p.Check(r, new(Tokens), "")
			refusal, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatal(err)
			}
			if tt.cause == "" {
				if refusal.Code != insufficientScope {
					t.Errorf("%s: %s", refusal.Code, refusal.Challenge)
				}
				return
			}
			want := `Bearer error="insufficient_user_authentication", error_description="` + tt.cause + `", scope="admin", resource_metadata="` + p.MetadataURL + `"`
			if tt.acr != nil {
				want += `, acr_values="` + strings.Join(tt.acr, " ") + `"`
			}
			if tt.maxAge > 0 {
				want += `, max_age="3600"`
			}
			if refusal.Status != http.StatusUnauthorized || refusal.Challenge != want {
				t.Errorf("%d %s\nwant 401 %s", refusal.Status, refusal.Challenge, want)
			}
		})
	}
}

func TestTokensThatDoNotSayWhomTheyAreFor(t *testing.T) {
	p := testResource()
	p.AllowNoAudience = true
	p.Source = fakeSource{claims: &jwt.Claims{Subject: "alice", Scope: "orders"}}
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer good")
	if _, err := p.Check(r, new(Tokens), ""); err != nil {
		t.Error(err)
	}
	p.Source = fakeSource{claims: &jwt.Claims{Subject: "alice", Scope: "orders", Audience: []string{"https://other.example"}}}
	if _, err := p.Check(r, new(Tokens), ""); !errors.Is(err, jwt.ErrAudience) {
		t.Errorf("a token with another audience: %v", err)
	}
}

// A resource removes the token from the request. Only another resource on the way still gets it.
func TestTokensOfARequestWithTwoResources(t *testing.T) {
	asked := 0
	claims := &jwt.Claims{Subject: "alice", Scope: "orders admin", Audience: []string{testAPI}}
	source := &countingSource{fakeSource{claims: claims}, &asked}
	first := &Resource{Source: source, Audience: []string{testAPI}, Scopes: []string{"orders"}}
	second := &Resource{Source: source, Audience: []string{testAPI}, Scopes: []string{"admin"}}
	elsewhere := &Resource{Source: fakeSource{err: jwt.ErrIssuer}, Audience: []string{testAPI}}
	named := &Resource{Source: source, Audience: []string{testAPI}, Header: "X-Token"}

	r, tokens := httptest.NewRequest(http.MethodGet, "/", nil), new(Tokens)
	r.Header.Set("Authorization", "bearer good")
	for _, p := range []*Resource{first, second} {
		p.Take(r, tokens)
		if got, err := p.Check(r, tokens, ""); err != nil || got != claims || r.Header.Get("Authorization") != "" {
			t.Errorf("%v, %v, and the request keeps %v", got, err, r.Header)
		}
	}
	if asked != 1 {
		t.Errorf("the token is checked %d times", asked)
	}
	if _, err := elsewhere.Check(r, tokens, ""); !errors.Is(err, jwt.ErrIssuer) {
		t.Errorf("at a resource of another issuer: %v", err)
	}
	r.Header.Set("X-Token", "good")
	if _, err := named.Check(r, tokens, ""); err == nil {
		t.Error("two tokens are accepted if one was taken")
	}

	r, tokens = httptest.NewRequest(http.MethodGet, "/", nil), new(Tokens)
	r.Header.Set("Authorization", "Basic Z29vZA==")
	r.Header.Set("X-Token", "good")
	first.Take(r, tokens)
	named.Take(r, tokens)
	if r.Header.Get("Authorization") == "" || r.Header.Get("X-Token") != "" {
		t.Errorf("the request keeps %v", r.Header)
	}
}

// The leeway of a resource is its own, also where another one has checked the token before.
func TestLeewayOfAResource(t *testing.T) {
	asked := 0
	source := &countingSource{fakeSource{claims: &jwt.Claims{Subject: "alice", Audience: []string{testAPI}}}, &asked}
	r, tokens := httptest.NewRequest(http.MethodGet, "/", nil), new(Tokens)
	r.Header.Set("Authorization", "Bearer good")
	for n, leeway := range []time.Duration{time.Minute, time.Minute, 0, time.Second} {
		p := &Resource{Source: source, Audience: []string{testAPI}, Leeway: leeway}
		if _, err := p.Check(r, tokens, ""); err != nil {
			t.Error(err)
		}
		if want := []int{1, 1, 2, 2}[n]; asked != want {
			t.Errorf("after a check with a leeway of %v, the token was checked %d times, want %d", leeway, asked, want)
		}
	}
}

type countingSource struct {
	fakeSource
	asked *int
}

func (s *countingSource) AccessToken(ctx context.Context, token string, leeway time.Duration) (*jwt.Claims, error) {
	*s.asked++
	return s.fakeSource.AccessToken(ctx, token, leeway)
}
