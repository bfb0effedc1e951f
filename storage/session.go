package storage

import (
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Sessions says where one user has signed in with OpenID Connect: at which clients, and in which sessions at the site. It is one record
// per user, so that one atomic step adds a sign-in, or takes those that end. A second record for each session of the site only has the
// user, for whoever knows just the session.
type Sessions struct {
	Subject string
	SignIns []SignIn // the one that was used last is the last one
}

// SignIn is a user who has signed in at one client, in one session at the site.
type SignIn struct {
	Client   string
	Session  string    // "" if the site does not tell
	Last     time.Time // when the client last got a code
	Until    time.Time
	Families []SessionFamily

	// More says that there are more families than Families can have, the last of which ends by itself at MoreEnds, zero: never. Until then,
	// all tokens of the user at the client end with the session.
	More     bool
	MoreEnds time.Time
}

// SessionFamily is a family of tokens that ends with a session.
type SessionFamily struct {
	ID   string
	Ends time.Time // when it has ended by itself, zero: never
}

// SiteSession is what the site knows of the session in which a person has approved something. All of it may be unknown.
type SiteSession struct {
	ID  string   `json:"sid,omitempty"` // of the session at the site (sid of OpenID Connect Front-Channel Logout §3)
	ACR string   `json:"acr,omitempty"` // how well the person was authenticated (OpenID Connect Core §2)
	AMR []string `json:"amr,omitempty"` // how (RFC 8176)
}

// MaxSignIns is how many sign-ins of a user are remembered: those that were used last.
const MaxSignIns = 200

const (
	maxSessionFamilies = 256  // of one sign-in
	maxFamilies        = 2048 // of all sign-ins of a user
)

// SessionsKey returns the key of a user's Sessions.
func SessionsKey(subject string) Key { return Key{Kind: KindSession, ID: "u-" + HashID(subject)} }

// SessionKey returns the key of the record that says whose a session is.
func SessionKey(session string) Key { return Key{Kind: KindSession, ID: "s-" + HashID(session)} }

// Add records that a client gets a code. until is when the sign-in can be dropped; zero: never. family, if it has an ID, ends with
// the session.
func (s *Sessions) Add(client, session string, until time.Time, family SessionFamily, now time.Time) {
	s.prune(now)
	added := SignIn{Client: client, Session: session, Until: until}
	if i := slices.IndexFunc(s.SignIns, func(in SignIn) bool { return in.Client == client && in.Session == session }); i >= 0 {
		before := s.SignIns[i]
		s.SignIns = slices.Delete(s.SignIns, i, i+1)
		added.Families, added.Until = before.Families, Later(before.Until, until)
		added.More, added.MoreEnds = before.More, before.MoreEnds
	}
	added.Last = now
	if family.ID != "" {
		added.Families = append(added.Families, family)
	}
	added.dropFamilies(len(added.Families) - maxSessionFamilies)
	s.SignIns = append(s.SignIns, added)
	if n := len(s.SignIns) - MaxSignIns; n > 0 {
		s.SignIns = slices.Delete(s.SignIns, 0, n)
	}
	tooMany := -maxFamilies
	for _, in := range s.SignIns {
		tooMany += len(in.Families)
	}
	for i := 0; tooMany > 0; i++ {
		tooMany -= s.SignIns[i].dropFamilies(min(tooMany, len(s.SignIns[i].Families)))
	}
}

// dropFamilies drops the first n families, if n is more than 0, and returns n.
func (in *SignIn) dropFamilies(n int) int {
	if n <= 0 {
		return n
	}
	for _, f := range in.Families[:n] {
		if in.More {
			in.MoreEnds = Later(in.MoreEnds, f.Ends)
		} else {
			in.More, in.MoreEnds = true, f.Ends
		}
	}
	in.Families = slices.Delete(in.Families, 0, n)
	return n
}

// prune forgets what has ended by itself.
func (s *Sessions) prune(now time.Time) {
	s.SignIns = slices.DeleteFunc(s.SignIns, func(in SignIn) bool { return Expired(in.Until, now) })
	for i, in := range s.SignIns {
		s.SignIns[i].Families = slices.DeleteFunc(in.Families, func(f SessionFamily) bool { return Expired(f.Ends, now) })
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

// Every sign-in reads and writes the record, which can have many families, so it is a record of fields, as a family is.

// The fields of a user's sessions.
const (
	sessionsSubject protowire.Number = iota + 1
	sessionsSignIn                   // repeated
)

// The fields of a sign-in.
const (
	signInClient protowire.Number = iota + 1
	signInSession
	signInLast
	signInUntil
	signInFamily // repeated
	signInMore
	signInMoreEnds
)

// The fields of a family of a sign-in.
const (
	sessionFamilyID protowire.Number = iota + 1
	sessionFamilyEnds
)

// Encode returns the record.
func (s *Sessions) Encode() ([]byte, error) {
	size := 64 + len(s.Subject)
	for _, in := range s.SignIns {
		size += 64 + len(in.Client) + len(in.Session)
		for _, f := range in.Families {
			size += 24 + len(f.ID)
		}
	}
	w := fieldWriter{append(make([]byte, 0, size), fieldsFormat)}
	w.text(sessionsSubject, s.Subject)
	for _, in := range s.SignIns {
		w.message(sessionsSignIn, in.encode)
	}
	return w.record, nil
}

func (in *SignIn) encode(w *fieldWriter) {
	w.text(signInClient, in.Client)
	w.text(signInSession, in.Session)
	w.time(signInLast, in.Last)
	w.time(signInUntil, in.Until)
	for _, f := range in.Families {
		w.message(signInFamily, f.encode)
	}
	w.flag(signInMore, in.More)
	w.time(signInMoreEnds, in.MoreEnds)
}

func (f *SessionFamily) encode(w *fieldWriter) {
	w.text(sessionFamilyID, f.ID)
	w.time(sessionFamilyEnds, f.Ends)
}

// DecodeSessions reads a record. A nil record is that of a user who has signed in nowhere.
func DecodeSessions(subject string, record []byte) (*Sessions, error) {
	s := &Sessions{Subject: subject}
	if record == nil {
		return s, nil
	}
	if err := decodeFields("session", record, s.decode); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Sessions) decode(f field) error {
	switch f.number {
	case sessionsSubject:
		s.Subject = f.text
	case sessionsSignIn:
		var in SignIn
		if err := readFields(f.bytes, f.text, in.decode); err != nil {
			return err
		}
		s.SignIns = append(s.SignIns, in)
	}
	return nil
}

func (in *SignIn) decode(f field) (err error) {
	switch f.number {
	case signInClient:
		in.Client = f.text
	case signInSession:
		in.Session = f.text
	case signInLast:
		in.Last, err = f.time()
	case signInUntil:
		in.Until, err = f.time()
	case signInFamily:
		var family SessionFamily
		err = readFields(f.bytes, f.text, family.decode)
		in.Families = append(in.Families, family)
	case signInMore:
		in.More = f.flag()
	case signInMoreEnds:
		in.MoreEnds, err = f.time()
	}
	return err
}

func (f *SessionFamily) decode(field field) (err error) {
	switch field.number {
	case sessionFamilyID:
		f.ID = field.text
	case sessionFamilyEnds:
		f.Ends, err = field.time()
	}
	return err
}
