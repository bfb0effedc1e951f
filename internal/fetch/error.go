package fetch

import (
	"context"
	"errors"
	"net"
	"os"
	"time"
)

// Reason says why a fetch failed, in words for a log. There are no others than these.
type Reason string

// The reasons.
const (
	InvalidURL      Reason = "invalid URL"
	UnknownHost     Reason = "unknown host"
	SpecialAddress  Reason = "special-use address"
	NoConnection    Reason = "no connection" // TLS included
	Timeout         Reason = "timeout"
	Redirect        Reason = "redirect"
	Status          Reason = "status"
	ContentType     Reason = "content type"
	ContentEncoding Reason = "content encoding"
	TooLarge        Reason = "too large"
	InvalidDocument Reason = "invalid document"

	// These say that there was no request.
	RateLimit Reason = "rate limit"
	BackOff   Reason = "failed before"
	Busy      Reason = "too many at once"
)

// Error says why a document was not fetched. It is for the owner of the server: for anybody else, it would say too much about what the
// server can reach.
type Error struct {
	URL    string
	Reason Reason
	Status int           // of the response, 0 without one
	Retry  time.Duration // when the next request can be sent, for RateLimit and BackOff
	Err    error
}

func (e *Error) Error() string {
	s := string(e.Reason)
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Sent reports whether a request was sent, or was about to be.
func (e *Error) Sent() bool {
	switch e.Reason {
	case InvalidURL, RateLimit, BackOff, Busy:
		return false
	}
	return true
}

// failure returns the Error for what net and net/http said.
func failure(url string, err error) *Error {
	e := &Error{URL: url, Reason: NoConnection, Err: err}
	var address *addressError
	var name *nameError
	var timeout net.Error
	switch {
	case errors.As(err, &address):
		e.Reason, e.Err = SpecialAddress, address
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		e.Reason, e.Err = Timeout, errors.New("expected the whole document within the time limit")
	case errors.As(err, &name):
		e.Reason = UnknownHost
	}
	return e
}
