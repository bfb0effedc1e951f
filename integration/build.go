package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"

	_ "github.com/caddy-oauth/caddy-oauth" // what is built here: a change to it must not leave old results in the test cache
)

var built struct {
	sync.Once
	dir string
	err error
}

// Main runs the tests and removes the Caddy they have built.
func Main(m *testing.M) int {
	defer func() { _ = os.RemoveAll(built.dir) }()
	return m.Run()
}

// caddy returns Caddy with this module, built once, with the race detector if the tests have it.
func caddy(t *testing.T) string {
	t.Helper()
	built.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "caddy-oauth-*"); built.err != nil { //nolint:usetesting // it is for all tests
			return
		}
		_, here, _, _ := runtime.Caller(0)
		build := exec.Command("go", "build", race(), "-o", program(), "./cmd/caddy") //nolint:gosec,noctx // constants, and every test needs it
		build.Dir = filepath.Join(filepath.Dir(here), "..")
		if output, err := build.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("%v: %w\n%s", build.Args, err, output)
		}
	})
	must(t, built.err)
	return program()
}

func program() string { return filepath.Join(built.dir, "caddy.exe") } // the suffix is needed on Windows alone

// race returns the flag of go build that says what this program is built with.
func race() string {
	info, _ := debug.ReadBuildInfo()
	for _, setting := range info.Settings {
		if setting.Key == "-race" && setting.Value == "true" {
			return "-race"
		}
	}
	return "-race=false"
}
