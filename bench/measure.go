package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/bench/internal/load"
	"github.com/caddy-oauth/caddy-oauth/bench/internal/proc"
	"github.com/caddy-oauth/caddy-oauth/bench/internal/site"
)

// sample is one measurement of a row.
type sample struct {
	load.Result
	staticRate float64       // the mean of the measurements of static before and after the row
	staticP99  time.Duration // the same
	staticCPU  time.Duration // the same
	ready      time.Duration // from the start of the process to its first token
	idle       int64         // memory before the load, resident, in bytes
	logged     string        // an error in the server's log
}

// settle is the time between the start of a server and the measurement of its memory.
const settle = 700 * time.Millisecond

// measureRow measures a row once, between two measurements of static.
func (b *bench) measureRow(ctx context.Context, r *row) (*sample, error) {
	if r.alone != nil {
		return r.alone(b, ctx)
	}
	connections := r.connections
	if connections == 0 {
		connections = b.connections
	}
	before, err := b.measureStatic(ctx, connections, true)
	if err != nil {
		return nil, err
	}
	s, err := b.measureServer(ctx, r, connections)
	if err != nil {
		return nil, err
	}
	after, err := b.measureStatic(ctx, connections, false)
	if err != nil {
		return nil, err
	}
	s.staticRate = (before.Rate() + after.Rate()) / 2
	s.staticP99 = (before.P99 + after.P99) / 2
	s.staticCPU = (before.CPU + after.CPU) / 2
	return s, nil
}

func (b *bench) measureStore(ctx context.Context) (*sample, error) {
	b.last = nil
	plan := &storePlan{Dir: b.dir, Measure: b.measure}
	result, err := runPart[storePlan, storeResult](ctx, "store", -1, plan)
	if err != nil {
		return nil, err
	}
	return &sample{Result: load.Result{Requests: result.Writes, Seconds: result.Seconds}}, nil
}

func (b *bench) measureVerify(ctx context.Context) (*sample, error) {
	b.last = nil
	result, err := runPart[verifyPlan, load.Result](ctx, "verify", b.serverCore, &verifyPlan{Measure: b.measure})
	if err != nil {
		return nil, err
	}
	return &sample{Result: *result}, nil
}

// measureStatic measures static with that many connections. The measurement after a row also serves as the one before the next.
func (b *bench) measureStatic(ctx context.Context, connections int, before bool) (*load.Result, error) {
	if before && b.last != nil && connections == b.connections {
		return b.last, nil
	}
	plan := b.plan("static", shape{}, b.static, connections)
	plan.Measure /= 2
	result, err := runPart[load.Plan, load.Result](ctx, "load", b.loadCore, plan)
	if err != nil {
		return nil, err
	}
	if result.Errors > 0 {
		return nil, fmt.Errorf("static: %s", result.Failure)
	}
	b.last = nil
	if connections == b.connections {
		b.last = result
		b.around = append(b.around, result)
	}
	return result, nil
}

func (b *bench) plan(do string, c shape, s *site.Server, connections int) *load.Plan {
	return &load.Plan{
		Work: do, Address: s.Address, Connections: connections, Warm: b.warm(), Measure: b.measure,
		Issuers: c.allIssuers(), Clients: c.allClients(), Scope: c.scope(), Route: page,
		PID: s.PID(), Admin: s.Admin,
	}
}

// measureServer starts a server for a row, and measures it under its load.
func (b *bench) measureServer(ctx context.Context, r *row, connections int) (*sample, error) {
	c := r.shape
	if r.redis {
		if err := b.needRedis(ctx); err != nil {
			return nil, err
		}
		c.store = "store redis " + b.redis.address
	}
	server, err := b.start(ctx, b.caddy, c.caddyfile, c.askToken)
	if err != nil {
		return nil, err
	}
	defer server.Stop()
	s := &sample{ready: server.Ready}
	if strings.HasPrefix(r.do, "refresh") || r.do == "code" {
		if err := approve(ctx, server, c); err != nil {
			return nil, err
		}
	}
	time.Sleep(min(settle, b.measure))
	if usage, err := proc.Of(server.PID()); err == nil {
		s.idle = usage.Memory
	}
	plan := b.plan(r.do, c, server, connections)
	if r.fresh {
		plan.Tokens = max(2, b.tokens/connections)
	}
	result, err := runPart[load.Plan, load.Result](ctx, "load", b.loadCore, plan)
	if err != nil {
		return nil, fmt.Errorf("%w %s", err, server.Complaints())
	}
	s.Result, s.logged = *result, server.Complaints()
	return s, nil
}

func (b *bench) needRedis(ctx context.Context) (err error) {
	if b.redis == nil {
		b.redis, err = startRedis(ctx, b.dir)
	}
	return err
}

// askToken requests a token from the last issuer, with the client credentials of the last client.
func (c shape) askToken(ctx context.Context, s *site.Server) (*http.Request, error) {
	issuers, clients := c.allIssuers(), c.allClients()
	form := url.Values{"grant_type": {"client_credentials"}}
	endpoint := "http://" + s.Address + issuers[len(issuers)-1].Token
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	client := clients[len(clients)-1]
	req.SetBasicAuth(client.ID, client.Secret)
	return req, nil
}

// approve consents to the app, as a person does.
func approve(ctx context.Context, s *site.Server, c shape) error {
	return s.Approve(ctx, c.allIssuers()[0].Authorize, url.Values{
		"response_type": {"code"}, "client_id": {c.allClients()[0].ID}, "redirect_uri": {load.RedirectURI}, "scope": {c.scope()},
	})
}
