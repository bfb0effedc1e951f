package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
)

const exchange = "grant_type=" + grants.TokenExchangeType

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
		{"RFC 8693 §2.1 several audiences", "audience=urn:a&" + exchange + "&audience=urn:b", url.Values{
			"grant_type": {grants.TokenExchangeType}, "audience": {"urn:a", "urn:b"},
		}},
		{"a value with =", "code=a=b==", url.Values{"code": {"a=b=="}}},

		{"RFC 6749 §3.2 repeated", "code=x&code=y", nil},
		{"RFC 6749 §3.2 repeated with the same value", "code=x&code=x", nil},
		{"RFC 6749 §3.2 repeated and empty", "code=x&code=", nil},
		{"RFC 6749 §3.2 repeated and escaped", "code=x&%63ode=y", nil},
		{"RFC 6749 §3.2 an unknown parameter repeated", "a=1&a=2", nil},
		{"RFC 6749 §3.2 another parameter of an exchange repeated", exchange + "&subject_token=x&subject_token=y", nil},
		{"RFC 6749 §3.2 audience repeated in another request", "grant_type=client_credentials&audience=urn:a&audience=urn:b", nil},
		{"RFC 6749 §3.2 grant_type repeated", exchange + "&audience=urn:a&audience=urn:b&" + exchange, nil},
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
		{"RFC 8693 §2.1 several audiences", `{"audience":["urn:a","urn:b"],"grant_type":"` + grants.TokenExchangeType + `"}`, url.Values{
			"grant_type": {grants.TokenExchangeType}, "audience": {"urn:a", "urn:b"},
		}},
		{"RFC 6749 §3.2 several audiences in another request", `{"audience":["urn:a","urn:b"],"grant_type":"client_credentials"}`, nil},

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
			got, err := ReadForm(httptest.NewRecorder(), r, formBody, jsonBody)
			checkForm(t, got, err, c.want)
		})
	}
}

func checkForm(t *testing.T, got url.Values, err error, want url.Values) {
	t.Helper()
	if want == nil {
		if code := refusalOf(err).Code; got != nil || err == nil || code != grants.InvalidRequest {
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
		{"a form of the greatest size", form, plain + strings.Repeat("x", maxSize-len(plain)), []string{formBody}, 0},
		{"JSON where it is not", "application/json", `{"code":"x"}`, []string{formBody}, 400},
		{"a form where only JSON is", form, plain, []string{jsonBody}, 400},
		{"no type", "", plain, []string{formBody, jsonBody}, 400},
		{"two types", form + ", application/json", plain, []string{formBody, jsonBody}, 400},
		{"multipart", "multipart/form-data; boundary=x", plain, []string{formBody, jsonBody}, 400},
		{"a form that is too large", form, plain + strings.Repeat("x", maxSize), []string{formBody}, 413},
		{"JSON that is too large", "application/json", `{"code":"` + strings.Repeat("x", maxSize), []string{jsonBody}, 413},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/oauth/token?code=in-the-query", strings.NewReader(c.body))
			r.Header.Set("Content-Type", c.contentType)
			got, err := ReadForm(httptest.NewRecorder(), r, c.kinds...)
			switch {
			case c.status == 0 && (err != nil || !strings.HasPrefix(got.Get("code"), "x")):
				t.Errorf("got code %.20q with error %v", got.Get("code"), err)
			case c.status != 0 && (err == nil || got != nil || refusalOf(err).HTTPStatus() != c.status || refusalOf(err).Code != grants.InvalidRequest):
				t.Errorf("got %d parameters with error %v, want status %d", len(got), err, c.status)
			}
		})
	}
}

// refusalOf returns the error for the client.
func refusalOf(err error) *grants.Error {
	refusal, ok := errors.AsType[*grants.Error](err)
	if !ok {
		return &grants.Error{Code: "not a refusal"}
	}
	return refusal
}

// checkParsed checks the parameters of any request: there are either parameters or an error, no value is empty, and none
// is repeated (RFC 6749 §3.2) but resource, and audience in an exchange.
func checkParsed(t *testing.T, form url.Values, err error) {
	t.Helper()
	if (form == nil) == (err == nil) {
		t.Fatalf("got %q and error %v", form, err)
	}
	if err != nil && (refusalOf(err).Code != grants.InvalidRequest || refusalOf(err).HTTPStatus() != http.StatusBadRequest) {
		t.Errorf("got error %v", err)
	}
	for name, values := range form {
		if len(values) == 0 || len(values) > 1 && !mayRepeat(name, form.Get("grant_type")) || len(values) == 1 && values[0] == "" {
			t.Errorf("%q is %q", name, values)
		}
	}
}

func FuzzForm(f *testing.F) {
	for _, seed := range []string{
		"", "code=x&code=y", "resource=a&resource=&resource=b", "a=%zz", "a=b;c=d", "=x", "&&&", "a&b=&c==", "%00=%ff", "scope=a+b",
		"client_secret=x&client%5fsecret=y", exchange + "&audience=a&audience=b", "audience=a&audience=b",
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
			form, err = tidy(form)
		}
		checkParsed(t, form, err)
		if err != nil {
			return
		}
		var object map[string]json.RawMessage
		if err := json.Unmarshal(body, &object); err != nil {
			t.Fatalf("%q is not a JSON object, but gives %q", body, form)
		}
		for name, value := range object {
			var text string
			if json.Unmarshal(value, &text) == nil && text != form.Get(name) {
				t.Errorf("%q of %q is %q", name, body, form.Get(name))
			}
		}
	})
}

// A proxy in front that reads grant_type or client_id with another JSON parser must see the same values as the server. So
// what is accepted is exactly what encoding/json reads, and has no repeated member.
func FuzzJSONMembers(f *testing.F) {
	for _, seed := range []string{
		`{"grant_type":"password","username":"é\ud83d\udd11","password":"\u0000\"\\"}`,
		`{"n":12345678901234567890,"f":-0.10e+01,"t":true,"u":null}`,
		`{"resource":["a","b",null,1,false],"scope":""}`,
		`{"resource":"a","resource":"b"}`,
		`{"resource":[],"resource":[]}`,
		`{"a":null,"a":"x"}`,
		`{"a":"x","\u0061":"y"}`,
		`{"A":"x","a":"y"}`,
		`{"":"x"}`,
		"{\"a\":\"\xff\xfe\"}",
		"\t{ \"a\" :\n1 } ",
		`{"a":01}`, `{"a":+1}`, `{"a":NaN}`, `{'a':1}`, `{"a":1}//`, `{"a":tru}`, `{"a":"` + "\n" + `"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := parseJSON(body)
		if (got == nil) == (err == nil) {
			t.Fatalf("%q gives %q and error %v", body, got, err)
		}
		want, ok := plainMembers(body)
		switch {
		case err == nil && !ok:
			t.Errorf("%q is not an object of plain values without repetition, but gives %q", body, got)
		case err != nil && ok:
			t.Errorf("%q is %q, but gives error %v", body, want, err)
		case err == nil && !reflect.DeepEqual(got, want):
			t.Errorf("%q is %q, but gives %q", body, want, got)
		}
	})
}

// connection is a ResponseWriter that records the read deadlines of its connection.
type connection struct {
	http.ResponseWriter
	deadlines []time.Time
}

func (c *connection) SetReadDeadline(deadline time.Time) error {
	c.deadlines = append(c.deadlines, deadline)
	return nil
}

// wrapped is a ResponseWriter around another one, as Caddy's are.
type wrapped struct{ http.ResponseWriter }

func (w wrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func TestLimitOfTheTimeForABody(t *testing.T) {
	none, limited, ended := []time.Duration(nil), []time.Duration{maxTime}, []time.Duration{maxTime, 0}
	for _, tt := range []struct {
		name   string
		body   io.Reader
		length int64
		want   []time.Duration
	}{
		{"no body", http.NoBody, 0, none},
		{"a body", strings.NewReader("a=b"), 3, ended},
		{"a body of unknown length", strings.NewReader("a=b"), -1, ended},
		{"a body that is no form", strings.NewReader("%zz"), 3, ended},
		{"a body that is too large", strings.NewReader(strings.Repeat("a", maxSize+1)), maxSize + 1, limited},
		{"a body that is cut off", iotest.ErrReader(io.ErrUnexpectedEOF), 3, limited},
		{"a body that times out", iotest.ErrReader(os.ErrDeadlineExceeded), 3, limited},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := httptest.NewRequest(http.MethodPost, "/", tt.body)
				r.ContentLength = tt.length
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				conn, start := &connection{ResponseWriter: httptest.NewRecorder()}, time.Now()
				LimitTime(wrapped{wrapped{conn}}, r)
				_, _ = ReadForm(wrapped{wrapped{conn}}, r)
				var got []time.Duration
				for _, deadline := range conn.deadlines {
					if deadline.IsZero() {
						deadline = start
					}
					got = append(got, deadline.Sub(start))
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("deadlines after %v, want %v", got, tt.want)
				}
			})
		})
	}
}

// trickle is a body that arrives byte by byte. It records the largest buffer for it, relative to the bytes that have arrived and 8 KB: a buffer
// of twice that may come from other requests.
type trickle struct {
	left, arrived int
	excess        float64
}

func (r *trickle) Read(p []byte) (int, error) {
	r.excess = max(r.excess, float64(len(p))/float64(r.arrived+(8<<10)))
	if r.left == 0 {
		return 0, io.EOF
	}
	r.left--
	r.arrived++
	p[0] = 'a'
	return 1, nil
}

// A body that is shorter than announced is refused, and not taken for a shorter form.
func TestBodyThatEndsEarly(t *testing.T) {
	for _, announced := range []int64{7, 4096, 4097} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			form, err := ReadForm(w, r)
			if err == nil || form != nil || refusalOf(err).HTTPStatus() != http.StatusBadRequest {
				t.Errorf("%d bytes announced, 6 sent: %v with error %v", announced, form, err)
			}
		}))
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\ncode=x", announced)
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.ReadAll(conn) // until the handler has returned
		_ = conn.Close()
		server.Close()
	}
}

// The memory for a large body, beyond a buffer that is used again, grows with the bytes that arrive, whatever length the request announces.
func TestBufferGrowsWithTheBody(t *testing.T) {
	body := &trickle{left: maxSize}
	r := httptest.NewRequest(http.MethodPost, "/", body)
	r.ContentLength = maxSize
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if _, err := ReadForm(httptest.NewRecorder(), r); err != nil {
		t.Fatal(err)
	}
	if body.arrived != maxSize || body.excess > 2 {
		t.Errorf("after %d bytes, a buffer had %.1f times their size", body.arrived, body.excess)
	}
}

// plainMembers reads a body with encoding/json, and reports whether it is an object of plain values without repeated
// members.
func plainMembers(body []byte) (url.Values, bool) {
	var object map[string]json.RawMessage
	if json.Unmarshal(body, &object) != nil || object == nil || members(body) != len(object) {
		return nil, false
	}
	form := url.Values{}
	for name, raw := range object {
		elements := []json.RawMessage{raw}
		if name == "resource" && raw[0] == '[' {
			_ = json.Unmarshal(raw, &elements)
		}
		for _, element := range elements {
			text := string(element) // of a number or a boolean
			switch element[0] {
			case '"':
				_ = json.Unmarshal(element, &text)
			case 'n':
				text = ""
			case '{', '[':
				return nil, false
			}
			form.Add(name, text)
		}
	}
	return form, true
}

// members counts the members of an object, including repeated ones: each has two tokens at depth 1.
func members(object []byte) (count int) {
	depth, decoder := 0, json.NewDecoder(bytes.NewReader(object))
	for {
		token, err := decoder.Token()
		if err != nil {
			return count / 2
		}
		switch token {
		case json.Delim('}'), json.Delim(']'):
			depth--
			continue
		}
		if depth == 1 {
			count++
		}
		if token == json.Delim('{') || token == json.Delim('[') {
			depth++
		}
	}
}
