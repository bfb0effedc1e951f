// Package load is a client under which a server has to work as hard as it can: a number of connections, on each of which
// a request follows the answer to the one before. It costs little itself, as it may have to share the machine.
package load

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/caddy-oauth/caddy-oauth/bench/internal/proc"
)

// Plan says what to do.
type Plan struct {
	Work    string // see works
	Address string // host and port of the server

	Connections   int
	Warm, Measure time.Duration // how long: before anything counts, and then

	Issuers []Issuer
	Clients []Client
	Scope   string
	Route   string // a path

	// Tokens is how many access tokens are presented in turn on each connection: one is a token that has been seen
	// before, and when there are more than a server remembers, each is new to it.
	Tokens int

	PID   int    // of the server
	Admin string // host and port of Caddy's admin API
}

// Issuer has the paths of an issuer's endpoints.
type Issuer struct{ Authorize, Token, Introspect string }

// Client is a confidential client of every issuer. Its redirect URI is nowhere.
type Client struct{ ID, Secret string }

// RedirectURI is the one of every client. Nothing listens there, as nobody follows.
const RedirectURI = "http://127.0.0.1:65000/callback"

// Result is what was found. What could not be measured is 0.
type Result struct {
	Requests int
	Errors   int
	Failure  string // the first of these
	Seconds  float64

	P50, P99, Max time.Duration
	CPU           time.Duration // of the server, for each request
	Generator     time.Duration // of this process, for each request
	Allocations   float64       // in the server, for each request
	Memory        int64         // of the server at the end, resident, in bytes
}

// Rate returns the requests in each second.
func (r *Result) Rate() float64 { return float64(r.Requests) / r.Seconds }

const (
	patience  = 20 * time.Second // for an answer
	preparing = 5 * time.Minute  // for all that comes before the load, such as thousands of tokens
)

// Run carries out a plan.
func Run(ctx context.Context, plan *Plan) (*Result, error) {
	workers, err := prepare(plan)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, w := range workers {
			w.conn.close()
		}
	}()
	if _, err := phase(ctx, workers, plan.Warm); err != nil {
		return nil, err
	}
	before := look(ctx, plan)
	seconds, err := phase(ctx, workers, plan.Measure)
	if err != nil {
		return nil, err
	}
	after := look(ctx, plan)

	result := &Result{Seconds: seconds, Memory: after.server.Memory}
	var times histogram
	for _, w := range workers {
		times.add(&w.times)
		result.Errors += w.errors
		if result.Failure == "" && w.failure != nil {
			result.Failure = w.failure.Error()
		}
	}
	result.Requests = times.count()
	result.P50, result.P99, result.Max = times.quantile(.5), times.quantile(.99), times.quantile(1)
	if n := result.Requests; n > 0 {
		result.CPU = (after.server.CPU - before.server.CPU) / time.Duration(n)
		result.Generator = (after.own.CPU - before.own.CPU) / time.Duration(n)
		result.Allocations = float64(after.allocations-before.allocations) / float64(n)
	}
	return result, nil
}

// prepare makes the workers, all at once, and has each of them ready for its first request.
func prepare(plan *Plan) ([]*worker, error) {
	work, ok := works[plan.Work]
	if !ok {
		return nil, fmt.Errorf("no work is called %q", plan.Work)
	}
	workers, errs := make([]*worker, plan.Connections), make([]error, plan.Connections)
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() {
			w := &worker{plan: plan, number: i, conn: conn{address: plan.Address}}
			workers[i], errs[i] = w, w.setUp(work)
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return workers, nil
}

// phase has all workers work for a time, and forgets what was before.
func phase(ctx context.Context, workers []*worker, length time.Duration) (seconds float64, err error) {
	began := time.Now()
	end := began.Add(length)
	var all sync.WaitGroup
	for _, w := range workers {
		w.times, w.errors, w.failure = histogram{}, 0, nil
		w.conn.until = end.Add(patience)
		all.Go(func() { w.workUntil(ctx, end) })
	}
	all.Wait()
	return time.Since(began).Seconds(), ctx.Err()
}

// state is what is known of the server and of this process at a time.
type state struct {
	server, own proc.Usage
	allocations uint64
}
