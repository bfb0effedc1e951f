package registration

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

const (
	// undisturbed is how old a registration must be to be dropped for another: somebody may be signing in with a younger one.
	undisturbed = 10 * time.Minute
	// countEvery is how long this node believes its count of registrations. Other nodes register clients meanwhile.
	countEvery = time.Minute
)

// room bounds the number of registrations.
type room struct {
	making *semaphore.Weighted // held to use the rest

	counted time.Time // when this node counted; zero: never
	count   int       // of registrations, as far as this node knows
	left    int       // how many this node adds before it counts again, so that several nodes do not each take all the room
	drop    []*Record // those that can be dropped now or later, the first one last
}

// makeRoom makes room for one more registration, or returns a *FullError. It drops those first that nobody has used, and then those
// whose tokens have ended; the oldest first.
func (r *Registrations) makeRoom(ctx context.Context) error {
	if err := r.room.making.Acquire(ctx, 1); err != nil {
		return errors.Join(storage.ErrTimeout, err)
	}
	defer r.room.making.Release(1)
	now, room := r.config.Now(), &r.room
	if room.counted.IsZero() || now.Sub(room.counted) >= countEvery || room.left <= 0 {
		if err := r.countRecords(ctx, now); err != nil {
			room.counted = time.Time{}
			return err
		}
	}
	for room.count >= r.config.Max {
		n := len(room.drop)
		if n == 0 {
			return &FullError{r.config.Max, room.counted.Add(countEvery).Sub(now)}
		}
		record := room.drop[n-1]
		if wait := record.droppable().Sub(now); wait > 0 {
			return &FullError{r.config.Max, wait}
		}
		dropped, err := r.dropRecord(ctx, record, now)
		if err != nil {
			return err
		}
		room.drop = room.drop[:n-1]
		if dropped {
			room.count--
		}
	}
	room.count++
	room.left--
	return nil
}

// countRecords counts the registrations, and finds those to drop if there are too many.
func (r *Registrations) countRecords(ctx context.Context, now time.Time) error {
	room := &r.room
	room.counted, room.count, room.drop, room.left = now, 0, nil, max(1, r.config.Max/4)
	for _, err := range r.config.Store.List(ctx, storage.KindDynamic) {
		if err != nil {
			return err
		}
		room.count++
	}
	if room.count < r.config.Max {
		return nil
	}
	room.count = 0 // without those that have expired
	for record, err := range r.All(ctx) {
		if err != nil {
			return err
		}
		room.count++
		if !record.droppable().IsZero() {
			room.drop = append(room.drop, record)
		}
	}
	// The order of dropping: what can be dropped now, of these what nobody has used, of these the oldest.
	slices.SortFunc(room.drop, func(a, b *Record) int {
		return cmp.Or(
			compareTrue(a.droppable().After(now), b.droppable().After(now)),
			compareTrue(!a.Used.IsZero(), !b.Used.IsZero()),
			a.droppable().Compare(b.droppable()),
		)
	})
	slices.Reverse(room.drop)
	return nil
}

// compareTrue orders false before true.
func compareTrue(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// droppable returns from when on a registration can be dropped for another one, zero for never.
func (r *Record) droppable() time.Time {
	if r.Used.IsZero() {
		return r.Created.Add(undisturbed)
	}
	if r.Until.IsZero() {
		return time.Time{} // it has tokens for ever
	}
	return r.Until.Add(slack) // it is not updated at each use
}

// dropRecord deletes a registration, unless it is used by now, and reports whether it did.
func (r *Registrations) dropRecord(ctx context.Context, record *Record, now time.Time) (dropped bool, err error) {
	err = r.update(ctx, record.ID, func(old *Record) (*Record, error) {
		if dropped = true; old != nil && old.live(now) {
			if at := old.droppable(); at.IsZero() || at.After(now) {
				dropped = false
				return nil, storage.ErrKeep
			}
		}
		return nil, nil
	})
	return dropped, err
}
