package contract_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// answer is an answer of an endpoint.
type answer struct {
	status int
	header http.Header
	body   string
}

// member returns a member of the JSON object in the body, "" if it is not a string.
func (a *answer) member(name string) string {
	var members map[string]any
	if json.Unmarshal([]byte(a.body), &members) != nil {
		return ""
	}
	value, _ := members[name].(string)
	return value
}

// tokens are the tokens of an answer.
type tokens struct{ access, refresh string }

// tokens checks that the answer has tokens in the form that the document prints, and returns them.
func (a *answer) tokens(t T, like *printed) tokens {
	t.Helper()
	a.check(t, http.StatusOK, like)
	return tokens{a.member("access_token"), a.member("refresh_token")}
}

// check compares the answer with the one that the document prints: the members, their types, values and order, and no others.
func (a *answer) check(t T, status int, like *printed) {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	if got := a.header.Get("Content-Type"); got != like.contentType {
		t.Errorf("Content-Type %q, want %q", got, like.contentType)
	}
	if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Pragma") != "no-cache" { // RFC 6749 §5.1
		t.Errorf("Cache-Control %q, Pragma %q", a.header.Get("Cache-Control"), a.header.Get("Pragma"))
	}
	if !like.pattern.MatchString(a.body) {
		t.Fatalf("the answer is %s\nwant %s", a.body, like.pattern)
	}
}

// refused checks that the answer is an error of RFC 6749 §5.2 without tokens.
func (a *answer) refused(t T, status int, code string) {
	t.Helper()
	if a.status != status || a.member("error") != code || a.member("error_description") == "" {
		t.Fatalf("the answer is %d %s, want %d %s and a description", a.status, a.body, status, code)
	}
	if a.member("access_token") != "" || a.member("refresh_token") != "" {
		t.Errorf("a refusal with tokens: %s", a.body)
	}
	challenge := a.header.Get("WWW-Authenticate")
	if status == http.StatusUnauthorized && challenge == "" { // RFC 9110 §15.5.2
		t.Errorf("WWW-Authenticate %q", challenge)
	}
}

// printed is JSON as a document prints it, with patterns instead of its example tokens.
type printed struct {
	contentType string
	pattern     *regexp.Regexp
}

// like returns the form of an answer. document is JSON. examples are pairs of a text in it and the regular expression that it
// stands for.
func like(contentType, document string, examples ...string) *printed {
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(document)); err != nil {
		panic(err) // the documents are constants
	}
	pattern := regexp.QuoteMeta(compact.String())
	for pair := range slices.Chunk(examples, 2) {
		pattern = strings.Replace(pattern, regexp.QuoteMeta(pair[0]), pair[1], 1)
	}
	return &printed{contentType, regexp.MustCompile("^" + pattern + "$")}
}

// Patterns for tokens whose form the document does not say.
const (
	anyJWT   = `[\w-]+\.[\w-]+\.[\w-]+`
	anyToken = `[\w.~+/-]{30,}`
)

// jwt is a JWT whose signature was not verified.
type jwt struct{ header, claims map[string]any }

// readJWT reads a JWT without verifying it.
func readJWT(t T, token string) jwt {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("no JWT: %s", token)
	}
	var j jwt
	for i, part := range []*map[string]any{&j.header, &j.claims} {
		decoded, err := base64.RawURLEncoding.DecodeString(parts[i])
		must(t, err)
		must(t, json.Unmarshal(decoded, part))
	}
	return j
}

// lives returns how many seconds a token lives.
func (j jwt) lives() float64 {
	exp, _ := j.claims["exp"].(float64)
	iat, _ := j.claims["iat"].(float64)
	return exp - iat
}
