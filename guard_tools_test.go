package caddyoauth_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
)

// toolGuards lets everybody with orders use the server, but for the tools that delete.
const toolGuards = "@delete header Mcp-Name delete_*\n" +
	"oauth_guard /mcp {\nscopes orders\nmcp\n}\n" +
	"oauth_guard @delete {\nscopes orders:write\nmcp /mcp\n}\n"

func zipped(t *testing.T, text string) string {
	t.Helper()
	var buffer bytes.Buffer
	w := gzip.NewWriter(&buffer)
	_, _ = w.Write([]byte(text))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buffer.String()
}

// M26: whatever a client says in its headers, a tool is called only with the scope that it needs.
func TestScopesOfTools(t *testing.T) {
	sites := []struct{ name, text string }{
		{"server first", toolGuards},
		{"tools first", "@delete header Mcp-Name delete_*\noauth_guard @delete {\nscopes orders:write\nmcp /mcp\n}\noauth_guard /mcp {\nscopes orders\nmcp\n}"},
		{"with a path", "@delete {\npath /mcp\nheader Mcp-Name delete_*\n}\noauth_guard @delete {\nscopes orders:write\nmcp\n}\noauth_guard /mcp {\nscopes orders\nmcp\n}"},
		{"tools without mcp", "@delete header Mcp-Name delete_*\noauth_guard @delete {\nscopes orders:write\n}\noauth_guard /mcp {\nscopes orders\nmcp\n}"},
		{"all but some tools", "@more {\nheader Mcp-Method tools/call\nnot header Mcp-Name get_*\n}\noauth_guard @more {\nscopes orders:write\nmcp /mcp\n}\noauth_guard /mcp {\nscopes orders\nmcp\n}"},
		{"by an expression", "@delete `{header.Mcp-Name}.startsWith('delete_')`\noauth_guard @delete {\nscopes orders:write\nmcp /mcp\n}\noauth_guard /mcp {\nscopes orders\nmcp\n}"},
		{"by a pattern", "@delete header_regexp Mcp-Name ^delete_\noauth_guard @delete {\nscopes orders:write\nmcp /mcp\n}\noauth_guard /mcp {\nscopes orders\nmcp\n}"},
		{"by a variable", "vars tool {header.Mcp-Name}\n@delete vars_regexp {vars.tool} ^delete_\noauth_guard @delete {\nscopes orders:write\nmcp /mcp\n}\noauth_guard /mcp {\nscopes orders\nmcp\n}"},
		{"in blocks", "@delete header Mcp-Name delete_*\nhandle @delete {\noauth_guard {\nscopes orders orders:write\nmcp /mcp\n}\nreverse_proxy UPSTREAM\n}\nhandle /mcp* {\noauth_guard {\nscopes orders\nmcp /mcp\n}\nreverse_proxy UPSTREAM\n}"},
		{"no token for the rest", "@delete header Mcp-Name delete_*\noauth_guard /mcp {\noptional\nmcp\n}\noauth_guard @delete {\nscopes orders:write\nmcp /mcp\n}"},
		{"tools alone", "@delete header Mcp-Name delete_*\noauth_guard @delete {\nscopes orders:write\nmcp /mcp\n}"},
	}
	for _, site := range sites {
		t.Run(site.name, func(t *testing.T) {
			s, calls := runMCP(t, site.text)
			root := s.url("shop.localhost")
			resource := root + "/mcp"
			if site.name == "tools without mcp" { // which is a guard of another resource
				resource = ""
			}
			read, write := s.tokenFor(t, "orders", resource).AccessToken, s.tokenFor(t, "orders orders:write", resource).AccessToken
			for _, tt := range toolRequests(t) {
				for token, status := range map[string]int{read: tt.read, write: tt.write} {
					calls.Store(0)
					header := append([]string{"Authorization", "Bearer " + token, "Accept", "application/json, text/event-stream"}, tt.header...)
					answer := s.do(t, tt.method, root+tt.path, tt.kind, tt.body, header...)
					if site.name == "all but some tools" && status == 400 && answer.status == 403 {
						status = 403 // the guard of the tools refuses first
					}
					if answer.status != status || (calls.Load() > 0) != (status == 200) {
						t.Errorf("%s with %t: %d, want %d: %s", tt.name, token == write, answer.status, status, answer.body)
					}
					if answer.status != 200 {
						continue
					}
					var got struct {
						Method, Name, Body, HTTP, Upgrade string
						Other                             []string
						Length                            int
					}
					if err := json.Unmarshal([]byte(answer.body), &got); err != nil {
						t.Fatal(err)
					}
					if got.Method+" "+got.Name != tt.seen || got.Body != tt.body || got.HTTP != tt.method || got.Length != len(tt.body) || got.Upgrade != "" || got.Other != nil {
						t.Errorf("%s: the server got %+v", tt.name, got)
					}
				}
			}
		})
	}
}

type toolRequest struct {
	name, method, path, kind, body string
	header                         []string
	read, write                    int    // the answers to a token without and with the scope of the tool
	seen                           string // the headers that the server gets
}

// toolRequests returns requests of clients of all revisions, and of those who try to call a tool without its scope.
func toolRequests(t *testing.T) (list []toolRequest) {
	t.Helper()
	add := func(name, body string, read, write int, seen string, header ...string) *toolRequest {
		list = append(list, toolRequest{name, http.MethodPost, "/mcp", "application/json", body, header, read, write, seen})
		return &list[len(list)-1]
	}
	modern := func(method, name string) []string {
		header := []string{"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", method}
		if name != "" {
			header = append(header, "Mcp-Name", name)
		}
		return header
	}
	add("a list", listTools, 200, 200, "tools/list ", modern("tools/list", "")...)
	add("a tool", getOrder, 200, 200, "tools/call get_order", modern("tools/call", "get_order")...)
	add("a tool that deletes", deleteOrder, 403, 200, "tools/call delete_order", modern("tools/call", "delete_order")...)
	add("a list, older client", listTools, 200, 200, "tools/list ", "Mcp-Protocol-Version", "2025-11-25")
	add("a tool, older client", getOrder, 200, 200, "tools/call get_order", "Mcp-Protocol-Version", "2025-06-18")
	add("a tool that deletes, older client", deleteOrder, 403, 200, "tools/call delete_order", "Mcp-Protocol-Version", "2025-06-18")
	add("a tool that deletes, first revision", deleteOrder, 403, 200, "tools/call delete_order")
	add("a response, older client", `{"jsonrpc":"2.0","id":1,"result":{}}`, 200, 200, " ")
	add("below the path", deleteOrder, 403, 200, "tools/call delete_order").path = "/mcp/messages"
	add("in another case", deleteOrder, 403, 200, "tools/call delete_order").path = "/MCP"
	add("with a parameter in the path", deleteOrder, 403, 200, "tools/call delete_order").path = "/mcp;x/messages"
	add("with a charset", deleteOrder, 403, 200, "tools/call delete_order").kind = "application/json; charset=utf-8"
	add("with a method to override", deleteOrder, 403, 200, "tools/call delete_order", "X-HTTP-Method-Override", "GET")
	add("an encoded name", deleteOrder, 403, 200, "tools/call delete_order", modern("tools/call", "=?base64?ZGVsZXRlX29yZGVy?=")...)
	add("a header with an underscore", getOrder, 200, 200, "tools/call get_order", "Mcp_name", "delete_order")
	add("an upgrade", listTools, 200, 200, "tools/list ", append(modern("tools/list", ""), "Connection", "Upgrade", "Upgrade", "websocket")...)
	get := add("a stream", "", 200, 200, " ", "Mcp-Name", "get_order", "Mcp-Method", "tools/call")
	get.method, get.kind = http.MethodGet, ""
	end := add("the end of a session", "", 200, 200, " ", "Mcp-Session-Id", "s1")
	end.method, end.kind = http.MethodDelete, ""

	add("no name, newer client", deleteOrder, 400, 400, "", modern("tools/call", "")...)
	add("another name", deleteOrder, 400, 400, "", modern("tools/call", "get_order")...)
	add("another name, older client", deleteOrder, 400, 400, "", "Mcp-Protocol-Version", "2025-06-18", "Mcp-Method", "tools/call", "Mcp-Name", "get_order")
	add("another method", deleteOrder, 400, 400, "", modern("tools/list", "")...)
	add("another name, encoded", deleteOrder, 400, 400, "", modern("tools/call", "=?base64?Z2V0X29yZGVy?=")...)
	add("a name in two members", `{"method":"tools/call","params":{"name":"get_order","name":"delete_order"}}`, 400, 400, "")
	add("a name in two cases", `{"method":"tools/call","params":{"name":"get_order","Name":"delete_order"}}`, 400, 400, "")
	add("a method in two cases", `{"method":"tools/list","METHOD":"tools/call","params":{"name":"delete_order"}}`, 400, 400, "")
	add("two params", `{"method":"tools/call","params":{"name":"get_order"},"params":{"name":"delete_order"}}`, 400, 400, "")
	add("a batch", "["+listTools+","+deleteOrder+"]", 400, 400, "")
	add("two messages", listTools+deleteOrder, 400, 400, "")
	add("a byte order mark", "\ufeff"+deleteOrder, 400, 400, "")
	add("no JSON", "delete", 400, 400, "")
	add("nothing", "", 400, 400, "")
	add("deep", `{"method":"tools/list","params":{"a":`+strings.Repeat("[", 200)+strings.Repeat("]", 200)+"}}", 400, 400, "")
	add("too large", `{"method":"tools/list","params":{"a":"`+strings.Repeat("x", 1<<20)+`"}}`, 413, 413, "")
	add("as large as can be", `{"method":"tools/list","params":{"a":"`+strings.Repeat("x", 1<<20-42)+`"}}`, 200, 200, "tools/list ")
	add("compressed", zipped(t, deleteOrder), 415, 415, "", "Content-Encoding", "gzip")
	add("text", deleteOrder, 415, 415, "").kind = "text/plain"
	add("no type", deleteOrder, 415, 415, "").kind = ""
	add("UTF-7", deleteOrder, 415, 415, "").kind = "application/json; charset=utf-7"
	add("PUT", deleteOrder, 405, 405, "").method = http.MethodPut
	add("PATCH", deleteOrder, 405, 405, "").method = http.MethodPatch
	add("GET with a body", deleteOrder, 400, 400, "").method = http.MethodGet
	add("DELETE with a body", deleteOrder, 400, 400, "").method = http.MethodDelete
	return list
}

// The refusal of a message is a JSON-RPC response, and the log says what to change.
func TestRefusalOfAMessage(t *testing.T) {
	s, _ := runMCP(t, toolGuards)
	root := s.url("shop.localhost")
	token := s.tokenFor(t, "orders", "").AccessToken
	answer := s.do(t, http.MethodPost, root+"/mcp", "application/json", deleteOrder,
		"Authorization", "Bearer "+token, "Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", "get_order")
	const want = `{"jsonrpc":"2.0","id":3,"error":{"code":-32020,"message":"Header mismatch: Mcp-Name does not match the body"}}`
	if answer.status != 400 || answer.body != want || answer.header.Get("Content-Type") != "application/json" {
		t.Errorf("%d %v %s", answer.status, answer.header, answer.body)
	}
	found := s.logEntries(t, func(entry map[string]any) bool { return entry["error_id"] == answer.header.Get("Error-Id") })
	if len(found) != 1 || found[0]["sent"] != "get_order" || found[0]["expected"] != "delete_order" || found[0]["setting"] != "oauth_guard: mcp" ||
		found[0]["resource"] != root+"/mcp" {
		t.Errorf("the log has %v", found)
	}
	put := s.do(t, http.MethodPut, root+"/mcp", "application/json", deleteOrder, "Authorization", "Bearer "+token)
	if put.status != 405 || put.header.Get("Allow") != "GET, POST, DELETE, OPTIONS" {
		t.Errorf("%d %v", put.status, put.header)
	}
}

// Nobody without a token makes the guard read a message: the guard of the server refuses first, whatever the body is.
func TestMessagesOfStrangersAreNotRead(t *testing.T) {
	s, calls := runMCP(t, toolGuards)
	for _, body := range []string{deleteOrder, "no JSON", strings.Repeat("x", 2<<20)} {
		for _, header := range [][]string{nil, {"Mcp-Name", "delete_order"}, {"Authorization", "Bearer x.y.z"}} {
			answer := s.do(t, http.MethodPost, s.url("shop.localhost")+"/mcp", "application/json", body, header...)
			if answer.status != 401 {
				t.Errorf("%v: %d %s", header, answer.status, answer.body)
			}
		}
	}
	if n := calls.Load(); n > 0 {
		t.Errorf("the server got %d requests", n)
	}
}

// Where nothing decides by the messages, they are not read, and may be of any kind and size.
func TestMessagesThatNothingDecidesBy(t *testing.T) {
	s, _ := runMCP(t, "oauth_guard /mcp {\nscopes orders\nmcp\n}\n@other header X-Other *\noauth_guard @other")
	root := s.url("shop.localhost")
	token := s.tokenFor(t, "orders", "").AccessToken
	for _, body := range []string{deleteOrder, "no JSON", strings.Repeat("x", 2<<20)} {
		answer := s.do(t, http.MethodPost, root+"/mcp", "text/plain", body, "Authorization", "Bearer "+token, "Mcp-Name", "get_order")
		if answer.status != 200 || !strings.Contains(answer.body, `"name":"get_order"`) {
			t.Errorf("%d %.200s", answer.status, answer.body)
		}
	}
}

// The endpoints of the issuer and other pages are beside a server that the whole site is guarded for.
func TestMessagesBesideTheEndpoints(t *testing.T) {
	s, _ := runMCP(t, "@delete header Mcp-Name delete_*\noauth_guard /mcp {\nscopes orders\nmcp\n}\noauth_guard @delete {\nscopes orders:write\nmcp /mcp\n}")
	s.tokenFor(t, "orders", "") // by a form
	answer := s.do(t, http.MethodPost, s.url("shop.localhost")+"/other", "text/plain", "no JSON", "Mcp-Method", "x")
	if answer.status != 200 || !strings.Contains(answer.body, `"method":"x"`) {
		t.Errorf("%d %s", answer.status, answer.body)
	}
}

// A request that started again stands in the access log once, and is counted once by the guard.
func TestLogOfAMessageOfAnOlderClient(t *testing.T) {
	s := newServer(t)
	address, _ := mcpServer(t)
	s.run(t, mcpShop, "http://shop.localhost:PORT {\nlog {\noutput file "+s.dir+"/access.json\nformat json\n}\nvars person alice\noauth {\nuser {vars.person}\n}\n"+
		toolGuards+"\nreverse_proxy "+address+"\n}")
	token := s.tokenFor(t, "orders", "").AccessToken
	answer := s.do(t, http.MethodPost, s.url("shop.localhost")+"/mcp?x=1", "application/json", getOrder, "Authorization", "Bearer "+token)
	if answer.status != 200 {
		t.Fatalf("%d %s", answer.status, answer.body)
	}
	logged := 0
	eventually(t, "the access log", func() bool {
		text, err := os.ReadFile(s.dir + "/access.json")
		logged = strings.Count(string(text), `"/mcp?x=1"`)
		return err == nil && logged > 0
	})
	if logged != 1 {
		t.Errorf("the access log has the request %d times", logged)
	}
	metrics := s.get(t, "http://127.0.0.1:"+s.admin+"/metrics").body
	if want := `caddy_oauth_guard_decisions_total{issuer="default",result="ok"} 1`; !strings.Contains(metrics, want) {
		t.Errorf("the metrics lack %s", want)
	}
}
