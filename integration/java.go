package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"testing"
	"time"

	"github.com/gofrs/flock"
)

// javaPatience is how long Maven may take to fetch the libraries of a program, and wait for the Maven of another test before that. go test
// ends a package after ten minutes, and does not say what it has waited for.
const javaPatience = 5 * time.Minute

// mavenClasspath is the goal that fetches libraries and names their files. Its version is fixed, so that all projects share one.
const mavenClasspath = "org.apache.maven.plugins:maven-dependency-plugin:3.9.0:build-classpath"

// Java is a program in Java, with the libraries that it needs.
type Java struct {
	java, classpath string
}

// BuildJava compiles the sources in a directory with the libraries that its pom.xml names. Maven keeps the libraries where it always
// does. The error says what is missing to do so; sources that do not compile end the test.
func BuildJava(t *testing.T, dir string) (*Java, error) {
	t.Helper()
	java, err1 := exec.LookPath("java")
	javac, err2 := exec.LookPath("javac")
	maven, err3 := exec.LookPath("mvn")
	if errors.Join(err1, err2, err3) != nil {
		return nil, errors.New("install maven and default-jdk-headless to run this test")
	}
	ctx, cancel := context.WithTimeout(t.Context(), javaPatience)
	defer cancel()
	classes := t.TempDir()
	list := filepath.Join(classes, "classpath")
	owner, err := user.Current() // Java does not ask for $HOME
	Must(t, err)
	lock, err := LockLibraries(ctx, filepath.Join(owner.HomeDir, ".m2"))
	Must(t, err)
	defer func() { _ = lock.Close() }()                                                                            // it may be unlocked
	fetch := exec.CommandContext(ctx, maven, "--batch-mode", "--quiet", mavenClasspath, "-Dmdep.outputFile="+list) //nolint:gosec // found above
	fetch.Dir, fetch.WaitDelay = dir, time.Second
	output, err := fetch.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return nil, errors.New("Maven has not fetched the libraries within " + javaPatience.String() + ": " + string(output))
	case err != nil:
		return nil, errors.New("Maven cannot fetch the libraries: " + string(output))
	}
	Must(t, lock.Unlock())
	libraries, err := os.ReadFile(list) // #nosec G304 -- in a directory of the test
	Must(t, err)
	sources, err := filepath.Glob(filepath.Join(dir, "*.java"))
	Must(t, err)
	program := &Java{java, classes + string(os.PathListSeparator) + string(libraries)}
	compile := exec.CommandContext(t.Context(), javac, append([]string{"-nowarn", "-d", classes, "-cp", program.classpath}, sources...)...) //nolint:gosec // found above
	if output, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	return program, nil
}

// LockLibraries locks the directory in which Maven keeps libraries: two Mavens cannot share it while they fill it. It
// waits until ctx ends.
func LockLibraries(ctx context.Context, dir string) (*flock.Flock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(dir, "caddy-oauth.lock"))
	switch locked, err := lock.TryLockContext(ctx, 100*time.Millisecond); {
	case locked:
		return lock, nil
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("another test holds %s while its Maven fetches libraries: %w", lock.Path(), err)
	default:
		return nil, err
	}
}

// Command runs a class of the program. It needs little memory, and starts fast.
func (j *Java) Command(ctx context.Context, class string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, j.java, append([]string{"-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", j.classpath, class}, args...)...) //nolint:gosec // built here
}
