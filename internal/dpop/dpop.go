// Package dpop checks the proofs by which a client shows with each request that it has a key (DPoP, RFC 9449). A token that is bound to
// the key is of no use to a thief who does not have it.
//
// Start reading at [Checker.Check]. target.go compares URLs, nonce.go has the nonces, and memory.go remembers which proofs were used at
// this node; of other nodes: useProofOnce in internal/authserver/proof.go.
package dpop

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

// Header is the name of the header with the proof, as net/http spells it.
const Header = "Dpop"

// nonceHeader is the name of the header with a nonce (RFC 9449 §8), as net/http spells it.
const nonceHeader = "Dpop-Nonce"

const (
	maxLength       = 8 << 10 // of a proof
	maxHeaderLength = 4 << 10 // of its header, encoded: an RSA key of 8192 bits has about 2 KB
	maxID           = 256     // of its jti
	maxURL          = 2 << 10 // of its htu

	past   = 60 * time.Second // how old a proof may be
	future = 10 * time.Second // how far its clock may be ahead
)

// Algorithms are the algs that proofs may have.
func Algorithms() []string { return jwt.AssertionAlgorithms() }

// Error says why a proof was refused.
type Error struct {
	Code   string // grants.InvalidDPoPProof or grants.UseDPoPNonce
	Reason string // for the client's developer: a fixed text

	Sent, Expected, Setting string // for the log
}

func (e *Error) Error() string { return "DPoP proof: " + e.Reason }

func refuse(reason, sent, expected string) *Error {
	return &Error{Code: grants.InvalidDPoPProof, Reason: reason, Sent: sent, Expected: expected}
}

// Missing is the refusal of a request that needs a proof and has none. expected says for the log what it should have, and setting which
// setting decides.
func Missing(expected, setting string) *Error {
	return &Error{Code: grants.InvalidDPoPProof, Reason: "the header DPoP is missing", Sent: "no DPoP header", Expected: expected, Setting: setting}
}

// Checker checks proofs. Safe for concurrent use.
type Checker struct {
	Memory *Memory
	Nonces *Nonces // nil: proofs need none
	Now    func() time.Time
}

// Request is what a proof must be for.
type Request struct {
	Method string
	URL    string // query and fragment do not count; "" if the server does not know it
	Alias  string // another URL of the same; "" for none
	Token  string // the access token that the request brings, "" if it brings none

	// Hop is where in this process the request has arrived, if a site of the process may have passed it on to another one. Each
	// accepts a proof once, while the request that it came with first is in progress. "" is for requests that nobody has passed on.
	Hop string
}

// Proof is a proof that is valid, and that this process has not seen with another request.
type Proof struct {
	Thumbprint string    // of the key
	Algorithm  string    // alg
	ID         string    // jti, at most 256 bytes
	Expires    time.Time // when it is refused in any case
}

// Check returns the proof in the values of the DPoP header. It is good for one request, which is in progress until ctx ends: a second Check
// of the same proof fails, unless it is at another Hop before that. The error is an *Error unless the secret of the nonces could not be read.
func (c *Checker) Check(ctx context.Context, values []string, want Request) (*Proof, error) {
	if len(values) != 1 {
		return nil, refuse("more than one DPoP header", fmt.Sprintf("%d DPoP headers", len(values)), "one")
	}
	key, claims, err := c.read(values[0])
	if err != nil {
		return nil, err
	}
	if want.URL == "" {
		e := refuse("this server does not know the URL by which clients call it", "a proof", "a resource that is a URL, or a site with a host name")
		e.Setting = "oauth_guard: resource"
		return nil, e
	}
	if err := c.checkClaims(ctx, claims, want); err != nil {
		return nil, err
	}
	proof := &Proof{Thumbprint: key.Thumbprint, Algorithm: key.Algorithm, ID: claims.ID, Expires: claims.IssuedAt.Add(past)}
	if !c.Memory.accept(ctx, proof, want.Hop, c.Now()) {
		return nil, Replayed()
	}
	return proof, nil
}

// Replayed is the refusal of a proof that was used before.
func Replayed() *Error {
	return refuse("jti was used before", "a proof that was used before", "a new proof, with a new jti, for each request")
}

// read returns the claims of a proof, and the key that signed it.
func (c *Checker) read(text string) (*jwt.ProofKey, *jwt.Proof, error) {
	token, err := jwt.Split(text)
	switch {
	case len(text) > maxLength || len(token.Header) > maxHeaderLength:
		return nil, nil, refuse("too long", fmt.Sprintf("a proof of %d bytes", len(text)), fmt.Sprintf("at most %d", maxLength))
	case err != nil:
		return nil, nil, refuse("not a JWT", "a text that is no JWT", "a JWT in compact serialization")
	}
	key, err := c.Memory.key(token.Header)
	if err != nil {
		return nil, nil, refuseHeader(err)
	}
	payload, err := token.Verify(key.Key)
	if err != nil {
		return nil, nil, refuse("the key in its header has not signed it", "a signature that the key in the header did not make",
			"a JWT that the private key of the jwk in its header has signed")
	}
	claims, err := jwt.ParseProof(payload)
	switch {
	case err != nil:
		return nil, nil, refuse("jti, htm, htu or iat is missing or of the wrong type",
			"claims that are missing, repeated or of the wrong type", "jti, htm, htu and iat (RFC 9449 section 4.2), each once")
	case len(claims.ID) > maxID:
		return nil, nil, refuse("jti is too long", fmt.Sprintf("a jti of %d bytes", len(claims.ID)), fmt.Sprintf("at most %d", maxID))
	}
	return key, claims, nil
}

// refuseHeader returns the refusal of a header that is not that of a proof.
func refuseHeader(err error) *Error {
	switch {
	case errors.Is(err, jwt.ErrType):
		return refuse("typ must be dpop+jwt", "another typ", jwt.ProofType)
	case errors.Is(err, jwt.ErrAlgorithm):
		return refuse("alg is not supported", "another alg", strings.Join(Algorithms(), " "))
	case errors.Is(err, jwt.ErrHeader):
		return refuse("crit, jku, x5u, x5c and b64 are not supported", "a header with crit, jku, x5u, x5c or b64", "typ, alg and jwk")
	case errors.Is(err, jwt.ErrProofKey):
		return refuse("jwk must be a public key for the alg, without private members", "a jwk that is private, too large or not for the alg",
			"EC, OKP or RSA of 2048 to 8192 bits, as RFC 7518 has it")
	}
	return refuse("not a JWT", "a header that is no JSON object, or has a member twice", "typ, alg and jwk")
}

// checkClaims checks that the proof is for this request and of this moment (RFC 9449 §4.3).
func (c *Checker) checkClaims(ctx context.Context, claims *jwt.Proof, want Request) error {
	now := c.Now()
	at := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	switch {
	case claims.Method != want.Method:
		return refuse("htm is not the method of this request", "htm "+short(claims.Method), want.Method)
	case len(claims.URL) > maxURL || claims.URL != want.URL && !sameTarget(claims.URL, want.URL) && (want.Alias == "" || !sameTarget(claims.URL, want.Alias)):
		return refuse("htu is not the URL of this request", "htu "+short(claims.URL), short(want.URL))
	case !now.Before(claims.IssuedAt.Add(past)):
		return refuse("iat is too old", "iat "+at(claims.IssuedAt), "an iat of the last "+past.String()+"; it is "+at(now))
	case claims.IssuedAt.After(now.Add(future)):
		return refuse("iat is in the future", "iat "+at(claims.IssuedAt), "an iat up to "+future.String()+" from now; it is "+at(now))
	}
	if want.Token != "" {
		sum := sha256.Sum256([]byte(want.Token))
		hash := base64.RawURLEncoding.EncodeToString(sum[:])
		if subtle.ConstantTimeCompare([]byte(hash), []byte(claims.TokenHash)) != 1 {
			return refuse("ath is not the hash of the access token", fmt.Sprintf("an ath of %d characters", len(claims.TokenHash)), "the SHA-256 of the access token of the request")
		}
	}
	if c.Nonces == nil {
		return nil
	}
	fresh, err := c.Nonces.fresh(ctx, claims.Nonce, now)
	if err != nil || fresh {
		return err
	}
	return &Error{
		Code: grants.UseDPoPNonce, Reason: "a nonce of this server is required",
		Sent: "no nonce, or one that has expired", Expected: "the nonce in the header DPoP-Nonce of the answer", Setting: "dpop: nonce",
	}
}

// short returns a text of a proof as the log may have it.
func short(text string) string { return fmt.Sprintf("%.200s", text) }

// Offer puts the nonce of the moment into the header of an answer, if proofs need one.
func (c *Checker) Offer(ctx context.Context, h http.Header) error {
	if c.Nonces == nil {
		return nil
	}
	nonce, err := c.Nonces.current(ctx, c.Now())
	if err == nil {
		h.Set(nonceHeader, nonce)
	}
	return err
}
