package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/caddy-oauth/caddy-oauth/bench/internal/proc"
	"github.com/caddy-oauth/caddy-oauth/bench/internal/site"
)

// started is how long a start took, and how much memory the server had then.
type started struct {
	ready time.Duration
	usage proc.Usage
}

// starter is a way to start a server.
type starter struct {
	name      string
	program   func(b *bench) *site.Program
	caddyfile func(*site.Server) string
	first     func(context.Context, *site.Server) (*http.Request, error)
}

// starters are the ways to start a server. The results compare each with the first.
var starters = []starter{
	{"plain Caddy, to its first page", func(b *bench) *site.Program { return b.plain }, plainCaddyfile, askPage},
	{"with this module, to its first page", func(b *bench) *site.Program { return b.caddy }, plainCaddyfile, askPage},
	{"with an issuer, to its first token", func(b *bench) *site.Program { return b.caddy }, shape{}.caddyfile, shape{}.askToken},
}

// measureStarts measures the starts of all servers.
func (b *bench) measureStarts(ctx context.Context) error {
	if !b.rows.MatchString("start") {
		return nil
	}
	for range b.options.starts {
		for _, how := range starters {
			server, err := b.start(ctx, how.program(b), how.caddyfile, how.first)
			if err != nil {
				return err
			}
			time.Sleep(min(settle, b.measure))
			usage, err := proc.Of(server.PID())
			server.Stop()
			if err != nil && !errors.Is(err, errors.ErrUnsupported) {
				return err
			}
			b.starts[how.name] = append(b.starts[how.name], started{server.Ready, usage})
		}
	}
	return nil
}
