package contract_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"testing/synctest"
)

// contract is the document of an endpoint, as checks, and the example that keeps to it.
type contract struct {
	example string // examples/contract-….Caddyfile

	authorize, token    string // paths
	clientID, secret    string
	redirectURI         string
	user                string
	authorizationParams url.Values // that every authorization request has, beside the usual

	checks []check

	// What must go along with an option, for what is left to be a configuration: by the path of the option, pairs of
	// old and new lines, a new one that is empty being none.
	along map[string][][2]string
}

// check is something that the document says.
type check struct {
	name string
	run  func(t T, e *endpoint)

	curl  bool // it is said in curl
	clock bool // time has to go by for it to show
}

// T is what checks need of *testing.T, so that others can find out whether they fail.
type T interface {
	Helper()
	Context() context.Context
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// test plays a document against its example in a process of its own; where time has to go by, in this one.
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
				needCurl(t)
				check.run(t, e)
			default:
				check.run(t, e)
			}
		})
	}
}

// failure runs a check to learn whether it fails.
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

// collector is a T that keeps what went wrong to itself.
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

func needCurl(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("curl"); err != nil {
		if os.Getenv("CADDY_OAUTH_TEST_REQUIRE") == "all" {
			t.Fatal(err)
		}
		t.Skip("install curl to run this test")
	}
}
