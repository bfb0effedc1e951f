package guard

import (
	"cmp"
	"errors"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/request"
	"github.com/caddy-oauth/caddy-oauth/internal/routes"
	"github.com/caddy-oauth/caddy-oauth/internal/trail"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
)

// refuse handles a request without a valid token. It may pass as one of nobody, or refuse returns the error for Caddy.
func (g *Guard) refuse(w http.ResponseWriter, r *http.Request, err error) (passes bool, _ error) {
	refusal, ok := errors.AsType[*bearer.Error](err)
	switch {
	case !ok:
		return false, err
	case refusal.Code == "" && g.config.Optional:
		return true, nil
	}
	if refusal.Code == grants.UseDPoPNonce {
		if err := g.offerNonce(w, r); err != nil {
			return false, err
		}
	}
	if refusal.Challenge != "" {
		w.Header().Set("WWW-Authenticate", refusal.Challenge)
	}
	if refusal.Offer != "" {
		w.Header().Add("WWW-Authenticate", refusal.Offer)
	}
	if refusal.RetryAfter > 0 {
		wire.SetRetryAfter(w.Header(), refusal.RetryAfter)
	}
	failure := caddyhttp.Error(refusal.Status, refusal)
	failure.ID = g.logRefusal(r, refusal)
	w.Header().Set("Error-Id", failure.ID)
	if refusal.Status >= http.StatusInternalServerError && !routes.HandlesError(r, failure) {
		w.WriteHeader(refusal.Status) // as Caddy does, but without logging each request
		return false, nil
	}
	return false, failure
}

// step returns a request at the guard for the owner who watches.
func (g *Guard) step(r *http.Request, client, subject, result string) *trail.Step {
	return &trail.Step{
		Time: time.Now(), Issuer: g.config.Issuer, Endpoint: "guard", Method: r.Method, Client: client, Subject: subject, Address: request.ClientIP(r),
		Sent: map[string]string{"path": wire.Loggable(request.Original(r).Path)}, Result: result,
	}
}

// logRefusal logs why the guard refuses a request, and returns the error ID of the line. A failure of the server has been logged
// already, as a rule for many requests at once.
func (g *Guard) logRefusal(r *http.Request, refusal *bearer.Error) (id string) {
	if refusal.ID != "" && !g.config.Remote {
		return refusal.ID
	}
	id = cmp.Or(refusal.ID, wire.NewErrorID())
	fields := []zap.Field{
		zap.String("issuer", g.config.Issuer),
		zap.String("endpoint", "guard"),
		zap.String("client_ip", request.ClientIP(r)),
	}
	var client, subject, family string
	if claims := refusal.Claims; claims != nil {
		client, subject, family = claims.ClientID, claims.Subject, claims.Family
	}
	for _, field := range [...]struct{ name, value string }{
		{"client_id", client},
		{"sub", subject},
		{"family", family},
		{"resource", g.config.Metadata.Resource},
		{"error", refusal.Code},
		{"sent", refusal.Sent},
		{"expected", refusal.Expected},
		{"setting", refusal.Setting},
	} {
		if field.value != "" {
			fields = append(fields, zap.String(field.name, wire.Loggable(field.value)))
		}
	}
	fields = append(fields, zap.String("error_id", id), zap.Int("status", refusal.Status), zap.NamedError("cause", refusal.Cause))
	level, message := zap.InfoLevel, "request refused"
	switch {
	case refusal.Status == http.StatusServiceUnavailable:
		level, message = zap.DebugLevel, "request refused: the token cannot be checked"
	case refusal.Code == grants.UseDPoPNonce: // which is how a client gets a nonce (RFC 9449 §9)
		level, message = zap.DebugLevel, "request refused until it has a nonce"
	}
	g.config.Trail.Log(g.config.Place.log, level, message, fields...)
	if g.config.Trail.Watched() {
		step := g.step(r, client, subject, cmp.Or(refusal.Code, "no_token"))
		step.Status, step.ErrorID = refusal.Status, id
		g.config.Trail.Step(step)
	}
	return id
}
