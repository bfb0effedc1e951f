package authserver

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"

	"github.com/caddy-oauth/caddy-oauth/grants"
)

const maxBody = 64 << 10

// readForm reads the parameters of the body, once (RFC 6749 §3.2).
func readForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/x-www-form-urlencoded" {
		return nil, grants.Refuse(grants.InvalidRequest, "the body must be application/x-www-form-urlencoded")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, badBody(err)
	}
	return parseForm(string(body))
}

func badBody(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return &grants.Error{
			Code: grants.InvalidRequest, Description: "the body is too large",
			Status: http.StatusRequestEntityTooLarge,
		}
	}
	return &grants.Error{Code: grants.InvalidRequest, Description: "the body could not be read", Cause: err}
}

// parseForm reads form-encoded parameters. A parameter without a value is treated as absent, and none but
// resource (RFC 8707 §2) may stand there twice (RFC 6749 §3.1, §3.2).
func parseForm(encoded string) (url.Values, error) {
	form, err := url.ParseQuery(encoded)
	if err != nil {
		return nil, grants.Refuse(grants.InvalidRequest, "the parameters are not form-encoded")
	}
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
