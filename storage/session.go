package storage

import (
	"encoding/json"
	"slices"
	"time"
)

// Sessions says where one user has signed in with OpenID Connect: at which clients, and in which sessions at the site. It is one record
// per user, so that one atomic step adds a sign-in, or takes those that end. A second record for each session of the site only has the
// user, for whoever knows just the session.
type Sessions struct {
	Subject string   `json:"sub"`
	SignIns []SignIn `json:"sign_ins,omitempty"` // the one that was used last is the last one
}

// SignIn is a user who has signed in at one client, in one session at the site.
type SignIn struct {
	Client  string          `json:"client_id"`
	Session string          `json:"sid,omitempty"` // "" if the site does not tell
	Last    time.Time       `json:"last"`          // when the client last got a code
	Until   time.Time       `json:"until,omitzero"`
	Tokens  []SessionFamily `json:"families,omitempty"`

	// More says that there are more families than Tokens can have, the last of which ends by itself at MoreEnds, zero: never. Until then,
	// all tokens of the user at the client end with the session.
	More     bool      `json:"more,omitempty"`
	MoreEnds time.Time `json:"more_ends,omitzero"`
}

// SessionFamily is a family of tokens that ends with a session.
type SessionFamily struct {
	ID   string    `json:"id"`
	Ends time.Time `json:"ends,omitzero"` // when it has ended by itself, zero: never
}

// The bounds of a record. Beyond the first, the sign-ins are forgotten that were used the longest time ago. The others are of the families
// of one sign-in, and of all.
const (
	MaxSignIns         = 200
	maxSessionFamilies = 256
	maxFamilies        = 2048
)

// SessionsKey returns the key of a user's Sessions.
func SessionsKey(subject string) Key { return Key{Kind: KindSession, ID: "u-" + HashID(subject)} }

// SessionKey returns the key of the record that says whose a session is.
func SessionKey(session string) Key { return Key{Kind: KindSession, ID: "s-" + HashID(session)} }

// Add notes that a client gets a code. until is how long this matters, zero for ever. family, if it has an ID, ends with the session.
func (s *Sessions) Add(client, session string, until time.Time, family SessionFamily, now time.Time) {
	s.prune(now)
	added := SignIn{Client: client, Session: session, Until: until}
	if i := slices.IndexFunc(s.SignIns, func(in SignIn) bool { return in.Client == client && in.Session == session }); i >= 0 {
		before := s.SignIns[i]
		s.SignIns = slices.Delete(s.SignIns, i, i+1)
		added.Tokens, added.Until = before.Tokens, Later(before.Until, until)
		added.More, added.MoreEnds = before.More, before.MoreEnds
	}
	added.Last = now
	if family.ID != "" {
		added.Tokens = append(added.Tokens, family)
	}
	added.dropTokens(len(added.Tokens) - maxSessionFamilies)
	s.SignIns = append(s.SignIns, added)
	if n := len(s.SignIns) - MaxSignIns; n > 0 {
		s.SignIns = slices.Delete(s.SignIns, 0, n)
	}
	tooMany := -maxFamilies
	for _, in := range s.SignIns {
		tooMany += len(in.Tokens)
	}
	for i := 0; tooMany > 0; i++ {
		tooMany -= s.SignIns[i].dropTokens(min(tooMany, len(s.SignIns[i].Tokens)))
	}
}

// dropTokens drops the first n families, if n is more than 0, and returns n.
func (in *SignIn) dropTokens(n int) int {
	if n <= 0 {
		return n
	}
	for _, f := range in.Tokens[:n] {
		if in.More {
			in.MoreEnds = Later(in.MoreEnds, f.Ends)
		} else {
			in.More, in.MoreEnds = true, f.Ends
		}
	}
	in.Tokens = slices.Delete(in.Tokens, 0, n)
	return n
}

// prune forgets what has ended by itself.
func (s *Sessions) prune(now time.Time) {
	s.SignIns = slices.DeleteFunc(s.SignIns, func(in SignIn) bool { return Expired(in.Until, now) })
	for i, in := range s.SignIns {
		s.SignIns[i].Tokens = slices.DeleteFunc(in.Tokens, func(f SessionFamily) bool { return Expired(f.Ends, now) })
		if Expired(in.MoreEnds, now) {
			s.SignIns[i].More, s.SignIns[i].MoreEnds = false, time.Time{}
		}
	}
}

// Select returns the sign-ins that match and have not ended by themselves.
func (s *Sessions) Select(now time.Time, match func(*SignIn) bool) (found []SignIn) {
	s.prune(now)
	for _, in := range s.SignIns {
		if match(&in) {
			found = append(found, in)
		}
	}
	return found
}

// Session returns when somebody last signed in to a client in a session of the site, and until when one of the sign-ins in it matters, zero for
// ever.
func (s *Sessions) Session(id string) (last, until time.Time, known bool) {
	for _, in := range s.SignIns { // the last one is the one that was used last
		switch {
		case in.Session != id:
			continue
		case known:
			until = Later(until, in.Until)
		default:
			until = in.Until
		}
		last, known = in.Last, true
	}
	return last, until, known
}

// Remove forgets sign-ins, unless they were used since.
func (s *Sessions) Remove(gone []SignIn) {
	s.SignIns = slices.DeleteFunc(s.SignIns, func(in SignIn) bool {
		return slices.ContainsFunc(gone, func(other SignIn) bool {
			return other.Client == in.Client && other.Session == in.Session && other.Last.Equal(in.Last)
		})
	})
}

// Expires returns when the record expires, zero for never.
func (s *Sessions) Expires() time.Time {
	if len(s.SignIns) == 0 {
		return time.Time{}
	}
	until := s.SignIns[0].Until
	for _, in := range s.SignIns[1:] {
		until = Later(until, in.Until)
	}
	return until
}

// Later returns the later of two times, of which zero is never.
func Later(a, b time.Time) time.Time {
	if a.IsZero() || b.IsZero() {
		return time.Time{}
	}
	if b.After(a) {
		return b
	}
	return a
}

// Encode returns the record.
func (s *Sessions) Encode() ([]byte, error) { return json.Marshal(s) }

// DecodeSessions reads a record. A nil record is that of a user who has signed in nowhere.
func DecodeSessions(subject string, record []byte) (*Sessions, error) {
	s := &Sessions{Subject: subject}
	if record == nil {
		return s, nil
	}
	if err := decodeJSON("session", record, s); err != nil {
		return nil, err
	}
	return s, nil
}
