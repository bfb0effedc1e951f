package trail

import (
	"context"
	"iter"
	"slices"
	"time"
)

// Step is a request, as somebody sees it who watches a login. It has no secret.
type Step struct {
	Time      time.Time         `json:"time"`
	Issuer    string            `json:"issuer"`
	Endpoint  string            `json:"endpoint"` // "guard" for a guard
	Method    string            `json:"method"`
	Client    string            `json:"client_id,omitempty"`
	Subject   string            `json:"sub,omitempty"` // who is signed in
	GrantType string            `json:"grant_type,omitempty"`
	Address   string            `json:"client_ip,omitempty"`
	Sent      map[string]string `json:"sent,omitempty"` // parameters: the values of those that are never a secret, and how long the others are

	Status   int    `json:"status,omitempty"`
	Result   string `json:"result"`             // "ok" or an error code
	Location string `json:"location,omitempty"` // where the browser is sent
	ErrorID  string `json:"error_id,omitempty"`
}

// waiting is how many steps wait for somebody who watches. If there are more, the next ones are lost.
const waiting = 256

// Watched reports whether anybody watches. Nobody need make a Step otherwise.
func (t *Trail) Watched() bool { return t != nil && t.watched.Load() > 0 }

// Step shows a step to everybody who watches.
func (t *Trail) Step(s *Step) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, watcher := range t.watchers {
		select {
		case watcher <- s:
		default:
		}
	}
}

// Watch yields the steps from now on, until ctx ends.
func (t *Trail) Watch(ctx context.Context) iter.Seq[*Step] {
	steps := make(chan *Step, waiting)
	t.mu.Lock()
	t.watchers = append(t.watchers, steps)
	t.watched.Add(1)
	t.mu.Unlock()
	return func(yield func(*Step) bool) {
		defer func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.watchers = slices.DeleteFunc(t.watchers, func(other chan *Step) bool { return other == steps })
			t.watched.Add(-1)
		}()
		for {
			select {
			case <-ctx.Done():
				return
			case s := <-steps:
				if !yield(s) {
					return
				}
			}
		}
	}
}
