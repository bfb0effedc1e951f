package load

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// worker has one connection, and sends one request after the other.
type worker struct {
	plan   *Plan
	number int // its index among the workers
	conn   conn
	step   func() error // does the work once
	prover *Prover      // of the requests for tokens; nil: they have no proofs

	times   histogram
	errors  int
	failure error // the first error
}

// works are the kinds of work, by name. Each prepares a worker and returns its step.
var works = map[string]func(w *worker) (step func() error, err error){
	"static":             (*worker).plainForms,
	"route":              (*worker).route,
	"client_credentials": (*worker).clientCredentials,
	"refresh":            (*worker).refresh,
	"refresh/dpop":       (*worker).provenRefresh,
	"route/dpop":         (*worker).provenRoute,
	"code":               (*worker).codes,
	"introspect":         (*worker).introspect,
	"mix":                (*worker).mix,
}

func (w *worker) setUp(work func(*worker) (func() error, error)) (err error) {
	w.conn.until = time.Now().Add(prepareTimeout)
	w.step, err = work(w)
	w.conn.close() // the next one has a deadline of its own
	return err
}

// workUntil repeats the step until a time. It does at least one, so that every worker has a figure.
func (w *worker) workUntil(ctx context.Context, end time.Time) {
	if w.conn.net != nil && w.conn.net.SetDeadline(w.conn.until) != nil {
		w.conn.close()
	}
	for first, began := true, time.Now(); (first || began.Before(end)) && ctx.Err() == nil; first = false {
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

// fail counts an error, and waits a moment, so that the worker does not spin if the server is gone.
func (w *worker) fail(err error) {
	w.errors++
	if w.failure == nil {
		w.failure = err
	}
	time.Sleep(time.Millisecond)
}

// client returns the client of this worker. The clients are distributed among the workers.
func (w *worker) client() Client { return w.plan.Clients[w.number%len(w.plan.Clients)] }

func (w *worker) issuer() Issuer { return w.plan.Issuers[w.number%len(w.plan.Issuers)] }

// inTurn returns a step that sends requests in turn, and checks each answer.
func (w *worker) inTurn(requests [][]byte, check func() error) func() error {
	next := w.number * len(requests) / w.plan.Connections // the workers begin at different requests
	return func() error {
		request := requests[next%len(requests)]
		next++
		if err := w.conn.want(http.StatusOK, request); err != nil {
			return err
		}
		return check()
	}
}

func (*worker) noCheck() error { return nil }

// plainForms posts a form as long as a usual token request to a page that ignores it.
func (w *worker) plainForms() (func() error, error) {
	form := url.Values{
		"grant_type": {"client_credentials"}, "scope": {w.plan.Scope}, "resource": {"https://api.example.com/orders"},
		"padding": {"0123456789012345678901234567890123456789"},
	}
	request := post(w.plan.Address, w.plan.Route, w.client(), form)
	return w.inTurn([][]byte{request}, w.noCheck), nil
}
