package fetch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/testclock"
)

// try asks a governor for a request that is over at once.
func try(t *testing.T, g *governor, r Request, result error) error {
	t.Helper()
	u, err := url.Parse(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	leave, err := g.enter(t.Context(), u, &r)
	if err == nil {
		leave(result)
	}
	return err
}

func TestRequestsInAMinute(t *testing.T) {
	for _, c := range []struct {
		name  string
		known bool
		want  int
		url   func(n int) string
	}{
		{"to one origin", true, 30, func(n int) string { return fmt.Sprintf("https://a.example/%d", n) }},
		{"to one origin, unknown", false, 23, func(n int) string { return fmt.Sprintf("https://a.example/%d", n) }},
		{"in all", true, 120, func(n int) string { return fmt.Sprintf("https://a%d.example/", n) }},
		{"in all, unknown", false, 90, func(n int) string { return fmt.Sprintf("https://a%d.example/", n) }},
		{"to other ports", true, 120, func(n int) string { return fmt.Sprintf("https://a.example:%d/", n+1) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock := testclock.New()
			g := newGovernor(clock.Now)
			for n := range c.want {
				if err := try(t, g, Request{URL: c.url(n), Known: c.known}, nil); err != nil {
					t.Fatalf("request %d: %v", n, err)
				}
				clock.Advance(100 * time.Millisecond)
			}
			elapsed := time.Duration(c.want) * 100 * time.Millisecond
			e := refused(t, try(t, g, Request{URL: c.url(c.want), Known: c.known}, nil), RateLimit)
			if e.Retry != time.Minute-elapsed || e.Sent() {
				t.Errorf("%+v", e)
			}
			clock.Advance(e.Retry)
			if err := try(t, g, Request{URL: c.url(c.want), Known: c.known}, nil); err != nil {
				t.Errorf("a minute after the first: %v", err)
			}
			_ = refused(t, try(t, g, Request{URL: c.url(c.want + 1), Known: c.known}, nil), RateLimit)
		})
	}
}

// Whoever invents URLs uses up no limit that requests for known ones need, neither in all nor of an origin.
func TestKnownURLsAreFetched(t *testing.T) {
	g := newGovernor(testclock.New().Now)
	for n := range 1000 {
		_ = try(t, g, Request{URL: fmt.Sprintf("https://client.example/?%d", n)}, nil)
		_ = try(t, g, Request{URL: fmt.Sprintf("https://a%d.example/", n)}, nil)
	}
	if err := try(t, g, Request{URL: "https://client.example/", Known: true}, nil); err != nil {
		t.Error(err)
	}
}

func TestBackOff(t *testing.T) {
	clock := testclock.New()
	g := newGovernor(clock.Now)
	r := Request{URL: "https://a.example/", Purpose: "one"}
	failure := &Error{Reason: Status, Status: 500, Err: errors.New("expected 200, not 500")}
	wait := time.Minute
	for range 8 {
		if err := try(t, g, r, failure); err != nil {
			t.Fatal(err)
		}
		e := refused(t, try(t, g, r, nil), BackOff)
		if e.Retry != wait || e.Error() != "failed before: status: expected 200, not 500" || e.Sent() {
			t.Errorf("%+v, want %s", e, wait)
		}
		clock.Advance(wait - 1)
		_ = refused(t, try(t, g, r, nil), BackOff)
		clock.Advance(1)
		wait = min(2*wait, time.Hour)
	}
	if err := try(t, g, Request{URL: r.URL, Purpose: "another"}, nil); err != nil {
		t.Errorf("for another purpose: %v", err)
	}
	if err := try(t, g, r, nil); err != nil {
		t.Fatal(err)
	}
	if err := try(t, g, r, failure); err != nil {
		t.Fatalf("after a success: %v", err)
	}
	if e := refused(t, try(t, g, r, nil), BackOff); e.Retry != time.Minute {
		t.Errorf("the first failure after a success: %s", e.Retry)
	}
	clock.Advance(time.Minute)
	_ = try(t, g, r, failure)
	clock.Advance(2*time.Minute + time.Hour + 1)
	_ = try(t, g, r, failure)
	if e := refused(t, try(t, g, r, nil), BackOff); e.Retry != time.Minute {
		t.Errorf("the first failure after a long time: %s", e.Retry)
	}
}

// 500, then good: the first failure is over after a minute, and not before.
func TestServerRecovers(t *testing.T) {
	broken := true
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		if broken {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		sendDocument(w, r)
	})
	_ = refused(t, second(s.Get(t.Context(), request())), Status)
	broken = false
	_ = refused(t, second(s.Get(t.Context(), request())), BackOff)
	if n := len(s.dials()); n != 1 {
		t.Errorf("%d connections", n)
	}
	s.clock.Advance(time.Minute)
	if _, err := s.Get(t.Context(), request()); err != nil {
		t.Error(err)
	}
}

// However many URLs fail or do not, the memory stays the same.
func TestMemoryOfTheGovernor(t *testing.T) {
	clock := testclock.New()
	g := newGovernor(clock.Now)
	for n := range 10_000 {
		r := Request{URL: fmt.Sprintf("https://a%d.example/%d", n, n), Known: true}
		if err := try(t, g, r, errors.New("no")); err != nil {
			t.Fatal(err)
		}
		clock.Advance(time.Second / 2)
		if len(g.failures) > maxFailures || len(g.origins) > perMinute+1 || len(g.minute) > perMinute {
			t.Fatalf("after %d: %d failures, %d origins, %d requests", n, len(g.failures), len(g.origins), len(g.minute))
		}
	}
	last := Request{URL: "https://a9999.example/9999", Known: true}
	_ = refused(t, try(t, g, last, nil), BackOff)
}

// What has no place does not wait for ever, and what leaves makes place.
func TestRequestsAtOnce(t *testing.T) {
	for _, c := range []struct {
		name  string
		known bool
		want  int
		url   func(n int) string
	}{
		{"to one origin", true, 4, func(n int) string { return fmt.Sprintf("https://a.example/%d", n) }},
		{"in all", true, 16, func(n int) string { return fmt.Sprintf("https://a%d.example/", n) }},
		{"in all, unknown", false, 12, func(n int) string { return fmt.Sprintf("https://a%d.example/", n) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGovernor(time.Now)
				var inside, refusals atomic.Int32
				leave := make(chan struct{})
				for n := range 20 {
					r := Request{URL: c.url(n), Known: c.known}
					u, _ := url.Parse(r.URL)
					go func() {
						ctx, cancel := context.WithTimeout(t.Context(), timeout)
						defer cancel()
						over, err := g.enter(ctx, u, &r)
						if err != nil {
							_ = refused(t, err, Busy)
							refusals.Add(1)
							return
						}
						inside.Add(1)
						<-leave
						over(nil)
					}()
				}
				synctest.Wait()
				if n := int(inside.Load()); n != c.want {
					t.Errorf("%d at once, want %d", n, c.want)
				}
				leave <- struct{}{}
				synctest.Wait()
				if n := int(inside.Load()); n != c.want+1 {
					t.Errorf("%d after one has left, want %d", n, c.want+1)
				}
				time.Sleep(maxWait)
				synctest.Wait()
				if n := int(refusals.Load()); n != 20-c.want-1 {
					t.Errorf("%d were refused, want %d", n, 20-c.want-1)
				}
				close(leave)
				synctest.Wait()
				for _, o := range g.origins {
					if o.users != 0 {
						t.Errorf("%d users of an origin", o.users)
					}
				}
			})
		})
	}
}

// A thousand who ask at once make one call. One who leaves stops nobody.
func TestGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[string]
		var calls, answers atomic.Int32
		answer := make(chan struct{})
		do := func(ctx context.Context) (string, error) {
			calls.Add(1)
			select {
			case <-answer:
				return "document", nil
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
		first, leave := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		go func() {
			if _, err := g.Do(first, "a", timeout, do); !errors.Is(err, gone) {
				t.Errorf("the caller who left: %v", err)
			}
		}()
		synctest.Wait()
		for range 1000 {
			go func() {
				if got, err := g.Do(t.Context(), "a", timeout, do); got != "document" || err != nil {
					t.Errorf("%q, %v", got, err)
				}
				answers.Add(1)
			}()
		}
		synctest.Wait()
		leave(gone)
		synctest.Wait()
		close(answer)
		synctest.Wait()
		if calls.Load() != 1 || answers.Load() != 1000 {
			t.Errorf("%d calls, %d answers", calls.Load(), answers.Load())
		}
	})
}

func TestGroupEndsWithoutCallers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int]
		if _, err := g.Do(t.Context(), "a", timeout, func(ctx context.Context) (int, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if _, err := g.Do(t.Context(), "a", timeout, func(context.Context) (int, error) { panic("a bug") }); err == nil {
			t.Error("a panic is no error")
		}
	})
}
