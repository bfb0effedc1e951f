// Package testneeds skips tests that need a program or anything else which is not there, or makes them fail where everything must be
// there.
package testneeds

import (
	"os"
	"os/exec"
	"testing"
)

// Missing ends a test that lacks something. what says what to do about it.
func Missing(tb testing.TB, what string) {
	tb.Helper()
	if os.Getenv("CADDY_OAUTH_TEST_REQUIRE") == "all" {
		tb.Fatal(what)
	}
	tb.Skip(what)
}

// Program returns the path of a program that a package of Debian has. Without it, the test ends.
func Program(tb testing.TB, name, debian string) string {
	tb.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(tb, "install "+debian+" to run this test")
	}
	return path
}
