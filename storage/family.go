package storage

import (
	"time"
)

// Family is everything that descends from one approval: the authorization code and the refresh tokens. It is one record, so that one
// atomic step decides whether a code was used, which refresh token is current, and whether all of them are revoked.
type Family struct {
	Client   string
	Subject  string
	Scopes   []string
	Audience []string
	Claims   map[string]any
	AuthTime time.Time

	Started time.Time
	Ends    time.Time // after which nothing can be refreshed; zero: never

	Code    *Code
	Refresh *Refresh

	// Revoked, if not zero, makes the record a tombstone, which refuses all tokens that still arrive.
	Revoked time.Time
	Reason  string
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
	Offline       bool   // redeeming the code issues a refresh token

	RefreshLength int // the length of the refresh tokens; 0: the default
}

// Refresh is the state of a family's refresh tokens.
type Refresh struct {
	Member    []byte // hash of the part that all refresh tokens of the family share
	Current   []byte // hash of the current token
	Previous  []byte // hash of the token before
	Successor []byte // the current token, sealed with the previous one
	Rotated   time.Time
	Kept      bool // the current token was used, and stays
}

// IssueCode returns a new authorization code and the key of the family's record. All other fields must be set before.
func (f *Family) IssueCode() (code string, key Key) {
	end := f.Ends
	if !end.IsZero() && end.Before(f.Code.Expires) {
		end = f.Code.Expires // the record must not outlive its bucket
	}
	handle := newHandle(layoutFor(f.Code.RefreshLength), BucketFor(end))
	code = withCheck(isCode, handle+random(secretLength), longCheck)
	f.Code.Hash = hash(code)
	return code, familyKey(handle)
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
	return f.startRefresh(code[:layoutFor(f.Code.RefreshLength).handle()], f.Code.RefreshLength)
}

// Start starts a family without a code, and returns its first refresh token and the key of the record. length is the length of its
// refresh tokens, 0 for the default.
func (f *Family) Start(length int) (refreshToken string, key Key) {
	handle := newHandle(layoutFor(length), BucketFor(f.Ends))
	return f.startRefresh(handle, length), familyKey(handle)
}

func (f *Family) startRefresh(handle string, length int) string {
	if length == 0 {
		length = refreshLength
	}
	member := random(layoutFor(length).member)
	token := nextRefreshToken(handle+member, length)
	f.Refresh = &Refresh{Member: hash(member), Current: hash(token)}
	return token
}

// Presented says what a presented refresh token is to its family.
type Presented int

// What a refresh token can be to its family.
const (
	Foreign Presented = iota // never issued for this family: invented, or damaged
	Spent                    // issued for this family, and replaced
	Retried                  // the token before the current one, which nobody has used yet
	Current                  // the newest token
)

// Classify says what a refresh token whose key led to this record is to the family. retry is how long after a rotation the previous
// token counts as Retried, see [RefreshPolicy.Retry].
func (f *Family) Classify(token string, now time.Time, retry time.Duration) Presented {
	r := f.Refresh
	if r == nil || !isRefreshToken(token) {
		return Foreign
	}
	l := layoutFor(len(token))
	switch {
	case matches(token, r.Current):
		return Current
	case !matches(token[l.handle():l.family()], r.Member):
		return Foreign
	case matches(token, r.Previous) && (retry == RetryUntilUsed || retry > 0 && now.Sub(r.Rotated) < retry):
		return Retried
	}
	return Spent
}

// Refreshed reports whether a refresh token of the family was ever used.
func (f *Family) Refreshed() bool {
	return f.Refresh != nil && (f.Refresh.Kept || !f.Refresh.Rotated.IsZero())
}

// Keep notes that the current token was used and stays. It reports whether that was not known.
func (f *Family) Keep() (changed bool) {
	changed = !f.Refresh.Kept
	f.Refresh.Kept = true
	return changed
}

// Rotate replaces token, which must be Current, by a successor.
func (f *Family) Rotate(token string, now time.Time) (successor string, err error) {
	successor = nextRefreshToken(token[:layoutFor(len(token)).family()], len(token))
	sealed, err := sealSuccessor(token, successor)
	if err != nil {
		return "", err
	}
	f.Refresh = &Refresh{
		Member:    f.Refresh.Member,
		Current:   hash(successor),
		Previous:  f.Refresh.Current, // which is the hash of token
		Successor: sealed,
		Rotated:   now,
	}
	return successor, nil
}

// Successor returns the token that replaced token, which must be Retried.
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

// tombstoneLife is how long a tombstone of a family without an end is kept.
const tombstoneLife = 30 * 24 * time.Hour

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

// earlier returns the earlier of two times. end may be zero, which means never.
func earlier(end, t time.Time) time.Time {
	if end.IsZero() || t.Before(end) {
		return t
	}
	return end
}
