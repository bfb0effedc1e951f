package authserver

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

func TestFreezeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			name   string
			during func(f *freezer)
			over   bool
			frozen []time.Duration // after the start
			thawed []time.Duration
		}{
			{"by time", func(*freezer) {}, true, []time.Duration{0, 59 * time.Second}, []time.Duration{61 * time.Second}},
			{"not while another server has its place", func(*freezer) {}, false, []time.Duration{59 * time.Second, time.Hour}, nil},
			{"not when the server has ended", func(f *freezer) { f.stay() }, true, []time.Duration{time.Hour}, nil},
			{"when it is thawed", func(f *freezer) { f.thaw() }, true, nil, []time.Duration{time.Second, time.Hour}},
			{"later if it begins again", func(f *freezer) {
				_, _ = f.freeze(t.Context(), 2*time.Minute, yes)
			}, true, []time.Duration{90 * time.Second}, []time.Duration{121 * time.Second}},
			{"after it was thawed and begun again", func(f *freezer) {
				f.thaw()
				_, _ = f.freeze(t.Context(), 2*time.Minute, yes)
			}, true, []time.Duration{90 * time.Second}, []time.Duration{121 * time.Second}},
		} {
			f, start := newFreezer(), time.Now()
			if _, err := f.freeze(t.Context(), time.Minute, func() bool { return c.over }); err != nil {
				t.Fatal(err)
			}
			c.during(f)
			check := func(at time.Duration, want bool) {
				time.Sleep(at - time.Since(start))
				synctest.Wait()
				if f.enter() == want {
					t.Errorf("%s: after %s, frozen is %v, want %v", c.name, at, !want, want)
				}
				if !want {
					f.leave()
				}
			}
			for _, at := range c.frozen {
				check(at, true)
			}
			for _, at := range c.thawed {
				check(at, false)
			}
		}
	})
}

// However many write, nothing is written while that is held up.
func TestFreezeUnderLoad(t *testing.T) {
	f := newFreezer()
	var written atomic.Int64
	store := &heldStore{&countedStore{&writeCounter{storage.OpenMemory(), &written}, f}, f}
	var writers sync.WaitGroup
	var over atomic.Bool
	key := storage.Key{Kind: "kind", ID: "1"}
	for range 4 {
		writers.Go(func() {
			for !over.Load() {
				c := &requestContext{Context: t.Context()}
				for range 3 {
					_ = store.Put(c, key, nil, time.Time{}) // or it is put off
				}
				c.pass.end()
				_ = store.Delete(t.Context(), key)
				runtime.Gosched() // to let others have a turn while this is refused
			}
		})
	}
	for n := range 100 {
		if _, err := f.freeze(t.Context(), time.Minute, yes); err != nil {
			t.Fatal(err)
		}
		before := written.Load()
		for range 100 {
			runtime.Gosched()
		}
		if after := written.Load(); after != before {
			t.Fatalf("freeze %d: %d writes", n, after-before)
		}
		f.thaw()
		for written.Load() == before {
			runtime.Gosched()
		}
	}
	over.Store(true)
	writers.Wait()
	if n := f.state.Load(); n != 0 {
		t.Errorf("%d are still writing", n)
	}
}

// writeCounter counts writes.
type writeCounter struct {
	storage.Store
	n *atomic.Int64
}

func (s *writeCounter) Put(context.Context, storage.Key, []byte, time.Time) error {
	s.n.Add(1)
	return nil
}

func (s *writeCounter) Delete(context.Context, storage.Key) error {
	s.n.Add(1)
	return nil
}

// A request that has written once may write on: a code that is used up must lead to tokens.
func TestPass(t *testing.T) {
	f, p := newFreezer(), new(pass)
	if leave := p.enter(f); leave == nil {
		t.Fatal("no entry")
	}
	go func() { _, _ = f.freeze(t.Context(), time.Minute, yes) }()
	for f.enter() {
		f.leave()
		time.Sleep(time.Millisecond)
	}
	if leave := p.enter(f); leave == nil {
		t.Error("no entry for a request that has begun to write")
	}
	if leave := new(pass).enter(f); leave != nil {
		t.Error("entry for a request that has not begun to write")
	}
	p.end()
	if until := f.frozenUntil(); until.IsZero() {
		t.Error("the freeze did not come about when the request was over")
	}
	if leave := p.enter(f); leave != nil {
		t.Error("entry for what a request has left behind")
	}
	f.thaw()
	leave := p.enter(f)
	if leave == nil {
		t.Fatal("no entry for what a request has left behind")
	}
	leave()
	if n := f.state.Load(); n != 0 {
		t.Errorf("%d are still writing", n)
	}
}
