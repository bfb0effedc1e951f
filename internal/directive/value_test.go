package directive

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

func TestResolve(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	for _, c := range []struct {
		value, setting string // the value of the variable and of the file; the setting
		want           string
		err            string
	}{
		{"secret", "{env.OAUTH_TEST}", "secret", ""},
		{"secret\n", "{env.OAUTH_TEST}", "secret", ""},
		{"secret\r\n", "{env.OAUTH_TEST}", "secret", ""},
		{"secret\n\n", "{env.OAUTH_TEST}", "secret\n", ""},
		{"secret\r\n", "{file." + file + "}", "secret", ""},
		{"secret\n\n", "{file." + file + "}", "secret\n", ""},
		{"two\nlines\n", "{env.OAUTH_TEST}", "two\nlines", ""},
		{"secret\n", "a-{env.OAUTH_TEST}-b-{env.OAUTH_TEST}", "a-secret-b-secret", ""},
		{"secret ", "{env.OAUTH_TEST}", "secret ", ""},
		{"{env.HOME}", "{env.OAUTH_TEST}", "{env.HOME}", ""},
		{"", "plain\n", "plain\n", ""},
		{"", "{env.OAUTH_TEST}", "", "placeholder {env.OAUTH_TEST} is empty"},
		{"\n", "{env.OAUTH_TEST}", "", "placeholder {env.OAUTH_TEST} is empty"},
		{"\n", "{file." + file + "}", "", "placeholder {file." + file + "} is empty"},
		{"", "{file." + file + ".none}", "", "placeholder {file." + file + ".none} is empty"},
		{"", "{vault.secret}", "", "unknown placeholder {vault.secret}"},
	} {
		t.Setenv("OAUTH_TEST", c.value)
		if err := os.WriteFile(file, []byte(c.value), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := Resolve(caddy.NewReplacer(), c.setting)
		if text := message(err); got != c.want || text != c.err {
			t.Errorf("%s of %q is %q, error %q; want %q, %q", c.setting, c.value, got, text, c.want, c.err)
		}
	}
}

func TestCheckSecret(t *testing.T) {
	for secret, valid := range map[string]bool{
		"correct horse battery": true, "ä€🔑": true, "": true,
		"x\n": false, "x\r\n": false, "\nx": false, "x\ny": false, " x": false, "x ": false, "x\t": false, "x\x00y": false,
		"\u00a0x": false, "x\u0085": false, "\x7f": false,
	} {
		err := CheckSecret(secret)
		if (err == nil) != valid {
			t.Errorf("%q: %v", secret, err)
		}
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestPlaceholders(t *testing.T) {
	for value, want := range map[string][]string{
		"":                            nil,
		"plain {} }{":                 nil,
		"{env.ONE}":                   {"env.ONE"},
		"a {env.ONE} b {file./t/wo}c": {"env.ONE", "file./t/wo"},
		"{outer {inner}}":             {"inner"},
	} {
		if got := Placeholders(value); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}
