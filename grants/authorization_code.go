package grants

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

func init() {
	caddy.RegisterModule(AuthorizationCode{})
}

// AuthorizationCode exchanges the code that the authorize endpoint gave to a client for an access
// token and, if the client may use it, a refresh token (RFC 6749 §4.1, RFC 7636).
//
// A code works once and for the client it was given to. A client that sends its request twice within a few seconds, as a page
// does that renders twice, is refused the second time and keeps the tokens of the first. Any other second use within the
// lifetime of the code revokes all that came of it.
type AuthorizationCode struct{}

// CaddyModule returns the Caddy module information.
func (AuthorizationCode) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "oauth.grants.authorization_code",
		New: func() caddy.Module { return new(AuthorizationCode) },
	}
}

// Type implements Grant.
func (AuthorizationCode) Type() string { return "authorization_code" }

var errBadCode = &Error{
	Code: InvalidGrant, Description: "authorization code is invalid, expired or was used before", Situation: BadCode,
}

// errRepeatedCode refuses the repeat of an exchange, see isRepeat.
var errRepeatedCode = &Error{
	Code: InvalidGrant, Description: "authorization code was used a moment ago, and the tokens of that exchange are good", Situation: BadCode,
}

// repeatTime is how long after an exchange a client may have sent the same request twice by accident.
const repeatTime = 10 * time.Second

// Exchange implements Grant.
func (AuthorizationCode) Exchange(ctx context.Context, req *Request) (*Authorization, error) {
	code, err := req.token("code", req.Client.CodePrefix, "code: prefix", errBadCode)
	if err != nil {
		return nil, err
	}
	key, ok := storage.CodeKey(code)
	if !ok {
		return nil, errBadCode.because(neverIssued(code))
	}

	e := &codeExchange{req: req, key: key, code: code}
	if err := decideFamily(ctx, req, key, errBadCode, e.decide); err != nil {
		return nil, err
	}
	return e.auth, nil
}

// codeExchange is the exchange of an authorization code.
type codeExchange struct {
	req  *Request
	key  storage.Key // of the family
	code string      // without the prefix

	auth *Authorization
}

// decide redeems the code, unless it refuses the request.
func (e *codeExchange) decide(f *storage.Family) (write bool, err error) {
	req := e.req
	switch {
	case !f.HasCode(e.code):
		return false, errBadCode.because("never issued here, or damaged on its way: its family has another code, or none")
	case !req.Now.Before(f.Code.Expires):
		return false, errBadCode.because("expired").
			Explain("a code that expired at "+formatTime(f.Code.Expires), "", "code: lifetime")
	case f.Code.Redeemed.IsZero():
	case isRepeat(f, req):
		return false, errRepeatedCode.because("already used, by the same client").
			Explain("a code that was used at "+formatTime(f.Code.Redeemed), "one request for each code", "")
	default: // RFC 6749 §4.1.2: the token endpoint revokes the family, see Replay
		return false, replayed(f, e.key, ReplayedCode, errBadCode).
			Explain("a code that was used at "+formatTime(f.Code.Redeemed), "one request for each code", "")
	}
	if err := checkRedirect(f.Code, req.Form.Get("redirect_uri"), req.Client.RedirectRules.Code); err != nil {
		return false, err
	}
	if err := verifyPKCE(f.Code.Challenge, req.Form.Get("code_verifier")); err != nil {
		return false, err
	}
	if key := f.Code.KeyThumbprint; key != "" && key != req.Proven.Thumbprint {
		return false, refuseOtherKey(errBadCode, req, storage.Confirmation{Thumbprint: key})
	}
	auth, err := authorizationFor(req, f, e.key, "")
	if err != nil {
		return false, err
	}
	e.auth = auth
	auth.Nonce = f.Code.Nonce
	f.Code.RedirectAgain = req.Form.Has("redirect_uri")
	bind(f, req)
	if token := f.RedeemCode(e.code, req.Now); token != "" {
		auth.RefreshToken = req.Client.RefreshToken.Prefix + token
		auth.RefreshEnds = f.RefreshEnds(req.Now, req.Client.RefreshToken)
	}
	return true, nil
}

// isRepeat reports whether a request for a used code is the exchange that used it, sent again by the same party: soon, before
// a refresh token of the family was used, and with all that the exchange had, its key of DPoP included. A thief of the code has neither the
// verifier nor, for a code without a challenge, the client's own authentication.
func isRepeat(f *storage.Family, req *Request) bool {
	samePartyProven := f.Code.Challenge != "" || req.Authenticated
	return samePartyProven && f.Bound.ProvenBy(req.Proven) && !f.Refreshed() && req.Now.Sub(f.Code.Redeemed) < repeatTime &&
		checkRedirect(f.Code, req.Form.Get("redirect_uri"), req.Client.RedirectRules.Code) == nil &&
		verifyPKCE(f.Code.Challenge, req.Form.Get("code_verifier")) == nil
}

// ValidChallenge reports whether s can be an S256 code_challenge (RFC 7636 §4.2): 43 characters of
// base64url, which 256 bits make.
func ValidChallenge(s string) bool { return isHash(s) }

// ValidThumbprint reports whether s can be the SHA-256 thumbprint of a key (RFC 7638).
func ValidThumbprint(s string) bool { return isHash(s) }

func isHash(s string) bool {
	sum, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(sum) == sha256.Size && len(s) == 43
}

// validVerifier reports whether s keeps to the grammar of a code_verifier (RFC 7636 §4.1).
func validVerifier(s string) bool {
	return len(s) >= 43 && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool {
		switch {
		case 'A' <= r && r <= 'Z', 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return false
		}
		return !strings.ContainsRune("-._~", r)
	})
}

// verifyPKCE checks the code_verifier against the code_challenge of the authorization request. A
// verifier must be there if and only if a challenge was (RFC 7636 §4.6, RFC 9700 §2.1.1).
func verifyPKCE(challenge, verifier string) error {
	switch {
	case challenge == "" && verifier == "":
		return nil
	case challenge == "":
		return Refuse(InvalidGrant, "code_verifier was sent but the authorization request had no code_challenge").
			Explain("a code_verifier", "none, or a code_challenge in the authorization request", "")
	case verifier == "":
		return Refuse(InvalidGrant, "code_verifier is missing").
			Explain("no code_verifier", "that of the code_challenge in the authorization request", "")
	case !validVerifier(verifier):
		return Refuse(InvalidGrant, "code_verifier must be 43 to 128 unreserved characters").
			Explain(strconv.Itoa(len(verifier))+" characters", "43 to 128 unreserved characters", "")
	}
	sum := sha256.Sum256([]byte(verifier))
	computed := base64.RawURLEncoding.EncodeToString(sum[:])
	if subtle.ConstantTimeCompare([]byte(computed), []byte(challenge)) != 1 {
		return Refuse(InvalidGrant, "code_verifier does not match the code_challenge").
			Explain("a wrong code_verifier", "that of the code_challenge in the authorization request", "")
	}
	return nil
}

// checkRedirect compares the redirect_uri of a code exchange with that of the authorization request. By default it is required if
// the authorization request had one (RFC 6749 §4.1.3).
func checkRedirect(code *storage.Code, uri string, rule storage.RedirectRule) error {
	needed := code.RedirectSent
	switch rule {
	case storage.RedirectRequired:
		needed = true
	case storage.RedirectOptional:
		needed = false
	}
	return compareRedirect(code, uri, needed)
}

// compareRedirect refuses a redirect_uri other than that of the authorization request, and none where it is needed.
func compareRedirect(code *storage.Code, uri string, needed bool) error {
	switch {
	case uri == "" && needed:
		return Refuse(InvalidRequest, "redirect_uri is missing").Explain("", code.RedirectURI, "redirect_uri_rules")
	case uri != "" && uri != code.RedirectURI:
		return Refuse(InvalidGrant, "redirect_uri is not the one of the authorization request").
			Explain(uri, code.RedirectURI, "redirect_uri_rules")
	}
	return nil
}
