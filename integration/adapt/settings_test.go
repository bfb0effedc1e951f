package adapt

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	caddyoauth "github.com/caddy-oauth/caddy-oauth"
)

// TestEverySettingHasAGoldenFile fails for a setting in JSON that no Caddyfile in testdata/use has: it may not be in the grammar.
func TestEverySettingHasAGoldenFile(t *testing.T) {
	app, handler, guard := reflect.TypeFor[caddyoauth.App](), reflect.TypeFor[caddyoauth.Handler](), reflect.TypeFor[caddyoauth.Guard]()
	used := make(map[string]bool)
	for _, name := range goldenFiles(t, "use") {
		input, _ := readGolden(t, name)
		adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(input), nil)
		if err != nil {
			t.Fatalf("%s: %v", filepath.Base(name), err)
		}
		var config map[string]any
		if err := json.Unmarshal(adapted, &config); err != nil {
			t.Fatal(err)
		}
		apps, _ := config["apps"].(map[string]any)
		use(app, apps["oauth"], used)
		for _, h := range handlers(apps["http"]) {
			switch h["handler"] {
			case "oauth":
				use(handler, h, used)
			case "oauth_guard":
				use(guard, h, used)
			}
		}
	}
	used["Signing.jwks_file"], used["Client.jwks_file"] = true, true // other tests have the files
	used["Client.jwks"] = true                                       // only in JSON, for clients that are added at run time
	used["SelfSignedCertificates.certificate_files"] = true
	for _, config := range []reflect.Type{app, handler, guard} {
		for name := range settings(config) {
			if !used[name] {
				t.Errorf("no file in testdata/use has %s", name)
			}
		}
	}
}

// handlers returns the HTTP handlers in a part of a configuration.
func handlers(part any) (all []map[string]any) {
	switch part := part.(type) {
	case []any:
		for _, value := range part {
			all = append(all, handlers(value)...)
		}
	case map[string]any:
		if _, ok := part["handler"]; ok {
			all = append(all, part)
		}
		for _, value := range part {
			all = append(all, handlers(value)...)
		}
	}
	return all
}

// use adds the settings that a value of the type has, by type and name.
func use(config reflect.Type, value any, used map[string]bool) {
	switch value := value.(type) {
	case []any:
		for _, element := range value {
			use(config.Elem(), element, used)
		}
	case map[string]any:
		config = pointedTo(config)
		if config.Kind() == reflect.Map {
			for _, element := range value {
				use(config.Elem(), element, used)
			}
			return
		}
		for name, member := range value {
			if field, ok := fields(config)[name]; ok {
				used[config.Name()+"."+name] = true
				use(field, member, used)
			}
		}
	}
}

// settings returns the settings of a type and of all types below it.
func settings(config reflect.Type) map[string]bool {
	all := make(map[string]bool)
	for config = pointedTo(config); config.Kind() == reflect.Map || config.Kind() == reflect.Slice; {
		config = pointedTo(config.Elem())
	}
	if config.Kind() != reflect.Struct || config == reflect.TypeFor[caddyhttp.Route]() {
		return all
	}
	for name, field := range fields(config) {
		all[config.Name()+"."+name] = true
		for below := range settings(field) {
			all[below] = true
		}
	}
	return all
}

// fields returns the types of the fields of a struct, by their names in JSON.
func fields(config reflect.Type) map[string]reflect.Type {
	byName := make(map[string]reflect.Type)
	if config.Kind() != reflect.Struct {
		return byName
	}
	for _, field := range reflect.VisibleFields(config) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name != "" && field.IsExported() {
			byName[name] = field.Type
		}
	}
	return byName
}

// pointedTo returns the type that a pointer points to, or else the type itself.
func pointedTo(config reflect.Type) reflect.Type {
	if config.Kind() == reflect.Pointer {
		return config.Elem()
	}
	return config
}
