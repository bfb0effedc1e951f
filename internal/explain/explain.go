// Package explain says in plain English why a request failed and what to do about it, what an error code means, and what a setting
// does.
//
// Start reading at [Failure]. situations.go chooses the text about a failure. Those about what is particular to guards, clients, requests,
// certificates and delegation have files of their own; codes.go has the texts about error codes. The texts about settings are the
// comments of the configuration's own structs, see [Settings].
package explain

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/trail"
)

// Explanation is what there is to say about a failure. It has no secret, as the failure has none.
type Explanation struct {
	Failure trail.Failure `json:"failure"`
	Summary string        `json:"summary"`
	Why     string        `json:"why"`  // the likely cause
	Next    string        `json:"next"` // what the client will do
	Do      []string      `json:"do"`   // what the owner of the site, or the developer of the client, can do
}

// Failure explains a failure.
func Failure(f *trail.Failure) *Explanation {
	s := find(f)
	fill := strings.NewReplacer("{client}", cmp.Or(f.Client, "<id>"), "{sent}", cmp.Or(f.Sent, "nothing"),
		"{expected}", cmp.Or(f.Expected, "nothing else"), "{cause}", cmp.Or(f.Cause, f.Description))
	e := &Explanation{Failure: *f, Summary: summary(f), Why: fill.Replace(s.why), Next: fill.Replace(s.next)}
	for _, step := range s.do {
		e.Do = append(e.Do, fill.Replace(step))
	}
	return e
}

// summary says which request failed.
func summary(f *trail.Failure) string {
	who := "a request"
	if f.Client != "" {
		who += " of the client " + f.Client
	}
	if f.GrantType != "" {
		who += " with the grant type " + f.GrantType
	}
	where := "The server"
	switch {
	case f.Endpoint == "guard":
		where = "A guard (oauth_guard)"
	case f.Endpoint != "":
		where = "The " + f.Endpoint + " endpoint"
	}
	if f.Issuer != "" {
		where += " of the issuer " + f.Issuer
	}
	answer := cmp.Or(f.Code, "no error code")
	if f.Status != 0 {
		answer += fmt.Sprintf(", status %d", f.Status)
	}
	return fmt.Sprintf("%s refused %s: %s.", where, who, answer)
}

// maxLine is the longest line of a log that FromLog reads.
const maxLine = 1 << 20

// FromLog finds the failure with an error ID in a log: JSON, or what Caddy prints to a terminal. It reports false if it is not there.
func FromLog(log io.Reader, id string) (found trail.Failure, ok bool, err error) {
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		if !bytes.Contains(lines.Bytes(), []byte(id)) {
			continue
		}
		f, isFailure := parseLine(lines.Text())
		if isFailure && f.ID == id {
			found, ok = f, true
		}
	}
	return found, ok, lines.Err()
}

// parseLine reads a line of a log. The fields are a JSON object, at the end of the line.
func parseLine(line string) (f trail.Failure, ok bool) {
	start := strings.IndexByte(line, '{')
	if start < 0 || json.Unmarshal([]byte(line[start:]), &f) != nil {
		return f, false
	}
	var more struct {
		Time   any    `json:"ts"`
		Logger string `json:"logger"`
		Event  string `json:"event"` // the audit log repeats each refusal, with less
	}
	if json.Unmarshal([]byte(line[start:]), &more) != nil || more.Event != "" {
		return f, false
	}
	switch ts := more.Time.(type) {
	case float64:
		seconds, fraction := math.Modf(ts)
		f.Time = time.Unix(int64(seconds), int64(fraction*1e9))
	case string:
		for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.000Z0700"} {
			if t, err := time.Parse(layout, ts); err == nil {
				f.Time = t
			}
		}
	}
	return f, true
}
