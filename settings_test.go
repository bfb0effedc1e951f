package caddyoauth

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/grants"
)

// `caddy oauth explain setting` knows every field of the configuration, with a text.
func TestEverySettingIsExplained(t *testing.T) {
	all, err := settings()
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]string)
	for _, setting := range all {
		known[strings.Join(setting.Path, " ")] = setting.Doc
	}
	fields := 0
	var visit func(path []string, config reflect.Type)
	visit = func(path []string, config reflect.Type) {
		for config.Kind() == reflect.Pointer || config.Kind() == reflect.Map || config.Kind() == reflect.Slice {
			config = config.Elem()
		}
		if config.Kind() != reflect.Struct {
			return
		}
		for field := range config.Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			switch {
			case field.Anonymous && name == "":
				visit(path, field.Type)
				continue
			case !field.IsExported() || name == "" || name == "-":
				continue
			}
			fields++
			below := append(slices.Clone(path), name)
			if known[strings.Join(below, " ")] == "" {
				t.Errorf("%s is not explained", strings.Join(below, " > "))
			}
			if field.Name != "Settings" && field.Name != "Routes" { // an issuer, as in the app, and the routes of Caddy
				visit(below, field.Type)
			}
		}
	}
	visit([]string{"oauth"}, reflect.TypeFor[App]())
	visit([]string{"oauth (directive)"}, reflect.TypeFor[Handler]())
	visit([]string{"oauth_guard (directive)"}, reflect.TypeFor[Guard]())
	visit([]string{"grant jwt_bearer"}, reflect.TypeFor[grants.JWTBearer]())
	visit([]string{"grant password"}, reflect.TypeFor[grants.Password]())
	if fields < 60 {
		t.Errorf("only %d fields", fields)
	}
}
