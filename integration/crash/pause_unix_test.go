//go:build unix

package crash_test

import (
	"os"
	"syscall"
)

// pause stops a process, as if its machine were paused.
func pause(p *os.Process) error { return p.Signal(syscall.SIGSTOP) }

func resume(p *os.Process) error { return p.Signal(syscall.SIGCONT) }
