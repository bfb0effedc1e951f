package integration

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"

	// The tests run it, so a change to it must invalidate the test cache.
	_ "github.com/caddy-oauth/caddy-oauth"
	_ "github.com/caddy-oauth/caddy-oauth/integration/slowstorage"
)

// The programs that tests can run (see Config.Program).
const (
	program     = "./cmd/caddy"
	slowProgram = "./integration/slowstorage/caddy"
)

var built struct {
	sync.Mutex
	programs map[string]string // their files, by package
	dirs     []string
}

// WaitInParallel lets eight parallel tests run at the same time, since they wait most of the time. The flag -parallel still decides.
// Call it in TestMain.
func WaitInParallel() {
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
}

// Main runs the tests and removes the programs that they built.
func Main(m *testing.M) int {
	defer func() {
		for _, dir := range built.dirs {
			_ = os.RemoveAll(dir)
		}
	}()
	return m.Run()
}

// Build returns the file of a program of this module, with the race detector if the tests have it. Go links a program that it runs
// only once for the same sources, so all packages of tests share one. The file is a copy, since Go may clean its cache.
func Build(t *testing.T, main string) string {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if path, ok := built.programs[main]; ok {
		return path
	}
	dir, err := os.MkdirTemp("", "caddy-oauth-*") //nolint:usetesting // all tests share it
	Must(t, err)
	built.dirs = append(built.dirs, dir)
	path := filepath.Join(dir, filepath.Base(main)+".exe") // Windows needs the suffix
	copies := "cp"
	if runtime.GOOS == "windows" {
		copies = "cmd /c copy"
	}
	_, here, _, _ := runtime.Caller(0)
	build := exec.Command("go", "run", race(), "-exec", copies, main, path) //nolint:gosec,noctx // constants; all tests share the result
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

// race returns the flag of go build for the race detector, as this program was built.
func race() string {
	info, _ := debug.ReadBuildInfo()
	for _, setting := range info.Settings {
		if setting.Key == "-race" && setting.Value == "true" {
			return "-race"
		}
	}
	return "-race=false"
}
