package load

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// worker has one connection and does one thing after the other.
type worker struct {
	plan   *Plan
	number int // among the workers
	conn   conn
	step   func() error // does it once

	times   histogram
	errors  int
	failure error // the first
}

// works are the kinds of work, by name. Each readies a worker and returns what it is to do again and again.
var works = map[string]func(w *worker) (step func() error, err error){
	"static":             (*worker).plainForms,
	"route":              (*worker).route,
	"client_credentials": (*worker).clientCredentials,
	"refresh":            (*worker).refresh,
	"code":               (*worker).codes,
	"introspect":         (*worker).introspect,
	"mix":                (*worker).mix,
}

func (w *worker) setUp(work func(*worker) (func() error, error)) (err error) {
	w.conn.until = time.Now().Add(preparing)
	w.step, err = work(w)
	w.conn.close() // the next one has a deadline of its own
	return err
}

// workUntil works until a time.
func (w *worker) workUntil(ctx context.Context, end time.Time) {
	if w.conn.net != nil && w.conn.net.SetDeadline(w.conn.until) != nil {
		w.conn.close()
	}
	for began := time.Now(); began.Before(end) && ctx.Err() == nil; {
		err := w.step()
		now := time.Now()
		if err != nil {
			w.fail(err)
			began = time.Now()
			continue
		}
		w.times.observe(now.Sub(began))
		began = now
	}
}

// fail notes what went wrong, and waits a moment, so that a server that is gone does not make this the busiest loop of all.
func (w *worker) fail(err error) {
	w.errors++
	if w.failure == nil {
		w.failure = err
	}
	time.Sleep(time.Millisecond)
}

// client returns the worker's own client: the workers share out what clients there are.
func (w *worker) client() Client { return w.plan.Clients[w.number%len(w.plan.Clients)] }

func (w *worker) issuer() Issuer { return w.plan.Issuers[w.number%len(w.plan.Issuers)] }

// inTurn returns a step that sends requests in turn, and looks at each answer.
func (w *worker) inTurn(requests [][]byte, look func() error) func() error {
	next := w.number * len(requests) / w.plan.Connections // not all workers the same at the same time
	return func() error {
		request := requests[next%len(requests)]
		next++
		if err := w.conn.want(http.StatusOK, request); err != nil {
			return err
		}
		return look()
	}
}

func (*worker) noLook() error { return nil }

// plainForms posts a form as long as a usual token request, where nobody does anything with it.
func (w *worker) plainForms() (func() error, error) {
	form := url.Values{
		"grant_type": {"client_credentials"}, "scope": {w.plan.Scope}, "resource": {"https://api.example.com/orders"},
		"padding": {"0123456789012345678901234567890123456789"},
	}
	request := post(w.plan.Address, w.plan.Route, w.client(), form)
	return w.inTurn([][]byte{request}, w.noLook), nil
}
