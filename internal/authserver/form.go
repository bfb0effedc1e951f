package authserver

import (
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/grants"
)

const maxBody = 64 << 10

const (
	formBody = "form"
	jsonBody = "json"
)

// bodyTypes are the media types of the kinds of bodies.
var bodyTypes = map[string]string{
	"application/x-www-form-urlencoded": formBody,
	"application/json":                  jsonBody,
}

// readForm reads the parameters of the body, once (RFC 6749 §3.2), which must be of one of the kinds.
func readForm(w http.ResponseWriter, r *http.Request, kinds ...string) (url.Values, error) {
	kind := bodyKind(r.Header.Get("Content-Type"))
	if !slices.Contains(kinds, kind) {
		return nil, grants.Refuse(grants.InvalidRequest, "the body must be "+strings.Join(accepted(kinds), " or "))
	}
	body, err := readBody(w, r)
	if err != nil {
		return nil, badBody(err)
	}
	if kind == jsonBody {
		form, err := parseJSON(body)
		if err != nil {
			return nil, err
		}
		return tidyForm(form)
	}
	return parseForm(string(body))
}

// readBody reads a body, in one piece where the request tells how long it is: net/http gives no more than that.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength <= 0 || r.ContentLength > maxBody {
		return io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	}
	body := make([]byte, r.ContentLength)
	_, err := io.ReadFull(r.Body, body)
	return body, err
}

// bodyKind returns the kind of a body, "" if it is none that is known.
func bodyKind(contentType string) string {
	if kind, ok := bodyTypes[contentType]; ok { // as almost everybody writes it
		return kind
	}
	mediaType, _, _ := mime.ParseMediaType(contentType)
	return bodyTypes[mediaType]
}

// accepted returns the media types of kinds of bodies.
func accepted(kinds []string) []string {
	var types []string
	for _, mediaType := range slices.Sorted(maps.Keys(bodyTypes)) {
		if slices.Contains(kinds, bodyTypes[mediaType]) {
			types = append(types, mediaType)
		}
	}
	return types
}

func badBody(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &grants.Error{
			Code: grants.InvalidRequest, Description: "the body is too large",
			Status: http.StatusRequestEntityTooLarge,
		}
	}
	return &grants.Error{Code: grants.InvalidRequest, Description: "the body could not be read", Cause: err}
}

// parseForm reads form-encoded parameters.
func parseForm(encoded string) (url.Values, error) {
	form, err := url.ParseQuery(encoded)
	if err != nil {
		return nil, grants.Refuse(grants.InvalidRequest, "the parameters are not form-encoded")
	}
	return tidyForm(form)
}

// tidyForm drops parameters without a value, as these are treated as absent, and makes sure that none
// but resource (RFC 8707 §2) stands there twice (RFC 6749 §3.1, §3.2).
func tidyForm(form url.Values) (url.Values, error) {
	var repeated []string
	for name, values := range form {
		if len(values) > 1 && name != "resource" {
			repeated = append(repeated, name)
			delete(form, name)
		}
		if len(values) == 1 && values[0] == "" {
			delete(form, name)
		}
	}
	if repeated != nil {
		return nil, &repeatedError{repeated, form}
	}
	return form, nil
}

// repeatedError is the refusal of parameters of which some are repeated.
type repeatedError struct {
	names []string
	rest  url.Values
}

var errRepeated = grants.Refuse(grants.InvalidRequest, "a parameter is repeated")

func (e *repeatedError) has(name string) bool { return slices.Contains(e.names, name) }

func (*repeatedError) Error() string { return errRepeated.Error() }

func (*repeatedError) Unwrap() error { return errRepeated }
