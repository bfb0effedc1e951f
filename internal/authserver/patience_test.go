package authserver

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A node that begins reads thousands of revocations for its first request, many at once. What each of them takes must not
// be added up, or the request is refused while the store is quick.
func TestWaitsAtOnceCountOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := patiently(t.Context(), 5*time.Second)
		var reads sync.WaitGroup
		for range 16 {
			reads.Go(func() {
				for range 30 {
					ctx, done := waiting(ctx, time.Second)
					time.Sleep(100 * time.Millisecond)
					if ctx.Err() != nil {
						t.Error("given up within 3 seconds of 5")
					}
					done()
				}
			})
		}
		reads.Wait()
		ctx, done := waiting(ctx, time.Second)
		defer done()
		began := time.Now()
		<-ctx.Done()
		if left := time.Since(began); left != 2*time.Second {
			t.Errorf("then %s are left of 5 seconds, want 2", left)
		}
	})
}

// Time in which nothing is waited for is not the store's.
func TestPauseBetweenWaitsIsFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := patiently(t.Context(), time.Second)
		for range 3 {
			waits, done := waiting(ctx, time.Hour)
			time.Sleep(200 * time.Millisecond)
			if waits.Err() != nil {
				t.Fatal("given up too early")
			}
			done()
			time.Sleep(time.Hour)
		}
		waits, done := waiting(ctx, time.Hour)
		defer done()
		began := time.Now()
		<-waits.Done()
		if left := time.Since(began); left != 400*time.Millisecond {
			t.Errorf("%s are left of a second, want 400ms", left)
		}
	})
}
