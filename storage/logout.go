package storage

import (
	"crypto/rand"
	"encoding/json"
	"strings"
	"time"
)

// Logout is what is left to do of a logout: families of tokens to end, and clients to tell (OpenID Connect Back-Channel Logout). It is
// written before the user gets an answer, and removed when all is done or given up. Any node may do it.
type Logout struct {
	Subject string    `json:"sub"`
	Reason  string    `json:"reason,omitempty"`
	Created time.Time `json:"created"`

	Families []string `json:"families,omitempty"` // that end
	Clients  []string `json:"clients,omitempty"`  // all of whose tokens of the user end, up to Created
	Notices  []Notice `json:"notices,omitempty"`

	// Claimed is until when one node has reserved the record. If that node dies, another one continues after this time.
	Claimed time.Time `json:"claimed,omitzero"`
}

// Notice is a logout token to send to one client.
type Notice struct {
	ID       string    `json:"jti"` // of the logout token: the same for all attempts
	Client   string    `json:"client_id"`
	Session  string    `json:"sid,omitempty"`      // the session at the site that has ended, "" if the site does not tell
	Attempts int       `json:"attempts,omitempty"` // that have begun
	Next     time.Time `json:"next"`               // when to try next
}

// MaxNotices is how many clients one Logout may tell, so that one node can do so at once.
const MaxNotices = 16

// LogoutKey returns the key of a new Logout that is kept until a time.
func LogoutKey(end time.Time) Key {
	return Key{Kind: KindLogout, ID: string(BucketFor(end)) + "." + strings.ToLower(rand.Text())}
}

// Due returns when there is something to do next.
func (l *Logout) Due() time.Time {
	if len(l.Families)+len(l.Clients) > 0 || len(l.Notices) == 0 {
		return l.Claimed
	}
	next := l.Notices[0].Next
	for _, n := range l.Notices[1:] {
		next = earlier(next, n.Next)
	}
	if next.Before(l.Claimed) {
		return l.Claimed
	}
	return next
}

// Done reports whether nothing is left.
func (l *Logout) Done() bool { return len(l.Families)+len(l.Clients)+len(l.Notices) == 0 }

// Encode returns the record.
func (l *Logout) Encode() ([]byte, error) { return json.Marshal(l) }

// DecodeLogout reads a record.
func DecodeLogout(record []byte) (*Logout, error) {
	l := new(Logout)
	if err := decodeJSON("logout", record, l); err != nil {
		return nil, err
	}
	return l, nil
}
