package caddyoauth_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
)

// Caddy publishes the comments of the config's types and fields as its documentation.
func TestConfigIsDocumented(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("storage/*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	fields := 0
	set := token.NewFileSet()
	for _, name := range append(files, more...) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Dir(name) != "." && !registersModule(file) {
			continue
		}
		for _, decl := range file.Decls {
			fields += checkDocs(t, set, decl)
		}
	}
	if fields == 0 {
		t.Fatal("no fields found")
	}
}

// Scripts read the figures of the admin API by their names.
func TestFiguresAreDocumented(t *testing.T) {
	text, err := os.ReadFile("docs/reference/admin-api.md")
	if err != nil {
		t.Fatal(err)
	}
	for field := range reflect.TypeFor[authserver.Stats]().Fields() {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("docs/reference/admin-api.md lacks %s", name)
		}
	}
}

// Every value of a label from a closed list is in the table of metrics.
func TestLabelsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("docs/operate/watching.md")
	if err != nil {
		t.Fatal(err)
	}
	row := func(metric string) string {
		_, after, found := strings.Cut(string(text), "| `"+metric+"` |")
		if !found {
			t.Fatalf("docs/operate/watching.md has no row for %s", metric)
		}
		cells, _, _ := strings.Cut(after, "\n")
		return cells
	}
	for metric, labels := range map[string][]string{
		"caddy_oauth_throttled_total":   stringsOf(t, "internal/throttle", constantsOf("Kind")),
		"caddy_oauth_revocations_total": stringsOf(t, "internal/authserver", constantsOf("revocationLabel")),
	} {
		if len(labels) < 6 {
			t.Fatalf("%s: only the labels %v were found in the code", metric, labels)
		}
		for _, label := range labels {
			if !strings.Contains(row(metric), "`"+label+"`") {
				t.Errorf("docs/operate/watching.md: the row of %s lacks %s", metric, label)
			}
		}
	}
}

// stringsOf returns the string literals among the expressions that pick returns for the nodes of a package, without its tests.
func stringsOf(t *testing.T, dir string, pick func(ast.Node) []ast.Expr) (found []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			for _, expr := range pick(n) {
				if literal, ok := expr.(*ast.BasicLit); ok && literal.Kind == token.STRING {
					value, err := strconv.Unquote(literal.Value)
					if err != nil {
						t.Fatal(err)
					}
					found = append(found, value)
				}
			}
			return true
		})
	}
	return found
}

// constantsOf picks the values of the constants of a type.
func constantsOf(typeName string) func(ast.Node) []ast.Expr {
	return func(n ast.Node) []ast.Expr {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return nil
		}
		if name, ok := spec.Type.(*ast.Ident); ok && name.Name == typeName {
			return spec.Values
		}
		return nil
	}
}

func registersModule(file *ast.File) (found bool) {
	ast.Inspect(file, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		found = found || ok && selector.Sel.Name == "RegisterModule"
		return true
	})
	return found
}

// checkDocs reports exported structs, and fields of them in JSON, without a comment. It counts the fields.
func checkDocs(t *testing.T, set *token.FileSet, decl ast.Decl) (fields int) {
	t.Helper()
	types, ok := decl.(*ast.GenDecl)
	if !ok || types.Tok != token.TYPE {
		return 0
	}
	for _, spec := range types.Specs {
		spec := spec.(*ast.TypeSpec)
		config, ok := spec.Type.(*ast.StructType)
		if !ok || !spec.Name.IsExported() {
			continue
		}
		if types.Doc.Text() == "" && spec.Doc.Text() == "" {
			t.Errorf("%s: %s has no comment", set.Position(spec.Pos()), spec.Name)
		}
		last := 0
		for _, field := range config.Fields.List {
			if len(field.Names) == 0 || !field.Names[0].IsExported() {
				continue
			}
			fields++
			line := set.Position(field.Pos()).Line
			pair := field.Doc == nil && line == last+1 // The comment before it is about both.
			last = line
			if !pair && !strings.HasSuffix(strings.TrimSpace(field.Doc.Text()), ".") {
				t.Errorf("%s: %s.%s has no comment that ends in a period", set.Position(field.Pos()), spec.Name, field.Names[0])
			}
			if name := jsonName(field); name == "" || name != strings.ToLower(name) {
				t.Errorf("%s: %s.%s has no JSON name in lower case", set.Position(field.Pos()), spec.Name, field.Names[0])
			}
		}
	}
	return fields
}

func jsonName(field *ast.Field) string {
	if field.Tag == nil {
		return ""
	}
	tag, err := strconv.Unquote(field.Tag.Value)
	if err != nil {
		return ""
	}
	name, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
	return name
}

// examples returns the Caddyfiles that come with the module.
func examples(t *testing.T) []string {
	t.Helper()
	more, err := filepath.Glob("examples/*.Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	return append(more, "Caddyfile.example")
}

func TestExamplesAreFormatted(t *testing.T) {
	for _, name := range examples(t) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		formatted := caddyfile.Format(text)
		if !bytes.Equal(formatted, text) {
			t.Errorf("%s: expected as caddy fmt has it:\n%s", name, formatted)
		}
		if again := caddyfile.Format(formatted); !bytes.Equal(again, formatted) {
			t.Errorf("%s: caddy fmt changes it the second time:\n%s", name, again)
		}
	}
}

func TestExampleIsValid(t *testing.T) {
	if output, ok := caddyCommand(t, t.TempDir(), "validate", "--adapter", "caddyfile", "--config", "Caddyfile.example"); !ok {
		t.Error(output)
	}
}

// Nobody who tries two examples at once meets the port, or the apps, of one in the other.
func TestExamplesDoNotMeet(t *testing.T) {
	seen := make(map[string]string)
	for _, name := range append(examples(t), "examples/observability/Caddyfile") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		own := make(map[string]bool)
		if !bytes.Contains(text, []byte("\tadmin ")) && bytes.Contains(text, []byte("localhost")) {
			own["localhost:2019"] = true // the default
		}
		for _, address := range regexp.MustCompile(`(?m)(?:localhost|127\.0\.0\.1):\d+|^\s*(?:oauth|issuer) .*https://[^ ]+`).FindAllString(string(text), -1) {
			own[strings.Replace(strings.TrimSpace(address), "127.0.0.1", "localhost", 1)] = true
		}
		for address := range own {
			if other := seen[address]; other != "" {
				t.Errorf("%s has %s, as %s", name, address, other)
			}
			seen[address] = name
		}
	}
}

// The shortest configurations stay short.
func TestExamplesAreShort(t *testing.T) {
	for name, most := range map[string]int{"examples/script.Caddyfile": 9, "examples/existing-site.Caddyfile": 20} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(text)), "\n"), func(line string) bool {
			return strings.HasPrefix(strings.TrimSpace(line), "#")
		})
		if len(lines) > most {
			t.Errorf("%s has %d lines, expected at most %d", name, len(lines), most)
		}
	}
}
