package jwt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

const (
	// Leeway is how far the clocks of an issuer and of whoever checks its tokens may differ, if nothing else is configured.
	Leeway = 30 * time.Second
	// MaxLeeway is the longest leeway that can be configured.
	MaxLeeway = 5 * time.Minute
)

// Claims are the claims of an access token (RFC 7519 §4.1, RFC 9068 §2.2). A claim that the token lacks is zero.
type Claims struct {
	Issuer, Subject, ClientID string
	Scope                     string // space-separated
	Audience                  []string
	Expires                   time.Time
	IssuedAt, NotBefore       time.Time
	ID                        string // jti; for an opaque token, the ID of its record
	Family                    string
	Began                     time.Time // start of the family; zero: IssuedAt
	Bound                     Confirmation

	// Sources are the tokens of this issuer that the token was exchanged for. Whoever reads the token sets them, not ParseClaims.
	Sources []Source

	Raw map[string]any // all claims, with numbers as json.Number

	SealedSubject string // what the header of the token says of the user, see Reference

	Opaque bool // the token was a reference to a record, not a JWT
}

// Source is a token that another one was exchanged for.
type Source struct {
	ClientID, ID    string
	Subject, Family string    // empty: those of the other token
	Began           time.Time // start of its family, or when it was issued if it has none
}

// ParseClaims decodes a payload. It checks the type of every claim it knows, and that the required ones are there. It
// compares names with case, as encoding/json does not for the fields of a struct.
func ParseClaims(payload []byte) (*Claims, error) { return parseClaims(payload, "sub", "exp") }

// ParseRequestClaims is ParseClaims for a request object, of which no claim is required (RFC 9101 §4).
func ParseRequestClaims(payload []byte) (*Claims, error) { return parseClaims(payload) }

func parseClaims(payload []byte, required ...string) (*Claims, error) {
	var raw map[string]any
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.UseNumber()
	if dec.Decode(&raw) != nil || raw == nil || dec.InputOffset() != int64(len(payload)) {
		return nil, ErrMalformed
	}
	r := claimReader{raw: raw}
	c := &Claims{
		Issuer:    r.text("iss"),
		Subject:   r.text("sub"),
		ClientID:  r.text("client_id"),
		Scope:     r.text("scope"),
		Audience:  r.texts("aud"),
		Expires:   r.time("exp"),
		IssuedAt:  r.time("iat"),
		NotBefore: r.time("nbf"),
		ID:        r.text("jti"),
		Family:    r.text("family"),
		Raw:       raw,

		Began: r.time("family_iat"),
		Bound: r.confirmation(),
	}
	for _, name := range required {
		if raw[name] == nil || raw[name] == "" {
			r.fail(name)
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	return c, nil
}

// Machine reports whether a client got the token for itself, by client credentials (RFC 9068 §2.2: the subject is the client
// then). Nobody who signs in can have the name of such a client.
func (c *Claims) Machine() bool { return c.ClientID != "" && c.Subject == c.ClientID }

// AuthTime returns when the user of the token signed in, and false if the token does not say (RFC 9068 §2.2.1).
func (c *Claims) AuthTime() (time.Time, bool) {
	number, _ := c.Raw["auth_time"].(json.Number)
	seconds, err := number.Float64()
	if err != nil || seconds <= 0 || seconds >= 1e11 {
		return time.Time{}, false
	}
	return FromNumericDate(seconds), true
}

// Refer completes the claims by what the header of the token says, see [Reference]. Raw stays as it is: the claims that others see
// are those of the token.
func (c *Claims) Refer(ref Reference) {
	c.ID, c.ClientID, c.Family, c.Scope, c.Began = ref.ID, ref.ClientID, ref.Family, ref.Scope, time.Time{}
	c.SealedSubject = ref.SealedSubject
	if ref.Began != 0 {
		c.Began = FromNumericDate(ref.Began)
	}
}

// CheckTime returns an error if the token has expired, but for the leeway, or is not valid yet. A token of an issuer whose clock is
// ahead is valid, also without a leeway.
func (c *Claims) CheckTime(now time.Time, leeway time.Duration) error {
	if !now.Before(c.Expires.Add(leeway)) {
		return ErrExpired.Explain(
			"expired at "+c.Expires.UTC().Format(time.RFC3339), "up to "+leeway.String()+" later", "oauth_guard: leeway").Of(c)
	}
	if soon := now.Add(max(leeway, Leeway)); c.NotBefore.After(soon) || c.IssuedAt.After(soon) {
		return ErrNotYet.Explain("valid from "+latest(c.NotBefore, c.IssuedAt).UTC().Format(time.RFC3339),
			"clocks that differ by less than "+max(leeway, Leeway).String(), "oauth_guard: leeway").Of(c)
	}
	return nil
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// claimReader reads claims by name and keeps the first error.
type claimReader struct {
	raw map[string]any
	err error
}

func (r *claimReader) fail(name string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrClaims, name)
	}
}

func (r *claimReader) text(name string) string {
	value, there := r.raw[name]
	s, ok := value.(string)
	if there && !ok {
		r.fail(name)
	}
	return s
}

// texts reads a string or an array of strings (RFC 7519 §4.1.3).
func (r *claimReader) texts(name string) []string {
	value, there := r.raw[name]
	if !there {
		return nil
	}
	if s, ok := value.(string); ok {
		return []string{s}
	}
	values, ok := value.([]any)
	if !ok {
		r.fail(name)
	}
	texts := make([]string, 0, len(values))
	for _, value := range values {
		s, ok := value.(string)
		if !ok {
			r.fail(name)
		}
		texts = append(texts, s)
	}
	return texts
}

// time reads a NumericDate: seconds since 1970, possibly with a fraction (RFC 7519 §2).
func (r *claimReader) time(name string) time.Time {
	value, there := r.raw[name]
	if !there {
		return time.Time{}
	}
	number, _ := value.(json.Number)
	seconds, err := number.Float64()
	const year9999 = 253402300799
	if err != nil || seconds < 0 || seconds > year9999 {
		r.fail(name)
		return time.Time{}
	}
	return FromNumericDate(seconds)
}

// Confirmation says which keys a token is bound to (cnf, RFC 7800 §3.1). Whoever sends it must prove to have all of them.
type Confirmation struct {
	Thumbprint  string // of the key of DPoP proofs (jkt, RFC 9449 §6.1)
	Certificate string // the thumbprint of the client's TLS certificate (x5t#S256, RFC 8705 §3.1)
	Other       bool   // the token is bound in another way, which nobody here can check
}

// IsZero reports whether the token is bound to no key, so that whoever has it can use it.
func (c Confirmation) IsZero() bool { return c == Confirmation{} }

// confirmation reads cnf. What it does not know makes the token bound all the same.
func (r *claimReader) confirmation() (c Confirmation) {
	value, there := r.raw["cnf"]
	if !there {
		return c
	}
	members, ok := value.(map[string]any)
	if !ok || len(members) == 0 {
		r.fail("cnf")
		return c
	}
	for name, member := range members {
		text, ok := member.(string)
		switch {
		case name == "jkt" && ok && text != "":
			c.Thumbprint = text
		case name == "x5t#S256" && ok && text != "":
			c.Certificate = text
		case name == "jkt", name == "x5t#S256":
			r.fail("cnf")
		default:
			c.Other = true
		}
	}
	return c
}

// ClaimText returns a claim as text: the texts of a list with spaces between them, and other structures as JSON.
func ClaimText(value any) string {
	switch v := value.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	case []string:
		return strings.Join(v, " ")
	case []any:
		texts := make([]string, 0, len(v))
		for _, element := range v {
			if text, ok := element.(string); ok {
				texts = append(texts, text)
			}
		}
		if len(texts) == len(v) {
			return strings.Join(texts, " ")
		}
	}
	text, err := json.Marshal(value)
	if err != nil {
		return ""
	}
	return string(text)
}
