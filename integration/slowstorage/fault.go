package slowstorage

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Fault is what can be wrong with a storage.
type Fault string

// The faults.
const (
	Fails Fault = "fails" // calls end with ErrFault
	Hangs Fault = "hangs" // calls end when their context does, or when the fault is over
	Slow  Fault = "slow"  // calls take as long as the fault's text says, say 2s, and then work
)

// ErrFault is the error of a storage that [Fails].
var ErrFault = errors.New("the storage fails as it was told to")

// Begin makes the storage in a directory faulty, in all processes that use it and from their next call on.
// The text is for the fault Slow; for the others it may name the methods to be concerned, as "Store Delete".
func Begin(root string, fault Fault, text string) error {
	controls := filepath.Join(root, "controls")
	if err := os.MkdirAll(controls, 0o700); err != nil {
		return err
	}
	draft := filepath.Join(controls, "draft")
	if err := os.WriteFile(draft, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(draft, filepath.Join(controls, string(fault)))
}

// End makes it whole again.
func End(root string, fault Fault) error {
	return os.Remove(filepath.Join(root, "controls", string(fault)))
}

// enter is the start of each call: the time it takes, and what is wrong.
func (s *Storage) enter(ctx context.Context, method string) error {
	if err := wait(ctx, s.latency); err != nil {
		return err
	}
	for s.concerns(Hangs, method) {
		if err := wait(ctx, pollInterval); err != nil {
			return err
		}
	}
	if text, ok := s.fault(Slow); ok {
		slow, err := time.ParseDuration(text)
		if err != nil {
			return err
		}
		if err := wait(ctx, slow); err != nil {
			return err
		}
	}
	if s.concerns(Fails, method) {
		return ErrFault
	}
	return nil
}

// concerns reports whether a method has a fault now.
func (s *Storage) concerns(fault Fault, method string) bool {
	text, ok := s.fault(fault)
	return ok && (text == "" || strings.Contains(text, method))
}

func (s *Storage) fault(fault Fault) (text string, ok bool) {
	content, err := os.ReadFile(filepath.Join(s.controls, string(fault))) // #nosec G304 -- a directory of the test
	return string(content), !errors.Is(err, fs.ErrNotExist)
}

// wait waits, no longer than ctx lives.
func wait(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil || d <= 0 {
		return err
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
