package caddyoauth_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const modulePath = "github.com/caddy-oauth/caddy-oauth"

// plan is the plan of the house, from the street to the cellar: each package of the module, and which others of the module
// it may import. A package that is not here may not be there. "" is the root; what only tests import does not count.
var plan = []struct {
	name    string
	imports string // separated by spaces
}{
	// What an owner configures, and the programs that have it in them.
	{"cmd/caddy", " storage/redis"},
	{"", "grants storage storage/caddy storage/memory internal/adminapi internal/authserver internal/bearer internal/cli " +
		"internal/clients internal/directive internal/jwt internal/keyring internal/revocation internal/throttle internal/uris internal/wire " +
		"storage/dump"},

	// What an owner does while it runs.
	{"internal/cli", "internal/adminapi internal/authserver internal/clients internal/directive internal/jwt internal/keyring storage storage/dump"},
	{"internal/adminapi", "internal/authserver internal/bounded internal/clients internal/directive internal/jwt internal/keyring storage storage/dump"},

	// The endpoints, over net/http.
	{"internal/authserver", "grants internal/bearer internal/bounded internal/clients internal/jwt internal/keyring internal/metrics " +
		"internal/pages internal/recall internal/revocation internal/throttle internal/uris internal/wire storage storage/dump"},

	// The parts they are made of.
	{"internal/bearer", "grants internal/jwt internal/metrics internal/throttle internal/uris internal/wire"},
	{"internal/clients", "grants internal/recall internal/throttle storage"},
	{"internal/keyring", "internal/jwt storage"},
	{"internal/revocation", "storage"},
	{"internal/bounded", "internal/metrics storage"},
	{"internal/wire", "grants"},
	{"internal/throttle", "grants"},
	{"internal/metrics", ""},
	{"internal/pages", "internal/uris"},
	{"internal/jwt", ""},

	// What others build on: a grant type, a store.
	{"grants", "internal/directive internal/recall storage"},
	{"storage/redis", "internal/directive storage"},
	{"storage/caddy", "internal/stripes storage"},
	{"storage/memory", "internal/stripes storage"},
	{"storage/dump", "storage"},
	{"storage/storetest", "storage"},
	{"storage", ""},
	{"internal/stripes", ""},
	{"internal/directive", ""},
	{"internal/uris", ""},
	{"internal/recall", ""},
}

// apart are trees of programs, tests and their helpers that may import anything, and that nothing of the plan imports.
var apart = []string{"bench", "examples", "integration", "internal/jwt/jwttest", "internal/testclock"}

// confined says which package may import a large dependency, so that replacing it is a change to one package.
var confined = map[string][]string{
	"github.com/lestrrat-go/jwx": {"internal/jwt"},
	"github.com/prometheus":      {"internal/metrics"},
	"go.opentelemetry.io":        {"internal/metrics"},
	"github.com/spf13/cobra":     {"internal/cli"},
	"github.com/redis/go-redis":  {"storage/redis"},
}

// caddyModules are the packages that are Caddy modules or read a Caddyfile. All others are plain Go and may not import Caddy.
var caddyModules = []string{
	"", "cmd/caddy", "grants", "internal/adminapi", "internal/cli", "internal/directive", "storage/caddy", "storage/memory", "storage/redis",
}

func TestImportsFollowThePlan(t *testing.T) {
	allowed := make(map[string][]string)
	for _, entry := range plan {
		allowed[entry.name] = strings.Split(entry.imports, " ")
	}
	for _, pkg := range packages(t) {
		if slices.ContainsFunc(apart, func(tree string) bool { return within(pkg.name, tree) }) {
			continue
		}
		may, known := allowed[pkg.name]
		if !known {
			t.Errorf("the package %q is not in the plan", pkg.name)
		}
		for _, imported := range pkg.Imports {
			name, own := strings.CutPrefix(imported+"/", modulePath+"/")
			if name = strings.TrimSuffix(name, "/"); own && !slices.Contains(may, name) {
				t.Errorf("%q imports %q, which the plan does not allow", pkg.name, name)
			}
			for dependency, where := range confined {
				if within(imported, dependency) && !slices.Contains(where, pkg.name) {
					t.Errorf("%q imports %s; only %q may", pkg.name, imported, where)
				}
			}
			if within(imported, "github.com/caddyserver/caddy/v2") && !slices.Contains(caddyModules, pkg.name) {
				t.Errorf("%q imports %s; it is plain Go", pkg.name, imported)
			}
		}
	}
}

// A build without the Redis store has no Redis client in it.
func TestModuleBringsNoRedis(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dependency := range strings.FieldsSeq(string(out)) {
		if within(dependency, "github.com/redis/go-redis") || within(dependency, modulePath+"/storage/redis") {
			t.Errorf("the module needs %s; only programs that import storage/redis may", dependency)
		}
	}
}

var homePath = regexp.MustCompile(`(?m)(?:^|[^\w.%/-])(?:/(?:home|Users)/\w|/root\b|[A-Za-z]:\\Users\\)`)

func TestDocumentsNameNoHome(t *testing.T) {
	found := 0
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == ".git" {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		found++
		text, err := os.ReadFile(path)
		if home := homePath.Find(text); home != nil {
			t.Errorf("%s has the path of somebody's home directory: %q", path, home)
		}
		return err
	})
	if err != nil || found == 0 {
		t.Fatalf("%d documents, %v", found, err)
	}
	for text, want := range map[string]bool{
		"run it in /home/alice/site":        true,
		"(`/Users/alice`)":                  true,
		`C:\Users\alice`:                    true,
		"/root":                             true,
		"https://example.com/home/page":     false,
		"the root of the site is /srv/root": false,
	} {
		if got := homePath.MatchString(text); got != want {
			t.Errorf("a home directory in %q: %v, want %v", text, got, want)
		}
	}
}

// goPackage is a package of the module, with its imports on every platform.
type goPackage struct {
	name    string // its directory, with slashes
	Dir     string
	Imports []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	var all []goPackage
	for _, os := range []string{"linux", "darwin", "windows"} {
		for _, pkg := range list(t, os) {
			name, err := filepath.Rel(root, pkg.Dir)
			if err != nil {
				t.Fatal(err)
			}
			if pkg.name = filepath.ToSlash(name); pkg.name == "." {
				pkg.name = ""
			}
			all = append(all, pkg)
		}
	}
	if len(all) == 0 {
		t.Fatal("go list found no packages")
	}
	return all
}

func list(t *testing.T, goos string) (found []goPackage) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-find", "-json=Dir,Imports", "./...")
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var pkg goPackage
		if err := decoder.Decode(&pkg); errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		found = append(found, pkg)
	}
}

// within reports whether path is parent or below it.
func within(path, parent string) bool {
	return strings.HasPrefix(path+"/", parent+"/")
}
