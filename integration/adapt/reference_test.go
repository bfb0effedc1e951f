package adapt

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
)

// block has the settings of a block by name. The value is nil for a setting that opens no block. In a text, the name may be a
// placeholder such as <situation>, which stands for all names that the text does not have.
type block map[string]block

// The blocks that the parser, the grammar in the code and the documents are compared on, and where in a Caddyfile each one stands.
const (
	global   = "the global option oauth"
	handler  = "the directive oauth"
	guard    = "the directive oauth_guard"
	redis    = "store redis"
	password = "grant password"
	bearer   = "grant jwt_bearer"
)

// places has a Caddyfile for each block, with %s where its settings stand.
var places = map[string]string{
	global:   "{\noauth {\n%s\n}\n}",
	handler:  "{\noauth {\nissuer https://example.com\n}\n}\nexample.com {\noauth {\n%s\n}\n}",
	guard:    "{\noauth {\nissuer https://example.com\n}\n}\nexample.com {\noauth_guard {\n%s\n}\n}",
	redis:    "{\noauth {\nissuer https://example.com {\nstore redis localhost {\n%s\n}\n}\n}\n}",
	password: "{\noauth {\nissuer https://example.com {\ngrant password {\n%s\n}\n}\n}\n}",
	bearer:   "{\noauth {\nissuer https://example.com {\ngrant jwt_bearer {\n%s\n}\n}\n}\n}",
}

// The grammar in the comments of the code has the settings that the parser accepts, and no others.
func TestGrammarIsWhatIsParsed(t *testing.T) {
	grammars := readGrammars(t)
	for name, place := range places {
		if grammars[name] == nil {
			t.Errorf("no comment has a grammar for %s", name)
			continue
		}
		compareBlocks(t, name, "grammar", grammars[name], accepted(t, place))
	}
}

// The tables of the documents have the settings that the parser accepts, and no others.
func TestDocumentsHaveEverySetting(t *testing.T) {
	documented := readReference(t)
	for name, place := range places {
		parsed := accepted(t, place)
		text := documented[name]
		if name == global {
			issuer := parsed["issuer"]
			// The blocks of a client that an issuer has too are described there.
			for setting, inner := range issuer["client"] {
				if _, named := text["issuer"]["client"][setting]; named && inner != nil {
					text["issuer"]["client"][setting] = maps.Clone(inner)
				}
			}
		}
		compareBlocks(t, name, "documentation", text, parsed)
	}
}

// compareBlocks reports what only one of a text and the parser has.
func compareBlocks(t *testing.T, name, source string, text, parsed block) {
	t.Helper()
	var placeholder bool
	for setting, inner := range text {
		if strings.HasPrefix(setting, "<") {
			placeholder = true
			continue
		}
		other, ok := parsed[setting]
		switch {
		case !ok:
			t.Errorf("%s: the parser knows no setting %s, which the %s has", name, setting, source)
		case other != nil:
			compareBlocks(t, name+": "+setting, source, inner, other)
		case slices.ContainsFunc(slices.Collect(maps.Keys(inner)), func(s string) bool { return strings.HasPrefix(s, "<") }):
			// The parser takes any name, so that it names none.
		case len(inner) > 0:
			t.Errorf("%s: the parser reads no block of settings after %s, which the %s has", name, setting, source)
		}
	}
	for setting := range parsed {
		if _, ok := text[setting]; !ok && !placeholder {
			t.Errorf("%s: the %s has no setting %s, which the parser accepts", name, source, setting)
		}
	}
}

// accepted returns the settings that the parser accepts at a place. It asks for them with a setting that does not exist, since the
// error names those that do.
func accepted(t *testing.T, place string) block {
	t.Helper()
	names, ok := expected(place)
	if !ok {
		t.Fatalf("the parser names no settings in\n%s", place)
	}
	settings := make(block)
	for _, name := range names {
		settings[name] = nil
		for _, arguments := range []string{"", " x", " https://example.com"} {
			inner := strings.Replace(place, "%s", name+arguments+" {\n%s\n}", 1)
			if _, ok := expected(inner); ok {
				settings[name] = accepted(t, inner)
				break
			}
		}
	}
	return settings
}

var unknownSetting = regexp.MustCompile(`unknown setting "\?", expected (?:one of: )?([a-z_]+(?:, [a-z_]+)*)`)

// expected returns the settings that the error of the parser names for the unknown setting "?".
func expected(place string) (names []string, ok bool) {
	_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(fmt.Appendf(nil, place, "?"), nil)
	if err == nil {
		return nil, false
	}
	found := unknownSetting.FindStringSubmatch(err.Error())
	if found == nil || found[1] == "none" { // a module without settings
		return nil, false
	}
	names = strings.Split(found[1], ", ")
	return slices.DeleteFunc(names, func(name string) bool { return name == "at" }), true
}

// A store or a grant type of this module that reads a block has a place here.
func TestReferenceHasEveryModule(t *testing.T) {
	for namespace, setting := range map[string]string{"oauth.stores": "store", "oauth.grants": "grant"} {
		for _, info := range caddy.GetModules(namespace) {
			if strings.Contains(reflect.TypeOf(info.New()).Elem().PkgPath(), "/integration/") {
				continue // a module of another test
			}
			name := setting + " " + info.ID.Name()
			for _, arguments := range []string{"", " x"} {
				place := "{\noauth {\nissuer https://example.com {\n" + name + arguments + " {\n%s\n}\n}\n}\n}"
				if _, ok := expected(place); ok && places[name] == "" {
					t.Errorf("%s has settings, but this test does not compare them", name)
				}
			}
		}
	}
}

// readGrammars returns the grammars in the comments of functions.
func readGrammars(t *testing.T) map[string]block {
	t.Helper()
	grammars := make(map[string]block)
	for _, dir := range []string{"../..", "../../grants", "../../storage/redis"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			for _, decl := range file.Decls {
				f, ok := decl.(*ast.FuncDecl)
				if !ok {
					continue
				}
				lines := codeOf(f.Doc.Text())
				if len(lines) == 0 || !strings.HasSuffix(lines[0], "{") {
					continue
				}
				settings, _ := parseGrammar(lines[1:])
				switch first := strings.TrimSpace(lines[0]); {
				case first == "oauth {":
					grammars[global] = settings
				case strings.HasPrefix(first, "oauth "):
					grammars[handler] = settings
				case strings.HasPrefix(first, "oauth_guard "):
					grammars[guard] = settings
				case strings.HasPrefix(first, "redis "):
					grammars[redis] = settings
				case strings.HasPrefix(first, "password "):
					grammars[password] = settings
				case strings.HasPrefix(first, "jwt_bearer "):
					grammars[bearer] = settings
				}
			}
		}
	}
	if issuer := grammars[global]["issuer"]; issuer != nil {
		for name, inner := range issuer["client"] {
			if _, same := inner["..."]; same { // written out for the issuer
				issuer["client"][name] = issuer[name]
			}
		}
	}
	return grammars
}

// codeOf returns the lines of the preformatted text in a comment.
func codeOf(comment string) (lines []string) {
	for line := range strings.Lines(comment) {
		if strings.HasPrefix(line, "\t") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// parseGrammar reads the lines of a block up to its closing brace, and returns what follows.
func parseGrammar(lines []string) (settings block, rest []string) {
	settings = make(block)
	for len(lines) > 0 {
		words := strings.Fields(lines[0])
		lines = lines[1:]
		switch {
		case len(words) == 0:
		case words[0] == "}":
			return settings, lines
		case words[len(words)-1] == "{":
			settings[words[0]], lines = parseGrammar(lines)
		case words[len(words)-1] == "}":
			settings[words[0]] = block{"...": nil}
		default:
			settings[words[0]] = nil
		}
	}
	return settings, nil
}

var (
	firstCell   = regexp.MustCompile(`(?m)^\| ((?:[^|\\]|\\.)*) \|`)
	codeSpan    = regexp.MustCompile("`([^`]+)`")
	settingName = regexp.MustCompile(`^[a-z_]+$`)
)

// readReference returns the settings in the tables of docs. The header of a table says what its settings belong to.
func readReference(t *testing.T) map[string]block {
	t.Helper()
	var text strings.Builder
	for _, doc := range documents(t) {
		text.WriteString(doc.text)
	}
	client := make(block)
	issuer := block{"client": client}
	all := map[string]block{global: {"issuer": issuer}, handler: {}, guard: {}, redis: {}, password: {}, bearer: {}}
	headers := map[string]block{
		"setting of an issuer": issuer, "setting of a client": client, "setting of `oauth`": all[handler],
		"setting of `oauth_guard`": all[guard], "setting of `store redis`": all[redis], "setting of `grant password`": all[password],
		"setting of `grant jwt_bearer`": all[bearer],
	}
	var table block
	for _, cell := range firstCell.FindAllStringSubmatch(text.String(), -1) {
		header, isHeader := headers[cell[1]]
		switch {
		case isHeader:
			table = header
		case !strings.Contains(cell[1], "`"):
			table = nil // the header of another table
		case table != nil && strings.HasSuffix(cell[1], "(client)"):
			addRow(client, cell[1])
		case table != nil:
			addRow(table, cell[1])
		}
	}
	return all
}

// addRow adds the settings of a row to the block that its table is about. A setting in braces is one of the block before them, and so are
// the code spans that follow. Braces can stand in braces.
func addRow(table block, cell string) {
	current := table
	for _, span := range codeSpan.FindAllStringSubmatch(cell, -1) {
		outer, inner, nested := strings.Cut(span[1], "{")
		name, _, _ := strings.Cut(strings.TrimSpace(outer), " ")
		if !settingName.MatchString(name) {
			continue
		}
		if !nested {
			if _, there := current[name]; !there {
				current[name] = nil
			}
			continue
		}
		current = table
		for nested {
			if current[name] == nil {
				current[name] = make(block)
			}
			current = current[name]
			outer, inner, nested = strings.Cut(inner, "{")
			name, _, _ = strings.Cut(strings.TrimSpace(outer), " ")
		}
		if name != "..." {
			if _, there := current[name]; !there {
				current[name] = nil
			}
		}
	}
}
