package storage_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// However many cutoffs are announced, the record stays small, and it has the newest ones.
func TestJournalStaysSmall(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 123_000_000, time.UTC)
	journal := &storage.Journal{ID: strings.Repeat("A", 26), Clock: now, Lifetimes: storage.Lifetimes{AccessToken: time.Hour, Family: storage.Forever}}
	for _, long := range []string{"", strings.Repeat("a", 255), strings.Repeat("b", 3000)} {
		for n := range 100 {
			before := journal.Announced
			journal.Announce(&storage.Cutoff{
				Subject: fmt.Sprint("user", n), Client: long, Before: now, Expires: now.Add(time.Hour), Reason: strings.Repeat("why", 1000),
			})
			record, err := journal.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if len(record) > 1800 && len(journal.Latest) > 1 {
				t.Fatalf("%d bytes with %d cutoffs", len(record), len(journal.Latest))
			}
			if journal, err = storage.DecodeJournal(record); err != nil {
				t.Fatal(err)
			}
			news, complete := journal.Since(journal.ID, before)
			if len(news) != 1 || !complete || news[0].Subject != fmt.Sprint("user", n) || news[0].Reason != "" {
				t.Fatalf("what was announced last is %+v, %v", news, complete)
			}
		}
	}
}

func TestJournalSince(t *testing.T) {
	journal := &storage.Journal{ID: "a", Announced: 10, Latest: []*storage.Cutoff{{Family: "8"}, {Family: "9"}, {Family: "10"}}}
	for _, tt := range []struct {
		id        string
		announced uint64
		first     string // "": nothing
		complete  bool
	}{
		{"a", 10, "", true},
		{"a", 9, "10", true},
		{"a", 7, "8", true},
		{"a", 6, "8", false},
		{"a", 11, "8", false}, // the record was lost, and is an older one now
		{"b", 10, "8", false},
		{"", 0, "8", false},
	} {
		news, complete := journal.Since(tt.id, tt.announced)
		first := ""
		if len(news) > 0 {
			first = news[0].Family
		}
		if first != tt.first || complete != tt.complete {
			t.Errorf("since %s %d: from %q on, %v", tt.id, tt.announced, first, complete)
		}
	}
}
