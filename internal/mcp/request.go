package mcp

import (
	"encoding/base64"
	"mime"
	"net/http"
	"strings"
)

// The headers that mirror the body, in their canonical form.
const (
	MethodHeader  = "Mcp-Method"
	NameHeader    = "Mcp-Name"
	versionHeader = "Mcp-Protocol-Version"
)

// mirroring is the first revision whose clients must send these headers.
const mirroring = "2026-07-28"

// NamesHeader reports whether a text names one of the headers that say what a message asks for.
func NamesHeader(text string) bool {
	text = strings.ToLower(text)
	return strings.Contains(text, strings.ToLower(MethodHeader)) || strings.Contains(text, strings.ToLower(NameHeader))
}

// HasMessage reports whether a request has a message in its body. Others must have no body. An error says that the request is of no
// kind that a client of the protocol sends.
func HasMessage(r *http.Request) (bool, error) {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodDelete, http.MethodOptions:
		return false, nil
	case http.MethodPost:
	default:
		refusal := invalid("the method must be POST, GET or DELETE", r.Method, "POST, GET, DELETE")
		refusal.Status = http.StatusMethodNotAllowed
		return false, refusal
	}
	encodings := strings.Join(r.Header.Values("Content-Encoding"), ",")
	types := r.Header.Values("Content-Type")
	if !isJSON(types) || encodings != "" && !strings.EqualFold(encodings, "identity") {
		refusal := invalid("the body must be application/json in UTF-8, and not compressed",
			strings.TrimSpace(strings.Join(types, ", ")+" "+encodings), "application/json")
		refusal.Status = http.StatusUnsupportedMediaType
		return false, refusal
	}
	return true, nil
}

// isJSON reports whether a body is JSON in UTF-8, and can be taken for nothing else.
func isJSON(types []string) bool {
	if len(types) != 1 {
		return false
	}
	kind, params, err := mime.ParseMediaType(types[0])
	charset, has := params["charset"]
	return err == nil && kind == "application/json" && (!has || strings.EqualFold(charset, "utf-8"))
}

// TooLarge is the refusal of a body over MaxBody.
func TooLarge() *Error {
	refusal := invalid("the body is larger than 1 MiB", "a larger body", "at most 1 MiB")
	refusal.Status = http.StatusRequestEntityTooLarge
	return refusal
}

// Bodiless is the refusal of a body in a request that should have none.
func Bodiless(method string) *Error {
	return invalid("a request with the method "+method+" must have no body", "a body", "no body, or POST")
}

// Unreadable is the refusal of a body that did not arrive.
func Unreadable(cause error) *Error {
	return invalid("the body could not be read", cause.Error(), "a JSON-RPC message")
}

// Mirror makes the headers say what the message says, and reports whether it has changed them. Headers that contradict the message
// are refused, and so are missing ones if the client's revision has them (Streamable HTTP, Server Validation). If a name is encoded
// and need not be, the header gets the name itself.
func (m *Message) Mirror(h http.Header) (changed bool, err error) {
	required := h.Get(versionHeader) >= mirroring
	method, err1 := m.mirror(h, MethodHeader, m.Method, m.Method, required)
	if err1 != nil {
		return false, err1
	}
	name := ""
	if m.named {
		name = m.Name
	}
	changedName, err2 := m.mirror(h, NameHeader, name, m.Name, required)
	if err2 != nil {
		return false, err2
	}
	return method || changedName, nil
}

// Unmirror removes the headers from a request without a message, and reports whether there were any.
func Unmirror(h http.Header) (changed bool) {
	changed = len(h[MethodHeader]) > 0 || len(h[NameHeader]) > 0
	delete(h, MethodHeader)
	delete(h, NameHeader)
	return changed
}

// mirror makes a header say what is wanted, "" for no header. It may stay without being wanted if it says what is allowed.
func (m *Message) mirror(h http.Header, header, wanted, allowed string, required bool) (changed bool, _ *Error) {
	values := h[header]
	fail := func(message, sent string) (bool, *Error) {
		refusal := invalid("Header mismatch: "+message, sent, wanted)
		refusal.Code, refusal.id = headerMismatch, m.id
		return false, refusal
	}
	switch {
	case len(values) > 1:
		return fail(header+" is there more than once", strings.Join(values, ", "))
	case len(values) == 0 && wanted == "":
		return false, nil
	case len(values) == 0 && required:
		return fail(header+" is missing", "no "+header)
	case len(values) == 0:
		h[header] = []string{wanted}
		return true, nil
	}
	value, ok := decode(values[0])
	switch {
	case ok && value == allowed && allowed != "":
	case wanted == "":
		delete(h, header)
		return true, nil
	default:
		return fail(header+" does not match the body", values[0])
	}
	if values[0] == value {
		return false, nil
	}
	h[header] = []string{value}
	return true, nil
}

const (
	encodedPrefix = "=?base64?"
	encodedSuffix = "?="
)

func isEncoded(s string) bool {
	return strings.HasPrefix(s, encodedPrefix) && strings.HasSuffix(s, encodedSuffix) && len(s) >= len(encodedPrefix)+len(encodedSuffix)
}

// decode returns the value of a header, which may be encoded (Streamable HTTP, Value Encoding).
func decode(s string) (string, bool) {
	if !isEncoded(s) {
		return s, true
	}
	value, err := base64.StdEncoding.Strict().DecodeString(s[len(encodedPrefix) : len(s)-len(encodedSuffix)])
	return string(value), err == nil
}
