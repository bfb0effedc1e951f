// Package stripes locks the records of a store within one process: each record belongs to one of a fixed number of locks, so
// that locks need not be created and removed with the records.
package stripes

import (
	"context"
	"hash/crc32"
)

// Count is how many stripes there are.
const Count = 256

// Stripes are the locks of one store. Unlike a sync.Mutex, they let a waiter give up when its context ends.
type Stripes [Count]chan struct{}

// New returns unlocked stripes.
func New() *Stripes {
	var s Stripes
	for i := range s {
		s[i] = make(chan struct{}, 1)
	}
	return &s
}

// Of returns the stripe of a record, which is the same in every process.
func Of(kind, id string) uint8 {
	// The CRC-32 of kind, slash and ID, computed byte by byte to save a copy of the three.
	sum := ^uint32(0)
	for _, part := range [...]string{kind, "/", id} {
		for i := range len(part) {
			sum = crc32.IEEETable[byte(sum)^part[i]] ^ sum>>8
		}
	}
	return uint8(^sum % Count)
}

// Lock waits for a stripe as long as ctx lives.
func (s *Stripes) Lock(ctx context.Context, n uint8) error {
	// If both cases of the last select are ready, it chooses at random, but a request that has ended must not continue.
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case s[n] <- struct{}{}:
		return nil
	default: // a context may make a timer when it is asked for its end
	}
	select {
	case s[n] <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Unlock releases a stripe.
func (s *Stripes) Unlock(n uint8) { <-s[n] }
