package storage

import (
	"context"
	"time"
)

// pace holds back work that can wait. Go gives the processor to others only now and then while a goroutine has work, and
// requests would wait for that long; so this one rests as long as it works.
type pace struct{ since time.Time }

const paceStep = 500 * time.Microsecond

// wait is called before each piece of work.
func (p *pace) wait(ctx context.Context) error {
	if p.since.IsZero() {
		p.since = time.Now()
	}
	worked := time.Since(p.since)
	if worked < paceStep {
		return ctx.Err()
	}
	rest := time.NewTimer(min(worked, 100*paceStep))
	defer rest.Stop()
	select {
	case <-rest.C:
	case <-ctx.Done():
	}
	p.since = time.Now()
	return ctx.Err()
}
