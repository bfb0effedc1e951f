package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/bench/internal/site"
	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/internal/testneeds"
)

// A run starts this program again for each of its processes.
func TestMain(m *testing.M) {
	if part, ok := parts[os.Getenv(partVariable)]; ok {
		exit(part())
		return
	}
	exit(os.Setenv("GORACE", "atexit_sleep_ms=0")) // otherwise each process sleeps a second before it ends
	os.Exit(integration.Main(m))
}

var must = integration.Must

// briefly returns options for a run that is long enough to show that everything works, but not how fast it is.
func briefly(t *testing.T) *options {
	t.Helper()
	o, err := readOptions([]string{"-rounds", "1", "-c", "2", "-d", "100ms", "-pin=false", "-dir", t.TempDir()})
	must(t, err)
	o.tokens, o.interval, o.starts = 6, 50*time.Millisecond, 1
	o.build = func(_ context.Context, _, name string) (*site.Program, error) {
		return site.Open(integration.Build(t, "./"+name))
	}
	return o
}

func TestEveryRow(t *testing.T) {
	b, err := newBench(t.Context(), briefly(t))
	must(t, err)
	defer b.close()
	for i := range rows {
		r := &rows[i]
		t.Run(r.name, func(t *testing.T) {
			if r.redis {
				testneeds.Program(t, redisProgram, redisProgram)
			}
			s, err := b.measureRow(t.Context(), r)
			must(t, err)
			b.samples[r.name] = []*sample{s}
			if s.Requests == 0 || s.Errors > 0 || s.logged != "" {
				t.Errorf("%d requests, and %d failed: %s %s", s.Requests, s.Errors, s.Failure, s.logged)
			}
			if r.alone == nil && (s.P50 <= 0 || s.P50 > s.P99 || s.P99 > s.Max || s.Allocations <= 0 || s.staticRate <= 0 || s.ready <= 0) {
				t.Errorf("the figures make no sense: %+v", s)
			}
		})
	}
	must(t, b.measureStarts(t.Context()))
	results := b.results()
	for _, r := range rows {
		if b.samples[r.name] != nil && !strings.Contains(results, "| "+r.work+" |") {
			t.Errorf("no row for %s", r.name)
		}
	}
	for _, how := range starters {
		if !strings.Contains(results, "| "+how.name+" |") {
			t.Errorf("no row for the start of %s", how.name)
		}
	}
	must(t, b.failures())
	checkTables(t, results)
}

// checkTables checks that every line of a table has as many cells as its first.
func checkTables(t *testing.T, markdown string) {
	t.Helper()
	columns := 0
	for text := range strings.Lines(markdown) {
		cells := strings.Count(text, "|")
		if cells == 0 {
			columns = 0
			continue
		}
		if columns == 0 {
			columns = cells
		}
		if cells != columns {
			t.Errorf("%d columns where there should be %d: %s", cells-1, columns-1, text)
		}
	}
}

func TestSoak(t *testing.T) {
	o := briefly(t)
	o.soak, o.out = 300*time.Millisecond, filepath.Join(t.TempDir(), "results.md")
	var out bytes.Buffer
	must(t, run(t.Context(), o, &out))
	results, err := os.ReadFile(o.out)
	must(t, err)
	for _, want := range []string{"**first**", "**second**", "**last**", " 0 errors", "- Modules: `github.com/caddyserver/caddy/v2` v2."} {
		if !bytes.Contains(results, []byte(want)) {
			t.Errorf("no %q in\n%s", want, results)
		}
	}
	if out.Len() > 0 {
		t.Errorf("the results are in the file, but run also printed: %s", &out)
	}
	checkTables(t, string(results))
}

func TestRowsAreComparedWithEarlierRows(t *testing.T) {
	before := make(map[string]bool)
	for _, r := range rows {
		if r.against != "" && (!before[r.against] || r.by.of == nil || r.plus != "" && !before[r.plus]) {
			t.Errorf("%s cannot be compared with %s", r.name, r.against)
		}
		if before[r.name] {
			t.Errorf("two rows are called %s", r.name)
		}
		before[r.name] = true
	}
}

func TestOptions(t *testing.T) {
	for _, args := range [][]string{{"-rows", "("}, {"-rounds", "0"}, {"-d", "-1s"}, {"-c", "0"}, {"more"}, {"-unknown"}} {
		if _, err := readOptions(args); err == nil {
			t.Errorf("%q: expected an error", args)
		}
	}
	o, err := readOptions([]string{"-rows", "refresh/(redis|files)$", "-list"})
	must(t, err)
	if o.command != "go run ./bench -rows 'refresh/(redis|files)$' -list" {
		t.Errorf("the command is %s", o.command)
	}
	var out bytes.Buffer
	must(t, run(t.Context(), o, &out))
	if !regexp.MustCompile(`(?m)^refresh/redis +refresh with rotation`).Match(out.Bytes()) {
		t.Errorf("the list is\n%s", &out)
	}
}

func TestNumbers(t *testing.T) {
	for value, want := range map[float64]string{0: "–", 1.25: "1.2", 9.96: "10.0", 12.3: "12", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := number(value); got != want {
			t.Errorf("%v is written %s, want %s", value, got, want)
		}
	}
	of := func(v float64) float64 { return v }
	for _, c := range []struct {
		list []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{3, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := median(c.list, of); got != c.want {
			t.Errorf("the median of %v is %v, want %v", c.list, got, c.want)
		}
	}
	if got := spread([]float64{.5, .25, .75}, of); got != "0.500 (0.250–0.750)" {
		t.Errorf("the spread is %s", got)
	}
}
