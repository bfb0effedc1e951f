package storage

import (
	"encoding/json"
	"net/url"
	"strings"
	"time"
)

// Pushed is an authorization request that a client has pushed (RFC 9126). The person's browser brings only a reference to it.
type Pushed struct {
	Client  string        `json:"client_id"`
	Params  url.Values    `json:"params"`
	Expires time.Time     `json:"exp"`            // the request_uri must be used at the authorization endpoint before
	Kept    time.Duration `json:"kept,omitempty"` // added to Expires once the request_uri was used, while the person signs in or decides
	Used    string        `json:"used,omitempty"` // the hash of the form that has used it up; Params are gone
}

// pushedURI begins the reference to a Pushed (RFC 9126 §2.2).
const pushedURI = "urn:ietf:params:oauth:request_uri:"

// IssueReference returns a new reference, and the key of the record. end is until when the record can live.
func (p *Pushed) IssueReference(end time.Time) (reference string, key Key) {
	secret := newToken(isPushed, string(BucketFor(end)), secretLength, longChecksum)
	key, _ = PushedKey(pushedURI + secret)
	return pushedURI + secret, key
}

// PushedKey returns the key of the record that a reference is for, and false for a text that was never issued as a reference.
func PushedKey(reference string) (Key, bool) {
	secret, ok := strings.CutPrefix(reference, pushedURI)
	if !ok || len(secret) != bucketLength+secretLength+longChecksum || !intact(isPushed, secret, longChecksum) {
		return Key{}, false
	}
	return Key{Kind: KindPushed, ID: bucketID(secret[:bucketLength], secret)}, true
}

// IsPushedURI reports whether a request_uri is meant as a reference.
func IsPushedURI(uri string) bool { return strings.HasPrefix(uri, pushedURI) }

// Encode returns the record.
func (p *Pushed) Encode() ([]byte, error) { return json.Marshal(p) }

// DecodePushed reads a record.
func DecodePushed(record []byte) (*Pushed, error) {
	p := new(Pushed)
	if err := decodeJSON("pushed request", record, p); err != nil {
		return nil, err
	}
	return p, nil
}
