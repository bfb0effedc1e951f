package integration

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The tests of all users of a directory of libraries wait for each other, and say for what.
func TestLockLibraries(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), ".m2") // Maven has not made it yet
	held, err := lockLibraries(t.Context(), dir)
	Must(t, err)
	t.Cleanup(func() { _ = held.Close() }) // it may be unlocked
	if filepath.Dir(held.Path()) != dir {
		t.Errorf("the lock is %s, want one in %s", held.Path(), dir)
	}
	soon, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err = lockLibraries(soon, dir)
	if err == nil || !strings.Contains(err.Error(), held.Path()) {
		t.Errorf("while it is locked: %v", err)
	}
	Must(t, held.Unlock())
	again, err := lockLibraries(t.Context(), dir)
	Must(t, err)
	Must(t, again.Close())
}
