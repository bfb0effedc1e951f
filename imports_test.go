package caddyoauth_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const modulePath = "github.com/caddy-oauth/caddy-oauth"

// layers lists the packages that others build on, lowest first, subpackages included. Each may import
// itself and what stands before it. A package that is not listed stands on top, the root among them.
var layers = []string{
	"internal/directive", "internal/jwt", "internal/metrics", "internal/pages", "internal/recall", "internal/throttle",
	"internal/uris",
	"storage",
	"grants",
	"internal/authserver",
}

// confined says which files may import a dependency, so that replacing it is a change to one of them.
var confined = map[string]*regexp.Regexp{
	"github.com/lestrrat-go/jwx": regexp.MustCompile(`^internal/jwt/`),
	"github.com/prometheus":      regexp.MustCompile(`^internal/metrics/|^internal/authserver/metrics_test\.go$`),
	"github.com/spf13/cobra":     regexp.MustCompile(`^command(_test)?\.go$`),
	"github.com/redis/go-redis":  regexp.MustCompile(`^storage/redis/`),
	"go.opentelemetry.io":        regexp.MustCompile(`^internal/metrics/|^internal/authserver/trace_test\.go$`),
}

func TestImportsGoOneWay(t *testing.T) {
	for _, file := range goFiles(t) {
		for _, imported := range file.imports {
			target, own := strings.CutPrefix(imported+"/", modulePath+"/")
			if own && layer(target) > layer(file.dir()) {
				t.Errorf("%s imports %s, which builds on it", file.path, imported)
			}
		}
	}
}

func TestDependenciesStayBehindTheirFile(t *testing.T) {
	for _, file := range goFiles(t) {
		for _, imported := range file.imports {
			for dependency, allowed := range confined {
				if within(imported, dependency) && !allowed.MatchString(file.path) {
					t.Errorf("%s imports %s; only files that match %s may", file.path, imported, allowed)
				}
			}
		}
	}
}

// Who builds Caddy with the module alone gets what it needs, and no more.
func TestModuleBringsNoRedis(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dependency := range strings.FieldsSeq(string(out)) {
		if within(dependency, "github.com/redis/go-redis") || within(dependency, modulePath+"/storage/redis") {
			t.Errorf("the module needs %s; only who imports storage/redis may", dependency)
		}
	}
}

func TestServerKnowsNothingOfCaddy(t *testing.T) {
	for _, file := range goFiles(t) {
		for _, imported := range file.imports {
			if within(file.path, "internal") && !within(file.path, "internal/directive") && within(imported, "github.com/caddyserver/caddy/v2") {
				t.Errorf("%s imports %s; the server is plain net/http", file.path, imported)
			}
		}
	}
}

func TestRulesOfImports(t *testing.T) {
	for _, c := range []struct {
		from, to string
		upward   bool
	}{
		{"storage", "storage/storetest", false},
		{"storage/redis", "storage", false},
		{"grants", "storage", false},
		{"internal/authserver", "grants", false},
		{"", "internal/authserver", false},
		{"cmd/caddy", "", false},
		{"storage", "grants", true},
		{"storage/redis", "grants", true},
		{"grants", "internal/authserver", true},
		{"internal/authserver", "", true},
		{"storage", "internal/other", true},
		{"grants", "internal/recall", false},
		{"internal/recall", "storage", true},
	} {
		if got := layer(c.to) > layer(c.from); got != c.upward {
			t.Errorf("%q importing %q: upward is %v, want %v", c.from, c.to, got, c.upward)
		}
	}
}

var homePath = regexp.MustCompile(`(?m)(?:^|[^\w.%/-])(?:/(?:home|Users)/\w|/root\b|[A-Za-z]:\\Users\\)`)

func TestDocumentsNameNoHome(t *testing.T) {
	for _, path := range treeFiles(t, ".md") {
		if found := homePath.Find(read(t, path)); found != nil {
			t.Errorf("%s has the path of somebody's home directory: %q", path, found)
		}
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

type goFile struct {
	path    string // from the module's root, with forward slashes
	imports []string
}

func (f goFile) dir() string {
	return f.path[:strings.LastIndexByte(f.path, '/')+1]
}

// goFiles returns every Go file of every package, tests and files of other platforms included.
func goFiles(t *testing.T) []goFile {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-find", "-json=Dir,GoFiles,CgoFiles,IgnoredGoFiles,TestGoFiles,XTestGoFiles", "./...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}

	var files []goFile
	for packages := json.NewDecoder(bytes.NewReader(out)); ; {
		var pkg struct {
			Dir                                                          string
			GoFiles, CgoFiles, IgnoredGoFiles, TestGoFiles, XTestGoFiles []string
		}
		if err := packages.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		for _, name := range slices.Concat(pkg.GoFiles, pkg.CgoFiles, pkg.IgnoredGoFiles, pkg.TestGoFiles, pkg.XTestGoFiles) {
			path, err := filepath.Rel(root, filepath.Join(pkg.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, goFile{path: filepath.ToSlash(path), imports: importsOf(t, path)})
		}
	}
	if len(files) == 0 {
		t.Fatal("go list found no files")
	}
	return files
}

func importsOf(t *testing.T, path string) []string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	imports := make([]string, 0, len(parsed.Imports))
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		imports = append(imports, imported)
	}
	return imports
}

// treeFiles returns the files of the checkout whose name ends in ext.
func treeFiles(t *testing.T, ext string) []string {
	t.Helper()
	var paths []string
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == ".git" {
			return fs.SkipDir
		}
		if filepath.Ext(path) == ext {
			paths = append(paths, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Fatalf("no %s file in the tree", ext)
	}
	return paths
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// layer returns how high a package stands, given its directory from the module's root.
func layer(dir string) int {
	i := slices.IndexFunc(layers, func(lower string) bool { return within(dir, lower) })
	if i < 0 {
		return len(layers)
	}
	return i
}

// within reports whether path is parent or below it.
func within(path, parent string) bool {
	return strings.HasPrefix(path+"/", parent+"/")
}
