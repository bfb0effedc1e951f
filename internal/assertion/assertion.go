// Package assertion checks the JWTs that clients sign: those by which they authenticate (private_key_jwt: RFC 7523 §2.2 and §3, OpenID
// Connect Core §9), and their authorization requests (RFC 9101).
//
// [Parse] reads an assertion, so that the caller can find the client that it names, and [Checker.Check] decides whether that client
// made it. Start reading at these two; keys.go finds the keys of a client, and [Checker.ReadRequest] reads a request.
package assertion

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Type is the client_assertion_type of a JWT (RFC 7523 §2.2).
const Type = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

const (
	maxLength = 8 << 10         // of an assertion
	maxLife   = 5 * time.Minute // from now to exp
	skew      = 30 * time.Second
)

// Error says for the log why a JWT was refused. The client must not learn it.
type Error struct {
	Sent, Expected string
	Setting        string // of the client, or of the issuer
	Forged         bool   // none of the client's keys made the signature, which was computed
}

func (e *Error) Error() string { return "JWT of a client: " + e.Sent + "; expected " + e.Expected }

// Assertion is an assertion, of which nothing is verified yet.
type Assertion struct {
	ClientID string // which it names

	token  jwt.Token
	header jwt.Header
}

// Parse reads an assertion. The error is an *Error.
func Parse(text string) (*Assertion, error) {
	token, header, payload, err := open(text)
	if err != nil {
		return nil, err
	}
	if err := checkType(header); err != nil {
		return nil, err
	}
	claims, err := jwt.ParseClaims(payload)
	switch {
	case err != nil:
		return nil, &Error{Sent: "claims that are missing or of the wrong type", Expected: "iss, sub, aud, exp and jti (RFC 7523 section 3)"}
	case claims.Issuer != claims.Subject:
		return nil, &Error{Sent: "iss " + claims.Issuer + ", sub " + claims.Subject, Expected: "the client ID in both"}
	}
	return &Assertion{ClientID: claims.Subject, token: token, header: header}, nil
}

// open returns the parts of an assertion.
func open(text string) (token jwt.Token, header jwt.Header, payload []byte, err error) {
	if len(text) > maxLength {
		return token, header, nil, &Error{Sent: fmt.Sprintf("an assertion of %d bytes", len(text)), Expected: fmt.Sprintf("at most %d", maxLength)}
	}
	if token, err = jwt.Split(text); err != nil {
		return token, header, nil, errNoJWT
	}
	header, payload, err = token.Unverified()
	switch {
	case errors.Is(err, jwt.ErrHeader):
		return token, header, nil, errKeyInHeader
	case err != nil:
		return token, header, nil, errNoJWT
	}
	return token, header, payload, nil
}

var errKeyInHeader = &Error{
	Sent:     "a header with crit, b64, jku, jwk, x5u or x5c",
	Expected: "none of these: the server takes the keys that it knows the client by",
}

var errNoJWT = &Error{Sent: "a text that is no JWT", Expected: "a JWT in compact serialization, each member of its JSON once"}

// checkType refuses a JWT that says that it is for another use (RFC 8725 §3.11). One that says nothing is good: many libraries send no
// typ, or JWT.
func checkType(header jwt.Header) error {
	if slices.ContainsFunc([]string{"", "JWT", "client-authentication+jwt"}, header.IsType) {
		return nil
	}
	return &Error{Sent: "typ " + header.Type, Expected: "client-authentication+jwt, JWT or none"}
}

// Config is what a Checker is made of.
type Config struct {
	Issuer        string
	TokenEndpoint string // as in the metadata
	IssuerOnly    bool   // the audience must be the issuer alone
	Store         storage.Store
	Keys          *Keys
	Loopback      bool // keys can be at an address of this machine
	Now           func() time.Time

	// NamesEndpoint is called once for a client whose assertion has the token endpoint as an audience. Nil does nothing.
	NamesEndpoint func(clientID string)
}

// maxNamed is how many clients a Checker remembers of which it has said that they name the token endpoint.
const maxNamed = 1000

// Checker checks assertions for one issuer. Safe for concurrent use.
type Checker struct {
	Config

	mu    sync.Mutex
	named map[string]bool // clients for which NamesEndpoint was called
}

// Check returns nil if the client has made the assertion, for this issuer, a short time ago, and has not used it before. The error is
// an *Error unless the store failed.
//
// A stranger makes the server do no more than verify signatures with the keys of one client. Only what the client has signed is
// written to the store.
func (c *Checker) Check(ctx context.Context, a *Assertion, client *storage.Client) error {
	if alg := a.header.Algorithm; !jwt.Asymmetric(alg) || client.FAPI && !slices.Contains(jwt.FAPIAlgorithms(), alg) {
		return &Error{Sent: "alg " + alg, Expected: strings.Join(algorithms(client), ", ")}
	}
	keys, err := c.Keys.find(ctx, client, a.header, c.Loopback)
	if err != nil {
		return err
	}
	claims, err := a.verify(keys, client)
	if err != nil {
		return err
	}
	if err := c.checkAudience(claims, client); err != nil {
		return err
	}
	now := c.Now()
	if err := checkTimes(claims, now, maxLife); err != nil {
		return err
	}
	if claims.ID == "" {
		return &Error{Sent: "no jti", Expected: "a jti, which is new for each assertion"}
	}
	first, err := storage.Once(ctx, c.Store, claims.Expires.Add(skew), "client_assertion", client.ID, claims.ID)
	if err != nil {
		return err
	}
	if !first {
		return &Error{Sent: "an assertion that was used before", Expected: "a new jti for each request"}
	}
	if slices.Contains(claims.Audience, c.TokenEndpoint) {
		c.sayOnce(client.ID)
	}
	return nil
}

// algorithms returns the algorithms by which a client may sign.
func algorithms(client *storage.Client) []string {
	if client.FAPI {
		return jwt.FAPIAlgorithms()
	}
	return jwt.AssertionAlgorithms()
}

// HasCertificate reports whether a certificate in DER is in an x5c of the JWK set of a client (RFC 8705 §2.2). The error is an *Error, unless
// ctx has ended.
func (c *Checker) HasCertificate(ctx context.Context, client *storage.Client, der []byte) (bool, error) {
	return c.Keys.hasCertificate(ctx, client, der, c.Loopback)
}

// sayOnce calls NamesEndpoint the first time that an assertion of a client has the token endpoint as its audience.
func (c *Checker) sayOnce(clientID string) {
	c.mu.Lock()
	said := c.NamesEndpoint == nil || c.named[clientID] || len(c.named) >= maxNamed
	if !said {
		if c.named == nil {
			c.named = make(map[string]bool)
		}
		c.named[clientID] = true
	}
	c.mu.Unlock()
	if !said {
		c.NamesEndpoint(clientID)
	}
}

// Naming returns the clients of which it has said so.
func (c *Checker) Naming() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.named))
}

// verify returns the claims if one of the keys made the signature.
func (a *Assertion) verify(keys []*jwt.Key, client *storage.Client) (*jwt.Claims, error) {
	for _, key := range keys {
		payload, err := a.token.Verify(key)
		if err != nil {
			continue
		}
		claims, err := jwt.ParseClaims(payload)
		if err != nil || claims.Subject != client.ID || claims.Issuer != client.ID { // Parse has checked this, and the caller found the client by it
			return nil, errNoJWT
		}
		return claims, nil
	}
	return nil, &Error{
		Sent: "a signature that none of the client's keys made", Expected: "a JWT that the client signed with its private key",
		Setting: "jwks, jwks_uri",
	}
}

// checkAudience checks that the assertion is for this issuer. Its identifier is what clients should name. Many name the token endpoint
// instead, and some name both.
func (c *Checker) checkAudience(claims *jwt.Claims, client *storage.Client) error {
	expected, setting := c.Issuer, "client_assertion_audience"
	good := len(claims.Audience) == 1 && claims.Audience[0] == c.Issuer
	if client.FAPI {
		setting = "profile"
	}
	if c.IssuerOnly || client.FAPI {
		_, text := claims.Raw["aud"].(string)
		good = good && text
	} else {
		expected += " or " + c.TokenEndpoint
		good = len(claims.Audience) > 0 && !slices.ContainsFunc(claims.Audience, func(aud string) bool {
			return aud != c.Issuer && aud != c.TokenEndpoint
		})
	}
	if good {
		return nil
	}
	return &Error{Sent: "aud " + strings.Join(claims.Audience, " "), Expected: expected, Setting: setting}
}

// formatTime returns a time as the log has it.
func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// checkTimes checks that the assertion is valid now, and not for longer than life. The clocks may differ a little.
func checkTimes(claims *jwt.Claims, now time.Time, life time.Duration) error {
	soon := now.Add(skew)
	switch {
	case !now.Before(claims.Expires.Add(skew)):
		return &Error{Sent: "exp " + formatTime(claims.Expires), Expected: "an exp after now, " + formatTime(now)}
	case claims.Expires.After(soon.Add(life)):
		return &Error{Sent: "exp " + formatTime(claims.Expires), Expected: "an exp at most " + life.String() + " after now, " + formatTime(now)}
	case claims.IssuedAt.After(soon):
		return &Error{Sent: "iat " + formatTime(claims.IssuedAt), Expected: "an iat before now, " + formatTime(now) + ": the clocks differ"}
	case claims.NotBefore.After(soon):
		return &Error{Sent: "nbf " + formatTime(claims.NotBefore), Expected: "an nbf before now, " + formatTime(now) + ": the clocks differ"}
	}
	return nil
}
