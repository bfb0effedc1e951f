package storage

import (
	"bytes"
	"encoding/json"

	"google.golang.org/protobuf/encoding/protowire"
)

// The record of a family is read and written with every refresh, so it is not JSON but a record of
// fields (see decodeFields). The number of a field is never used again for anything else.

// The fields of a family.
const (
	familyClient protowire.Number = iota + 1
	familySubject
	familyScope    // repeated
	familyAudience // repeated
	familyClaims   // JSON
	familyAuthTime
	familyStarted
	familyEnds
	familyCode
	familyRefresh
	familyRevoked
	familyReason
	familyChecked
	familyAuthenticated
	familySession
	familyAskedUserInfo // repeated
	familyAskedIDToken  // repeated
	familyBound
	familyUntil
)

// The fields of its code.
const (
	codeHash protowire.Number = iota + 1
	codeExpires
	codeRedeemed
	codeRedirectURI
	codeRedirectSent
	codeRedirectAgain
	codeChallenge
	codeOffline
	codeRefreshLength
	codeNonce
	codeKeyThumbprint
)

// The fields of its session.
const (
	sessionID protowire.Number = iota + 1
	sessionACR
	sessionAMR // repeated
)

// The fields of its refresh tokens.
const (
	refreshFamilySecret protowire.Number = iota + 1
	refreshCurrent
	refreshPrevious
	refreshSuccessor
	refreshRotated
	refreshKept
)

// Encode returns the record.
func (f *Family) Encode() ([]byte, error) {
	w := fieldWriter{append(make([]byte, 0, f.size()), fieldsFormat)}
	w.text(familyClient, f.Client)
	w.text(familySubject, f.Subject)
	w.texts(familyScope, f.Scopes)
	w.texts(familyAudience, f.Audience)
	if len(f.Claims) > 0 {
		claims, err := json.Marshal(f.Claims)
		if err != nil {
			return nil, err
		}
		w.bytes(familyClaims, claims)
	}
	w.time(familyAuthTime, f.AuthTime)
	w.time(familyStarted, f.Started)
	w.time(familyEnds, f.Ends)
	if f.Code != nil {
		w.message(familyCode, f.Code.encode)
	}
	if f.Refresh != nil {
		w.message(familyRefresh, f.Refresh.encode)
	}
	w.time(familyRevoked, f.Revoked)
	w.text(familyReason, f.Reason)
	w.time(familyChecked, f.Checked)
	w.flag(familyAuthenticated, f.Authenticated)
	if !f.Session.IsZero() {
		w.message(familySession, f.Session.encode)
	}
	w.texts(familyAskedUserInfo, f.Asked.UserInfo)
	w.texts(familyAskedIDToken, f.Asked.IDToken)
	if !f.Bound.IsZero() {
		w.message(familyBound, f.Bound.encode)
	}
	w.time(familyUntil, f.Until)
	return w.record, nil
}

// size returns about the length of the record without claims, and rarely less.
func (f *Family) size() int {
	const text = 2 // tag and length
	size := 64 + len(f.Client) + len(f.Subject) + len(f.Reason)
	size += len(f.Bound.Thumbprint) + len(f.Bound.Certificate) + len(f.Session.ID) + len(f.Session.ACR)
	for _, list := range [...][]string{f.Scopes, f.Audience, f.Session.AMR, f.Asked.UserInfo, f.Asked.IDToken} {
		for _, s := range list {
			size += text + len(s)
		}
	}
	if c := f.Code; c != nil {
		size += 48 + len(c.Hash) + len(c.RedirectURI) + len(c.Challenge) + len(c.Nonce) + len(c.KeyThumbprint)
	}
	if r := f.Refresh; r != nil {
		size += 24 + len(r.FamilySecret) + len(r.Current) + len(r.Previous) + len(r.Successor)
	}
	return size
}

func (c *Code) encode(w *fieldWriter) {
	w.bytes(codeHash, c.Hash)
	w.time(codeExpires, c.Expires)
	w.time(codeRedeemed, c.Redeemed)
	w.text(codeRedirectURI, c.RedirectURI)
	w.flag(codeRedirectSent, c.RedirectSent)
	w.flag(codeRedirectAgain, c.RedirectAgain)
	w.text(codeChallenge, c.Challenge)
	w.flag(codeOffline, c.Offline)
	w.number(codeRefreshLength, int64(c.RefreshLength))
	w.text(codeNonce, c.Nonce)
	w.text(codeKeyThumbprint, c.KeyThumbprint)
}

// IsZero reports whether nothing is known of the session.
func (s *SiteSession) IsZero() bool { return s.ID == "" && s.ACR == "" && len(s.AMR) == 0 }

func (s *SiteSession) encode(w *fieldWriter) {
	w.text(sessionID, s.ID)
	w.text(sessionACR, s.ACR)
	w.texts(sessionAMR, s.AMR)
}

func (r *Refresh) encode(w *fieldWriter) {
	w.bytes(refreshFamilySecret, r.FamilySecret)
	w.bytes(refreshCurrent, r.Current)
	w.bytes(refreshPrevious, r.Previous)
	w.bytes(refreshSuccessor, r.Successor)
	w.time(refreshRotated, r.Rotated)
	w.flag(refreshKept, r.Kept)
}

// DecodeFamily reads a record. The family shares memory with it.
func DecodeFamily(record []byte) (*Family, error) {
	f := new(Family)
	if err := decodeFields("family", record, f.decode); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *Family) decode(field field) (err error) {
	switch field.number {
	case familyClient:
		f.Client = field.text
	case familySubject:
		f.Subject = field.text
	case familyScope:
		f.Scopes = append(f.Scopes, field.text)
	case familyAudience:
		f.Audience = append(f.Audience, field.text)
	case familyClaims:
		d := json.NewDecoder(bytes.NewReader(field.bytes))
		d.UseNumber() // a float64 would change large ones
		err = d.Decode(&f.Claims)
	case familyAuthTime:
		f.AuthTime, err = field.time()
	case familyStarted:
		f.Started, err = field.time()
	case familyEnds:
		f.Ends, err = field.time()
	case familyCode:
		f.Code = new(Code)
		err = readFields(field.bytes, field.text, f.Code.decode)
	case familyRefresh:
		f.Refresh = new(Refresh)
		err = readFields(field.bytes, field.text, f.Refresh.decode)
	case familyAskedUserInfo:
		f.Asked.UserInfo = append(f.Asked.UserInfo, field.text)
	case familyAskedIDToken:
		f.Asked.IDToken = append(f.Asked.IDToken, field.text)
	case familyRevoked:
		f.Revoked, err = field.time()
	case familyReason:
		f.Reason = field.text
	case familyChecked:
		f.Checked, err = field.time()
	case familyAuthenticated:
		f.Authenticated = field.flag()
	case familySession:
		err = readFields(field.bytes, field.text, f.Session.decode)
	case familyBound:
		err = readFields(field.bytes, field.text, f.Bound.decode)
	case familyUntil:
		f.Until, err = field.time()
	}
	return err
}

func (c *Code) decode(field field) (err error) {
	switch field.number {
	case codeHash:
		c.Hash = field.bytes
	case codeExpires:
		c.Expires, err = field.time()
	case codeRedeemed:
		c.Redeemed, err = field.time()
	case codeRedirectURI:
		c.RedirectURI = field.text
	case codeRedirectSent:
		c.RedirectSent = field.flag()
	case codeRedirectAgain:
		c.RedirectAgain = field.flag()
	case codeChallenge:
		c.Challenge = field.text
	case codeOffline:
		c.Offline = field.flag()
	case codeRefreshLength:
		c.RefreshLength = int(field.int())
	case codeNonce:
		c.Nonce = field.text
	case codeKeyThumbprint:
		c.KeyThumbprint = field.text
	}
	return err
}

func (s *SiteSession) decode(field field) error {
	switch field.number {
	case sessionID:
		s.ID = field.text
	case sessionACR:
		s.ACR = field.text
	case sessionAMR:
		s.AMR = append(s.AMR, field.text)
	}
	return nil
}

func (r *Refresh) decode(field field) (err error) {
	switch field.number {
	case refreshFamilySecret:
		r.FamilySecret = field.bytes
	case refreshCurrent:
		r.Current = field.bytes
	case refreshPrevious:
		r.Previous = field.bytes
	case refreshSuccessor:
		r.Successor = field.bytes
	case refreshRotated:
		r.Rotated, err = field.time()
	case refreshKept:
		r.Kept = field.flag()
	}
	return err
}

// The fields of a confirmation.
const (
	confirmationThumbprint protowire.Number = iota + 1
	confirmationCertificate
)

func (c *Confirmation) encode(w *fieldWriter) {
	w.text(confirmationThumbprint, c.Thumbprint)
	w.text(confirmationCertificate, c.Certificate)
}

func (c *Confirmation) decode(field field) error {
	switch field.number {
	case confirmationThumbprint:
		c.Thumbprint = field.text
	case confirmationCertificate:
		c.Certificate = field.text
	}
	return nil
}
