// Package integration runs Caddy with this module as its users do: as a process, with a Caddyfile, on loopback. Only the tests of
// this package and of the packages below it use it.
//
// Start reading at [Start] and [Server]; [Shop] is the site that most tests run.
package integration

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/testport"
)

// Patience is how long a test waits for a condition that must become true. It ends what hangs, and not what is slow because other
// programs keep the machine busy.
const Patience = 2 * time.Minute

// Config says how to run Caddy. The Caddyfile can use the environment variables SITE and ISSUER, which are the URLs of the site
// and of its issuer, ADMIN and STORAGE.
type Config struct {
	Global string // global options, beside those for listening, logging and storage
	Sites  string // the site blocks

	// Caddyfile returns the whole Caddyfile instead, for a server with these addresses.
	Caddyfile func(s *Server) string

	Issuer  string   // default: the site's own URL and Path
	Path    string   // the path of the issuer's URL
	Storage string   // a directory that other servers may share; default: a new one
	Module  string   // the module of Caddy's storage, with its options; default: file_system {$STORAGE}
	Program string   // the package of the program; default: ./cmd/caddy
	Env     []string // further environment variables, NAME=value

	Secrets *Secrets // default: new ones
	Leaky   bool     // the test itself checks the log
	Ailing  bool     // the test itself checks which errors the log has
}

// Server is a Caddy, which may be running.
type Server struct {
	Config

	Address string // host and port of the site, on 127.0.0.1
	Admin   string // host and port of the admin API
	URL     string // of the site

	t       *testing.T
	file    string // the Caddyfile
	log     *os.File
	process *exec.Cmd
	exited  chan struct{}
}

// OnSlowStorage returns the config on a storage whose only lock is its method Lock. Each call takes as long as latency. If a
// process dies with a lock, the lock is released after lease. See package slowstorage. The config must not have a Caddyfile.
func (c Config) OnSlowStorage(latency, lease time.Duration) Config {
	c.Program = slowProgram
	c.Module = fmt.Sprintf("test_slow {$STORAGE} {\n latency %s\n lease %s\n }", latency, lease)
	return c
}

const globals = `{
	admin {$ADMIN}
	persist_config off
	auto_https off
	log {
		output stderr
		format json
		level DEBUG
	}
`

// Start runs Caddy until the test ends. Then its log must contain no secret of a request or an answer, no panic, no data race and
// no error.
func Start(t *testing.T, config Config) *Server {
	t.Helper()
	s := &Server{Config: config, Address: NewAddress(t), Admin: NewAddress(t), t: t}
	s.URL = "http://" + s.Address
	s.Issuer = cmp.Or(s.Issuer, s.URL+s.Path)
	dir := t.TempDir()
	s.Storage = cmp.Or(s.Storage, filepath.Join(dir, "storage"))
	if s.Secrets == nil {
		s.Secrets = new(Secrets)
	}
	s.Module, s.Program = cmp.Or(s.Module, "file_system {$STORAGE}"), cmp.Or(s.Program, program)
	text := globals + "storage " + s.Module + "\n" + s.Global + "}\n" + s.Sites
	if s.Caddyfile != nil {
		text = s.Caddyfile(s)
	}
	s.file = filepath.Join(dir, "Caddyfile")
	Must(t, os.WriteFile(s.file, []byte(text), 0o600))
	s.Env = append([]string{
		"SITE=" + s.URL, "ISSUER=" + s.Issuer, "ADMIN=" + s.Admin, "STORAGE=" + s.Storage,
		"HOME=" + dir, "XDG_DATA_HOME=" + filepath.Join(dir, "data"), "XDG_CONFIG_HOME=" + filepath.Join(dir, "config"),
	}, s.Env...)
	var err error
	s.log, err = os.Create(filepath.Join(dir, "log")) // #nosec G304 -- in a directory of the test
	Must(t, err)
	t.Cleanup(func() {
		s.Stop()
		if !s.Leaky {
			s.checkLog(t)
		}
		_ = s.log.Close() // the process has exited
	})
	s.Run()
	return s
}

// Run starts the process, also after it was stopped or killed, and waits until the site answers.
func (s *Server) Run() {
	s.t.Helper()
	s.Begin()
	s.Ready()
}

// Begin starts the process.
func (s *Server) Begin() {
	s.t.Helper()
	// The end of a context would kill it, so it has none: Stop shuts it down gracefully.
	s.process = exec.Command(Build(s.t, s.Program), "run", "--config", s.file, "--adapter", "caddyfile") //nolint:gosec,noctx // built here; see above
	s.process.Env = append(os.Environ(), s.Env...)
	s.process.Stdout, s.process.Stderr = s.log, s.log
	Must(s.t, s.process.Start())
	exited := make(chan struct{})
	s.exited = exited
	go func(process *exec.Cmd) {
		defer close(exited)
		_ = process.Wait() // the log has the error
	}(s.process)
}

// Ready waits until the site answers.
func (s *Server) Ready() {
	s.t.Helper()
	ready := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: Patience}
	Eventually(s.t, "the site answers", func() bool {
		select {
		case <-s.exited:
			s.t.Fatalf("Caddy has exited:\n%s", s.Log())
		default:
		}
		resp, err := ready.Get(s.URL + "/.well-known/oauth-authorization-server") //nolint:noctx // the client has a timeout
		if err != nil {
			return false
		}
		return resp.Body.Close() == nil
	})
}

// Process returns the current process.
func (s *Server) Process() *os.Process { return s.process.Process }

// Kill kills the process, as kill -9 does.
func (s *Server) Kill() {
	_ = s.process.Process.Kill() // it may have exited
	<-s.exited
}

// Stop shuts the process down gracefully.
func (s *Server) Stop() {
	s.t.Helper()
	if s.process == nil || s.process.Process == nil {
		return
	}
	_ = s.process.Process.Signal(syscall.SIGTERM) // it may have exited
	select {
	case <-s.exited:
	case <-time.After(Patience):
		s.Kill()
		s.t.Errorf("Caddy did not stop:\n%s", s.Log())
	}
}

// Log returns the log of all runs of the server so far.
func (s *Server) Log() []byte {
	s.t.Helper()
	text, err := os.ReadFile(s.log.Name())
	Must(s.t, err)
	return text
}

// checkLog reports secrets, panics, data races and errors in the log.
func (s *Server) checkLog(t *testing.T) {
	t.Helper()
	log := s.Log()
	if !bytes.Contains(log, []byte(`"logger":"`)) {
		t.Errorf("the log is empty:\n%s", log)
	}
	for _, leak := range s.Secrets.In(log) {
		t.Errorf("a secret is in the log: %s", leak)
	}
	all := []string{"DATA RACE", "panic", `"level":"fatal"`}
	if !s.Ailing {
		all = append(all, `"level":"error"`)
	}
	for line := range bytes.Lines(log) {
		if bytes.Contains(line, []byte("no configuration is running yet")) {
			continue // The owner was faster than a node that starts, and is told to try again.
		}
		for _, bad := range all {
			if bytes.Contains(line, []byte(bad)) {
				t.Errorf("an error in the log: %s", line)
			}
		}
	}
}

// Adapted returns the server's configuration as JSON.
func (s *Server) Adapted(t *testing.T) []byte {
	t.Helper()
	caddyfile, err := os.ReadFile(s.file)
	Must(t, err)
	answer, status, err := s.admin(t.Context(), "/adapt", "text/caddyfile", caddyfile)
	Must(t, err)
	_, config, found := bytes.Cut(answer, []byte(`"result":`))
	if status != http.StatusOK || !found {
		t.Fatalf("POST /adapt: %d %s", status, answer)
	}
	return bytes.TrimSuffix(bytes.TrimSpace(config), []byte("}"))
}

// Load loads a configuration, even if it is the current one. Each time, Caddy also replaces its admin API, and may then close
// connections that nobody has read from yet, so a request whose connection breaks is repeated.
func (s *Server) Load(ctx context.Context, config []byte) error {
	for deadline := time.Now().Add(Patience); ; {
		_, err := s.Tell(ctx, "/load", config)
		broken := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
		if !broken || time.Now().After(deadline) {
			return err
		}
	}
}

// Tell posts JSON to the admin API, and returns the answer.
func (s *Server) Tell(ctx context.Context, path string, body []byte) (answer []byte, err error) {
	answer, status, err := s.admin(ctx, path, "application/json", body)
	if err == nil && status != http.StatusOK {
		err = &Refusal{path, status, answer}
	}
	return answer, err
}

// Refusal is an answer of the admin API with another status than 200.
type Refusal struct {
	Path   string
	Status int
	Answer []byte
}

func (r *Refusal) Error() string { return fmt.Sprintf("POST %s: %d %s", r.Path, r.Status, r.Answer) }

func (s *Server) admin(ctx context.Context, path, mediaType string, body []byte) (answer []byte, status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.Admin+path, bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	req.Close = true
	req.Header.Set("Content-Type", mediaType)
	req.Header.Set("Cache-Control", "must-revalidate")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return answer, resp.StatusCode, err
}

// Client returns an HTTP client that follows no redirects. The log must not contain the secrets in its requests and answers.
func (s *Server) Client(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     s.Secrets.Record(transport),
		Timeout:       Patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Eventually waits until a condition is true.
func Eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Patience); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}

// NewAddress returns a host and a port that belong to the test.
func NewAddress(t *testing.T) string {
	t.Helper()
	return "127.0.0.1:" + testport.New(t)
}

// Port returns the port of a host and port.
func Port(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

// Must ends the test if there is an error.
func Must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
