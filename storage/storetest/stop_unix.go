//go:build unix

package storetest

import (
	"os"
	"syscall"
)

const canStop = true

// stop pauses a process, as a debugger or a frozen container does.
func stop(p *os.Process) error { return p.Signal(syscall.SIGSTOP) }
