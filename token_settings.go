package caddyoauth

import (
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// CodeSettings say how authorization codes live.
type CodeSettings struct {
	// How long a code can be exchanged, at most 10 minutes. Default: 1 minute.
	Lifetime Lifetime `json:"lifetime,omitempty"`
}

// AccessTokenSettings say how access tokens live.
type AccessTokenSettings struct {
	// How long an access token is good. Default: 10 minutes. Who has stolen one can use it that long.
	Lifetime Lifetime `json:"lifetime,omitempty"`
}

// RefreshTokenSettings say how refresh tokens live.
type RefreshTokenSettings struct {
	// How long after the approval tokens can be refreshed; then the person is asked again. `never` is
	// for ever. Default: 30 days.
	Lifetime Lifetime `json:"lifetime,omitempty"`

	// How long a refresh token is good without being used. `never` looks only at the lifetime. Default:
	// 14 days.
	Idle Lifetime `json:"idle,omitempty"`

	// `always` gives a new refresh token with every refresh, so that a stolen one shows itself. `never`
	// keeps it, for clients that cannot store a new one: whoever steals one can use it unnoticed. Default:
	// `always`.
	Rotate string `json:"rotate,omitempty"`

	// How long the refresh token before the newest yields the newest once more, if that was not used
	// yet: for answers that got lost. 0 is strict single use. Default: 10 seconds.
	Retry *caddy.Duration `json:"retry,omitempty"`
}

func (r *RefreshTokenSettings) check() (problem, setting string) {
	switch {
	case r == nil:
		return "", ""
	case r.Rotate != "" && r.Rotate != "always" && r.Rotate != "never":
		return "expected always or never, not " + r.Rotate, "rotate"
	case r.Retry != nil && (*r.Retry < 0 || time.Duration(*r.Retry) > maxRetry):
		return "expected a duration from 0 to 5m", "retry"
	}
	return "", ""
}

// maxRetry bounds how long a used refresh token may be good for anything.
const maxRetry = 5 * time.Minute

// The lifetimes of what has no setting.
const (
	defaultCodeLifetime        = time.Minute
	defaultAccessTokenLifetime = 10 * time.Minute
	defaultRefreshLifetime     = 30 * 24 * time.Hour
	defaultRefreshIdle         = 14 * 24 * time.Hour
	defaultRetry               = 10 * time.Second
)

func (c *CodeSettings) lifetime() time.Duration {
	if c == nil {
		return defaultCodeLifetime
	}
	return c.Lifetime.or(defaultCodeLifetime).duration()
}

// accessTokenLifetime returns the lifetime of the first that sets one.
func accessTokenLifetime(settings ...*AccessTokenSettings) time.Duration {
	for _, s := range settings {
		if s != nil && s.Lifetime != 0 {
			return s.Lifetime.duration()
		}
	}
	return defaultAccessTokenLifetime
}

// refreshPolicy returns the policy of which each part is from the first that sets it.
func refreshPolicy(settings ...*RefreshTokenSettings) storage.RefreshPolicy {
	var lifetime, idle Lifetime
	var rotate string
	var retry *caddy.Duration
	for _, s := range settings {
		if s == nil {
			continue
		}
		lifetime, idle = lifetime.or(time.Duration(s.Lifetime)), idle.or(time.Duration(s.Idle))
		if rotate == "" {
			rotate = s.Rotate
		}
		if retry == nil {
			retry = s.Retry
		}
	}
	policy := storage.RefreshPolicy{
		Lifetime: lifetime.or(defaultRefreshLifetime).duration(),
		Idle:     idle.or(defaultRefreshIdle).duration(),
		Retry:    defaultRetry,
		Keep:     rotate == "never",
	}
	if retry != nil {
		policy.Retry = time.Duration(*retry)
	}
	return policy
}
