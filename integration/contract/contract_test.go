package contract_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"testing"
	"testing/synctest"

	"github.com/caddy-oauth/caddy-oauth/internal/testneeds"
)

// contract is the document of an endpoint, as checks, and the example that implements it.
type contract struct {
	example string // examples/contract-….Caddyfile

	authorize, token    string // paths
	clientID, secret    string
	redirectURI         string
	user                string
	authorizationParams url.Values // further parameters of every authorization request

	checks []check

	// along has the changes that the removal of an option needs to leave a valid configuration: by the path of the option, pairs
	// of an old and a new line. An empty new line removes the old one.
	along map[string][][2]string
}

// check checks a statement of the document.
type check struct {
	name string
	run  func(t T, e *endpoint)

	curl  bool // the document has it as a curl command
	clock bool // it needs a fake clock, since time has to pass
}

// T has the methods of *testing.T that checks use, so that failure can find out whether a check fails.
type T interface {
	Helper()
	Context() context.Context
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// test runs the checks of a document against its example, which runs as a process. Checks that need a fake clock run in this process.
func (c *contract) test(t *testing.T) {
	t.Helper()
	e := c.inProcess(t)
	for _, check := range c.checks {
		t.Run(check.name, func(t *testing.T) {
			switch {
			case check.clock:
				text := c.withOther(t, c.text(t))
				storage := t.TempDir()
				synctest.Test(t, func(t *testing.T) { check.run(t, c.inMemory(t, text, storage)) })
			case check.curl:
				testneeds.Program(t, "curl", "curl")
				check.run(t, e)
			default:
				check.run(t, e)
			}
		})
	}
}

// failure runs a check, and returns its failure as an error.
func failure(ctx context.Context, run func(t T, e *endpoint), e *endpoint) error {
	c := &collector{ctx: ctx}
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(c, e)
	}()
	<-done
	return errors.Join(c.errs...)
}

// collector is a T that collects failures.
type collector struct {
	ctx  context.Context
	errs []error
}

func (*collector) Helper() {}

func (c *collector) Context() context.Context { return c.ctx }

func (c *collector) Errorf(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

func (c *collector) Fatalf(format string, args ...any) {
	c.Errorf(format, args...)
	runtime.Goexit()
}

func must(t T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}
