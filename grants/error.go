package grants

import (
	"cmp"
	"errors"
	"net/http"
	"time"
)

// Error is a refusal: what the client may know of it, and the cause for the operator's log.
type Error struct {
	Code        string // an error code of RFC 6749 §5.2 or an extension
	Description string // for the client's developer: printable ASCII without '"' and '\'
	Status      int    // of the HTTP response; zero is 400
	Cause       error  // for the log only

	// Help for the operator, for the log only and never secret: what the request had, what was expected, and the setting that decides.
	Sent, Expected, Setting string

	// Whose code or refresh token was refused, as far as it is known, for the log only: the ID of the record of its family, and
	// the user.
	Family, Subject string

	// Situation is what happened, more precisely than Code, for a server that is set to answer it in other words.
	Situation string
	// RetryAfter is when it makes sense to ask again, if that is known.
	RetryAfter time.Duration
}

// The situations that a configuration can give their own code and text. Any other refusal is its Code.
const (
	BadAssertion    = "bad_assertion"
	BadClient       = "bad_client"
	BadCode         = "bad_code"
	BadRefreshToken = "bad_refresh_token"
	BadSubjectToken = "bad_subject_token"
	BadUser         = "bad_user"
)

// Error codes: RFC 6749 §4.1.2.1 and §5.2, RFC 8707 §2, RFC 9449.
const (
	InvalidRequest          = "invalid_request"
	InvalidClient           = "invalid_client"
	InvalidGrant            = "invalid_grant"
	InvalidScope            = "invalid_scope"
	InvalidTarget           = "invalid_target"
	UnauthorizedClient      = "unauthorized_client"
	UnsupportedGrantType    = "unsupported_grant_type"
	UnsupportedResponseType = "unsupported_response_type"
	AccessDenied            = "access_denied"
	InvalidDPoPProof        = "invalid_dpop_proof" // RFC 9449 §5
	UseDPoPNonce            = "use_dpop_nonce"     // RFC 9449 §8
	ServerError             = "server_error"
	TemporarilyUnavailable  = "temporarily_unavailable"
)

// Codes are all the error codes of the token endpoint.
var Codes = []string{
	InvalidRequest, InvalidClient, InvalidGrant, InvalidScope, InvalidTarget, UnauthorizedClient,
	UnsupportedGrantType, InvalidDPoPProof, UseDPoPNonce, ServerError, TemporarilyUnavailable,
}

// Refuse returns an Error without a cause beyond what it says.
func Refuse(code, description string) *Error {
	return &Error{Code: code, Description: description}
}

// Explain returns a copy of the error that says more in the log: what was sent, what was expected, and which setting decides.
// None of them may be a secret. An empty one keeps what the error says already.
func (e *Error) Explain(sent, expected, setting string) *Error {
	explained := *e
	explained.Sent, explained.Expected = cmp.Or(sent, e.Sent), cmp.Or(expected, e.Expected)
	explained.Setting = cmp.Or(setting, e.Setting)
	return &explained
}

// because returns a copy of the error with a cause.
func (e *Error) because(cause string) *Error {
	explained := *e
	explained.Cause = errors.New(cause)
	return &explained
}

// about returns a copy of the error that says whose code or refresh token was refused.
func (e *Error) about(family, subject string) *Error {
	explained := *e
	explained.Family, explained.Subject = family, subject
	return &explained
}

func (e *Error) Error() string {
	s := e.Code
	if e.Description != "" {
		s += ": " + e.Description
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Cause }

// HTTPStatus returns the status of the response.
func (e *Error) HTTPStatus() int {
	if e.Status == 0 {
		return http.StatusBadRequest
	}
	return e.Status
}

// formatTime returns a time as the log has it.
func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }
