package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/scratch"
)

const (
	maxSize = 64 << 10         // the size limit of a body or a query, in bytes
	maxTime = 10 * time.Second // how long a client may take to send a body
)

// The kinds of bodies.
const (
	formBody = "form"
	jsonBody = "json"
)

// bodyKinds are the kinds of bodies by media type.
var bodyKinds = map[string]string{
	"application/x-www-form-urlencoded": formBody,
	"application/json":                  jsonBody,
}

// LimitTime limits how long the client may take to send the body of a request, so that nobody can hold a connection and
// its memory by sending slowly. Call it before all else: a server also reads a body that nobody asked for before it
// answers. ReadForm ends the limit when it has the whole body.
func LimitTime(w http.ResponseWriter, r *http.Request) {
	if hasLimit(r) {
		setReadDeadline(w, time.Now().Add(maxTime))
	}
}

// hasLimit reports whether LimitTime limits a request: it may have a body, and the server has no stricter limit.
func hasLimit(r *http.Request) bool {
	server, ok := r.Context().Value(http.ServerContextKey).(*http.Server)
	stricter := ok && server.ReadTimeout > 0 && server.ReadTimeout < maxTime
	return r.ContentLength != 0 && !stricter
}

// setReadDeadline has no effect on the ResponseWriters of tests, which have no connection.
func setReadDeadline(w http.ResponseWriter, deadline time.Time) {
	_ = http.NewResponseController(w).SetReadDeadline(deadline)
}

// ReadForm reads the parameters in the body of a request. The body must be of one of the kinds, "form" and "json"; with
// none, it must be a form. Parameters without a value are absent, and none may be repeated (RFC 6749 §3.2) except those of
// mayRepeat: see RepeatedError.
func ReadForm(w http.ResponseWriter, r *http.Request, kinds ...string) (url.Values, error) {
	if len(kinds) == 0 {
		kinds = []string{formBody}
	}
	kind := bodyKind(r.Header.Get("Content-Type"))
	if !slices.Contains(kinds, kind) {
		return nil, grants.Refuse(grants.InvalidRequest, "the body must be "+strings.Join(mediaTypes(kinds), " or ")).
			Explain(r.Header.Get("Content-Type"), strings.Join(mediaTypes(kinds), ", "), "request_body")
	}
	buffer := scratch.Take()
	defer scratch.Release(buffer)
	if err := readInto(buffer, w, r, maxSize); err != nil {
		return nil, err
	}
	if kind == jsonBody {
		form, err := parseJSON(buffer.Bytes())
		if err != nil {
			return nil, err
		}
		return tidy(form)
	}
	return parseForm(buffer.String())
}

// bodyKind returns the kind of a body, or "" for an unknown media type.
func bodyKind(contentType string) string {
	if kind, ok := bodyKinds[contentType]; ok { // the usual spelling, without parameters
		return kind
	}
	mediaType, _, _ := mime.ParseMediaType(contentType)
	return bodyKinds[mediaType]
}

// mediaTypes returns the media types of kinds of bodies.
func mediaTypes(kinds []string) []string {
	var types []string
	for _, mediaType := range slices.Sorted(maps.Keys(bodyKinds)) {
		if slices.Contains(kinds, bodyKinds[mediaType]) {
			types = append(types, mediaType)
		}
	}
	return types
}

// ReadBody reads the body of a request, of at most limit bytes, and ends the time that LimitTime set. Its errors are of type *grants.Error.
func ReadBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	var body bytes.Buffer
	if err := readInto(&body, w, r, limit); err != nil {
		return nil, err
	}
	return body.Bytes(), nil
}

// readInto is ReadBody into a buffer of the caller's.
func readInto(body *bytes.Buffer, w http.ResponseWriter, r *http.Request, limit int64) error {
	if _, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, limit)); err != nil {
		return badBody(err) // with the deadline as it is: the server reads the rest of the body before it answers
	}
	if hasLimit(r) {
		// The server reads on, to learn whether the client has gone, for as long as the answer takes.
		setReadDeadline(w, time.Time{})
	}
	return nil
}

func badBody(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &grants.Error{
			Code: grants.InvalidRequest, Description: "the body is too large",
			Status: http.StatusRequestEntityTooLarge,
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &grants.Error{
			Code: grants.InvalidRequest, Description: "the body did not arrive in time",
			Status: http.StatusRequestTimeout, Cause: err,
		}
	}
	return &grants.Error{Code: grants.InvalidRequest, Description: "the body could not be read", Cause: err}
}

func parseForm(encoded string) (url.Values, error) {
	form, err := url.ParseQuery(encoded)
	if err != nil {
		return nil, grants.Refuse(grants.InvalidRequest, "the parameters are not form-encoded")
	}
	return tidy(form)
}

// tidy removes parameters without a value, and refuses repeated ones.
func tidy(form url.Values) (url.Values, error) {
	var repeated []string
	grantType := form.Get("grant_type")
	for name, values := range form {
		if len(values) > 1 && !mayRepeat(name, grantType) {
			repeated = append(repeated, name)
			delete(form, name)
		}
		if len(values) == 1 && values[0] == "" {
			delete(form, name)
		}
	}
	if repeated != nil {
		slices.Sort(repeated)
		return nil, &RepeatedError{repeated, form}
	}
	return form, nil
}

// mayRepeat reports whether a request may have a parameter more than once: resource (RFC 8707 §2), and audience in an exchange of
// tokens (RFC 8693 §2.1).
func mayRepeat(name, grantType string) bool {
	return name == "resource" || name == "audience" && grantType == grants.TokenExchangeType
}

// RepeatedError refuses a request with repeated parameters. The others are in Rest: the authorization endpoint needs
// them to send the refusal to the client.
type RepeatedError struct {
	names []string
	Rest  url.Values
}

var errRepeated = grants.Refuse(grants.InvalidRequest, "a parameter is repeated")

// Has reports whether the parameter is one of the repeated ones.
func (e *RepeatedError) Has(name string) bool { return slices.Contains(e.names, name) }

func (*RepeatedError) Error() string { return errRepeated.Error() }

// Unwrap returns the *grants.Error for the client.
func (e *RepeatedError) Unwrap() error {
	return errRepeated.Explain(strings.Join(e.names, " "), "each parameter once", "")
}

// ReadQuery reads the parameters in the query of a request, by the same rules as ReadForm.
func ReadQuery(r *http.Request) (url.Values, error) {
	if len(r.URL.RawQuery) > maxSize {
		return nil, &grants.Error{
			Code: grants.InvalidRequest, Description: "the query is too large", Status: http.StatusRequestURITooLong,
		}
	}
	return parseForm(r.URL.RawQuery)
}

// ReadJSON reads the body of a request, which must be JSON of at most limit bytes. It does not look at the JSON.
func ReadJSON(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if sent := r.Header.Get("Content-Type"); !IsJSON(sent) {
		return nil, grants.Refuse(grants.InvalidRequest, "the body must be application/json").Explain(sent, "application/json", "")
	}
	return ReadBody(w, r, limit)
}

// IsJSON reports whether a Content-Type is that of a JSON body.
func IsJSON(contentType string) bool { return bodyKind(contentType) == jsonBody }

var errBadJSON = errors.New("not an object of plain values")

// parseJSON reads the parameters of a JSON body: an object whose members are strings, numbers or booleans, or null for
// an absent one. resource and audience may also be arrays of strings, see mayRepeat.
func parseJSON(body []byte) (url.Values, error) {
	form := url.Values{}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if err := readObject(decoder, form); err != nil {
		return nil, &grants.Error{
			Code: grants.InvalidRequest, Description: "the body is not a JSON object of plain values", Cause: err,
		}
	}
	return form, nil
}

// readObject reads token by token, because json.Unmarshal accepts an object with a repeated member.
func readObject(decoder *json.Decoder, form url.Values) error {
	if t, err := decoder.Token(); err != nil || t != json.Delim('{') {
		return errors.Join(errBadJSON, err)
	}
	seen := make(map[string]bool)
	for decoder.More() {
		t, err := decoder.Token()
		if err != nil {
			return err
		}
		name := t.(string)
		if seen[name] {
			return errors.New("a member is repeated")
		}
		seen[name] = true
		if err := readMember(decoder, form, name); err != nil {
			return err
		}
	}
	if _, err := decoder.Token(); err != nil { // the closing brace
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errBadJSON
	}
	return nil
}

func readMember(decoder *json.Decoder, form url.Values, name string) error {
	value, err := decoder.Token()
	if err != nil {
		return err
	}
	if value == json.Delim('[') && mayRepeat(name, grants.TokenExchangeType) { // grant_type may come later
		for decoder.More() {
			element, err := decoder.Token()
			if err != nil {
				return err
			}
			if err := addValue(form, name, element); err != nil {
				return err
			}
		}
		_, err := decoder.Token() // the closing bracket
		return err
	}
	return addValue(form, name, value)
}

func addValue(form url.Values, name string, value json.Token) error {
	switch v := value.(type) {
	case string:
		form.Add(name, v)
	case json.Number:
		form.Add(name, v.String())
	case bool:
		form.Add(name, strconv.FormatBool(v))
	case nil:
		form.Add(name, "") // absent in the end, see tidy, but repeated if it is there twice
	default:
		return errBadJSON
	}
	return nil
}
