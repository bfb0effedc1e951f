package mcp

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	deep := strings.Repeat("[", 98) + strings.Repeat("]", 98)
	for _, tt := range []struct {
		name, body   string
		method, what string // "-" as the method: refused
	}{
		{"a tool", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_order","arguments":{"name":"x"}}}`, "tools/call", "delete_order"},
		{"a resource", `{"method":"resources/read","params":{"uri":"file:///a b","name":"x"}}`, "resources/read", "file:///a b"},
		{"a prompt", ` { "params" : { "name" : "greet" } , "method" : "prompts/get" } ` + "\n", "prompts/get", "greet"},
		{"a method that names nothing", `{"method":"tools/list"}`, "tools/list", ""},
		{"params that are null", `{"method":"tools/list","params":null}`, "tools/list", ""},
		{"a method of a later revision", `{"method":"tasks/get","params":{"name":"t1"}}`, "tasks/get", "t1"},
		{"a response", `{"jsonrpc":"2.0","id":1,"result":{"method":"tools/call"}}`, "", ""},
		{"a refusal", `{"jsonrpc":"2.0","id":1,"error":{"code":1}}`, "", ""},
		{"escapes", `{"\u006dethod":"tools\/call","params":{"n\u0061me":"delete\u005forder"}}`, "tools/call", "delete_order"},
		{"strings with brackets", `{"a":"}]\"","method":"tools/call","b":[{"c":"{"}],"params":{"x":"\\","name":"n"}}`, "tools/call", "n"},
		{"numbers", `{"id":-1.5e3,"method":"m","params":{"a":1}}`, "m", ""},
		{"nested as deep as can be", `{"method":"m","params":{"a":` + deep + `}}`, "m", ""},
		{"empty object", `{}`, "-", ""},
		{"nothing", ``, "-", ""},
		{"no JSON", `method`, "-", ""},
		{"two values", `{"method":"m"} {"method":"tools/call"}`, "-", ""},
		{"a byte order mark", "\ufeff" + `{"method":"m"}`, "-", ""},
		{"bytes that are no UTF-8", `{"method":"m","a":"` + "\xff" + `"}`, "-", ""},
		{"UTF-16", "{\x00\"\x00}\x00", "-", ""},
		{"a comment", `{"method":"m" /* "method":"tools/call" */}`, "-", ""},
		{"a comma too many", `{"method":"m",}`, "-", ""},
		{"a batch", `[{"method":"tools/call","params":{"name":"delete_order"}}]`, "-", ""},
		{"a string", `"tools/call"`, "-", ""},
		{"null", `null`, "-", ""},
		{"method twice", `{"method":"tools/list","method":"tools/call"}`, "-", ""},
		{"method twice, escaped", `{"method":"tools/list","m\u0065thod":"tools/call"}`, "-", ""},
		{"method in another case", `{"method":"tools/list","Method":"tools/call"}`, "-", ""},
		{"method in another case alone", `{"METHOD":"tools/call","params":{"name":"x"},"result":1}`, "-", ""},
		{"params with a long s", `{"method":"tools/call","params":{"name":"a"},"param` + "\u017f" + `":{"name":"b"}}`, "-", ""},
		{"name twice", `{"method":"tools/call","params":{"name":"get","name":"delete"}}`, "-", ""},
		{"name in another case", `{"method":"tools/call","params":{"name":"get","NAME":"delete"}}`, "-", ""},
		{"params twice", `{"method":"tools/call","params":{"name":"get"},"params":{"name":"delete"}}`, "-", ""},
		{"params that are a list", `{"method":"tools/call","params":["delete"]}`, "-", ""},
		{"no name", `{"method":"tools/call","params":{}}`, "-", ""},
		{"no params", `{"method":"tools/call"}`, "-", ""},
		{"no uri", `{"method":"resources/read","params":{"name":"x"}}`, "-", ""},
		{"a name that is no string", `{"method":"tools/call","params":{"name":["delete"]}}`, "-", ""},
		{"an empty name", `{"method":"tools/call","params":{"name":""}}`, "-", ""},
		{"a method that is no string", `{"method":1}`, "-", ""},
		{"a name with a space after it", `{"method":"tools/call","params":{"name":"delete "}}`, "-", ""},
		{"a name with a zero byte", `{"method":"tools/call","params":{"name":"delete\u0000"}}`, "-", ""},
		{"a name that is not ASCII", `{"method":"tools/call","params":{"name":"d` + "é" + `lete"}}`, "-", ""},
		{"half a surrogate", `{"method":"tools/call","params":{"name":"delete\ud800"}}`, "-", ""},
		{"a name that looks encoded", `{"method":"tools/call","params":{"name":"=?base64?eA==?="}}`, "-", ""},
		{"a long name", `{"method":"tools/call","params":{"name":"` + strings.Repeat("x", 4097) + `"}}`, "-", ""},
		{"nested too deeply", `{"method":"m","params":{"a":[` + deep + `]}}`, "-", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := Parse([]byte(tt.body))
			if tt.method == "-" {
				refusal, ok := errors.AsType[*Error](err)
				if !ok || refusal.Status != http.StatusBadRequest || m != nil {
					t.Fatalf("%+v, %v", m, err)
				}
				return
			}
			if err != nil || m.Method != tt.method || m.Name != tt.what {
				t.Fatalf("%+v, %v", m, err)
			}
		})
	}
}

func TestMirror(t *testing.T) {
	tool := `{"id":"a","method":"tools/call","params":{"name":"delete_order"}}`
	list := `{"id":7,"method":"tools/list"}`
	for _, tt := range []struct {
		name, body string
		sent       http.Header
		want       string // the headers; "-": refused
		changed    bool
	}{
		{"what it should be", tool, header("tools/call", "delete_order", "2026-07-28"), "tools/call delete_order", false},
		{"no headers, older client", tool, header("", "", "2025-11-25"), "tools/call delete_order", true},
		{"no headers, no revision", tool, header("", "", ""), "tools/call delete_order", true},
		{"one header, older client", tool, header("tools/call", "", "2025-06-18"), "tools/call delete_order", true},
		{"no method, newer client", tool, header("", "delete_order", "2026-07-28"), "-", false},
		{"no name, newer client", tool, header("tools/call", "", "2026-07-28"), "-", false},
		{"no name, later client", tool, header("tools/call", "", "2027-01-01"), "-", false},
		{"another name", tool, header("tools/call", "get_order", "2026-07-28"), "-", false},
		{"another name, older client", tool, header("tools/call", "get_order", "2025-03-26"), "-", false},
		{"another method", tool, header("tools/list", "delete_order", ""), "-", false},
		{"another case", tool, header("tools/call", "Delete_Order", ""), "-", false},
		{"two names", tool, http.Header{"Mcp-Method": {"tools/call"}, "Mcp-Name": {"get_order", "delete_order"}}, "-", false},
		{"the same name twice", tool, http.Header{"Mcp-Method": {"tools/call"}, "Mcp-Name": {"delete_order", "delete_order"}}, "-", false},
		{"an encoded name", tool, header("tools/call", "=?base64?ZGVsZXRlX29yZGVy?=", "2026-07-28"), "tools/call delete_order", true},
		{"another name, encoded", tool, header("tools/call", "=?base64?Z2V0X29yZGVy?=", "2026-07-28"), "-", false},
		{"a name that is encoded badly", tool, header("tools/call", "=?base64?ZGVsZXRlX29yZGVy=?=", "2026-07-28"), "-", false},
		{"a method without a name", list, header("tools/list", "", "2026-07-28"), "tools/list ", false},
		{"a name for a method that has none", list, header("tools/list", "get_order", "2026-07-28"), "tools/list ", true},
		{"a name that another method has", `{"method":"tasks/get","params":{"name":"t1"}}`, header("tasks/get", "t1", "2026-07-28"), "tasks/get t1", false},
		{"a name that another method has not", `{"method":"tasks/get","params":{"name":"t1"}}`, header("tasks/get", "t2", "2026-07-28"), "tasks/get ", true},
		{"a response with headers", `{"id":1,"result":{}}`, header("tools/list", "get_order", ""), " ", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := Parse([]byte(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			h := tt.sent.Clone()
			changed, err := m.Mirror(h)
			if tt.want == "-" {
				refusal, ok := errors.AsType[*Error](err)
				if !ok || refusal.Code != headerMismatch || refusal.Status != http.StatusBadRequest {
					t.Fatalf("%v, %v", h, err)
				}
				var answer struct {
					ID    any
					Error struct{ Code int }
				}
				if err := json.Unmarshal(refusal.Body(), &answer); err != nil || answer.ID != "a" || answer.Error.Code != headerMismatch {
					t.Errorf("%s", refusal.Body())
				}
				return
			}
			if got := strings.Join(h[MethodHeader], "|") + " " + strings.Join(h[NameHeader], "|"); err != nil || got != tt.want || changed != tt.changed {
				t.Errorf("%q, changed: %t, %v", got, changed, err)
			}
		})
	}
}

// header returns the headers of a request, without those that are empty.
func header(method, name, version string) http.Header {
	h := make(http.Header)
	for key, value := range map[string]string{MethodHeader: method, NameHeader: name, versionHeader: version} {
		if value != "" {
			h.Set(key, value)
		}
	}
	return h
}

func TestHasMessage(t *testing.T) {
	for _, tt := range []struct {
		method, kind, encoding string
		has                    bool
		status                 int // of the refusal, 0 for none
	}{
		{"POST", "application/json", "", true, 0},
		{"POST", "application/json; charset=UTF-8", "identity", true, 0},
		{"POST", "Application/JSON", "", true, 0},
		{"GET", "", "", false, 0},
		{"DELETE", "", "", false, 0},
		{"OPTIONS", "", "", false, 0},
		{"POST", "", "", false, 415},
		{"POST", "text/plain", "", false, 415},
		{"POST", "application/json; charset=utf-16", "", false, 415},
		{"POST", "application/json-rpc", "", false, 415},
		{"POST", "application/json", "gzip", false, 415},
		{"PUT", "application/json", "", false, 405},
		{"CONNECT", "", "", false, 405},
	} {
		r := httptest.NewRequest(tt.method, "http://example.com/mcp", nil)
		if tt.kind != "" {
			r.Header.Set("Content-Type", tt.kind)
		}
		if tt.encoding != "" {
			r.Header.Set("Content-Encoding", tt.encoding)
		}
		has, err := HasMessage(r)
		status := 0
		if refusal, ok := errors.AsType[*Error](err); ok {
			status = refusal.Status
		}
		if has != tt.has || status != tt.status {
			t.Errorf("%s %s %s: %t, %v", tt.method, tt.kind, tt.encoding, has, err)
		}
	}
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	r.Header["Content-Type"] = []string{"application/json", "text/plain"}
	if _, err := HasMessage(r); err == nil {
		t.Error("two types")
	}
}

// A message that is understood is understood by encoding/json in the same way, and no body takes more than linear time.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"n","arguments":{}}}`, `{"result":{}}`, `[]`, `{"method":"m","params":{"uri":"x\"}"}}`,
		`{"a":[1,{"b":"\\"}],"method":"tools/call" , "params" : {"name":"x"} }`, `{"id":{},"method":"m"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := Parse(body)
		if err != nil {
			refusal, ok := errors.AsType[*Error](err)
			if m != nil || !ok || !json.Valid(refusal.Body()) {
				t.Fatalf("%+v, %v", m, err)
			}
			return
		}
		var want struct {
			Method string
			Params map[string]any
		}
		if err := json.Unmarshal(body, &want); err != nil || want.Method != m.Method {
			t.Fatalf("%q: %+v, %+v, %v", body, m, want, err)
		}
		if member := nameMembers[m.Method]; member != "" && want.Params[member] != m.Name {
			t.Fatalf("%q: %+v, %+v", body, m, want)
		}
	})
}
