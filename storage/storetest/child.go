package storetest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Roles of a child process. It prints "ready", waits for a line, does its work, and prints the result.
const (
	roleWin     = "win"      // tries to be the first to write, prints "won" or "lost"
	roleCount   = "count"    // adds countRounds, prints "done"
	roleCountUp = "count up" // replaces a counted value by the next one, countUpRounds times, prints "done"
	roleHold    = "hold"     // prints "inside" in a change, and never leaves it
	roleFlip    = "flip"     // alternates between two values for ever, prints "flipped" after each
	rolePut     = "put"      // puts records for ever, prints the ID after each

	countRounds   = 25
	countUpRounds = 200

	envRole    = "CADDY_OAUTH_STORETEST_ROLE"
	envAddress = "CADDY_OAUTH_STORETEST_ADDRESS"
	envID      = "CADDY_OAUTH_STORETEST_ID"
	envName    = "CADDY_OAUTH_STORETEST_NAME"
)

// Child runs as a child process of the suite and exits, if this process is one. Otherwise it returns at once. Call it first in
// TestMain.
func Child(open func(address string) (storage.Store, error)) {
	role := os.Getenv(envRole)
	if role == "" {
		return
	}
	if err := runChild(role, open); err != nil {
		fmt.Fprintln(os.Stderr, "child process:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runChild(role string, open func(address string) (storage.Store, error)) error {
	store, err := open(os.Getenv(envAddress))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	// A parent that dies closes the pipe; do not outlive it.
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	key := storage.Key{Kind: testKind, ID: os.Getenv(envID)}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	switch role {
	case roleWin:
		won, err := win(ctx, store, key, os.Getenv(envName))
		if err != nil {
			return err
		}
		fmt.Println(map[bool]string{true: "won", false: "lost"}[won])
	case roleCount:
		for range countRounds {
			if err := count(ctx, store, key); err != nil {
				return err
			}
		}
		fmt.Println("done")
	case roleCountUp:
		for range countUpRounds {
			if err := store.Update(ctx, key, countUp); err != nil {
				return err
			}
		}
		fmt.Println("done")
	case roleHold:
		return store.Update(ctx, key, func([]byte) ([]byte, time.Time, error) {
			fmt.Println("inside")
			select {}
		})
	case roleFlip:
		return flip(ctx, store, key)
	case rolePut:
		return putForever(ctx, store)
	default:
		return fmt.Errorf("unknown role %q", role)
	}
	return nil
}

func flip(ctx context.Context, store storage.Store, key storage.Key) error {
	for i := 0; ; i++ {
		if err := store.Update(ctx, key, set(flipValue(string("ab"[i%2])))); err != nil {
			return err
		}
		fmt.Println("flipped")
	}
}

func putForever(ctx context.Context, store storage.Store) error {
	for {
		key := freshKey()
		if err := store.Put(ctx, key, []byte("value of "+key.ID), never); err != nil {
			return err
		}
		fmt.Println(key.ID)
	}
}

type child struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	out  *bufio.Scanner
}

// startAll starts n children and lets them work at the same time.
func startAll(t *testing.T, address, role string, key storage.Key, n int) []*child {
	t.Helper()
	program, err := os.Executable()
	noError(t, err)
	children := make([]*child, 0, n)
	starts := make([]io.Writer, 0, n)
	for i := range n {
		c := &child{t: t, name: role + strconv.Itoa(i)}
		c.cmd = exec.CommandContext(testContext(t), program) // #nosec G204 -- this very program
		c.cmd.Env = append(os.Environ(),
			envRole+"="+role, envAddress+"="+address, envID+"="+key.ID, envName+"="+c.name)
		c.cmd.Stderr = t.Output()
		in, err := c.cmd.StdinPipe()
		noError(t, err)
		out, err := c.cmd.StdoutPipe()
		noError(t, err)
		c.out = bufio.NewScanner(out)
		noError(t, c.cmd.Start())
		t.Cleanup(func() { c.kill() })
		children, starts = append(children, c), append(starts, in)
	}
	for _, c := range children {
		if line := c.line(); line != "ready" {
			t.Fatalf("%s prints %q; does TestMain call storetest.Child?", c.name, line)
		}
	}
	for _, start := range starts {
		_, err := io.WriteString(start, "go\n")
		noError(t, err)
	}
	return children
}

// line returns the next line that the child prints.
func (c *child) line() string {
	c.t.Helper()
	if !c.out.Scan() {
		c.t.Fatalf("%s has ended: %v", c.name, c.cmd.Wait())
	}
	return c.out.Text()
}

// kill kills the child with SIGKILL and returns the lines it had printed before.
func (c *child) kill() (rest []string) {
	_ = c.cmd.Process.Kill() // it may have ended
	for c.out.Scan() {
		rest = append(rest, c.out.Text())
	}
	_ = c.cmd.Wait() // its error is that the child was killed
	return rest
}
