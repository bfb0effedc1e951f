package storage

import (
	"crypto/rand"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
)

// Cutoff says that tokens are void: one access token, all of a family, or all that a user, a client, or a user at a client
// got up to a moment.
type Cutoff struct {
	Token   string    `json:"jti,omitempty"`
	Family  string    `json:"family,omitempty"` // the ID of its record
	Subject string    `json:"sub,omitempty"`
	Client  string    `json:"client_id,omitempty"` // with Subject: of this user only
	Before  time.Time `json:"before"`              // families, and tokens without one, that began up to this millisecond are revoked
	Expires time.Time `json:"exp,omitzero"`        // when the last token that it voids has expired; zero: never
	Reason  string    `json:"reason,omitempty"`
}

// Key returns the key of the cutoff's record. The same revocation within the same second has the same key, so that many at once leave
// one record, that of the last one.
func (c *Cutoff) Key() Key {
	what := []string{c.Token, c.Family, c.Subject, c.Client}
	if c.Dated() {
		what = append(what, strconv.FormatInt(c.Before.Unix(), 10))
	}
	end := c.Expires
	if !end.IsZero() {
		end = end.Truncate(time.Second).Add(time.Second) // the same bucket for the whole second
	}
	return Key{Kind: KindCutoff, ID: bucketID(string(BucketFor(end)), strings.Join(what, "\x00"))}
}

// Dated reports whether the cutoff voids what began up to a moment, and not a certain token or family.
func (c *Cutoff) Dated() bool { return c.Token == "" && c.Family == "" }

// Expired reports whether every token that the cutoff voids has expired.
func (c *Cutoff) Expired(now time.Time) bool { return Expired(c.Expires, now) }

// Encode returns the record.
func (c *Cutoff) Encode() ([]byte, error) { return json.Marshal(c) }

// DecodeCutoff reads a record.
func DecodeCutoff(record []byte) (*Cutoff, error) {
	c := new(Cutoff)
	if err := decodeJSON("cutoff", record, c); err != nil {
		return nil, err
	}
	return c, nil
}

// JournalKey is the key of an issuer's Journal.
var JournalKey = Key{Kind: KindJournal, ID: "revocations"}

// Journal is what the nodes of an issuer tell one another about revocations. It is one record, so that a node reads one record to
// learn that there are no new ones. Each cutoff is announced here first, and then gets a record of its own.
type Journal struct {
	// ID is random. If the journal is lost, the next one has another ID.
	ID string `json:"id"`

	// Announced is how many cutoffs were announced so far.
	Announced uint64 `json:"announced"`

	// Clock is the moment of the last revocation. It never goes back, whatever the clocks of the nodes show.
	Clock time.Time `json:"clock,omitzero"`

	// Lifetimes are the longest that any configuration of the issuer has ever had.
	Lifetimes

	// Latest are the cutoffs that were announced last, the newest at the end, without their reasons.
	Latest []*Cutoff `json:"latest,omitempty"`
}

// maxJournal is how many bytes a journal may take: no more than a store on a disk can overwrite in place, so that a full disk
// does not stop an announcement.
const maxJournal = 1700

// DecodeJournal reads a record. A nil record is a journal that was not begun and has no ID.
func DecodeJournal(record []byte) (*Journal, error) {
	j := new(Journal)
	if record == nil {
		return j, nil
	}
	if err := decodeJSON("journal", record, j); err != nil {
		return nil, err
	}
	return j, nil
}

// Encode returns the record. It drops the oldest of the latest cutoffs if they take too much space.
func (j *Journal) Encode() ([]byte, error) {
	for {
		record, err := json.Marshal(j)
		if err != nil || len(record) <= maxJournal || len(j.Latest) <= 1 {
			return record, err
		}
		j.Latest = j.Latest[1:]
	}
}

// Announce adds a cutoff.
func (j *Journal) Announce(c *Cutoff) {
	announced := *c
	announced.Reason = ""
	j.Announced++
	j.Latest = append(j.Latest, &announced)
}

// Merge adds what another journal has. The result has another ID, so that whoever follows it lists all cutoffs.
func (j *Journal) Merge(other *Journal) {
	j.ID = rand.Text()
	j.Lifetimes = j.Max(other.Lifetimes)
	if other.Clock.After(j.Clock) {
		j.Clock = other.Clock
	}
	for _, cutoff := range other.Latest {
		j.Announce(cutoff)
	}
}

// Since returns the cutoffs that were announced after the state with that id and counter. complete is false if the journal no
// longer has all of them: the caller must read the records of the cutoffs.
func (j *Journal) Since(id string, announced uint64) (news []*Cutoff, complete bool) {
	if id != j.ID || announced > j.Announced || j.Announced-announced > uint64(len(j.Latest)) {
		return j.Latest, false
	}
	return j.Latest[uint64(len(j.Latest))-(j.Announced-announced):], true
}

// Lifetimes are how long tokens can be of use.
type Lifetimes struct {
	// AccessToken is how long an access token can be accepted after it was issued.
	AccessToken time.Duration `json:"access_token,omitempty"`

	// Family is how long a family can be refreshed after it started, or Forever.
	Family time.Duration `json:"family,omitempty"`
}

// Forever is the lifetime of a family without an end.
const Forever time.Duration = math.MaxInt64

// Max returns the longer of both lifetimes.
func (l Lifetimes) Max(other Lifetimes) Lifetimes {
	return Lifetimes{AccessToken: max(l.AccessToken, other.AccessToken), Family: max(l.Family, other.Family)}
}
