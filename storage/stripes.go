package storage

import (
	"context"
	"hash/crc32"
)

const stripeCount = 256

// stripes are the in-process locks of a store, one for every 256th of its keys. A waiter gives up
// when its ctx ends, which a sync.Mutex cannot.
type stripes [stripeCount]chan struct{}

func newStripes() *stripes {
	var s stripes
	for i := range s {
		s[i] = make(chan struct{}, 1)
	}
	return &s
}

// stripe returns which stripe the key belongs to, the same in every process.
func (k Key) stripe() uint8 {
	sum := ^uint32(0) // of the CRC-32 of kind, slash and ID, which are not copied into one for it
	for _, part := range [...]string{string(k.Kind), "/", k.ID} {
		for i := range len(part) {
			sum = crc32.IEEETable[byte(sum)^part[i]] ^ sum>>8
		}
	}
	return uint8(^sum % stripeCount)
}

func (s *stripes) lock(ctx context.Context, n uint8) error {
	// A select with both cases ready tosses a coin, and a request that has ended must not go on.
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case s[n] <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *stripes) unlock(n uint8) { <-s[n] }
