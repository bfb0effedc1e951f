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

// Start starts a process on whichever processors there are.
func Start(cmd *exec.Cmd, _ int) error { return cmd.Start() }

// FileSystem does not know.
func FileSystem(string) string { return "unknown" }
