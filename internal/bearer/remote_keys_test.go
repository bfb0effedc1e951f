package bearer

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
	"github.com/caddy-oauth/caddy-oauth/internal/testclock"
)

// works checks that a token is valid, or that it is refused with an error.
func (r *remote) check(t *testing.T, token string, want error) {
	t.Helper()
	_, err := r.source().AccessToken(t.Context(), token, jwt.Leeway)
	if !errors.Is(err, want) || (want == nil) != (err == nil) {
		t.Errorf("the token: %v, want %v", err, want)
	}
}

// unavailable checks that a token can be neither accepted nor refused.
func (r *remote) unavailable(t *testing.T, token string) error {
	t.Helper()
	_, err := r.source().AccessToken(t.Context(), token, jwt.Leeway)
	var invalid jwt.InvalidToken
	if err == nil || errors.As(err, &invalid) {
		t.Errorf("the token: %v, want the error that the keys are unknown", err)
	}
	return err
}

func TestRemoteKeysAreFetchedOnFirstNeedAndOnce(t *testing.T) {
	r := newRemote(t)
	token := r.token(t)
	if r.count("") != 0 {
		t.Fatal("the issuer is asked before there is a token")
	}
	var guards sync.WaitGroup
	for range 50 {
		guards.Go(func() { r.check(t, token, nil) })
	}
	guards.Wait()
	if r.count(remoteMetadata) != 1 || r.count("") != 2 {
		t.Errorf("the issuer is asked %v", r.asked)
	}
}

func TestRFC8414WhereTheMetadataIs(t *testing.T) {
	for _, tt := range []struct{ path, metadata string }{
		{"", "/.well-known/oauth-authorization-server"},
		{"/", "/.well-known/oauth-authorization-server"},
		{"/tenant/one", "/.well-known/oauth-authorization-server/tenant/one"},
		{"", "/.well-known/openid-configuration"},
		{"/tenant/one", "/tenant/one/.well-known/openid-configuration"},
		{"/tenant/one/", "/tenant/one/.well-known/openid-configuration"},
	} {
		t.Run(tt.path+" "+tt.metadata, func(t *testing.T) {
			r := newRemote(t)
			issuer := r.URL + tt.path
			r.answer(remoteMetadata, nil)
			r.answer(tt.metadata, body(`{"issuer":"`+issuer+`","jwks_uri":"`+r.URL+remoteJWKS+`"}`))
			source := r.source()
			source.URL, source.Keys = issuer, NewRemoteKeys(issuer, r.clock.Now)
			if _, err := source.AccessToken(t.Context(), r.token(t, "iss", issuer), jwt.Leeway); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRemoteIssuerThatIsNotBelieved(t *testing.T) {
	other := httptest.NewServer(body(`{"keys":[]}`))
	defer other.Close()
	tests := []struct {
		name string
		edit func(r *remote)
		want string
	}{
		{"RFC 8414 §3.3 metadata of another issuer", func(r *remote) {
			r.answer(remoteMetadata, body(`{"issuer":"`+r.URL+`/","jwks_uri":"`+r.URL+remoteJWKS+`"}`))
		}, "another issuer"},
		{"metadata that is no JSON", func(r *remote) { r.answer(remoteMetadata, body(`<html>`)) }, "not a metadata document"},
		{"no jwks_uri", func(r *remote) { r.answer(remoteMetadata, body(`{"issuer":"`+r.URL+`"}`)) }, "expected a jwks_uri"},
		{"jwks_uri over http", func(r *remote) {
			r.answer(remoteMetadata, body(`{"issuer":"`+r.URL+`","jwks_uri":"http://keys.example.com/"}`))
		}, "expected a jwks_uri with https"},
		{"jwks_uri of a file", func(r *remote) {
			r.answer(remoteMetadata, body(`{"issuer":"`+r.URL+`","jwks_uri":"file:///etc/passwd"}`))
		}, "expected a jwks_uri with https"},
		{"metadata redirected to another host", func(r *remote) {
			r.answer(remoteMetadata, http.RedirectHandler(other.URL, http.StatusFound).ServeHTTP)
		}, "a redirect to another server"},
		{"keys redirected to another host", func(r *remote) {
			r.answer(remoteJWKS, http.RedirectHandler(other.URL, http.StatusFound).ServeHTTP)
		}, "a redirect to another server"},
		{"redirects without end", func(r *remote) {
			r.answer(remoteJWKS, http.RedirectHandler(remoteJWKS, http.StatusFound).ServeHTTP)
		}, "too many redirects"},
		{"keys that are no JWKS", func(r *remote) { r.answer(remoteJWKS, body(`{}`)) }, "expected a JWK set"},
		{"keys that are too long", func(r *remote) { r.answer(remoteJWKS, body(strings.Repeat(" ", maxDocument+1))) }, "more than 1048576 bytes"},
		{"an error", func(r *remote) { r.answer(remoteJWKS, http.NotFound) }, "404"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRemote(t)
			tt.edit(r)
			if err := r.unavailable(t, r.token(t)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestRemoteRedirectAtTheSameHost(t *testing.T) {
	r := newRemote(t)
	r.answer("/moved", r.answers[remoteJWKS])
	r.answer(remoteJWKS, http.RedirectHandler("/moved", http.StatusFound).ServeHTTP)
	r.check(t, r.token(t), nil)
}

func TestRemoteIssuerComesUp(t *testing.T) {
	r := newRemote(t)
	up := r.answers[remoteMetadata]
	r.answer(remoteMetadata, http.NotFound)
	token := r.token(t)
	_ = r.unavailable(t, token)
	asked := r.count(remoteMetadata)
	_ = r.unavailable(t, token)
	if r.count(remoteMetadata) != asked {
		t.Error("within a second the issuer is asked again")
	}
	r.answer(remoteMetadata, up)
	r.clock.Advance(firstAttemptInterval)
	r.check(t, token, nil)
}

func TestRemoteIssuerGoesDown(t *testing.T) {
	r := newRemote(t)
	r.check(t, r.token(t), nil)
	r.Close()
	for _, later := range []time.Duration{50 * time.Minute, time.Hour, 48 * time.Hour} {
		r.clock.Advance(later)
		r.check(t, r.token(t), nil)
	}
	stranger := jwttest.NewKey(t, "ES256")
	r.key = stranger
	r.check(t, r.token(t), jwt.ErrKey)
}

func TestRemoteKeysAreRenewedInTheBackground(t *testing.T) {
	r := newRemote(t)
	r.check(t, r.token(t), nil)
	r.clock.Advance(44 * time.Minute)
	r.check(t, r.token(t), nil)
	if r.count(remoteJWKS) != 1 {
		t.Fatal("the keys are renewed long before they run out")
	}
	release := make(chan struct{})
	answer := r.answers[remoteJWKS]
	r.answer(remoteJWKS, func(w http.ResponseWriter, req *http.Request) {
		<-release
		answer(w, req)
	})
	r.clock.Advance(2 * time.Minute)
	r.check(t, r.token(t), nil) // while the issuer has not answered
	close(release)
	eventually(t, "the keys to be renewed", func() bool { return r.keys.set.Load().expires.Equal(r.clock.Now().Add(time.Hour)) })
	if r.count(remoteMetadata) != 1 {
		t.Error("the metadata was fetched again although it is fresh")
	}
}

// If the keys have expired since the last request, they are fetched before they are used.
func TestRemoteKeysThatRanOutAreFetchedFirst(t *testing.T) {
	r := newRemote(t)
	withdrawn := r.token(t, "exp", r.clock.Now().Add(48*time.Hour).Unix())
	r.check(t, withdrawn, nil)
	r.publish()
	r.clock.Advance(time.Hour)
	r.check(t, withdrawn, jwt.ErrKey)
}

func TestRemoteUnknownKey(t *testing.T) {
	r := newRemote(t)
	old := r.token(t)
	r.check(t, old, nil)
	r.key = jwttest.NewKey(t, "EdDSA")
	r.publish(r.key.Public)
	rotated := r.token(t)

	for range 100 {
		r.check(t, rotated, jwt.ErrKey)
	}
	if r.count(remoteJWKS) != 1 {
		t.Errorf("the keys are fetched %d times within ten seconds", r.count(remoteJWKS))
	}
	r.clock.Advance(attemptInterval)
	r.check(t, rotated, nil)
	if r.count(remoteJWKS) != 2 || r.count(remoteMetadata) != 1 {
		t.Errorf("the issuer is asked %v", r.asked)
	}
	r.check(t, old, jwt.ErrKey) // taken back, and not remembered either
}

func TestRemoteKeysWaitNoLongerThanTheRequest(t *testing.T) {
	r := newRemote(t)
	release := make(chan struct{})
	r.answer(remoteMetadata, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.source().AccessToken(ctx, r.token(t), jwt.Leeway); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestRFC9111Freshness(t *testing.T) {
	now := testclock.Epoch
	at := func(d time.Duration) string { return now.Add(d).UTC().Format(http.TimeFormat) }
	for _, tt := range []struct {
		name   string
		header http.Header
		want   time.Duration
	}{
		{"nothing said", http.Header{}, time.Hour},
		{"§5.2.2.1 max-age", http.Header{"Cache-Control": {"public, Max-Age=600"}}, 10 * time.Minute},
		{"§5.2.2.1 max-age in quotes", http.Header{"Cache-Control": {`max-age="600"`}}, 10 * time.Minute},
		{"§5.1 less its age", http.Header{"Cache-Control": {"max-age=600"}, "Age": {"400"}}, 200 * time.Second},
		{"an age that is none", http.Header{"Cache-Control": {"max-age=600"}, "Age": {"-1"}}, 10 * time.Minute},
		{"never less than a minute", http.Header{"Cache-Control": {"max-age=1"}}, time.Minute},
		{"§5.2.2.5 no-store", http.Header{"Cache-Control": {"no-store", "max-age=600"}}, time.Minute},
		{"§5.2.2.4 no-cache", http.Header{"Cache-Control": {"max-age=600, no-cache"}}, time.Minute},
		{"never more than a day", http.Header{"Cache-Control": {"max-age=31536000"}}, 24 * time.Hour},
		{"§4.2.1 a number of no size", http.Header{"Cache-Control": {"max-age=99999999999999999999"}}, time.Minute},
		{"§4.2.1 a negative number", http.Header{"Cache-Control": {"max-age=-5"}}, time.Minute},
		{"§5.3 Expires", http.Header{"Expires": {at(2 * time.Hour)}}, 2 * time.Hour},
		{"§5.3 Expires beside max-age", http.Header{"Expires": {at(2 * time.Hour)}, "Cache-Control": {"max-age=600"}}, 10 * time.Minute},
		{"§5.3 Expires in the past", http.Header{"Expires": {at(-time.Hour)}}, time.Minute},
	} {
		if got := freshness.Freshness(tt.header, now); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
