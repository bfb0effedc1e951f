package authserver

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/grants"
)

// checkParsed checks what holds for the parameters of every request: there are some or an error, none is empty and none
// but resource is there twice (RFC 6749 §3.2).
func checkParsed(t *testing.T, form url.Values, err error) {
	t.Helper()
	if (form == nil) == (err == nil) {
		t.Fatalf("got %q and error %v", form, err)
	}
	if err != nil && (asRefusal(err).Code != grants.InvalidRequest || asRefusal(err).HTTPStatus() != http.StatusBadRequest) {
		t.Errorf("got error %v", err)
	}
	for name, values := range form {
		if len(values) == 0 || len(values) > 1 && name != "resource" || len(values) == 1 && values[0] == "" {
			t.Errorf("%q is %q", name, values)
		}
	}
}

func FuzzForm(f *testing.F) {
	for _, seed := range []string{
		"", "code=x&code=y", "resource=a&resource=&resource=b", "a=%zz", "a=b;c=d", "=x", "&&&", "a&b=&c==", "%00=%ff", "scope=a+b",
		"client_secret=x&client%5fsecret=y",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		form, err := parseForm(body)
		checkParsed(t, form, err)
		if err != nil {
			return
		}
		again, err := parseForm(form.Encode())
		if err != nil || again.Encode() != form.Encode() {
			t.Errorf("%q is %q, which is %q with error %v", body, form, again, err)
		}
	})
}

func FuzzJSONBody(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", `{"code":"x","code":"y"}`, `{"resource":["a",null,1]}`, `{"resource":[]}`, `{"a":[1]}`, `{"a":{}}`, `{"a":1}{}`,
		`{"a":1,}`, `{"a"}`, `{"a":"\ud800"}`, `{1:2}`, `{"a":1e999}`, "\xff", `{"resource":[}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		form, err := parseJSON(body)
		if err == nil {
			form, err = tidyForm(form)
		}
		checkParsed(t, form, err)
		if err != nil {
			return
		}
		var object map[string]json.RawMessage
		if err := json.Unmarshal(body, &object); err != nil {
			t.Fatalf("%q is no JSON object, but gives %q", body, form)
		}
		for name, value := range object {
			var text string
			if json.Unmarshal(value, &text) == nil && text != form.Get(name) {
				t.Errorf("%q of %q is %q", name, body, form.Get(name))
			}
		}
	})
}
