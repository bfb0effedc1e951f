package signin

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// brokenLogin is a login that returns an error.
type brokenLogin struct{ err error }

func (l brokenLogin) ServeHTTP(http.ResponseWriter, *http.Request, caddyhttp.Handler) error {
	return l.err
}

// What is no refusal of the login, but an error, does not say that nobody is signed in.
func TestErrorsOfALogin(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		want int // 0: this is nobody
	}{
		"an error":     {errors.New("no connection"), http.StatusServiceUnavailable},
		"a failure":    {caddyhttp.Error(http.StatusBadGateway, errors.New("away")), http.StatusBadGateway},
		"too much":     {caddyhttp.Error(http.StatusTooManyRequests, errors.New("later")), http.StatusServiceUnavailable},
		"no session":   {caddyhttp.Error(http.StatusUnauthorized, errors.New("who?")), 0},
		"not let pass": {caddyhttp.Error(http.StatusForbidden, nil), 0},
	} {
		t.Run(name, func(t *testing.T) {
			var asked bool
			nobody := func(http.ResponseWriter, *http.Request) error {
				asked = true
				return nil
			}
			answer := func(http.ResponseWriter, *http.Request) error { return errors.New("somebody is signed in") }
			r := httptest.NewRequest(http.MethodGet, "/oauth/logout", nil)
			err := Login{Beside: []Beside{{handler: brokenLogin{tt.err}}}}.Ask(httptest.NewRecorder(), r, answer, nobody)
			failure, _ := errors.AsType[caddyhttp.HandlerError](err)
			if asked != (tt.want == 0) || failure.StatusCode != tt.want {
				t.Errorf("%v, and nobody is signed in: %v", err, asked)
			}
		})
	}
}
