package caddyoauth

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// CodeSettings say how authorization codes live.
type CodeSettings struct {
	// How long a code can be exchanged, at most 10 minutes. Default: 1 minute.
	Lifetime Lifetime `json:"lifetime,omitempty"`

	// What stands before codes, such as `auth_`. Default: nothing.
	Prefix string `json:"prefix,omitempty"`
}

// AccessTokenSettings say what access tokens are and how they live.
type AccessTokenSettings struct {
	// How long an access token is good. Default: 10 minutes. Who has stolen one can use it that long.
	Lifetime Lifetime `json:"lifetime,omitempty"`

	// `jwt` is a signed token that any resource server can check by itself, `opaque` is a reference to a
	// record that only this server can check. Default: `jwt`.
	Format string `json:"format,omitempty"`

	// What stands before opaque tokens, such as `access_`. Default: nothing.
	Prefix string `json:"prefix,omitempty"`

	// How many characters opaque tokens have after the prefix, from 30 to 128. Less than the default means
	// fewer random bits; 30 still has 150. Default: 47.
	Length int `json:"length,omitempty"`

	// The claims of JWTs: `rfc9068` are those of RFC 9068, `minimal` are exp, iat and sub and those of the
	// directive only, which other resource servers cannot tell from tokens for something else, and which cannot
	// be revoked one by one. Default: `rfc9068`.
	Claims string `json:"claims,omitempty"`

	// Other names for the claims that the directive or a password verifier set. `sub` keeps its name and gets a
	// second one.
	Rename map[string]string `json:"rename,omitempty"`
}

// ClientAccessTokenSettings say how access tokens of a client live.
type ClientAccessTokenSettings struct {
	// How long an access token is good. Default: as the issuer says.
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

	// How long after a refresh a client may repeat it and get the same new token, as long as it has not used that one: for
	// answers that got lost. `unused` is without a limit of time, `0` is strict single use, which logs people out when
	// an answer is lost. Default: `unused` for clients that authenticate, as a stolen token alone is then worth nothing, and
	// 1 minute for public clients. **Danger:** with a public client, whoever steals the token before the newest can use
	// it for that long.
	Retry *Retry `json:"retry,omitempty"`

	// What stands before refresh tokens, such as `refresh_`. Default: nothing.
	Prefix string `json:"prefix,omitempty"`

	// How many characters refresh tokens have after the prefix, from 30 to 128. Less than the default
	// means fewer random bits; 30 has about 65 that a thief of the storage would have to guess. Default: 91.
	Length int `json:"length,omitempty"`
}

func (r *RefreshTokenSettings) check() error {
	if r == nil {
		return nil
	}
	return cmp.Or(
		directive.At("rotate", checkChoice(r.Rotate, "always", "never")),
		directive.At("prefix", checkPrefix(r.Prefix)),
		directive.At("length", checkLength(r.Length)),
	)
}

func (c *CodeSettings) check() error {
	if c == nil {
		return nil
	}
	if c.Lifetime == Never || time.Duration(c.Lifetime) > maxCodeLifetime {
		return directive.At("lifetime", errors.New("expected at most 10m"))
	}
	return directive.At("prefix", checkPrefix(c.Prefix))
}

func (a *AccessTokenSettings) check() error {
	if a == nil {
		return nil
	}
	opaque := a.Format == "opaque"
	switch {
	case a.Prefix != "" && !opaque:
		return directive.At("prefix", errors.New("expected with the format opaque only"))
	case a.Length != 0 && !opaque:
		return directive.At("length", errors.New("expected with the format opaque only"))
	case a.Claims != "" && opaque:
		return directive.At("claims", errors.New("expected with the format jwt only"))
	}
	return cmp.Or(
		directive.At("lifetime", checkExpires(a.Lifetime)),
		directive.At("format", checkChoice(a.Format, "jwt", "opaque")),
		directive.At("prefix", checkPrefix(a.Prefix)),
		directive.At("length", checkLength(a.Length)),
		directive.At("claims", checkChoice(a.Claims, "rfc9068", "minimal")),
		checkRename(a.Rename),
	)
}

// checkRename finds claims that cannot have, or cannot get, another name.
func checkRename(names map[string]string) error {
	for _, from := range slices.Sorted(maps.Keys(names)) {
		to := names[from]
		switch {
		case from != "sub" && slices.Contains(authserver.ReservedClaims, from):
			return directive.At("rename "+from, errors.New("expected a claim of the directive or of a password verifier, or sub"))
		case to == "" || slices.Contains(authserver.ReservedClaims, to):
			return directive.At("rename "+from, fmt.Errorf("expected another name; %s is the server's own", to))
		}
	}
	return nil
}

func (c *ClientAccessTokenSettings) check() error {
	if c == nil {
		return nil
	}
	return directive.At("lifetime", checkExpires(c.Lifetime))
}

func checkExpires(l Lifetime) error {
	if l == Never {
		return errors.New("expected a duration; access tokens must expire")
	}
	return nil
}

func checkPrefix(s string) error {
	if len(s) > 32 || strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		return fmt.Errorf("expected at most 32 letters, digits, hyphens and underscores, not %s", s)
	}
	return nil
}

func checkLength(n int) error {
	if n != 0 && (n < storage.MinTokenLength || n > storage.MaxTokenLength) {
		return fmt.Errorf("expected a number from %d to %d", storage.MinTokenLength, storage.MaxTokenLength)
	}
	return nil
}

// maxCodeLifetime is what RFC 6749 §4.1.2 recommends at most.
const maxCodeLifetime = 10 * time.Minute

// The lifetimes of what has no setting.
const (
	defaultCodeLifetime        = time.Minute
	defaultAccessTokenLifetime = 10 * time.Minute
	defaultRefreshLifetime     = 30 * 24 * time.Hour
	defaultRefreshIdle         = 14 * 24 * time.Hour
	defaultPublicRetry         = time.Minute
)

func (c *CodeSettings) lifetime() time.Duration {
	if c == nil {
		return defaultCodeLifetime
	}
	return c.Lifetime.or(defaultCodeLifetime).duration()
}

func (a *AccessTokenSettings) lifetime() Lifetime {
	if a == nil {
		return Lifetime(defaultAccessTokenLifetime)
	}
	return a.Lifetime.or(defaultAccessTokenLifetime)
}

func (c *ClientAccessTokenSettings) lifetime() Lifetime {
	if c == nil {
		return 0
	}
	return c.Lifetime
}

// refreshPolicy returns the policy of a client. Each part is from the first of the settings that has it.
func refreshPolicy(public bool, settings ...*RefreshTokenSettings) storage.RefreshPolicy {
	var lifetime, idle Lifetime
	var rotate, prefix string
	var length int
	var retry *Retry
	for _, s := range settings {
		if s == nil {
			continue
		}
		lifetime, idle = lifetime.or(time.Duration(s.Lifetime)), idle.or(time.Duration(s.Idle))
		rotate, prefix, length = cmp.Or(rotate, s.Rotate), cmp.Or(prefix, s.Prefix), cmp.Or(length, s.Length)
		if retry == nil {
			retry = s.Retry
		}
	}
	policy := storage.RefreshPolicy{
		Lifetime: lifetime.or(defaultRefreshLifetime).duration(),
		Idle:     idle.or(defaultRefreshIdle).duration(),
		Retry:    storage.RetryUntilUsed,
		Keep:     rotate == "never",
		Prefix:   prefix,
		Length:   length,
	}
	switch {
	case retry != nil:
		policy.Retry = time.Duration(*retry)
	case public:
		policy.Retry = defaultPublicRetry
	}
	return policy
}
