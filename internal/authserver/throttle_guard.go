package authserver

import (
	"errors"
	"net/http"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
)

// Watch counts what a guard decides, and bounds how many tokens that are no good come from an address.
type Watch struct {
	gate    *gate
	metrics *guardMetrics
	address func(r *http.Request) string
}

// NewWatch returns the Watch of a guard whose issuer is elsewhere. address is who a request came from, as the site
// trusts it.
func NewWatch(issuer string, registry Registry, address func(r *http.Request) string) (*Watch, error) {
	m, err := newGuardMetrics(registry, issuer)
	if err != nil {
		return nil, err
	}
	return &Watch{newGate(NewThrottle(), Limits{}, issuer, m.throttle, time.Now), m, address}, nil
}

// Watch returns the Watch of a guard whose issuer this is.
func (s *Server) Watch(address func(r *http.Request) string) *Watch {
	return &Watch{s.gate, &s.metrics.guardMetrics, address}
}

// saw counts a decision, and returns what to answer.
func (w *Watch) saw(r *http.Request, err error) error {
	refusal, refused := errors.AsType[*BearerError](err)
	switch {
	case !refused:
		w.metrics.decide("ok")
	case refusal.Code == "":
		w.metrics.decide("no_token")
	case refusal.Code == invalidToken:
		if after := w.gate.garbage(throttledToken, "", network(w.address(r))); after > 0 {
			w.metrics.decide("throttled")
			return &BearerError{
				Status: http.StatusTooManyRequests, Code: grants.TemporarilyUnavailable, Cause: err, RetryAfter: after,
			}
		}
		fallthrough
	default:
		w.metrics.decide(refusal.Code)
	}
	return err
}
