package storage

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"
)

var sessionTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func all(*SignIn) bool { return true }

func TestSessions(t *testing.T) {
	s, err := DecodeSessions("alice", nil)
	if err != nil {
		t.Fatal(err)
	}
	hour := sessionTime.Add(time.Hour)
	s.Add("app", "s1", hour, SessionFamily{"f1", hour}, sessionTime)
	s.Add("app", "s2", time.Time{}, SessionFamily{"f2", time.Time{}}, sessionTime)
	s.Add("app", "s1", sessionTime.Add(time.Minute), SessionFamily{"f3", sessionTime.Add(time.Minute)}, sessionTime.Add(time.Second))
	if !s.Expires().IsZero() {
		t.Errorf("expires at %s, want never", s.Expires())
	}
	record, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if s, err = DecodeSessions("", record); err != nil || s.Subject != "alice" {
		t.Fatalf("%+v, %v", s, err)
	}
	got := s.Select(sessionTime.Add(2*time.Minute), func(in *SignIn) bool { return in.Session == "s1" })
	if len(got) != 1 || len(got[0].Families) != 1 || got[0].Families[0].ID != "f1" || !got[0].Until.Equal(hour) {
		t.Errorf("the family that has ended is still there, or the later end is not: %+v", got)
	}
	s.Add("app", "s1", hour, SessionFamily{}, sessionTime.Add(3*time.Minute))
	if s.Remove(got); len(s.SignIns) != 2 {
		t.Errorf("a sign-in that was used since is gone: %+v", s.SignIns)
	}
	if left := s.Select(hour, all); len(left) != 1 || left[0].Session != "s2" {
		t.Errorf("after an hour: %+v", left)
	}
	if s.Remove(s.Select(hour, all)); len(s.SignIns) != 0 {
		t.Errorf("left: %+v", s.SignIns)
	}
}

// However often somebody signs in, the record is bounded. What it has no room for still ends with the session.
func TestSessionsAreBounded(t *testing.T) {
	s := &Sessions{Subject: "alice"}
	for n := range 3 * MaxSignIns {
		s.Add(fmt.Sprint("app", n), "s1", time.Time{}, SessionFamily{}, sessionTime)
	}
	if first := s.SignIns[0].Client; len(s.SignIns) != MaxSignIns || first != fmt.Sprint("app", 2*MaxSignIns) {
		t.Errorf("%d sign-ins, the first at %s", len(s.SignIns), first)
	}
	for n := range 2 * maxSessionFamilies {
		s.Add("app", "s1", time.Time{}, SessionFamily{ID: fmt.Sprint(n)}, sessionTime)
	}
	last := s.SignIns[len(s.SignIns)-1]
	if len(last.Families) != maxSessionFamilies || !last.More || !last.MoreEnds.IsZero() || last.Families[0].ID != fmt.Sprint(maxSessionFamilies) {
		t.Errorf("%+v", last)
	}
	for app := range 2 * maxFamilies / maxSessionFamilies {
		for n := range maxSessionFamilies {
			s.Add(fmt.Sprint("busy", app), "s1", time.Time{}, SessionFamily{ID: fmt.Sprint(n)}, sessionTime)
		}
	}
	families := 0
	for _, in := range s.SignIns {
		families += len(in.Families)
	}
	if families != maxFamilies {
		t.Errorf("%d families", families)
	}
}

// When the families for which there was no room have ended by themselves, a logout ends those of its session, and no others.
func TestMoreFamiliesEnd(t *testing.T) {
	s := &Sessions{Subject: "alice"}
	hour, day := sessionTime.Add(time.Hour), sessionTime.Add(24*time.Hour)
	for n := range maxSessionFamilies + 2 {
		ends := day
		if n < 2 {
			ends = hour.Add(time.Duration(-n) * time.Minute)
		}
		s.Add("app", "s1", day, SessionFamily{ID: fmt.Sprint(n), Ends: ends}, sessionTime)
	}
	if in := s.Select(hour.Add(-time.Second), all)[0]; !in.More || !in.MoreEnds.Equal(hour) {
		t.Errorf("more %v until %s", in.More, in.MoreEnds)
	}
	if in := s.Select(hour.Add(time.Second), all)[0]; in.More || len(in.Families) != maxSessionFamilies {
		t.Errorf("more %v, %d families", in.More, len(in.Families))
	}
}

// The golden record is what another version of this module may have written.
func TestSessionsRecord(t *testing.T) {
	day := sessionTime.Add(24 * time.Hour)
	want := &Sessions{Subject: "alice", SignIns: []SignIn{
		{Client: "app", Session: "s1", Last: sessionTime.Add(time.Nanosecond), Until: day, Families: []SessionFamily{{"zzzz.1", day}, {ID: "zzzz.2"}}},
		{Client: "shop", Last: sessionTime, More: true, MoreEnds: day},
	}}
	record, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if golden := goldenHex(t, "sessions.hex"); !bytes.Equal(record, golden) {
		t.Errorf("got  %x\nwant %x", record, golden)
	}
	if got, err := DecodeSessions("", record); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v with error %v\nwant %+v", got, err, want)
	}
	for n := range record {
		if got, err := DecodeSessions("", record[:n]); (err == nil) == (got == nil) || err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d bytes: %+v with error %v", n, got, err)
		}
	}
	if got, err := DecodeSessions("", []byte(`{"sub":"alice"}`)); !errors.Is(err, ErrDamaged) || got != nil {
		t.Errorf("JSON: %+v with error %v", got, err)
	}
}

// A person who signs in to one client again and again.
func BenchmarkSessions(b *testing.B) {
	s := &Sessions{Subject: "alice"}
	for n := range maxSessionFamilies {
		_, key := new(Family).Start(0)
		s.Add("app", "", time.Time{}, SessionFamily{key.ID, sessionTime.Add(time.Duration(n+1) * time.Hour)}, sessionTime)
	}
	record, err := s.Encode()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, err := DecodeSessions("alice", record)
		if err != nil {
			b.Fatal(err)
		}
		s.Add("app", "", time.Time{}, SessionFamily{ID: "zzzz.new"}, sessionTime)
		if _, err := s.Encode(); err != nil {
			b.Fatal(err)
		}
	}
}

func TestLogoutIsDue(t *testing.T) {
	l := &Logout{Created: sessionTime, Notices: []Notice{{Next: sessionTime.Add(time.Hour)}, {Next: sessionTime.Add(time.Minute)}}}
	if due := l.Due(); !due.Equal(sessionTime.Add(time.Minute)) {
		t.Errorf("due at %s", due)
	}
	l.Claimed = sessionTime.Add(2 * time.Minute)
	if due := l.Due(); !due.Equal(l.Claimed) {
		t.Errorf("claimed, but due at %s", due)
	}
	l.Claimed, l.Families = time.Time{}, []string{"f"}
	if due := l.Due(); !due.IsZero() || l.Done() {
		t.Errorf("tokens have to end, but it is due at %s", due)
	}
	for range 100 {
		if key := LogoutKey(sessionTime); key.Check() != nil || key.Bucket() != BucketFor(sessionTime) {
			t.Fatalf("key %v", key)
		}
	}
}
