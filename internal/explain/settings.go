package explain

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Setting is a setting of the configuration, with the comment of its field.
type Setting struct {
	Path []string `json:"path"` // as in Caddy's JSON: "issuers", "clients", "redirect_uris"
	Doc  string   `json:"doc"`
	Sub  []string `json:"settings,omitempty"` // what stands inside it
}

// Name returns the name of the setting.
func (s *Setting) Name() string { return s.Path[len(s.Path)-1] }

// Settings are the settings of the configuration. Their texts are read from the source of the configuration's structs, so that there
// is no second text that could say something else.
type Settings []Setting

// Root is where settings begin: a struct, by the name of its Go package and its own.
type Root struct{ Name, Package, Type string }

// ReadSettings reads the settings of the structs in Go files.
func ReadSettings(source fs.FS, roots []Root) (Settings, error) {
	types := make(map[string]*ast.StructType) // by package and name
	set := token.NewFileSet()
	err := fs.WalkDir(source, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, ".go") {
			return err
		}
		text, err := fs.ReadFile(source, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(set, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for node := range ast.Preorder(file) {
			if spec, ok := node.(*ast.TypeSpec); ok {
				if fields, ok := spec.Type.(*ast.StructType); ok {
					types[file.Name.Name+"."+spec.Name.Name] = fields
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var all Settings
	for _, root := range roots {
		fields := types[root.Package+"."+root.Type]
		if fields == nil {
			return nil, errors.New("no struct " + root.Package + "." + root.Type)
		}
		all.add(types, root.Package, []string{root.Name}, fields)
	}
	return all, nil
}

// add adds the settings of a struct, and of the structs in it.
func (s *Settings) add(types map[string]*ast.StructType, pkg string, path []string, fields *ast.StructType) (names []string) {
	if len(path) > 8 {
		return nil // a struct that has itself
	}
	doc := "" // of the last field: a field right below another may share its comment
	for _, field := range fields.Fields.List {
		of, typ := typeName(pkg, field.Type)
		inner := types[of+"."+typ]
		name := jsonName(field)
		switch {
		case len(field.Names) == 0 && name == "" && inner != nil: // embedded
			names = append(names, s.add(types, of, path, inner)...)
			continue
		case name == "" || name == "-" || len(field.Names) == 0 || !field.Names[0].IsExported():
			continue
		}
		if field.Doc != nil {
			doc = strings.TrimSpace(field.Doc.Text())
		}
		names = append(names, name)
		at := len(*s)
		below := append(slices.Clone(path), name)
		*s = append(*s, Setting{Path: below, Doc: doc})
		if inner != nil {
			sub := s.add(types, of, below, inner)
			(*s)[at].Sub = sub
		}
	}
	return names
}

// typeName returns the package and the name of the type of a field, of what a pointer points to, or of the elements. The field is of
// a struct in the package.
func typeName(pkg string, expr ast.Expr) (of, name string) {
	switch e := expr.(type) {
	case *ast.Ident:
		return pkg, e.Name
	case *ast.SelectorExpr:
		if imported, ok := e.X.(*ast.Ident); ok {
			return imported.Name, e.Sel.Name
		}
	case *ast.StarExpr:
		return typeName(pkg, e.X)
	case *ast.ArrayType:
		return typeName(pkg, e.Elt)
	case *ast.MapType:
		return typeName(pkg, e.Value)
	}
	return "", ""
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

// spelled are the names in a Caddyfile that differ from those in JSON by more than an s at the end.
var spelled = map[string]string{"secret_hash": "secret_hashes", "encryption_key": "encryption", "grant_alias": "grant_aliases"}

// same reports whether a word of a Caddyfile is the name of a setting.
func same(word, name string) bool {
	word = strings.ToLower(word)
	return word == name || word+"s" == name || spelled[word] == name
}

// Find returns the settings with a name, as in a Caddyfile or in JSON. More words tell settings of the same name apart: those of the
// blocks around it, from the outside, as "refresh_token lifetime" or "client refresh_token lifetime".
func (s Settings) Find(words []string) (found []Setting) {
	for _, setting := range s {
		// A struct that stands in two places, as the issuer does, is explained once.
		known := slices.ContainsFunc(found, func(other Setting) bool { return other.Doc == setting.Doc && other.Name() == setting.Name() })
		if !known && setting.matches(words) {
			found = append(found, setting)
		}
	}
	return found
}

func (s *Setting) matches(words []string) bool {
	last := len(words) - 1
	if last < 0 || !same(words[last], s.Name()) {
		return false
	}
	around := s.Path[:len(s.Path)-1]
	for _, word := range words[:last] {
		i := slices.IndexFunc(around, func(name string) bool { return same(word, name) })
		if i < 0 {
			return false
		}
		around = around[i+1:]
	}
	return true
}

// Names returns the names of all settings.
func (s Settings) Names() (names []string) {
	for _, setting := range s {
		names = append(names, setting.Name())
	}
	slices.Sort(names)
	return slices.Compact(names)
}
