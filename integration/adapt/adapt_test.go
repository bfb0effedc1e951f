// Package adapt has golden files of Caddyfiles: the JSON that they become, and the errors in wrong ones.
package adapt

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-oauth/caddy-oauth"
	_ "github.com/caddy-oauth/caddy-oauth/storage/redis"
)

var update = flag.Bool("update", false, "write the results into the golden files; read the diff before you commit it")

const divider = "----------"

// TestUse adapts the Caddyfile of each file and compares the result with the JSON below the divider. The JSON must be valid, and the
// Caddyfile formatted.
func TestUse(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	for _, name := range []string{"BILLING_SECRET", "REDIS_PASSWORD", "SENTINEL_PASSWORD"} {
		t.Setenv(name, "only for this test")
	}
	t.Setenv("PAIRWISE_SALT", "0123456789abcdef0123456789abcdef")
	t.Setenv("REGISTRATION_TOKEN", "0123456789abcdef0123456789abcdef")
	t.Setenv("OAUTH_KEY", "Zm9yIHRoaXMgdGVzdCwgYW5kIGFzIGxvbmcgYXMgaXQgbXVzdCBiZQ==")
	t.Setenv("OAUTH_OLD_KEY", "YW5vdGhlciBrZXkgZm9yIHRoaXMgdGVzdCBvbmx5LCBubyBtb3Jl")
	for _, name := range goldenFiles(t, "use") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			input, expected := readGolden(t, name)
			adapted, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(input), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range warnings {
				t.Errorf("warning: %v", w)
			}
			if formatted := caddyfile.Format([]byte(input)); string(formatted) != input {
				t.Errorf("not formatted; caddy fmt writes:\n%s", formatted)
			}
			var pretty bytes.Buffer
			if err := json.Indent(&pretty, adapted, "", "\t"); err != nil {
				t.Fatal(err)
			}
			compare(t, name, input, expected, pretty.String())
			validate(t, adapted)
		})
	}
}

// TestError adapts the Caddyfile of each file, and expects the error below the divider.
func TestError(t *testing.T) {
	for _, name := range goldenFiles(t, "error") {
		t.Run(filepath.Base(name), func(t *testing.T) {
			input, expected := readGolden(t, name)
			adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(input), nil)
			if err == nil {
				t.Fatalf("expected an error, got %s", adapted)
			}
			compare(t, name, input, expected, err.Error())
		})
	}
}

func goldenFiles(t *testing.T, kind string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("testdata", kind, "*.caddyfiletest"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no golden files of kind %s: %v", kind, err)
	}
	return names
}

// readGolden returns the Caddyfile and the expected result.
func readGolden(t *testing.T, name string) (input, expected string) {
	t.Helper()
	file, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(file), "\r\n", "\n")
	input, expected, found := strings.Cut(text, divider)
	if !found && !*update {
		t.Fatalf("no %s in the file", divider)
	}
	return strings.TrimSpace(input) + "\n", strings.TrimSpace(expected)
}

func compare(t *testing.T, name, input, expected, got string) {
	t.Helper()
	if got == expected {
		return
	}
	if !*update {
		t.Fatalf("expected:\n%s\n\ngot:\n%s", expected, got)
	}
	if err := os.WriteFile(name, []byte(input+divider+"\n"+got+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func validate(t *testing.T, adapted []byte) {
	t.Helper()
	var config caddy.Config
	if err := caddy.StrictUnmarshalJSON(adapted, &config); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(&config); err != nil {
		t.Errorf("the adapted configuration is not valid: %v", err)
	}
}
