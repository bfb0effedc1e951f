package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/caddy-oauth/caddy-oauth/bench/internal/load"
	"github.com/caddy-oauth/caddy-oauth/bench/internal/proc"
	"github.com/caddy-oauth/caddy-oauth/bench/internal/site"
)

// bench is a run, and the processes that it has started.
type bench struct {
	*options
	dir    string // for all files; close removes it
	caddy  *site.Program
	plain  *site.Program // without the oauth modules
	static *site.Server  // the same program as caddy, without an issuer
	redis  *redis        // nil until a row needs it

	serverCore, loadCore int // the processors; negative: any
	dirs                 int // how many directories newDir has made

	samples map[string][]*sample // by row
	broken  map[string]error     // rows that could not be measured
	around  []*load.Result       // of static, with the connections of the options
	last    *load.Result         // of static, just before; nil if it had another number of connections
	starts  map[string][]started // by program
}

func newBench(ctx context.Context, o *options) (b *bench, err error) {
	b = &bench{
		options: o, serverCore: -1, loadCore: -1,
		samples: make(map[string][]*sample), broken: make(map[string]error), starts: make(map[string][]started),
	}
	if cores := proc.Cores(); o.pin && len(cores) > 1 {
		b.serverCore, b.loadCore = cores[0], cores[1]
	}
	if b.dir, err = os.MkdirTemp(o.dir, "caddy-oauth-bench-*"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.caddy, err = b.build(ctx, b.dir, "cmd/caddy"); err != nil {
		return nil, err
	}
	if b.plain, err = b.build(ctx, b.dir, "bench/plain"); err != nil {
		return nil, err
	}
	b.static, err = b.start(ctx, b.caddy, plainCaddyfile, askPage)
	return b, err
}

func (b *bench) close() {
	if b.static != nil {
		b.static.Stop()
	}
	if b.redis != nil {
		b.redis.stop()
	}
	_ = os.RemoveAll(b.dir) //nolint:gosec // G703: newBench made it
}

// newDir returns an empty directory.
func (b *bench) newDir() (string, error) {
	b.dirs++
	dir := filepath.Join(b.dir, fmt.Sprint(b.dirs))
	return dir, os.Mkdir(dir, 0o700)
}

// start runs Caddy on the processor of the server.
func (b *bench) start(
	ctx context.Context, program *site.Program, caddyfile func(*site.Server) string,
	first func(context.Context, *site.Server) (*http.Request, error),
) (*site.Server, error) {
	dir, err := b.newDir()
	if err != nil {
		return nil, err
	}
	return site.Start(ctx, site.Config{Program: program, Dir: dir, Core: b.serverCore, Caddyfile: caddyfile, First: first})
}

// askPage requests the page.
func askPage(ctx context.Context, s *site.Server) (*http.Request, error) {
	return http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Address+page, nil)
}

// measureAll measures the chosen rows, each once per round, and returns the results. If a row cannot be measured, it goes on
// with the others.
func (b *bench) measureAll(ctx context.Context) (string, error) {
	for round := range b.rounds {
		for i := range rows {
			r := &rows[i]
			if !b.rows.MatchString(r.name) || b.broken[r.name] != nil {
				continue
			}
			s, err := b.measureRow(ctx, r)
			if ctx.Err() != nil {
				return b.results(), ctx.Err()
			}
			if err != nil {
				b.broken[r.name] = err
				fmt.Fprintf(os.Stderr, "%s: %v\n", r.name, err)
				continue
			}
			b.samples[r.name] = append(b.samples[r.name], s)
			b.say(round, r.name, s)
		}
		if err := b.measureStarts(ctx); err != nil {
			return b.results(), err
		}
	}
	return b.results(), b.failures()
}

// say prints the progress of the run to the terminal.
func (b *bench) say(round int, name string, s *sample) {
	fmt.Fprintf(os.Stderr, "%s %d/%d %-24s %6.0f/s %s\n", time.Now().Format(time.TimeOnly), round+1, b.rounds, name, s.Rate(), s.Failure)
}

// failures returns an error if a request failed or a row could not be measured.
func (b *bench) failures() error {
	for _, r := range rows {
		if err := b.broken[r.name]; err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		for _, s := range b.samples[r.name] {
			if failed := cmp.Or(s.Failure, s.logged); failed != "" {
				return fmt.Errorf("%s: %d requests failed: %s", r.name, s.Errors, failed)
			}
		}
	}
	return nil
}
