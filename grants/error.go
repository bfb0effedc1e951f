package grants

import (
	"net/http"
	"time"
)

// Error is a refusal: what the client may know of it, and the cause for the operator's log.
type Error struct {
	Code        string // an error code of RFC 6749 §5.2 or an extension
	Description string // for the client's developer: printable ASCII without '"' and '\'
	Status      int    // of the HTTP response; zero is 400
	Cause       error  // for the log only

	// Situation is what happened, more precisely than Code, for a server that is set to answer it in other words.
	Situation string
	// RetryAfter is when it makes sense to ask again, if that is known.
	RetryAfter time.Duration
}

// The situations that a configuration can give their own code and text. Any other refusal is its Code.
const (
	BadClient       = "bad_client"
	BadCode         = "bad_code"
	BadRefreshToken = "bad_refresh_token"
	BadUser         = "bad_user"
)

// Error codes: RFC 6749 §4.1.2.1 and §5.2, RFC 8707 §2.
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
	ServerError             = "server_error"
	TemporarilyUnavailable  = "temporarily_unavailable"
)

// Codes are all the error codes of the token endpoint.
var Codes = []string{
	InvalidRequest, InvalidClient, InvalidGrant, InvalidScope, InvalidTarget, UnauthorizedClient,
	UnsupportedGrantType, ServerError, TemporarilyUnavailable,
}

// Refuse returns an Error without a cause beyond what it says.
func Refuse(code, description string) *Error {
	return &Error{Code: code, Description: description}
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

// Replay is the Cause of an Error when something that was good once was presented again. Whoever called the grant then
// ends the family: its access tokens first, since once it has ended nothing more can be found to be a replay.
type Replay struct {
	What    string // "authorization code" or "refresh token"
	Family  string // the ID of its record
	Client  string
	Subject string

	TokenLife time.Duration // the longest life of an access token of the family
}

func (r *Replay) Error() string {
	return r.What + " used again; ends family " + r.Family + " of client " + r.Client + " and subject " + r.Subject
}
