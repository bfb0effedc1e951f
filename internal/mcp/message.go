// Package mcp reads what a request of the Model Context Protocol asks for, so that a proxy can decide by it: which method, and which
// tool, prompt or resource. Clients of revision 2026-07-28 and later say it in the headers Mcp-Method and Mcp-Name as well as in the
// body; older ones only in the body, and a client can lie in a header. The server behind the proxy goes by the body. So the body is
// what counts here, and a body that two programs can read differently is refused.
//
// Start reading at [Parse], and then at [Message.Mirror], which makes the headers say what the body says.
package mcp

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"unicode/utf8"
)

const (
	// MaxBody is the size limit of a message, in bytes.
	MaxBody = 1 << 20

	maxDepth = 100     // of arrays and objects in a message
	maxName  = 4 << 10 // the length limit of a method or a name, in bytes, as they go into headers
)

// The codes of errors, of JSON-RPC 2.0 and of the Model Context Protocol.
const (
	parseError     = -32700
	invalidRequest = -32600
	headerMismatch = -32020
)

// Error is why a request is refused.
type Error struct {
	Status  int // of HTTP
	Code    int // of JSON-RPC
	Message string

	// For the log: what came, and what was expected.
	Sent, Expected string

	id json.RawMessage // of the message; nil if it has none
}

func (e *Error) Error() string { return e.Message }

// Body returns the JSON-RPC response that says why.
func (e *Error) Body() []byte {
	type failure struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	body, err := json.Marshal(struct {
		Version string          `json:"jsonrpc"`
		ID      json.RawMessage `json:"id"` // null if it is not known
		Error   failure         `json:"error"`
	}{"2.0", e.id, failure{e.Code, e.Message}})
	if err != nil {
		return []byte("{}") // cannot be: the ID was part of valid JSON
	}
	return body
}

func invalid(message, sent, expected string) *Error {
	return &Error{Status: http.StatusBadRequest, Code: invalidRequest, Message: message, Sent: sent, Expected: expected}
}

// Message is what a JSON-RPC message asks for.
type Message struct {
	Method string // "" if the message is a response
	Name   string // of the tool or the prompt, or the URI of the resource; "" if the message has none

	named bool            // the method is one that needs a name
	id    json.RawMessage // nil if there is none
}

// nameMembers says which member of params has what is named, for the methods that name something.
var nameMembers = map[string]string{"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}

// Parse reads a message. It refuses a body that is no JSON object, that has more than one message, or that another program could take
// for another message: one with a member twice, or whose name differs in case, which some programs ignore.
func Parse(body []byte) (*Message, error) {
	switch {
	case !utf8.Valid(body), !json.Valid(body):
		refusal := invalid("the body must be JSON in UTF-8", "something else", "a JSON-RPC message")
		refusal.Code = parseError
		return nil, refusal
	case depth(body) > maxDepth:
		return nil, invalid("the body is nested too deeply", "", "at most 100 arrays and objects in each other")
	}
	body = bytes.TrimSpace(body)
	switch body[0] {
	case '{':
	case '[': // revision 2025-03-26, and no other, has batches
		return nil, invalid("batches of messages are not supported here", "a batch", "one message")
	default:
		return nil, invalid("the body must be a JSON-RPC message", "no object", "an object")
	}
	return parseMessage(body)
}

func parseMessage(object []byte) (*Message, error) {
	m := new(Message)
	top := map[string][]byte{"jsonrpc": nil, "id": nil, "method": nil, "params": nil, "result": nil, "error": nil}
	err := find(object, top)
	m.id = id(top["id"])
	if err == nil {
		err = m.read(top)
	}
	if err != nil {
		err.id = m.id
		return nil, err
	}
	return m, nil
}

// read reads the members of a message.
func (m *Message) read(top map[string][]byte) *Error {
	if top["method"] == nil {
		if top["result"] == nil && top["error"] == nil {
			return invalid("the message has no method", "neither method, result nor error", "method")
		}
		return nil
	}
	var err *Error
	if m.Method, err = plainText("method", top["method"]); err != nil {
		return err
	}
	params := map[string][]byte{"name": nil, "uri": nil}
	switch sent := top["params"]; {
	case sent == nil, string(sent) == "null":
	case sent[0] != '{':
		return invalid("params must be an object", string(sent[:1]), "an object")
	default:
		if err := find(sent, params); err != nil {
			return err
		}
	}
	var member string
	if member, m.named = nameMembers[m.Method]; m.named {
		if params[member] == nil {
			return invalid(m.Method+" needs "+member+" in params", "no "+member, member)
		}
		m.Name, err = plainText(member, params[member])
		return err
	}
	for _, value := range []string{"name", "uri"} { // a name that a later revision may mirror too
		if name, err := plainText(value, params[value]); params[value] != nil && err == nil && m.Name == "" {
			m.Name = name
		}
	}
	return nil
}

// id returns the ID of a message for the answer, nil if it is none that an answer can have.
func id(value []byte) json.RawMessage {
	if len(value) == 0 || len(value) > 256 || value[0] == '{' || value[0] == '[' {
		return nil
	}
	return value
}

// plainText decodes a string that a header can have as it is. A matcher that decides by the header would not see others: a client
// must encode them.
func plainText(member string, value []byte) (string, *Error) {
	var text string
	if len(value) == 0 || value[0] != '"' || json.Unmarshal(value, &text) != nil {
		return "", invalid(member+" must be a string", string(value[:min(len(value), 64)]), "a string")
	}
	if !isPlain(text) {
		return "", invalid(member+" must be of printable ASCII characters here", text[:min(len(text), 64)],
			"printable ASCII without spaces around it, up to 4 KiB")
	}
	return text, nil
}

// isPlain reports whether a header can have a value as it is (Streamable HTTP, Value Encoding).
func isPlain(s string) bool {
	if s == "" || len(s) > maxName || s[0] == ' ' || s[len(s)-1] == ' ' || isEncoded(s) {
		return false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// find sets the members of an object that are keys of wanted. The object is valid JSON.
func find(object []byte, wanted map[string][]byte) *Error {
	rest := skipSpace(object[1:])
	for rest[0] != '}' {
		end := valueEnd(rest)
		var name string
		if err := json.Unmarshal(rest[:end], &name); err != nil {
			return invalid("a member has no name", "", "")
		}
		rest = skipSpace(skipSpace(rest[end:])[1:]) // the colon
		end = valueEnd(rest)
		value := rest[:end]
		if rest = skipSpace(rest[end:]); rest[0] == ',' {
			rest = skipSpace(rest[1:])
		}
		for known, before := range wanted {
			if !strings.EqualFold(known, name) {
				continue
			}
			if known != name || before != nil {
				return invalid("the message has the member "+known+" twice, or in another case", name, known+" once")
			}
			wanted[known] = value
		}
	}
	return nil
}

func skipSpace(s []byte) []byte { return bytes.TrimLeft(s, " \t\r\n") }

// valueEnd returns where the JSON value ends that begins at the start of a text.
func valueEnd(s []byte) int {
	level := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			i = stringEnd(s, i)
		case '{', '[':
			level++
		case '}', ']':
			if level--; level < 0 {
				return i // after a number or a word
			}
		case ',', ':', ' ', '\t', '\r', '\n':
			if level == 0 {
				return i
			}
			continue
		default:
			continue
		}
		if level == 0 {
			return i + 1
		}
	}
	return len(s)
}

// stringEnd returns the index of the quotation mark that ends the string at i.
func stringEnd(s []byte, i int) int {
	for i++; i < len(s) && s[i] != '"'; i++ {
		if s[i] == '\\' {
			i++
		}
	}
	return i
}

// depth returns how many arrays and objects there are in each other.
func depth(s []byte) (deepest int) {
	level := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			i = stringEnd(s, i)
		case '{', '[':
			level++
			deepest = max(deepest, level)
		case '}', ']':
			level--
		}
	}
	return deepest
}
