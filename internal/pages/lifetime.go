package pages

import (
	"slices"
	"time"
)

// Lifetime is one of the choices of how long an application keeps its access to an account.
type Lifetime struct {
	Value    string        // of the radio button "lifetime"
	Duration time.Duration // whole minutes, or zero for without end: until the person takes the access back
	Chosen   bool          // beforehand

	Words string // Pages sets them
}

// inWords returns choices with their words in a language.
func (l *locale) inWords(choices []Lifetime) []Lifetime {
	choices = slices.Clone(choices)
	for i := range choices {
		choices[i].Words = l.lifetime(choices[i].Duration)
	}
	return choices
}

// lifetime returns a duration in the largest of its units that it is a whole number of.
func (l *locale) lifetime(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d == 0:
		return l.text("lifetime_never")
	case d%day == 0:
		return l.text("lifetime_days", "n", int(d/day))
	case d%time.Hour == 0:
		return l.text("lifetime_hours", "n", int(d/time.Hour))
	}
	return l.text("lifetime_minutes", "n", int(d/time.Minute))
}

// end returns when access ends, in hours on the last day: people know neither the minute nor this server's time zone.
func (l *locale) end(t, now time.Time) moment {
	if t.IsZero() {
		return moment{}
	}
	m := l.since(t)
	if left := t.Sub(now); left <= 24*time.Hour {
		m.Words = l.text("ends_hours", "n", max(1, int((left+time.Hour-1)/time.Hour)))
	}
	return m
}
