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

// look is what a server holds at a time.
type look struct {
	at         time.Duration
	memory     int64
	goroutines int
	files      int // open
	records    int // files in the storage
}

// soakAll loads one server, which keeps its records in files, for a long time with work that leaves nothing behind, and
// shows whether anything grows. Each step of the load is a refresh, a token of a client's own, an introspection and a
// guarded route; there is no code flow in it, as the refresh tokens of that live for 30 days.
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
	looks := []look{b.look(ctx, server, began)}
	ticker := time.NewTicker(b.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			looks = append(looks, b.look(ctx, server, began))
			continue
		case err := <-done:
			if err != nil {
				return "", err
			}
		}
		break
	}
	looks = append(looks, b.look(ctx, server, began))
	return b.soakResults(looks, result), soakFailure(result, server)
}

func soakFailure(result *load.Result, server *site.Server) error {
	if result.Errors > 0 {
		return fmt.Errorf("%d requests failed: %s", result.Errors, result.Failure)
	}
	if complaint := server.Complaints(); complaint != "" {
		return fmt.Errorf("the log says: %s", complaint)
	}
	return nil
}

func (b *bench) look(ctx context.Context, server *site.Server, began time.Time) look {
	l := look{at: time.Since(began), goroutines: goroutines(ctx, server.Admin), records: filesIn(storageOf(server))}
	if usage, err := proc.Of(server.PID()); err == nil {
		l.memory, l.files = usage.Memory, usage.Files
	}
	return l
}

// goroutines returns how many there are, 0 if nobody says.
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
		return nil // what has just gone was not there to stay
	})
	return n
}

func (b *bench) soakResults(looks []look, result *load.Result) string {
	var w strings.Builder
	b.head(&w)
	fmt.Fprintf(&w, "\n## %v of load\n\n%s steps of four requests each, %s in a second, %d errors: a refresh on the default store, a token of a client's own, "+
		"an introspection and a guarded route.\n\n", b.soak, number(float64(result.Requests)), number(result.Rate()), result.Errors)
	table(&w, "after", "MB resident", "goroutines", "open files", "files in the storage")
	for _, l := range looks {
		lookLine(&w, l.at.Round(time.Second).String(), l)
	}
	lookLine(&w, "**first**", looks[0])
	if len(looks) > 2 {
		lookLine(&w, "**second**, under load", looks[1])
	}
	lookLine(&w, "**last**", looks[len(looks)-1])
	return w.String()
}

func lookLine(w *strings.Builder, name string, l look) {
	line(w, name, fmt.Sprintf("%.1f", megabytes(l.memory)), fmt.Sprint(l.goroutines), fmt.Sprint(l.files), fmt.Sprint(l.records))
}
