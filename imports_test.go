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

// allowedImports lists the packages of the module, importers before imported, and which packages of the module each may import. A
// package that is not in the list must not exist. Imports of tests do not count.
var allowedImports = []struct {
	name    string
	imports string // separated by spaces
}{
	// The program with everything in it.
	{"cmd/caddy", "ROOT storage/redis"},

	// The configuration.
	{"ROOT", "grants internal/adminapi internal/authserver internal/bearer internal/cimd internal/cli internal/clients " +
		"internal/directive internal/dpop internal/events internal/explain internal/fetch internal/guard " +
		"internal/jwt internal/keyring internal/mcp internal/mtls internal/pages internal/registration internal/request internal/routes " +
		"internal/signin internal/siteblock internal/throttle internal/trail internal/uris internal/warning internal/wire " +
		"storage storage/caddy storage/memory"},

	// What the guards do with requests.
	{"internal/guard", "grants internal/bearer internal/dpop internal/jwt internal/mcp internal/request internal/routes internal/tokenwatch internal/trail internal/wire"},

	// How a site's login runs before an endpoint.
	{"internal/signin", "internal/directive internal/request internal/routes"},

	// Caddy's requests and routes.
	{"internal/tokenwatch", "internal/bearer internal/jwt internal/request"},
	{"internal/request", "internal/mtls internal/wire"},
	{"internal/routes", ""},

	// The admin API, and the commands.
	{"internal/cli", "internal/adminapi internal/authserver internal/check internal/clients internal/directive internal/explain internal/jwt " +
		"internal/keyring internal/trail storage storage/dump"},
	{"internal/adminapi", "internal/authserver internal/bounded internal/clients internal/directive internal/jwt internal/keyring " +
		"internal/trail storage"},

	// Caddy's events.
	{"internal/events", "internal/authserver"},

	{"internal/explain", "grants internal/trail"},
	{"internal/check", "internal/uris"},

	// The endpoints, over net/http.
	{"internal/authserver", "grants internal/assertion internal/bearer internal/bounded internal/clients internal/dpop internal/fetch internal/jwt internal/keyring internal/metrics internal/mtls " +
		"internal/pages internal/registration internal/revocation internal/throttle internal/trail internal/uris internal/wire storage storage/dump"},

	// The parts of the endpoints.
	{"internal/bearer", "grants internal/dpop internal/fetch internal/jwt internal/metrics internal/mtls internal/throttle internal/uris internal/wire"},
	{"internal/cimd", "grants internal/clients internal/fetch internal/registration internal/uris storage"},
	{"internal/clients", "grants internal/assertion internal/mtls internal/secretcache internal/throttle storage"},
	{"internal/assertion", "internal/fetch internal/jwt storage"},
	{"internal/dpop", "grants internal/jwt"},
	{"internal/keyring", "internal/jwt storage"},
	{"internal/revocation", "storage"},
	{"internal/bounded", "internal/metrics storage"},
	{"internal/fetch", "internal/uris"},
	{"internal/wire", "grants internal/scratch"},
	{"internal/mtls", ""},
	{"internal/throttle", ""},
	{"internal/trail", ""},
	{"internal/metrics", ""},
	{"internal/pages", "internal/uris"},
	{"internal/registration", "grants internal/clients internal/uris storage"},
	{"internal/mcp", ""},

	// Public: grant types and stores.
	{"grants", "internal/directive internal/jwt internal/secretcache internal/uris storage"},
	{"storage/redis", "internal/directive storage"},
	{"storage/caddy", "internal/stripes storage"},
	{"storage/memory", "internal/stripes storage"},
	{"storage/dump", "storage"},
	{"storage/storetest", "storage"},
	{"storage", ""},

	// Helpers.
	{"internal/siteblock", "internal/directive"},
	{"internal/warning", "internal/directive"},
	{"internal/directive", ""},
	{"internal/jwt", "internal/scratch"},
	{"internal/scratch", ""},
	{"internal/secretcache", ""},
	{"internal/stripes", ""},
	{"internal/uris", ""},
}

// outside are trees of programs, tests and their helpers. They may import anything, and no package of the list may import them.
var outside = []string{
	"bench", "examples", "integration", "internal/jwt/jwttest", "internal/mtls/mtlstest", "internal/pages/pagestest", "internal/testclock", "internal/testneeds", "internal/testport",
}

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
	"ROOT", "cmd/caddy", "grants", "internal/adminapi", "internal/cli", "internal/directive", "internal/events", "internal/guard",
	"internal/request", "internal/routes", "internal/signin", "internal/siteblock", "internal/tokenwatch", "internal/warning",
	"storage/caddy", "storage/memory", "storage/redis",
}

func TestAllowedImports(t *testing.T) {
	actual := make(map[string]map[string]bool) // imports by package
	for _, pkg := range packages(t) {
		if slices.ContainsFunc(outside, func(tree string) bool { return within(pkg.name, tree) }) {
			continue
		}
		if actual[pkg.name] == nil {
			actual[pkg.name] = make(map[string]bool)
		}
		for _, imported := range pkg.Imports {
			if name, own := strings.CutPrefix(imported+"/", modulePath+"/"); own {
				actual[pkg.name][nameOf(strings.TrimSuffix(name, "/"))] = true
			}
			for dependency, where := range confined {
				if within(imported, dependency) && !slices.Contains(where, pkg.name) {
					t.Errorf("%s imports %s; only %s may", pkg.name, imported, where)
				}
			}
			if within(imported, "github.com/caddyserver/caddy/v2") && !slices.Contains(caddyModules, pkg.name) {
				t.Errorf("%s imports %s; it is plain Go", pkg.name, imported)
			}
		}
	}
	for _, entry := range allowedImports {
		allowed := strings.Fields(entry.imports)
		for name := range actual[entry.name] {
			if !slices.Contains(allowed, name) {
				t.Errorf("%s imports %s, which allowedImports does not have", entry.name, name)
			}
		}
		for _, name := range allowed {
			if !actual[entry.name][name] {
				t.Errorf("%s does not import %s, which allowedImports has", entry.name, name)
			}
		}
		if actual[entry.name] == nil {
			t.Errorf("allowedImports has %s, which is not there", entry.name)
		}
		delete(actual, entry.name)
	}
	for name := range actual {
		t.Errorf("the package %s is not in allowedImports", name)
	}
}

// nameOf returns the name of a package in allowedImports by its directory.
func nameOf(dir string) string {
	if dir == "" || dir == "." {
		return "ROOT"
	}
	return dir
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
			pkg.name = nameOf(filepath.ToSlash(name))
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
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=Dir,Imports", "./...")
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
