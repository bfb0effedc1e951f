package caddyoauth

import (
	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
)

// throttles holds the throttle of this process, so that a new config knows of the failures under the old one.
var throttles = caddy.NewUsagePool()

const theThrottle = "throttle"

// throttle returns the throttle. It lives until Cleanup was called on every app that asked for it.
func (a *App) throttle() *authserver.Throttle {
	throttle, _ := throttles.LoadOrStore(theThrottle, authserver.NewThrottle())
	a.throttled = true
	return throttle.(*authserver.Throttle)
}

// Cleanup gives back the throttle, if this app has it.
func (a *App) Cleanup() error {
	if !a.throttled {
		return nil
	}
	a.throttled = false
	_, err := throttles.Delete(theThrottle)
	return err
}
