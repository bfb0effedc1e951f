package caddyoauth

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/keyring"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// CodeSettings are about authorization codes.
type CodeSettings struct {
	// How long a code can be exchanged for tokens, at most 10 minutes. Default: 1 minute.
	Lifetime Lifetime `json:"lifetime,omitempty"`

	// A prefix of all codes, such as `auth_`. Default: none.
	Prefix string `json:"prefix,omitempty"`
}

// AccessTokenSettings are about access tokens.
type AccessTokenSettings struct {
	// How long an access token is valid. Default: 10 minutes. **Danger:** a thief can use a stolen access token for as long.
	Lifetime Lifetime `json:"lifetime,omitempty"`

	// `jwt`: a signed token that every resource server can check by itself. `opaque`: a random string that only this server
	// can check. Default: `jwt`.
	Format string `json:"format,omitempty"`

	// A prefix of all opaque tokens, such as `access_`. Default: none.
	Prefix string `json:"prefix,omitempty"`

	// How many characters opaque tokens have after the prefix, from 30 to 128. Shorter tokens have fewer random bits; 30
	// characters have 137, and 53 have 256. Default: 53.
	Length int `json:"length,omitempty"`

	// The claims of JWTs. `rfc9068`: those of RFC 9068. `minimal`: only exp, iat, sub, and the claims of the directive. What
	// this server needs to know of a minimal token (jti, client_id, family, family_iat and, with `openid`, scope) is in the header of
	// the token.
	// Default: `rfc9068`. **Danger:** a resource server cannot tell whether a minimal token was meant for it.
	Claims string `json:"claims,omitempty"`

	// The `typ` in the header of JWTs: `at+jwt`, as in RFC 9068, or `JWT`, for resource servers that know no other. Default:
	// `at+jwt`. **Danger:** with `JWT`, a program that takes JWTs of several kinds from this issuer cannot tell an access token
	// from the others.
	Type string `json:"typ,omitempty"`

	// Other names for claims that the directive or a password verifier sets, by the names they have there. With `sub`,
	// tokens have the subject under both names.
	Rename map[string]string `json:"rename,omitempty"`
}

// ClientAccessTokenSettings are about the access tokens of one client.
type ClientAccessTokenSettings struct {
	// How long an access token is valid. Default: that of the issuer.
	Lifetime Lifetime `json:"lifetime,omitempty"`
}

// RefreshTokenSettings are about refresh tokens.
type RefreshTokenSettings struct {
	// How long tokens can be refreshed after a person has approved the client. Then the person has to approve it again.
	// `never` sets no limit. Default: 30 days.
	Lifetime Lifetime `json:"lifetime,omitempty"`

	// How long a refresh token that nobody uses remains valid. `never` sets no limit but the lifetime. Default: 14 days.
	Idle Lifetime `json:"idle,omitempty"`

	// `always`: every refresh returns a new refresh token, so that the server notices when a stolen one is used. `never`: the
	// refresh token stays the same, for clients that cannot store a new one. Default: `always`. **Danger:** with `never`,
	// nobody notices when a stolen refresh token is used.
	Rotate string `json:"rotate,omitempty"`

	// How long a client may repeat a refresh whose answer it lost, and get the same new token. It may do so only until it uses
	// the new token. A duration, at most 5 minutes; `unused` sets no time limit; with `0`, a refresh token works once, and a
	// lost answer logs the person out. Default: `unused` for clients that authenticate, since a stolen token alone is
	// useless there, and 1 minute for public clients. **Danger:** a thief of a public client's refresh token can use it for
	// as long after the client did.
	Retry *Retry `json:"retry,omitempty"`

	// A prefix of all refresh tokens, such as `refresh_`. Default: none.
	Prefix string `json:"prefix,omitempty"`

	// How many characters refresh tokens have after the prefix, from 30 to 128. Shorter tokens have fewer random bits: with
	// 30 characters, a thief of the storage has to guess about 65 bits, with 91 characters 256. Default: 91.
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
	case a.Type != "" && opaque:
		return directive.At("typ", errors.New("expected with the format jwt only"))
	case a.Claims != "" && opaque:
		return directive.At("claims", errors.New("expected with the format jwt only"))
	}
	return cmp.Or(
		directive.At("lifetime", checkExpires(a.Lifetime)),
		directive.At("format", checkChoice(a.Format, "jwt", "opaque")),
		directive.At("prefix", checkPrefix(a.Prefix)),
		directive.At("length", checkLength(a.Length)),
		directive.At("claims", checkChoice(a.Claims, "rfc9068", "minimal")),
		directive.At("typ", checkChoice(a.Type, "at+jwt", "JWT")),
		checkRename(a.Rename),
	)
}

// checkRename finds claims that cannot be renamed, or not to that name.
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

// The defaults of the settings above.
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

const (
	maxConsentLifetimes = 8 // choices that people get
	maxConsentLifetime  = 10 * 366 * 24 * time.Hour
)

// checkConsentLifetime refuses invalid choices, and choices with consent never, which nobody would see.
func checkConsentLifetime(choices []Lifetime, mode storage.ConsentMode) error {
	if len(choices) > maxConsentLifetimes {
		return fmt.Errorf("expected at most %d choices", maxConsentLifetimes)
	}
	if len(choices) > 0 && mode == storage.ConsentNever {
		return errors.New("expected none with consent never: nobody is asked")
	}
	for i, choice := range choices {
		switch d := choice.duration(); {
		case d%time.Minute != 0 || d < 0 || d > maxConsentLifetime:
			return fmt.Errorf("expected whole minutes, and at most 10 years, not %s", d)
		case slices.Contains(choices[:i], choice):
			return errors.New("expected each choice once")
		}
	}
	return nil
}

// consentLifetimes returns the choices for a client, from the first of the settings that has some; none if access has no end.
func consentLifetimes(settings ...[]Lifetime) (choices []time.Duration) {
	for _, setting := range settings {
		if len(setting) == 0 {
			continue
		}
		if slices.Equal(setting, []Lifetime{Never}) {
			return nil
		}
		for _, choice := range setting {
			choices = append(choices, choice.duration())
		}
		return choices
	}
	return nil
}

// shape returns the shape of access tokens.
func (a *AccessTokenSettings) shape() authserver.AccessTokenShape {
	if a == nil {
		return authserver.AccessTokenShape{}
	}
	return authserver.AccessTokenShape{
		Opaque: a.Format == "opaque", Prefix: a.Prefix, Length: a.Length,
		Minimal: a.Claims == "minimal", Rename: a.Rename,
	}
}

// Signing is about the keys that sign tokens.
type Signing struct {
	// The algorithm: ES256, ES384, ES512, EdDSA, RS256, RS384, RS512, PS256, PS384, PS512, HS256, HS384 or HS512. The key of HS256
	// and the others with HS is not published, so that only this server can check the tokens. Default: ES256.
	Algorithm string `json:"algorithm,omitempty"`

	// How long a key signs before the next one does. The server makes keys, publishes them before they sign, and retires them
	// when the last token they signed has expired. `never`: the first key signs for ever. Default: 30 days.
	Rotate Lifetime `json:"rotate,omitempty"`

	// A JWKS file with your own private keys, instead of keys that the server makes. The first key that fits the algorithm
	// signs, and all are published. The file is read when the configuration is loaded.
	JWKSFile string `json:"jwks_file,omitempty"`
}

const (
	defaultRotate = 30 * 24 * time.Hour
	maxPublish    = 24 * time.Hour
)

// resolve replaces placeholders.
func (s *Signing) resolve(repl *caddy.Replacer) error {
	if s == nil {
		return nil
	}
	return directive.At("jwks_file", replace(repl, &s.JWKSFile))
}

func (s *Signing) check() error {
	if s == nil {
		return nil
	}
	if err := checkChoice(s.Algorithm, jwt.Algorithms...); err != nil {
		return directive.At("algorithm", err)
	}
	switch {
	case s.Rotate != 0 && s.Rotate != Never && time.Duration(s.Rotate) < time.Hour:
		return directive.At("rotate", errors.New("expected an hour or more, so that others can fetch a new key before it signs"))
	case s.Rotate != 0 && s.JWKSFile != "":
		return directive.At("rotate", errors.New("expected either jwks_file or rotate: you rotate the keys in a file yourself"))
	}
	return nil
}

// policy returns how to keep the keys of tokens that live up to lifetime.
func (s *Signing) policy(lifetime time.Duration) (keyring.Policy, error) {
	if s == nil {
		s = new(Signing)
	}
	rotate := s.Rotate.or(defaultRotate).duration()
	policy := keyring.Policy{
		Algorithm: s.Algorithm,
		Rotate:    rotate,
		Publish:   min(rotate/4, maxPublish),
		Lifetime:  lifetime,
	}
	if rotate == 0 { // never
		policy.Publish = maxPublish
	}
	if s.JWKSFile == "" {
		return policy, nil
	}
	file, err := os.ReadFile(s.JWKSFile)
	policy.File = file
	return policy, err
}

// fileAlgorithms are those that the owner's file has private keys for; nil: the server makes its keys, for every algorithm.
type fileAlgorithms []string

// algorithmsOf returns the algorithms of a policy. It returns nil for a file that cannot be parsed: keyring.New reports
// that error.
func algorithmsOf(policy keyring.Policy) fileAlgorithms {
	if policy.File == nil {
		return nil
	}
	keys, _, err := jwt.ParsePrivateKeys(policy.File, policy.Algorithm)
	if err != nil {
		return nil
	}
	algs := fileAlgorithms{}
	for _, key := range keys {
		if key.CanSign() && !slices.Contains(algs, key.Algorithm) {
			algs = append(algs, key.Algorithm)
		}
	}
	return algs
}

// check returns an error if the file has no key for an algorithm; "" needs none.
func (f fileAlgorithms) check(alg string) error {
	if alg == "" || f == nil || slices.Contains(f, alg) {
		return nil
	}
	return fmt.Errorf("expected %s, of which jwks_file has a private key, not %s", directive.OneOf(f), alg)
}

// checkOpenID checks the algorithms of a client's ID tokens and userinfo responses.
func (f fileAlgorithms) checkOpenID(policy *storage.OpenIDPolicy) error {
	if policy == nil {
		return nil
	}
	return cmp.Or(
		directive.At("id_token_signed_response_alg", f.check(policy.IDTokenAlgorithm)),
		directive.At("userinfo_signed_response_alg", f.check(policy.UserinfoAlgorithm)),
	)
}

// EncryptionSettings are about the encryption of the records in the store. It hides their content from people who can read a
// backup, a disk or a Redis. It does not hide how many records there are, when they were written and when they expire, and the
// IDs of clients that were added at run time.
type EncryptionSettings struct {
	// The keys, each 32 random bytes or more in base64 or hex, as `openssl rand -base64 32` prints them. The first one encrypts
	// new records. All of them decrypt. Records without encryption can be read as well. Use placeholders: `{env.NAME}` or
	// `{file./path}`. **Danger:** if you lose a key, you lose the records that it encrypted.
	Keys []string `json:"keys,omitempty"`

	// Whether to write records without encryption, and use the keys only to decrypt. It is a step of turning encryption on with
	// several nodes, so that all of them have the keys before the first one encrypts, and a step of turning encryption off,
	// until no record is encrypted any more. Default: false.
	Off bool `json:"off,omitempty"`
}

// resolve replaces placeholders.
func (e *EncryptionSettings) resolve(repl *caddy.Replacer) error {
	if e == nil {
		return nil
	}
	for n := range e.Keys {
		if err := replace(repl, &e.Keys[n]); err != nil {
			return err
		}
	}
	return nil
}

func (e *EncryptionSettings) check() error {
	if e == nil {
		return nil
	}
	if len(e.Keys) == 0 {
		return errors.New("expected a key, or off and the keys that encrypted the records")
	}
	var known []string
	for n, key := range e.Keys {
		if unresolved(key) {
			continue
		}
		known = append(known, key)
		if _, err := storage.NewEncryptionKeys(known, e.Off); err != nil {
			return fmt.Errorf("key %d: %w", n+1, err) // which does not contain the key
		}
	}
	return nil
}
