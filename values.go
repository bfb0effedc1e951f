package caddyoauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Lifetime is how long something is valid: a duration of a second or more, such as "10m" or "30d", or "never" where there need
// not be a limit.
type Lifetime time.Duration

// Never is the lifetime of something that does not expire.
const Never Lifetime = -1

// parseLifetime reads a lifetime from a Caddyfile.
func parseLifetime(s string) (Lifetime, error) {
	if s == "never" {
		return Never, nil
	}
	d, err := caddy.ParseDuration(s)
	if err != nil || d < time.Second {
		return 0, errors.New("expected a duration of a second or more, such as 10m or 30d")
	}
	return Lifetime(d), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *Lifetime) UnmarshalJSON(b []byte) error {
	if s := string(b); s == `"never"` {
		*l = Never
		return nil
	}
	var d caddy.Duration
	if err := json.Unmarshal(b, &d); err != nil {
		return err
	}
	if time.Duration(d) < time.Second {
		return errors.New("a lifetime must be a duration of a second or more, such as \"10m\" or \"30d\"")
	}
	*l = Lifetime(d)
	return nil
}

// MarshalJSON implements json.Marshaler.
func (l Lifetime) MarshalJSON() ([]byte, error) {
	if l == Never {
		return []byte(`"never"`), nil
	}
	return json.Marshal(caddy.Duration(l))
}

// or returns the lifetime, or other if it is not set.
func (l Lifetime) or(other time.Duration) Lifetime {
	if l == 0 {
		return Lifetime(other)
	}
	return l
}

// duration returns zero for Never.
func (l Lifetime) duration() time.Duration {
	if l == Never {
		return 0
	}
	return time.Duration(l)
}

// Retry is how long a client may repeat a refresh: a duration from a second to 5 minutes, 0, or "unused", which means until it
// uses the new token.
type Retry time.Duration

// RetryUnused is the Retry without a time limit.
const RetryUnused = Retry(storage.RetryUntilUsed)

const maxRetry = 5 * time.Minute

var errRetry = errors.New("expected a duration from 1s to 5m, 0, or unused")

func parseRetry(s string) (Retry, error) {
	switch s {
	case "unused":
		return RetryUnused, nil
	case "0":
		return 0, nil
	}
	d, err := caddy.ParseDuration(s)
	if err != nil || d != 0 && d < time.Second || d > maxRetry {
		return 0, errRetry
	}
	return Retry(d), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *Retry) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) != nil { // a number of nanoseconds, as everywhere in Caddy
		text = string(b) + "ns"
	}
	var err error
	*r, err = parseRetry(text)
	return err
}

// MarshalJSON implements json.Marshaler.
func (r Retry) MarshalJSON() ([]byte, error) {
	if r == RetryUnused {
		return []byte(`"unused"`), nil
	}
	return json.Marshal(caddy.Duration(r))
}

// A check returns an error that says what it expected. Its caller adds the name of the setting (directive.At). Values
// with placeholders are checked when the configuration is loaded, not when a Caddyfile is adapted: the values of
// placeholders are only known to the Caddy that runs.

// unresolved reports whether a value has a placeholder.
func unresolved(s string) bool { return strings.Contains(s, "{") }

// replace replaces the placeholders in a value. A placeholder that is unknown or empty is an error.
func replace(repl *caddy.Replacer, value *string) error {
	replaced, err := directive.Resolve(repl, *value)
	if err == nil {
		*value = replaced
	}
	return err
}

// replaceAll replaces the placeholders in values, which may have no braces afterwards.
func replaceAll(repl *caddy.Replacer, values []string) error {
	for n := range values {
		if err := replace(repl, &values[n]); err != nil {
			return err
		}
		if unresolved(values[n]) {
			return fmt.Errorf("expected a value without braces, not %s", values[n])
		}
	}
	return nil
}

// checkChoice checks a setting that is not set, or has one of a few values.
func checkChoice[S ~string](value S, choices ...S) error {
	if value == "" || slices.Contains(choices, value) {
		return nil
	}
	names := make([]string, 0, len(choices))
	for _, choice := range choices {
		names = append(names, string(choice))
	}
	last := len(names) - 1
	return fmt.Errorf("expected %s or %s, not %s", strings.Join(names[:last], ", "), names[last], value)
}

func checkIssuerName(name string) error {
	if name == "" || strings.ContainsAny(name, "/{} ") || name[0] == '@' || name[0] == '*' {
		return errors.New("expected, before the URL, a name without spaces, slashes and braces that does not begin with @ or *")
	}
	return nil
}

// isURL tells the URL of an issuer from a name: no name has a slash.
func isURL(s string) bool { return strings.Contains(s, "://") }

func checkIssuerURL(s string) error {
	if unresolved(s) {
		return nil
	}
	return uris.CheckIssuer(s)
}

func checkAudience(audience []string) error {
	for _, a := range audience {
		if !unresolved(a) && !grants.ValidResource(a) {
			return fmt.Errorf("expected absolute URIs without fragment (RFC 8707), not %s", a)
		}
	}
	return nil
}

func checkConsent(mode storage.ConsentMode) error {
	return checkChoice(mode, storage.ConsentOnce, storage.ConsentAlways, storage.ConsentNever)
}

func checkRevocationPoll(d caddy.Duration) error {
	if d < 0 || d > 0 && time.Duration(d) < time.Second {
		return errors.New("expected a duration of a second or more")
	}
	return nil
}
