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

// Fault is a fault of a storage.
type Fault string

// The faults.
const (
	Fails Fault = "fails" // calls return ErrFault
	Hangs Fault = "hangs" // calls return when their context or the fault ends
	Slow  Fault = "slow"  // calls work, but take as long as the text of the fault says, such as 2s
)

// ErrFault is the error of a storage that [Fails].
var ErrFault = errors.New("the storage has the fault Fails")

// Begin gives the storage in a directory a fault, in all processes that use it, from their next call on. For the fault Slow, text is
// the duration. For the others, text may name the methods that have the fault, such as "Store Delete".
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

// End ends a fault.
func End(root string, fault Fault) error {
	return os.Remove(filepath.Join(root, "controls", string(fault)))
}

// enter begins each call: it waits for the latency, and applies the faults.
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

// concerns reports whether a method has the fault now.
func (s *Storage) concerns(fault Fault, method string) bool {
	text, ok := s.fault(fault)
	return ok && (text == "" || strings.Contains(text, method))
}

func (s *Storage) fault(fault Fault) (text string, ok bool) {
	content, err := os.ReadFile(filepath.Join(s.controls, string(fault))) // #nosec G304 -- a directory of the test
	return string(content), !errors.Is(err, fs.ErrNotExist)
}

// wait waits for a duration, or until ctx ends.
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
