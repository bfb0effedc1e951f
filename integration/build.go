package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"

	// What is built here: a change to it must not leave old results in the test cache.
	_ "github.com/caddy-oauth/caddy-oauth"
	_ "github.com/caddy-oauth/caddy-oauth/integration/slowstorage"
)

// The programs that tests can run, see Config.Program.
const (
	program     = "./cmd/caddy"
	slowProgram = "./integration/slowstorage/caddy"
)

var built struct {
	sync.Mutex
	programs map[string]string // where they are, by package
	dirs     []string
}

// Main runs the tests and removes the Caddy they have built.
func Main(m *testing.M) int {
	defer func() {
		for _, dir := range built.dirs {
			_ = os.RemoveAll(dir)
		}
	}()
	return m.Run()
}

// caddy returns Caddy with this module, built once, with the race detector if the tests have it.
func caddy(t *testing.T, main string) string {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if path, ok := built.programs[main]; ok {
		return path
	}
	dir, err := os.MkdirTemp("", "caddy-oauth-*") //nolint:usetesting // it is for all tests
	must(t, err)
	built.dirs = append(built.dirs, dir)
	path := filepath.Join(dir, "caddy.exe") // the suffix is needed on Windows alone
	_, here, _, _ := runtime.Caller(0)
	build := exec.Command("go", "build", race(), "-o", path, main) //nolint:gosec,noctx // one of ours, and every test needs it
	build.Dir = filepath.Join(filepath.Dir(here), "..")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build.Args, err, output)
	}
	if built.programs == nil {
		built.programs = make(map[string]string)
	}
	built.programs[main] = path
	return path
}

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
