package integration

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/gofrs/flock"
)

// javaPatience is how long Maven may take to fetch the libraries of a program.
const javaPatience = 10 * time.Minute

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
	lock := flock.New(filepath.Join(os.TempDir(), "caddy-oauth-maven.lock")) // two Mavens cannot share a directory of libraries while they fill it
	_, err := lock.TryLockContext(ctx, time.Second)
	Must(t, err)
	defer func() { _ = lock.Close() }()
	fetch := exec.CommandContext(ctx, maven, "--batch-mode", "--quiet", mavenClasspath, "-Dmdep.outputFile="+list) //nolint:gosec // found above
	fetch.Dir = dir
	if output, err := fetch.CombinedOutput(); err != nil {
		return nil, errors.New("Maven cannot fetch the libraries: " + string(output))
	}
	Must(t, lock.Unlock())
	libraries, err := os.ReadFile(list) // #nosec G304 -- in a directory of the test
	Must(t, err)
	sources, err := filepath.Glob(filepath.Join(dir, "*.java"))
	Must(t, err)
	program := &Java{java, classes + string(os.PathListSeparator) + string(libraries)}
	compile := exec.CommandContext(ctx, javac, append([]string{"-nowarn", "-d", classes, "-cp", program.classpath}, sources...)...) //nolint:gosec // found above
	if output, err := compile.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	return program, nil
}

// Command runs a class of the program. It needs little memory, and starts fast.
func (j *Java) Command(ctx context.Context, class string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, j.java, append([]string{"-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", j.classpath, class}, args...)...) //nolint:gosec // built here
}
