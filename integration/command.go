package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Command returns a caddy command in the environment of the server.
func (s *Server) Command(ctx context.Context, args ...string) *exec.Cmd {
	s.t.Helper()
	cmd := exec.CommandContext(ctx, Build(s.t, s.Program), args...) //nolint:gosec // built here
	cmd.Env = append(os.Environ(), s.Env...)
	return cmd
}

// Do runs a caddy command, which must succeed, and returns its output.
func (s *Server) Do(t *testing.T, args ...string) (printed string) {
	t.Helper()
	var out, notes bytes.Buffer
	cmd := s.Command(t.Context(), args...)
	cmd.Stdout, cmd.Stderr = &out, &notes
	if err := cmd.Run(); err != nil {
		t.Fatalf("caddy %s: %v\n%s%s", strings.Join(args, " "), err, &out, &notes)
	}
	return out.String()
}

// Pipe runs two caddy commands with a pipe from the first to the second, and returns their output.
func (s *Server) Pipe(ctx context.Context, first, second []string) (printed string, err error) {
	s.t.Helper()
	r, w := io.Pipe()
	var out, notes bytes.Buffer
	from, to := s.Command(ctx, first...), s.Command(ctx, second...)
	from.Stdout, from.Stderr = w, &notes
	to.Stdin, to.Stdout, to.Stderr = r, &out, &out
	if err := to.Start(); err != nil {
		return "", err
	}
	writes := from.Run()
	_ = w.Close() // it never fails
	reads := to.Wait()
	printed = notes.String() + out.String()
	if writes != nil || reads != nil {
		err = fmt.Errorf("writing: %w, reading: %w", writes, reads)
	}
	return printed, err
}

// Output runs a program in a directory, with more in its environment, and returns all that it printed.
func Output(ctx context.Context, dir string, env []string, program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	command := exec.CommandContext(ctx, program, args...) //nolint:gosec // of a test
	command.Dir, command.Env = dir, append(os.Environ(), env...)
	output, err := command.CombinedOutput()
	return string(output), err
}
