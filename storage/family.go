package storage

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
)

// Family is everything that descends from one approval: the authorization code and the refresh tokens. It is one record, so that one
// atomic step decides whether a code was used, which refresh token is current, and whether all of them are revoked.
type Family struct {
	Client   string
	Subject  string
	Scopes   []string
	Audience []string
	Claims   map[string]any
	AuthTime time.Time // when the user signed in; zero: not known
	Session  SiteSession
	Asked    AskedClaims

	Started time.Time
	Ends    time.Time // after which nothing can be refreshed; zero: never
	Until   time.Time // when the approval ends, and all its tokens do; zero: when the user takes it back. Ends is not later
	Checked time.Time // when the site was last asked whether the user still has an account; zero: not since Started

	Code    *Code
	Refresh *Refresh

	// Bound is the key or the certificate that the refresh tokens are bound to, since the client does not authenticate (RFC 9449 §5, RFC
	// 8705 §4).
	Bound Confirmation

	// Authenticated says that the client may do without authentication, but once used its key with this family. It must from
	// then on, so that a token that is stolen later is worth nothing without the key.
	Authenticated bool

	// Revoked, if not zero, makes the record a tombstone, which refuses all tokens that still arrive.
	Revoked time.Time
	Reason  string
}

// AskedClaims are the names of claims that a client has asked for one by one (OpenID Connect Core §5.5), and that the user has approved.
type AskedClaims struct {
	UserInfo []string // at the userinfo endpoint, beside those of the scopes
	IDToken  []string // in ID tokens
}

// Confirmation names the keys that tokens are bound to (RFC 7800 §3.1): whoever uses them must prove to have all of them. The zero value
// binds them to none.
type Confirmation struct {
	Thumbprint  string `json:"jkt,omitempty"`      // SHA-256, of the public key of DPoP proofs (RFC 9449 §6.1)
	Certificate string `json:"x5t#S256,omitempty"` // SHA-256, of the client's TLS certificate (RFC 8705 §3.1)
}

// IsZero reports whether there is no key.
func (c Confirmation) IsZero() bool { return c == Confirmation{} }

// ProvenBy reports whether a client that has proven to have some keys has all those of c.
func (c Confirmation) ProvenBy(proven Confirmation) bool {
	return (c.Thumbprint == "" || c.Thumbprint == proven.Thumbprint) && (c.Certificate == "" || c.Certificate == proven.Certificate)
}

// Code is the state of a family's authorization code.
type Code struct {
	Hash          []byte
	Expires       time.Time
	Redeemed      time.Time
	RedirectURI   string // where the code was sent
	RedirectSent  bool   // the authorization request named it (RFC 6749 §4.1.3)
	RedirectAgain bool   // the exchange of the code named it too
	Challenge     string // S256 (RFC 7636 §4.2)
	Nonce         string // for the ID token (OpenID Connect Core §2)
	KeyThumbprint string // of the only key that may redeem the code (dpop_jkt, RFC 9449 §10)
	Offline       bool   // redeeming the code issues a refresh token

	RefreshLength int // the length of the refresh tokens; 0: the default
}

// Refresh is the state of a family's refresh tokens.
type Refresh struct {
	FamilySecret []byte // hash of the part that all refresh tokens of the family share
	Current      []byte // hash of the current token
	Previous     []byte // hash of the token before
	Successor    []byte // the current token, encrypted with a key from the previous one
	Rotated      time.Time
	Kept         bool // the current token was used, and stays
}

// IssueCode returns a new authorization code and the key of the family's record. All other fields must be set before. token_format.go
// describes the parts of codes and tokens.
func (f *Family) IssueCode() (code string, key Key) {
	end := f.Ends
	if !end.IsZero() && end.Before(f.Code.Expires) {
		end = f.Code.Expires // the record must not outlive its bucket
	}
	l := layoutFor(f.Code.RefreshLength)
	code = newToken(isCode, string(BucketFor(end)), l.selector+secretLength, longChecksum)
	f.Code.Hash = hash(code)
	return code, familyKey(code[:l.selectorEnd()])
}

// HasCode reports whether code is the family's authorization code, used or not.
func (f *Family) HasCode(code string) bool {
	return f.Code != nil && matches(code, f.Code.Hash)
}

// RedeemCode marks the code as used. If the code is Offline, it returns the family's first refresh token.
func (f *Family) RedeemCode(code string, now time.Time) (refreshToken string) {
	f.Code.Redeemed = now
	if !f.Code.Offline {
		return ""
	}
	return f.startRefresh(code[:layoutFor(f.Code.RefreshLength).selectorEnd()], f.Code.RefreshLength)
}

// Start starts a family without a code, and returns its first refresh token and the key of the record. length is the length of its
// refresh tokens, 0 for the default.
func (f *Family) Start(length int) (refreshToken string, key Key) {
	refreshToken = f.startRefresh(string(BucketFor(f.Ends)), length)
	return refreshToken, familyKey(refreshToken[:layoutFor(length).selectorEnd()])
}

// startRefresh returns the first refresh token. begin is its bucket or, after a code, the bucket and the selector of the code.
func (f *Family) startRefresh(begin string, length int) string {
	if length == 0 {
		length = refreshLength
	}
	token := nextRefreshToken(begin, length)
	f.Resume(token)
	return token
}

// Resume starts a family whose first refresh token exists already: [Family.Start] has returned it.
func (f *Family) Resume(refreshToken string) {
	l := layoutFor(len(refreshToken))
	f.Refresh = &Refresh{FamilySecret: hash(refreshToken[l.selectorEnd():l.familyEnd()]), Current: hash(refreshToken)}
}

// TokenStatus classifies a refresh token that a client presents.
type TokenStatus int

// The statuses of a refresh token.
const (
	TokenUnknown   TokenStatus = iota // never issued for this family: invented, or damaged
	TokenReused                       // issued for this family, and replaced (RFC 9700 §4.14.2)
	TokenRetryable                    // the token before the current one, which nobody has used yet
	TokenCurrent                      // the newest token
)

// TokenStatus says what a refresh token whose key led to this record is to the family. retry is how long after a rotation the previous
// token is retryable, see [RefreshPolicy.Retry].
func (f *Family) TokenStatus(token string, now time.Time, retry time.Duration) TokenStatus {
	r := f.Refresh
	switch {
	case r == nil:
		return TokenUnknown
	case matches(token, r.Current):
		return TokenCurrent
	case !isRefreshToken(token):
		return TokenUnknown
	}
	l := layoutFor(len(token))
	switch {
	case !matches(token[l.selectorEnd():l.familyEnd()], r.FamilySecret):
		return TokenUnknown
	case matches(token, r.Previous) && (retry == RetryUntilUsed || retry > 0 && now.Sub(r.Rotated) < retry):
		return TokenRetryable
	}
	return TokenReused
}

// Refreshed reports whether a refresh token of the family was ever used.
func (f *Family) Refreshed() bool {
	return f.Refresh != nil && (f.Refresh.Kept || !f.Refresh.Rotated.IsZero())
}

// Keep marks the current token as used without replacing it. It reports whether the record changed.
func (f *Family) Keep() (changed bool) {
	changed = !f.Refresh.Kept
	f.Refresh.Kept = true
	return changed
}

// LastChecked returns when the site last said that the user has an account. When the family started, the user was signed in.
func (f *Family) LastChecked() time.Time {
	if f.Checked.IsZero() {
		return f.Started
	}
	return f.Checked
}

// NoteChecked notes that the site has said at that time that the user has an account. The claims get new values; nil removes one.
func (f *Family) NoteChecked(claims map[string]any, now time.Time) {
	f.Checked = now
	for name, value := range claims {
		switch {
		case value == nil:
			delete(f.Claims, name)
		case f.Claims == nil:
			f.Claims = map[string]any{name: value}
		default:
			f.Claims[name] = value
		}
	}
}

// Rotate replaces token, which must be TokenCurrent, by a successor.
func (f *Family) Rotate(token string, now time.Time) (successor string, err error) {
	successor = nextRefreshToken(token[:layoutFor(len(token)).familyEnd()], len(token))
	sealed, err := sealSuccessor(token, successor)
	if err != nil {
		return "", err
	}
	f.Refresh = &Refresh{
		FamilySecret: f.Refresh.FamilySecret,
		Current:      hash(successor),
		Previous:     f.Refresh.Current, // which is the hash of token
		Successor:    sealed,
		Rotated:      now,
	}
	return successor, nil
}

// Successor returns the token that replaced token, which must be TokenRetryable.
func (f *Family) Successor(token string) (string, error) {
	return openSuccessor(token, f.Refresh.Successor)
}

// Revoke turns the record into a tombstone, which says only whose the family was and why it was revoked.
func (f *Family) Revoke(reason string, now time.Time) {
	*f = Family{
		Client: f.Client, Subject: f.Subject, Started: f.Started, Ends: f.Ends,
		Revoked: now, Reason: reason,
	}
}

// tombstoneLife is how long a tombstone is kept at most.
const tombstoneLife = 30 * 24 * time.Hour

// EndBy makes an approval end at a time that the user has chosen, zero for none. All other fields must be set before.
func (f *Family) EndBy(until time.Time) {
	if until.IsZero() {
		return
	}
	f.Until, f.Ends = until, earlier(f.Ends, until)
	if f.Code != nil {
		f.Code.Expires = earlier(f.Code.Expires, until)
	}
}

// Expires returns when the record expires if it is written now.
func (f *Family) Expires(now time.Time, idle time.Duration) time.Time {
	switch {
	case !f.Revoked.IsZero():
		return earlier(f.Ends, now.Add(tombstoneLife))
	case f.Refresh == nil:
		return f.Code.Expires
	case idle > 0:
		return earlier(f.Ends, now.Add(idle))
	}
	return f.Ends
}

// RefreshEnds returns when a refresh token expires that was issued, or used without being replaced, at since; zero: never.
func (f *Family) RefreshEnds(since time.Time, policy RefreshPolicy) time.Time {
	end := f.Ends
	if policy.Lifetime > 0 { // which may be shorter than when the family started
		end = earlier(end, policy.Ends(f.Started))
	}
	if policy.Idle > 0 {
		end = earlier(end, since.Add(policy.Idle))
	}
	return end
}

// earlier returns the earlier of two times. end may be zero, which means never.
func earlier(end, t time.Time) time.Time {
	if end.IsZero() || t.Before(end) {
		return t
	}
	return end
}

// A family keeps its current refresh token encrypted with a key derived from the token before. Only a client that presents the
// previous token again gets the same successor, and whoever steals the store can decrypt nothing.

var errSuccessor = errors.New("cannot decrypt the successor of the refresh token")

// sealSuccessor encrypts next with a key derived from token. The random nonce comes first.
func sealSuccessor(token, next string) ([]byte, error) {
	aead, err := successorCipher(token)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize(), aead.NonceSize()+len(next)+aead.Overhead())
	rand.Read(nonce)
	return aead.Seal(nonce, nonce, []byte(next), nil), nil
}

// openSuccessor returns what sealSuccessor encrypted with the same token.
func openSuccessor(token string, sealed []byte) (string, error) {
	aead, err := successorCipher(token)
	if err != nil {
		return "", err
	}
	if len(sealed) < aead.NonceSize() {
		return "", errSuccessor
	}
	next, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], nil)
	if err != nil {
		return "", errSuccessor
	}
	return string(next), nil
}

// successorCipher returns ChaCha20-Poly1305 (RFC 8439). Every token has its own key, and AES takes longer to
// expand a key than to encrypt a message this short. In FIPS 140 mode, which does not allow
// ChaCha20-Poly1305, it returns AES-GCM.
func successorCipher(token string) (cipher.AEAD, error) {
	key := successorKey(token)
	if aead, err := chacha20poly1305.New(key[:]); err == nil {
		return aead, nil
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block) // it draws the nonce itself and has a NonceSize of 0
}

// successorKey derives a key from a token. The store holds the plain SHA-256 of the token, which must not
// help to compute the key: the purpose stands before the token, so that the key is no extension of that hash.
func successorKey(token string) [sha256.Size]byte {
	return hashOf(successorPurpose, "\x00", token)
}

const successorPurpose = "caddy-oauth: successor of a refresh token"
