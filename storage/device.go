package storage

import (
	"crypto/rand"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Device is a request for access that a program made on one device and that a person decides on with another (RFC 8628). The program
// has the device code and asks whether the person has decided. The person types the user code, see [UserCode].
type Device struct {
	Hash     []byte    `json:"hash"` // of the device code
	Client   string    `json:"client_id"`
	Scopes   []string  `json:"scopes,omitempty"`
	Audience []string  `json:"aud,omitempty"`
	Address  string    `json:"client_ip,omitempty"` // where the request came from
	Started  time.Time `json:"started"`
	Expires  time.Time `json:"exp"`                // nobody can approve it any more; the record lives longer, see End
	Interval int       `json:"interval,omitempty"` // the seconds between two polls

	Denied   time.Time `json:"denied,omitzero"`
	Approval *Approval `json:"approval,omitempty"` // nil: nobody has approved it

	Redeemed  time.Time    `json:"redeemed,omitzero"`   // when the program got its tokens
	Bound     Confirmation `json:"cnf,omitzero"`        // what that request has proven, of a program that does not authenticate (RFC 9449 §5)
	Family    string       `json:"family,omitempty"`    // the ID of the record of the refresh tokens, if there are some
	Successor []byte       `json:"successor,omitempty"` // the first refresh token, encrypted with a key from the device code
}

// Approval is who approved a Device, and what goes into the tokens for that.
type Approval struct {
	Subject  string         `json:"sub"`
	Claims   map[string]any `json:"claims,omitempty"`
	AuthTime time.Time      `json:"auth_time,omitzero"`
	Session  SiteSession    `json:"session,omitzero"`
	Started  time.Time      `json:"started"`        // when the family starts
	Ends     time.Time      `json:"ends,omitzero"`  // when the family ends; zero: never
	Until    time.Time      `json:"until,omitzero"` // when the approval ends, see Family
}

// deviceGrace is how long the record of a Device lives after it has expired. The program can learn that it has expired, and can repeat a
// poll whose answer was lost.
const deviceGrace = 5 * time.Minute

// End returns when the record expires.
func (d *Device) End() time.Time { return d.Expires.Add(deviceGrace) }

// IssueCode returns a new device code and the key of the record. Expires must be set before.
func (d *Device) IssueCode() (code string, key Key) {
	code = newToken(isDevice, string(BucketFor(d.End())), secretLength, longChecksum)
	d.Hash = hash(code)
	key, _ = DeviceKey(code)
	return code, key
}

// DeviceKey returns the key of the record that a device code belongs to, and false for a text that was never issued as a device code.
func DeviceKey(code string) (Key, bool) {
	if len(code) != bucketLength+secretLength+longChecksum || !intact(isDevice, code, longChecksum) {
		return Key{}, false
	}
	return Key{Kind: KindDevice, ID: bucketID(code[:bucketLength], code)}, true
}

// HasCode reports whether code is the device code.
func (d *Device) HasCode(code string) bool { return matches(code, d.Hash) }

// Pending reports whether a person can still decide.
func (d *Device) Pending(now time.Time) bool {
	return d.Denied.IsZero() && d.Approval == nil && now.Before(d.Expires)
}

// NewFamily returns the family that starts with an approved Device.
func (d *Device) NewFamily() *Family {
	a := d.Approval
	f := &Family{
		Client: d.Client, Subject: a.Subject, Scopes: d.Scopes, Audience: d.Audience, Claims: a.Claims, AuthTime: a.AuthTime,
		Session: a.Session, Started: a.Started, Ends: a.Ends,
	}
	f.EndBy(a.Until)
	return f
}

// Redeem marks the device code as used, and keeps the first refresh token of the family for a program that repeats its poll.
func (d *Device) Redeem(code, refreshToken string, family Key, now time.Time) (err error) {
	d.Redeemed, d.Family = now, family.ID
	d.Successor, err = sealSuccessor(code, refreshToken)
	return err
}

// RefreshToken returns the first refresh token of the family to a program that presents the device code again.
func (d *Device) RefreshToken(code string) (string, error) { return openSuccessor(code, d.Successor) }

// Encode returns the record.
func (d *Device) Encode() ([]byte, error) { return json.Marshal(d) }

// DecodeDevice reads a record.
func DecodeDevice(record []byte) (*Device, error) {
	d := new(Device)
	if err := decodeJSON("device", record, d); err != nil {
		return nil, err
	}
	return d, nil
}

// A user code is what a person types to find a Device. It has no vowels, so that it spells no words, and no two letters that look the
// same (RFC 8628 §6.1). Its record says which Device it is for.

const (
	userCodeAlphabet = "BCDFGHJKLMNPQRSTVWXZ"
	userCodeLength   = 8 // 34 bits
)

// NewUserCode returns a new user code as people see it, such as WDJB-MJHT.
func NewUserCode() string {
	const unbiased = 256 / len(userCodeAlphabet) * len(userCodeAlphabet)
	code := make([]byte, 0, userCodeLength)
	var pool [32]byte
	for len(code) < userCodeLength {
		rand.Read(pool[:]) // never fails, see crypto/rand
		for _, b := range pool {
			if int(b) < unbiased && len(code) < userCodeLength {
				code = append(code, userCodeAlphabet[int(b)%len(userCodeAlphabet)])
			}
		}
	}
	return ShowUserCode(string(code))
}

// ShowUserCode returns a user code as people see it.
func ShowUserCode(code string) string {
	return code[:userCodeLength/2] + "-" + code[userCodeLength/2:]
}

// maxTyped is how many bytes of what a person types are read.
const maxTyped = 64

// ReadUserCode returns the letters of a user code that a person typed, in any case and with any punctuation, and false for what
// cannot be one.
func ReadUserCode(typed string) (code string, ok bool) {
	if len(typed) > maxTyped {
		return "", false
	}
	letters := make([]byte, 0, userCodeLength)
	for _, c := range []byte(strings.ToUpper(typed)) {
		switch {
		case strings.IndexByte(userCodeAlphabet, c) >= 0:
			letters = append(letters, c)
		case c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			return "", false
		}
	}
	return string(letters), len(letters) == userCodeLength
}

// UserCodeKey returns the key of the record of a user code whose Device has that End. code is what ReadUserCode returns.
func UserCodeKey(code string, end time.Time) Key {
	return Key{Kind: KindUserCode, ID: bucketID(string(BucketFor(end)), code)}
}

// UserCodeKeys returns the keys that the record of a user code can have now, if a Device expires at most life after it started.
func UserCodeKeys(code string, now time.Time, life time.Duration) []Key {
	var keys []Key
	for end := now; ; end = end.Add(time.Hour) {
		last := end.After(now.Add(life + deviceGrace))
		if last {
			end = now.Add(life + deviceGrace)
		}
		if key := UserCodeKey(code, end); !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
		if last {
			return keys
		}
	}
}

// UserCode is the record of a user code.
type UserCode struct {
	Device string `json:"device"` // the ID of its record
}

// Encode returns the record.
func (u *UserCode) Encode() ([]byte, error) { return json.Marshal(u) }

// DecodeUserCode reads a record.
func DecodeUserCode(record []byte) (*UserCode, error) {
	u := new(UserCode)
	if err := decodeJSON("user code", record, u); err != nil {
		return nil, err
	}
	return u, nil
}
