package main

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/bench/internal/load"
	"github.com/caddy-oauth/caddy-oauth/bench/internal/proc"
	"github.com/caddy-oauth/caddy-oauth/bench/internal/site"
)

// soakSample is what a server has in use at one time.
type soakSample struct {
	at         time.Duration
	memory     int64
	goroutines int
	files      int // open
	records    int // files in the storage
}

// soakAll loads one server with the default store for a long time, with work that adds no records, and shows whether anything
// grows. Each step of the load is a refresh, a token by client credentials, an introspection and a guarded route. It has no code
// flow, which would add a family that lives for 30 days.
func (b *bench) soakAll(ctx context.Context) (string, error) {
	c := shape{guarded: true}
	server, err := b.start(ctx, b.caddy, c.caddyfile, c.askToken)
	if err != nil {
		return "", err
	}
	defer server.Stop()
	if err := approve(ctx, server, c); err != nil {
		return "", err
	}
	plan := b.plan("mix", c, server, b.connections)
	plan.Warm, plan.Measure = 0, b.soak

	var result *load.Result
	done := make(chan error, 1)
	go func() {
		var err error
		result, err = runPart[load.Plan, load.Result](ctx, "load", b.loadCore, plan)
		done <- err
	}()
	began := time.Now()
	samples := []soakSample{b.soakSample(ctx, server, began)}
	ticker := time.NewTicker(b.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			samples = append(samples, b.soakSample(ctx, server, began))
			continue
		case err := <-done:
			if err != nil {
				return "", err
			}
		}
		break
	}
	samples = append(samples, b.soakSample(ctx, server, began))
	return b.soakResults(samples, result), soakFailure(result, server)
}

func soakFailure(result *load.Result, server *site.Server) error {
	if result.Errors > 0 {
		return fmt.Errorf("%d requests failed: %s", result.Errors, result.Failure)
	}
	if logged := server.Complaints(); logged != "" {
		return fmt.Errorf("an error in the log: %s", logged)
	}
	return nil
}

func (b *bench) soakSample(ctx context.Context, server *site.Server, began time.Time) soakSample {
	s := soakSample{at: time.Since(began), goroutines: goroutines(ctx, server.Admin), records: filesIn(storageOf(server))}
	if usage, err := proc.Of(server.PID()); err == nil {
		s.memory, s.files = usage.Memory, usage.Files
	}
	return s
}

// goroutines returns the number of goroutines, or 0 if it is unknown.
func goroutines(ctx context.Context, admin string) (n int) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/debug/pprof/goroutine?debug=1", nil)
	if err != nil {
		return 0
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	first, _ := bufio.NewReader(resp.Body).ReadString('\n')
	if _, err := fmt.Sscanf(first, "goroutine profile: total %d", &n); err != nil {
		return 0
	}
	return n
}

func filesIn(dir string) (n int) {
	_ = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			n++
		}
		return nil // the file was removed since, so it does not count
	})
	return n
}

func (b *bench) soakResults(samples []soakSample, result *load.Result) string {
	var w strings.Builder
	b.head(&w)
	fmt.Fprintf(&w, "\n## %v of load\n\n%s steps of four requests each, %s in a second, %d errors: a refresh in the default store, a token by client credentials, "+
		"an introspection and a guarded route.\n\n", b.soak, number(float64(result.Requests)), number(result.Rate()), result.Errors)
	table(&w, "after", "MB resident", "goroutines", "open files", "files in the storage")
	for _, s := range samples {
		soakLine(&w, s.at.Round(time.Second).String(), s)
	}
	soakLine(&w, "**first**", samples[0])
	if len(samples) > 2 {
		soakLine(&w, "**second**, under load", samples[1])
	}
	soakLine(&w, "**last**", samples[len(samples)-1])
	return w.String()
}

func soakLine(w *strings.Builder, name string, s soakSample) {
	line(w, name, fmt.Sprintf("%.1f", megabytes(s.memory)), fmt.Sprint(s.goroutines), fmt.Sprint(s.files), fmt.Sprint(s.records))
}
