package fetch

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Bounds are how long a document is fresh: at least and at most, whatever its headers say; and without headers.
type Bounds struct{ Min, Max, Default time.Duration }

// usual are the bounds of documents whose URL a stranger named.
var usual = Bounds{Min: 5 * time.Minute, Max: 24 * time.Hour, Default: time.Hour}

// Freshness returns the freshness lifetime of a response (RFC 9111 §4.2) within the bounds.
func (b Bounds) Freshness(h http.Header, now time.Time) time.Duration {
	return min(max(b.stated(h, now), b.Min), b.Max)
}

func (b Bounds) stated(h http.Header, now time.Time) time.Duration {
	maxAge, stated := -1, false
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
		switch name {
		case "no-store", "no-cache":
			return 0
		case "max-age":
			seconds, err := strconv.Atoi(strings.Trim(value, `"`))
			stated = true
			maxAge = min(max(seconds, 0), int(b.Max/time.Second))
			if err != nil {
				maxAge = 0 // §4.2.1: an invalid lifetime means stale
			}
		}
	}
	if stated {
		age, err := strconv.Atoi(h.Get("Age"))
		if err != nil || age < 0 {
			age = 0
		}
		return time.Duration(maxAge-min(age, maxAge)) * time.Second
	}
	if h.Get("Expires") == "" {
		return b.Default
	}
	expires, err := http.ParseTime(h.Get("Expires"))
	if err != nil {
		return 0 // §5.3: an invalid date means stale
	}
	return expires.Sub(now)
}
