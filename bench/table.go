package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/bench/internal/load"
)

// median returns the median of a figure over a list.
func median[E any](list []E, of func(E) float64) float64 {
	values := make([]float64, 0, len(list))
	for _, e := range list {
		values = append(values, of(e))
	}
	slices.Sort(values)
	middle := len(values) / 2
	switch {
	case len(values) == 0:
		return 0
	case len(values)%2 == 0:
		return (values[middle-1] + values[middle]) / 2
	}
	return values[middle]
}

// spread returns the median, the minimum and the maximum of a figure.
func spread[E any](list []E, of func(E) float64) string {
	least, greatest := of(list[0]), of(list[0])
	for _, e := range list {
		least, greatest = min(least, of(e)), max(greatest, of(e))
	}
	return fmt.Sprintf("%.3f (%.3f–%.3f)", median(list, of), least, greatest)
}

// number formats a number without insignificant digits. Unknown values, which are 0, are a dash.
func number(v float64) string {
	switch {
	case v == 0:
		return "–"
	case v < 10:
		return fmt.Sprintf("%.1f", v)
	}
	text := fmt.Sprintf("%.0f", v)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

// ratio returns a divided by b, or 0 if b is unknown.
func ratio(a, b time.Duration) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// times formats the median of a ratio.
func times(samples []*sample, of func(*sample) float64) string {
	if m := median(samples, of); m != 0 {
		return fmt.Sprintf("%.2f", m)
	}
	return "–"
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func megabytes(n int64) float64      { return float64(n) / (1 << 20) }

// results returns all results in Markdown.
func (b *bench) results() string {
	var w strings.Builder
	b.head(&w)
	b.method(&w)
	if len(b.samples) > 0 {
		b.loadTable(&w)
	}
	for i := range rows {
		if err := b.broken[rows[i].name]; err != nil {
			fmt.Fprintf(&w, "\nCould not be measured: %s: %.300s\n", rows[i].work, err)
		}
	}
	if len(b.starts) > 0 {
		b.startTable(&w)
	}
	return w.String()
}

// table begins a table. All columns but the first are numbers.
func table(w *strings.Builder, columns ...string) {
	line(w, columns...)
	w.WriteString("|---" + strings.Repeat("|--:", len(columns)-1) + "|\n")
}

func line(w *strings.Builder, cells ...string) {
	w.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}

func (b *bench) loadTable(w *strings.Builder) {
	w.WriteString("\n## Under load\n\n")
	table(w, "work", "req/s", "of static's", "CPU µs", "of static's", "p50 µs", "p99 µs", "of static's", "allocations", "compared with another row",
		"start ms", "MB idle", "MB loaded", "errors")
	if len(b.around) > 0 {
		b.staticRow(w)
	}
	for i := range rows {
		if samples := b.samples[rows[i].name]; len(samples) > 0 {
			b.row(w, &rows[i], samples)
		}
	}
}

func (b *bench) staticRow(w *strings.Builder) {
	of := func(get func(*load.Result) float64) string { return number(median(b.around, get)) }
	line(w, "**static**: a form in, 700 bytes out, no token",
		of((*load.Result).Rate), "1",
		of(func(r *load.Result) float64 { return micros(r.CPU) }), "1",
		of(func(r *load.Result) float64 { return micros(r.P50) }),
		of(func(r *load.Result) float64 { return micros(r.P99) }), "1",
		of(func(r *load.Result) float64 { return r.Allocations }), "", "", "",
		of(func(r *load.Result) float64 { return megabytes(r.Memory) }), "0")
}

func (b *bench) row(w *strings.Builder, r *row, samples []*sample) {
	of := func(get func(*sample) float64) string { return number(median(samples, get)) }
	if r.alone != nil {
		line(w, r.work, of(func(s *sample) float64 { return s.Rate() }), "", of(func(s *sample) float64 { return micros(s.CPU) }),
			"", "", "", "", "", "", "", "", "", "0")
		return
	}
	errors := 0
	for _, s := range samples {
		errors += s.Errors
	}
	line(w, r.work,
		of(func(s *sample) float64 { return s.Rate() }),
		spread(samples, func(s *sample) float64 { return s.Rate() / s.staticRate }),
		of(func(s *sample) float64 { return micros(s.CPU) }),
		times(samples, func(s *sample) float64 { return ratio(s.CPU, s.staticCPU) }),
		of(func(s *sample) float64 { return micros(s.P50) }),
		of(func(s *sample) float64 { return micros(s.P99) }),
		times(samples, func(s *sample) float64 { return ratio(s.P99, s.staticP99) }),
		of(func(s *sample) float64 { return s.Allocations }),
		b.compared(r, samples),
		of(func(s *sample) float64 { return float64(s.ready.Milliseconds()) }),
		of(func(s *sample) float64 { return megabytes(s.idle) }),
		of(func(s *sample) float64 { return megabytes(s.Memory) }),
		fmt.Sprint(errors))
}

// compared returns the ratio of a row to the one or two that it is compared with, if they were measured too.
func (b *bench) compared(r *row, samples []*sample) string {
	other := b.samples[r.against]
	if len(other) == 0 {
		return ""
	}
	unit, names := median(other, r.by.of), r.against
	if r.plus != "" {
		more := median(b.samples[r.plus], r.by.of)
		if more == 0 {
			return ""
		}
		unit, names = unit+more, names+" and "+r.plus
	}
	if unit == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f × the %s of %s", median(samples, r.by.of)/unit, r.by.name, names)
}

func (b *bench) startTable(w *strings.Builder) {
	w.WriteString("\n## Start and memory\n\nMemory is resident memory, 0.7 s after the start. Most of it is pages of the program's file, which the system shares " +
		"and can drop. The rest is in brackets.\n\n")
	table(w, "", "ms (least–greatest)", "more", "MB", "more")
	ms := func(s started) float64 { return float64(s.ready) / float64(time.Millisecond) }
	mb := func(s started) float64 { return megabytes(s.usage.Memory) }
	own := func(s started) float64 { return megabytes(s.usage.Own) }
	first := b.starts[starters[0].name]
	for _, how := range starters {
		list := b.starts[how.name]
		times := make([]float64, 0, len(list))
		for _, s := range list {
			times = append(times, ms(s))
		}
		more := func(of func(started) float64) float64 { return median(list, of) - median(first, of) }
		line(w, how.name,
			fmt.Sprintf("%.0f (%.0f–%.0f)", median(list, ms), slices.Min(times), slices.Max(times)),
			fmt.Sprintf("%+.0f", more(ms)),
			fmt.Sprintf("%.1f (%.1f)", median(list, mb), median(list, own)),
			fmt.Sprintf("%+.1f (%+.1f)", more(mb), more(own)))
	}
}
