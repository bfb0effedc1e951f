package main

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/bench/internal/proc"
)

// table returns the results in Markdown.
func table(o *options, filled []*filledStore) string {
	var w strings.Builder
	where := ""
	if o.store == "file" {
		where = " on " + proc.FileSystem(o.dir)
	}
	fmt.Fprintf(&w, "Store: %s%s; %s/%s, %d processors, medians of %d rounds of %v. Times are those of refreshes, in µs.\n\n",
		o.store, where, runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), o.rounds, o.measure)
	w.WriteString("| families | filled in | bytes each | files each | MB of the process | 1 caller p50 | p99 | 16 callers, per s | p50 | p99 " +
		"| expired | swept in ms | under load | p99 meanwhile |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, p := range filled {
		fmt.Fprintf(&w, "| %d | %v | %.0f | %.2f | %.0f | %s | %s | %.0f | %s | %s |", p.n, p.fill.Round(time.Second/10),
			p.bytes, p.files, float64(p.memory)/1e6,
			p.median(func(r round) time.Duration { return r.one.p50 }), p.median(func(r round) time.Duration { return r.one.p99 }),
			medianOf(p.rounds, func(r round) float64 { return r.many.rate }),
			p.median(func(r round) time.Duration { return r.many.p50 }), p.median(func(r round) time.Duration { return r.many.p99 }))
		if len(p.swept) < 2 {
			w.WriteString(" by the store itself | | | |\n")
			continue
		}
		alone, loaded := p.swept[0], p.swept[1]
		fmt.Fprintf(&w, " %d | %.1f | %.1f | %s |\n", alone.expired, milliseconds(alone.took), milliseconds(loaded.took), microseconds(loaded.during.p99))
	}
	if first, last := filled[0], filled[len(filled)-1]; len(filled) > 1 {
		fmt.Fprintf(&w, "\nWith %d families a refresh takes %.2f × what it takes with %d (p50, one caller), %.2f × with %d callers.\n",
			last.n, ratio(first, last, func(r round) time.Duration { return r.one.p50 }), first.n,
			ratio(first, last, func(r round) time.Duration { return r.many.p50 }), callers)
	}
	return w.String()
}

func (p *filledStore) median(of func(round) time.Duration) string {
	return microseconds(medianOf(p.rounds, of))
}

func ratio(first, last *filledStore, of func(round) time.Duration) float64 {
	return float64(medianOf(last.rounds, of)) / float64(medianOf(first.rounds, of))
}

func medianOf[T float64 | time.Duration](rounds []round, of func(round) T) T {
	values := make([]T, 0, len(rounds))
	for _, r := range rounds {
		values = append(values, of(r))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

func microseconds(d time.Duration) string { return fmt.Sprint(d.Microseconds()) }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
