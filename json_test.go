package caddyoauth_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	caddyoauth "github.com/caddy-oauth/caddy-oauth"
)

// fill sets every exported field in v to a value that is not empty.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch v.Interface().(type) {
	case json.RawMessage:
		v.SetBytes([]byte(`{"store":"memory"}`))
		return
	case time.Duration, caddy.Duration, caddyoauth.Lifetime, caddyoauth.Retry:
		v.SetInt(int64(90 * time.Second))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.Struct:
		for _, field := range reflect.VisibleFields(v.Type()) {
			if field.IsExported() && field.Tag.Get("json") != "-" {
				fill(t, v.FieldByIndex(field.Index))
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0))
		fill(t, v.Index(1))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(t, key)
		fill(t, value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString("some text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	default:
		t.Fatalf("a %s in the config, which this test knows nothing of", v.Type())
	}
}

// TestConfigRoundTrip encodes configurations with every field set, and decodes them.
func TestConfigRoundTrip(t *testing.T) {
	for _, config := range []any{new(caddyoauth.App), new(caddyoauth.Handler), new(caddyoauth.Guard)} {
		t.Run(reflect.TypeOf(config).Elem().Name(), func(t *testing.T) {
			fill(t, reflect.ValueOf(config).Elem())
			encoded, err := json.Marshal(config)
			if err != nil {
				t.Fatal(err)
			}
			read := reflect.New(reflect.TypeOf(config).Elem()).Interface()
			if err := caddy.StrictUnmarshalJSON(encoded, read); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(read, config) {
				again, err := json.Marshal(read)
				t.Errorf("JSON of the config:\n%s\nand after a round trip:\n%s %v", encoded, again, err)
			}
		})
	}
}

// Fields that are not set are not in the JSON.
func TestEmptyConfigIsEmptyJSON(t *testing.T) {
	for _, config := range []any{
		caddyoauth.App{},
		caddyoauth.Client{},
		caddyoauth.Endpoints{},
		caddyoauth.Signing{},
		caddyoauth.Handler{},
		caddyoauth.Guard{},
		caddyoauth.CodeSettings{},
		caddyoauth.PageSettings{},
		caddyoauth.AccessTokenSettings{},
		caddyoauth.RefreshTokenSettings{},
	} {
		if encoded, err := json.Marshal(config); err != nil || string(encoded) != "{}" {
			t.Errorf("%T: %s %v", config, encoded, err)
		}
	}
}

// Caddy refuses unknown fields at every level of a module.
func TestUnknownFieldsAreRefused(t *testing.T) {
	const template = `{"apps":{"oauth":{"issuers":{"default":{
		"url":"https://example.com" ISSUER,
		"scopes":[{"name":"orders" SCOPE}],
		"clients":{"app":{"redirect_uris":["https://app.example.com/"] CLIENT}},
		"code":{"lifetime":"1m" CODE},
		"page":{"name":"Shop" PAGE},
		"access_token":{"lifetime":"1m" ACCESS_TOKEN},
		"refresh_token":{"lifetime":"never" REFRESH_TOKEN},
		"endpoints":{"token":"/token" ENDPOINTS},
		"signing":{"algorithm":"ES256" SIGNING},
		"store":{"store":"memory" STORE}
	}} APP},
	"http":{"servers":{"site":{"listen":["127.0.0.1:0"],"automatic_https":{"disable":true},"routes":[{"handle":[
		{"handler":"oauth","login":{"url":"/login" LOGIN} HANDLER}
	]}]}}}}}`
	levels := []string{"ISSUER", "SCOPE", "CLIENT", "CODE", "PAGE", "ACCESS_TOKEN", "REFRESH_TOKEN", "ENDPOINTS", "SIGNING", "STORE", "APP", "LOGIN", "HANDLER"}
	without := func(text string) string {
		for _, level := range levels {
			text = strings.ReplaceAll(text, " "+level, "")
		}
		return text
	}
	if err := validateJSON(t, without(template)); err != nil {
		t.Fatalf("without unknown fields: %v", err)
	}
	for _, level := range levels {
		t.Run(level, func(t *testing.T) {
			err := validateJSON(t, without(strings.Replace(template, " "+level, `,"nonsense":1`, 1)))
			if err == nil || !strings.Contains(err.Error(), `unknown field "nonsense"`) {
				t.Errorf("expected the field to be refused, got %v", err)
			}
		})
	}
}

func validateJSON(t *testing.T, text string) error {
	t.Helper()
	var config caddy.Config
	if err := caddy.StrictUnmarshalJSON([]byte(text), &config); err != nil {
		t.Fatal(err)
	}
	return caddy.Validate(&config)
}

func TestLifetimeJSON(t *testing.T) {
	for _, tt := range []struct {
		json string
		want time.Duration // 0 is an error, -1 never
		back string
	}{
		{`"10m"`, 10 * time.Minute, "600000000000"},
		{`"30d"`, 30 * 24 * time.Hour, "2592000000000000"},
		{`"1s"`, time.Second, "1000000000"},
		{"1000000000", time.Second, "1000000000"},
		{`"never"`, -1, `"never"`},
		{`0`, 0, ""},
		{`"0"`, 0, ""},
		{`"0s"`, 0, ""},
		{`"999ms"`, 0, ""},
		{`999999999`, 0, ""},
		{`-1`, 0, ""}, // the value of Never
		{`"-1ns"`, 0, ""},
		{`"-5m"`, 0, ""},
		{`-1000000000`, 0, ""},
		{`1e9`, 0, ""},
		{`1.5`, 0, ""},
		{`9223372036854775808`, 0, ""},
		{`"1000000d"`, 0, ""},
		{`"Never"`, 0, ""},
		{`"soon"`, 0, ""},
		{`""`, 0, ""},
		{`true`, 0, ""},
		{`{}`, 0, ""},
		{`["1m"]`, 0, ""},
	} {
		t.Run(tt.json, func(t *testing.T) {
			var got struct {
				Lifetime caddyoauth.Lifetime `json:"lifetime"`
			}
			err := json.Unmarshal([]byte(`{"lifetime":`+tt.json+`}`), &got)
			if (err != nil) != (tt.want == 0) || got.Lifetime != caddyoauth.Lifetime(tt.want) {
				t.Fatalf("got %d and %v", got.Lifetime, err)
			}
			if err != nil {
				return
			}
			if back, err := json.Marshal(got); err != nil || string(back) != `{"lifetime":`+tt.back+`}` {
				t.Errorf("and back: %s %v", back, err)
			}
		})
	}
}

// Impossible settings in JSON are found like those in a Caddyfile, but without file and line.
func TestImpossibleJSON(t *testing.T) {
	for _, tt := range []struct{ name, issuers, expected string }{
		{"no settings", `"default":null`, "issuer default: expected the settings of the issuer"},
		{"no URL", `"default":{}`, "issuer default: expected the issuer's URL"},
		{"no name", `"":{"url":"https://example.com"}`, "expected, before the URL, a name"},
		{"retry below zero", `"default":{"url":"https://example.com","refresh_token":{"retry":-1}}`, "expected a duration from 1s to 5m, 0, or unused"},
		{"scope twice", `"default":{"url":"https://example.com","scopes":[{"name":"a"},{"name":"a"}]}`, "issuer default: scope a: duplicate scope"},
		{"scope without name", `"default":{"url":"https://example.com","scopes":[{}]}`, "issuer default: scope : expected a name"},
		{"client without settings", `"default":{"url":"https://example.com","clients":{"app":null}}`, "client app: expected redirect_uris, which authorization_code needs"},
		{"client without ID", `"default":{"url":"https://example.com","clients":{"":{"redirect_uris":["https://app.example.com/"]}}}`, "expected a client ID"},
		{"empty secret", `"default":{"url":"https://example.com","clients":{"app":{"secrets":[""],"grant_types":["client_credentials"]}}}`, "client app: secret: expected a secret, but it is empty"},
		{"empty redirect URI", `"default":{"url":"https://example.com","clients":{"app":{"redirect_uris":[""]}}}`, "client app: redirect_uris: expected an absolute URI"},
		{"empty audience", `"default":{"url":"https://example.com","audience":[""]}`, "issuer default: audience: expected absolute URIs"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := validateJSON(t, `{"apps":{"oauth":{"issuers":{`+tt.issuers+`}}}}`)
			if err == nil || !strings.Contains(err.Error(), tt.expected) {
				t.Errorf("expected %s, got %v", tt.expected, err)
			}
		})
	}
}
