package authserver

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/grants"
)

func TestParseForm(t *testing.T) {
	for _, c := range []struct {
		name, form string
		want       url.Values // nil: refused
	}{
		{"RFC 6749 §3.2 parameters", "grant_type=authorization_code&code=x", url.Values{"grant_type": {"authorization_code"}, "code": {"x"}}},
		{"RFC 6749 §3.2 an empty parameter is absent", "code=&state", url.Values{}},
		{"RFC 6749 §3.2 nothing", "", url.Values{}},
		{"RFC 6749 appendix B + and %20 are spaces", "scope=a+b%20c", url.Values{"scope": {"a b c"}}},
		{"RFC 6749 appendix B UTF-8", "username=%C3%A9", url.Values{"username": {"é"}}},
		{"RFC 6749 §3.2 names are case-sensitive", "code=x&Code=y", url.Values{"code": {"x"}, "Code": {"y"}}},
		{"RFC 8707 §2 several resources", "resource=urn:a&resource=urn:b", url.Values{"resource": {"urn:a", "urn:b"}}},
		{"a value with =", "code=a=b==", url.Values{"code": {"a=b=="}}},

		{"RFC 6749 §3.2 repeated", "code=x&code=y", nil},
		{"RFC 6749 §3.2 repeated with the same value", "code=x&code=x", nil},
		{"RFC 6749 §3.2 repeated and empty", "code=x&code=", nil},
		{"RFC 6749 §3.2 repeated and escaped", "code=x&%63ode=y", nil},
		{"RFC 6749 §3.2 an unknown parameter repeated", "a=1&a=2", nil},
		{"a bad escape", "code=%zz", nil},
		{"a cut escape", "code=%2", nil},
		{"a bad escape in a name", "%zz=x", nil},
		{"semicolons", "code=x;client_id=y", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseForm(c.form)
			checkForm(t, got, err, c.want)
		})
	}
}

func TestParseJSON(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       url.Values // nil: refused
	}{
		{"an object", `{"grant_type":"password","username":"é\u00e9"}`, url.Values{"grant_type": {"password"}, "username": {"éé"}}},
		{"nothing in it", " {} ", url.Values{}},
		{"numbers and booleans", `{"n":12345678901234567890,"f":1.50,"b":true}`, url.Values{"n": {"12345678901234567890"}, "f": {"1.50"}, "b": {"true"}}},
		{"null and empty are absent", `{"code":null,"state":""}`, url.Values{}},
		{"RFC 8707 §2 several resources", `{"resource":["urn:a","urn:b"]}`, url.Values{"resource": {"urn:a", "urn:b"}}},
		{"RFC 8707 §2 no resource", `{"resource":[]}`, url.Values{}},

		{"RFC 6749 §3.2 repeated", `{"code":"x","code":"y"}`, nil},
		{"RFC 6749 §3.2 repeated and null", `{"code":"x","code":null}`, nil},
		{"RFC 6749 §3.2 repeated and escaped", `{"code":"x","\u0063ode":"y"}`, nil},
		{"an array that is no resource", `{"scope":["a","b"]}`, nil},
		{"an array within", `{"resource":[["urn:a"]]}`, nil},
		{"an object within", `{"code":{"x":"y"}}`, nil},
		{"nothing", "", nil},
		{"null", "null", nil},
		{"an array", `["code"]`, nil},
		{"a string", `"code"`, nil},
		{"a number for a name", `{1:"x"}`, nil},
		{"a comma too many", `{"code":"x",}`, nil},
		{"a comma too few", `{"code":"x" "y":"z"}`, nil},
		{"no end", `{"code":"x"`, nil},
		{"no end of the resources", `{"resource":["urn:a"`, nil},
		{"two objects", `{"code":"x"}{"code":"y"}`, nil},
		{"something after it", `{"code":"x"} x`, nil},
		{"a form", "code=x", nil},
		{"a byte order mark", "\ufeff{}", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/oauth/token", strings.NewReader(c.body))
			r.Header.Set("Content-Type", "application/json")
			got, err := readForm(httptest.NewRecorder(), r, formBody, jsonBody)
			checkForm(t, got, err, c.want)
		})
	}
}

func checkForm(t *testing.T, got url.Values, err error, want url.Values) {
	t.Helper()
	if want == nil {
		if code := asRefusal(err).Code; got != nil || err == nil || code != grants.InvalidRequest {
			t.Errorf("got %q with error %v, want %s", got, err, grants.InvalidRequest)
		}
		return
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %q with error %v, want %q", got, err, want)
	}
}

func TestReadForm(t *testing.T) {
	const form, plain = "application/x-www-form-urlencoded", "code=x"
	for _, c := range []struct {
		name, contentType, body string
		kinds                   []string
		status                  int // 0: accepted
	}{
		{"RFC 6749 §3.2 a form", form, plain, []string{formBody}, 0},
		{"RFC 6749 §3.2 a form with a charset", form + "; charset=UTF-8", plain, []string{formBody}, 0},
		{"RFC 9110 §8.3.1 in another case", "Application/X-WWW-Form-URLencoded", plain, []string{formBody}, 0},
		{"JSON where that is configured", "application/json", `{"code":"x"}`, []string{formBody, jsonBody}, 0},
		{"a form of the greatest size", form, plain + strings.Repeat("x", maxBody-len(plain)), []string{formBody}, 0},
		{"JSON where it is not", "application/json", `{"code":"x"}`, []string{formBody}, 400},
		{"a form where only JSON is", form, plain, []string{jsonBody}, 400},
		{"no type", "", plain, []string{formBody, jsonBody}, 400},
		{"two types", form + ", application/json", plain, []string{formBody, jsonBody}, 400},
		{"multipart", "multipart/form-data; boundary=x", plain, []string{formBody, jsonBody}, 400},
		{"a form that is too large", form, plain + strings.Repeat("x", maxBody), []string{formBody}, 413},
		{"JSON that is too large", "application/json", `{"code":"` + strings.Repeat("x", maxBody), []string{jsonBody}, 413},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/oauth/token?code=in-the-query", strings.NewReader(c.body))
			r.Header.Set("Content-Type", c.contentType)
			got, err := readForm(httptest.NewRecorder(), r, c.kinds...)
			switch {
			case c.status == 0 && (err != nil || !strings.HasPrefix(got.Get("code"), "x")):
				t.Errorf("got code %.20q with error %v", got.Get("code"), err)
			case c.status != 0 && (err == nil || got != nil || asRefusal(err).HTTPStatus() != c.status || asRefusal(err).Code != grants.InvalidRequest):
				t.Errorf("got %d parameters with error %v, want status %d", len(got), err, c.status)
			}
		})
	}
}
