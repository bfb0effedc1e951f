package fetch

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/testclock"
)

func TestFreshness(t *testing.T) {
	at := func(d time.Duration) string { return testclock.Epoch.Add(d).Format(http.TimeFormat) }
	for _, c := range []struct {
		name   string
		header http.Header
		want   time.Duration
	}{
		{"nothing", http.Header{}, time.Hour},
		{"max-age", http.Header{"Cache-Control": {"public, max-age=7200"}}, 2 * time.Hour},
		{"less than the least", http.Header{"Cache-Control": {"max-age=1"}}, 5 * time.Minute},
		{"more than the most", http.Header{"Cache-Control": {"max-age=31536000"}}, 24 * time.Hour},
		{"a number that overflows", http.Header{"Cache-Control": {"max-age=99999999999999999999"}}, 5 * time.Minute},
		{"negative", http.Header{"Cache-Control": {"max-age=-1"}}, 5 * time.Minute},
		{"no-store", http.Header{"Cache-Control": {"max-age=7200, no-store"}}, 5 * time.Minute},
		{"no-cache in another header", http.Header{"Cache-Control": {"max-age=7200", "no-cache"}}, 5 * time.Minute},
		{"upper case and quotes", http.Header{"Cache-Control": {`Max-Age="7200"`}}, 2 * time.Hour},
		{"Age", http.Header{"Cache-Control": {"max-age=7200"}, "Age": {"3600"}}, time.Hour},
		{"an Age that is older", http.Header{"Cache-Control": {"max-age=7200"}, "Age": {"9000"}}, 5 * time.Minute},
		{"Expires", http.Header{"Expires": {at(3 * time.Hour)}}, 3 * time.Hour},
		{"Expires in the past", http.Header{"Expires": {at(-time.Hour)}}, 5 * time.Minute},
		{"Expires and max-age", http.Header{"Expires": {at(3 * time.Hour)}, "Cache-Control": {"max-age=600"}}, 10 * time.Minute},
		{"an Expires that is none", http.Header{"Expires": {"0"}}, 5 * time.Minute},
	} {
		if got := usual.Freshness(c.header, testclock.Epoch); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
