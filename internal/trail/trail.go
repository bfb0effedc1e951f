// Package trail remembers the last failures of this process, so that the owner can ask what an error ID stands for. It also shows each
// request to owners who watch, see [Trail.Watch].
//
// A failure has the fields of its line in the log, and no others: both are made from the same fields, see [Trail.Log]. None of them is
// a secret. The memory is bounded, and is gone when the process ends.
package trail

import (
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Failure is a request that failed. The JSON names are those of the fields in the log.
type Failure struct {
	ID      string    `json:"error_id"`
	Time    time.Time `json:"time"`
	Message string    `json:"msg,omitempty"`

	Issuer    string `json:"issuer,omitempty"`   // its name, or its URL at a guard of a remote issuer
	Endpoint  string `json:"endpoint,omitempty"` // "guard" for a guard
	Address   string `json:"client_ip,omitempty"`
	Client    string `json:"client_id,omitempty"`
	GrantType string `json:"grant_type,omitempty"`
	Resource  string `json:"resource,omitempty"` // of a guard

	Code        string `json:"error,omitempty"`
	Description string `json:"description,omitempty"`
	Status      int    `json:"status,omitempty"`

	Sent     string `json:"sent,omitempty"`
	Expected string `json:"expected,omitempty"`
	Setting  string `json:"setting,omitempty"`
	Cause    string `json:"cause,omitempty"`

	Family  string `json:"family,omitempty"` // the ID of its record
	Subject string `json:"sub,omitempty"`
}

// Capacity is how many failures of endpoints a Trail remembers, and how many of guards. Guards have their own: anybody can make them
// refuse requests by the thousand, and that must not push out what an app did wrong.
const Capacity = 1000

// Trail remembers failures. Safe for concurrent use.
type Trail struct {
	mu        sync.Mutex
	endpoints ring
	guards    ring
	watchers  []chan *Step
	watched   atomic.Int32 // the number of watchers
}

// New returns an empty Trail.
func New() *Trail { return new(Trail) }

// Log writes a line to the log, and remembers it if it has an error_id, whatever the level of the log.
func (t *Trail) Log(log *zap.Logger, level zapcore.Level, message string, fields ...zap.Field) {
	log.Log(level, message, fields...)
	if t == nil {
		return
	}
	if f, ok := failureOf(fields); ok {
		f.Time, f.Message = time.Now(), message
		t.add(&f)
	}
}

// failureOf returns the failure that the fields of a line describe.
func failureOf(fields []zap.Field) (f Failure, ok bool) {
	encoded := zapcore.NewMapObjectEncoder()
	for _, field := range fields {
		field.AddTo(encoded)
	}
	if encoded.Fields["error_id"] == nil {
		return f, false
	}
	// As the log would have it: the names and the forms are those of JSON.
	text, err := json.Marshal(encoded.Fields)
	return f, err == nil && json.Unmarshal(text, &f) == nil
}

func (t *Trail) add(f *Failure) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.Endpoint == "guard" {
		t.guards.add(f)
		return
	}
	t.endpoints.add(f)
}

// Find returns the failure with an error ID.
func (t *Trail) Find(id string) (Failure, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range []*ring{&t.endpoints, &t.guards} {
		if i := slices.IndexFunc(r.all, func(f *Failure) bool { return f.ID == id }); i >= 0 {
			return *r.all[i], true
		}
	}
	return Failure{}, false
}

// Last returns the last failures, newest first.
func (t *Trail) Last(most int) []Failure {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := make([]Failure, 0, len(t.endpoints.all)+len(t.guards.all))
	for _, r := range []*ring{&t.endpoints, &t.guards} {
		for _, f := range r.all {
			last = append(last, *f)
		}
	}
	slices.SortStableFunc(last, func(a, b Failure) int { return b.Time.Compare(a.Time) })
	return last[:min(most, len(last))]
}

// ring has the last failures of a kind.
type ring struct {
	all  []*Failure
	next int // the place of the oldest, once it is full
}

func (r *ring) add(f *Failure) {
	if len(r.all) < Capacity {
		r.all = append(r.all, f)
		return
	}
	r.all[r.next] = f
	r.next = (r.next + 1) % Capacity
}
