// Package load puts a server under full load: on each of a number of connections, it sends the next request as soon as the last
// one is answered. It uses little processor time itself, since it may share the machine with the server.
//
// Start reading at [Run]. works lists the kinds of requests.
package load

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/caddy-oauth/caddy-oauth/bench/internal/proc"
)

// Plan is a load.
type Plan struct {
	Work    string // see works
	Address string // host and port of the server

	Connections   int
	Warm, Measure time.Duration // how long to warm up, and how long to measure

	Issuers []Issuer
	Clients []Client
	Scope   string
	Route   string // a path

	// Tokens is how many access tokens each connection uses, in turn. With one, the server has checked it before. With more
	// than the server remembers, each is new to it.
	Tokens int

	PID   int    // of the server
	Admin string // host and port of Caddy's admin API
}

// Issuer has the paths of an issuer's endpoints.
type Issuer struct{ Authorize, Token, Introspect string }

// Client is a confidential client of every issuer. Its redirect URI is RedirectURI.
type Client struct{ ID, Secret string }

// RedirectURI is the redirect URI of every client. Nothing listens there, since the load follows no redirects.
const RedirectURI = "http://127.0.0.1:65000/callback"

// Result is the result of a load. Values that could not be measured are 0.
type Result struct {
	Requests int
	Errors   int
	Failure  string // the first error
	Seconds  float64

	P50, P99, Max time.Duration
	CPU           time.Duration // of the server, for each request
	Generator     time.Duration // of this process, for each request
	Allocations   float64       // in the server, for each request
	Memory        int64         // of the server at the end, resident, in bytes
}

// Rate returns the requests per second.
func (r *Result) Rate() float64 { return float64(r.Requests) / r.Seconds }

const (
	answerTimeout  = time.Minute
	prepareTimeout = 5 * time.Minute // for everything before the load, such as thousands of tokens
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

// prepare makes the workers and prepares them for their first request, all at the same time.
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

// phase clears the counts of all workers, and runs them for a time.
func phase(ctx context.Context, workers []*worker, length time.Duration) (seconds float64, err error) {
	began := time.Now()
	end := began.Add(length)
	var all sync.WaitGroup
	for _, w := range workers {
		w.times, w.errors, w.failure = histogram{}, 0, nil
		w.conn.until = end.Add(answerTimeout)
		all.Go(func() { w.workUntil(ctx, end) })
	}
	all.Wait()
	return time.Since(began).Seconds(), ctx.Err()
}

// state has figures of the server and of this process at one time.
type state struct {
	server, own proc.Usage
	allocations uint64
}
