package authserver

import (
	"errors"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/bounded"
	"github.com/caddy-oauth/caddy-oauth/internal/metrics"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
)

// Watch counts what a guard decides, and bounds how many tokens that are no good come from an address.
type Watch struct {
	limiter *throttle.Limiter
	metrics *metrics.Guard
	address func(r *http.Request) string
	failed  func(r *http.Request, refusal *BearerError) // is told of what is the issuer's fault
}

// NewWatch returns the Watch of a guard whose issuer is elsewhere. address is who a request came from, as the site
// trusts it.
func NewWatch(issuer string, registry metrics.Registry, address func(r *http.Request) string) (*Watch, error) {
	m, err := metrics.NewGuard(registry, issuer)
	if err != nil {
		return nil, err
	}
	limiter := throttle.New().Limiter(issuer, throttle.Limits{}, m.Throttled, time.Now)
	return &Watch{limiter, m, address, func(*http.Request, *BearerError) {}}, nil
}

// Watch returns the Watch of a guard whose issuer this is.
func (s *Server) Watch(address func(r *http.Request) string) *Watch {
	return &Watch{s.limiter, &s.metrics.Guard, address, s.guardFailed}
}

// guardFailed tells of a token of which it is not known what it is worth.
func (s *Server) guardFailed(r *http.Request, refusal *BearerError) {
	level, message := s.severity(r.Context(), refusal, refusal.Status)
	s.log.Log(level, message, append(bounded.Fields(refusal),
		zap.String("issuer", s.config.Name), zap.String("endpoint", "guard"), zap.String("error_id", refusal.ID),
		zap.String("error", refusal.Code), zap.Int("status", refusal.Status), zap.NamedError("cause", refusal.Cause))...)
}

// saw counts a decision, and returns what to answer.
func (w *Watch) saw(r *http.Request, err error) error {
	refusal, refused := errors.AsType[*BearerError](err)
	switch {
	case !refused:
		w.metrics.Decision("ok")
	case refusal.Code == "":
		w.metrics.Decision("no_token")
	case refusal.Code == invalidToken:
		if after := w.limiter.Invalid(throttle.Token, "", w.address(r)); after > 0 {
			w.metrics.Decision("throttled")
			return &BearerError{
				Status: http.StatusTooManyRequests, Code: grants.TemporarilyUnavailable, Cause: err, RetryAfter: after,
			}
		}
		w.metrics.Decision(refusal.Code)
	case givenUp(r.Context(), err):
		w.metrics.Decision("canceled")
	default:
		if refusal.Status >= http.StatusInternalServerError {
			w.failed(r, refusal)
		}
		w.metrics.Decision(refusal.Code)
	}
	return err
}
