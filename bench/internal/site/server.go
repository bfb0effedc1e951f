package site

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/caddy-oauth/caddy-oauth/bench/internal/proc"
	"github.com/caddy-oauth/caddy-oauth/internal/testport"
)

// Config says how to run Caddy.
type Config struct {
	Program *Program
	Dir     string // an empty directory for the process
	Core    int    // its processor; negative: any

	// Caddyfile returns the configuration for a server with these addresses.
	Caddyfile func(s *Server) string

	// First returns the request that the server answers with 200 when it is ready.
	First func(ctx context.Context, s *Server) (*http.Request, error)
}

// Server is a running Caddy.
type Server struct {
	Config

	Address string        // host and port of the site, on 127.0.0.1
	Admin   string        // host and port of the admin API
	Ready   time.Duration // from the start of the process to the first answer

	cmd    *exec.Cmd
	exited chan struct{}
}

// startTimeout is how long a start or a stop may take.
const startTimeout = 2 * time.Minute

// Start runs Caddy and waits for its first answer.
func Start(ctx context.Context, config Config) (*Server, error) {
	s := &Server{Config: config, exited: make(chan struct{})}
	for _, address := range []*string{&s.Address, &s.Admin} {
		port, release, err := testport.Pick()
		if err != nil {
			return nil, err
		}
		defer release() // the server listens then, or has failed
		*address = "127.0.0.1:" + port
	}
	file := filepath.Join(s.Dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(s.Caddyfile(s)), 0o600); err != nil {
		return nil, err
	}
	log, err := os.Create(s.log())
	if err != nil {
		return nil, err
	}
	defer log.Close()
	// The end of the context must not kill it: Stop shuts it down gracefully.
	s.cmd = exec.Command(s.Program.Path, "run", "--config", file, "--adapter", "caddyfile") //nolint:gosec,noctx // built here; see above
	s.cmd.Env = append(os.Environ(), "HOME="+s.Dir, "XDG_DATA_HOME="+s.Dir, "XDG_CONFIG_HOME="+s.Dir)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	began := time.Now()
	if err := RunOn(s.cmd, s.Core); err != nil {
		return nil, err
	}
	go func() {
		_ = s.cmd.Wait() // the log has the error
		close(s.exited)
	}()
	if err := s.await(ctx); err != nil {
		s.Stop()
		return nil, err
	}
	s.Ready = time.Since(began)
	return s, nil
}

// RunOn starts a Go program on one processor, with GOMAXPROCS=1. If core is negative, it uses all.
func RunOn(cmd *exec.Cmd, core int) error {
	if core < 0 {
		return cmd.Start()
	}
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "GOMAXPROCS=1")
	return proc.Start(cmd, core)
}

func (s *Server) log() string { return filepath.Join(s.Dir, "log") }

// await waits for the first answer.
func (s *Server) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := s.first(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-s.exited:
			return fmt.Errorf("Caddy has exited: %s", s.endOfLog()) //nolint:staticcheck // ST1005: a name
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(time.Millisecond):
		}
	}
}

func (s *Server) first(ctx context.Context) error {
	req, err := s.First(ctx, s)
	if err != nil {
		return err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", req.URL, resp.Status)
	}
	return nil
}

// endOfLog returns the end of the log.
func (s *Server) endOfLog() []byte {
	text, err := os.ReadFile(s.log())
	if err != nil {
		return []byte(err.Error())
	}
	return bytes.TrimSpace(text[max(0, len(text)-2000):])
}

// PID returns the process ID.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Complaints returns the first error in the log, or "".
func (s *Server) Complaints() string {
	text, err := os.ReadFile(s.log())
	if err != nil {
		return err.Error()
	}
	for line := range bytes.Lines(text) {
		if bytes.Contains(line, []byte(`"level":"error"`)) || bytes.HasPrefix(line, []byte("panic:")) || bytes.HasPrefix(line, []byte("fatal error:")) {
			return string(bytes.TrimSpace(line))
		}
	}
	return ""
}

// Stop shuts the process down gracefully, or kills it if that takes too long.
func (s *Server) Stop() {
	if s.cmd.Process.Signal(syscall.SIGTERM) != nil { // it has exited, or the system has no such signal
		_ = s.cmd.Process.Kill()
	}
	select {
	case <-s.exited:
	case <-time.After(startTimeout):
		_ = s.cmd.Process.Kill() // it may have exited since
		<-s.exited
	}
}
