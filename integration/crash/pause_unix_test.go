//go:build unix

package crash_test

import (
	"os"
	"syscall"
)

// pause makes a process hang, as one whose machine does.
func pause(p *os.Process) error { return p.Signal(syscall.SIGSTOP) }

func resume(p *os.Process) error { return p.Signal(syscall.SIGCONT) }
