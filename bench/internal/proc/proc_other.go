//go:build !linux

package proc

import (
	"errors"
	"os/exec"
)

// Of returns an error: there is no /proc here.
func Of(int) (Usage, error) { return Usage{}, errors.ErrUnsupported }

// Cores returns none.
func Cores() []int { return nil }

// Start starts a process on any processor.
func Start(cmd *exec.Cmd, _ int) error { return cmd.Start() }

// FileSystem returns "unknown".
func FileSystem(string) string { return "unknown" }
