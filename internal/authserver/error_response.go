package authserver

import (
	"net/http"
	"strconv"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
)

// errorIDHeader carries the error id where the body has no room for it.
const errorIDHeader = "Error-Id"

// defaultRetryAfter is when to ask again after a failure of ours.
const defaultRetryAfter = 2 * time.Second

// mayRetry reports whether the same request can be answered otherwise later (RFC 9110 §10.2.3, RFC 6585 §4).
func mayRetry(status int) bool {
	return status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests
}

func setRetryAfter(h http.Header, refusal *grants.Error) {
	after := max(refusal.RetryAfter, time.Second)
	if refusal.RetryAfter == 0 {
		after = defaultRetryAfter
	}
	h.Set("Retry-After", strconv.Itoa(int((after+time.Second-1)/time.Second)))
}

// writeError writes an error response to a program: RFC 6749 §5.2, or as the wire shape has it.
func (s *Server) writeError(w http.ResponseWriter, refusal *grants.Error, id string) error {
	shape := s.config.Wire.Errors
	status := refusal.HTTPStatus()
	code, description := refusal.Code, refusal.Description
	text, ok := shape.Texts[refusal.Situation]
	if !ok {
		text, ok = shape.Texts[refusal.Code]
	}
	if ok {
		code, description = text.Code, text.Description
		if text.Status != 0 {
			status = text.Status
		}
	}

	if status == http.StatusUnauthorized { // RFC 9110 §11.6.1
		w.Header().Set("WWW-Authenticate", "Basic realm="+strconv.Quote(s.config.URL)+`, charset="UTF-8"`)
	}
	// The owner's words may make it a failure that can be tried again, but one that is stays one.
	if mayRetry(status) || mayRetry(refusal.HTTPStatus()) {
		setRetryAfter(w.Header(), refusal)
	}
	if shape.IDHeader {
		w.Header().Set(errorIDHeader, id)
		id = ""
	}
	if shape.Problem {
		return writeJSON(w, status, "application/problem+json", problem(shape, status, description, id))
	}
	return writeJSON(w, status, "application/json", struct {
		Error       string `json:"error"`
		Description string `json:"error_description,omitempty"`
		ID          string `json:"error_id,omitempty"`
	}{code, description, id})
}

type problemDetails struct {
	Status int           `json:"status"`
	Title  string        `json:"title"`
	Detail string        `json:"detail"`
	ID     string        `json:"error_id,omitempty"`
	Links  *problemLinks `json:"_links,omitempty"`
}

type problemLinks struct {
	Documentation link `json:"documentation"`
}

type link struct {
	HRef string `json:"href"`
	Type string `json:"type,omitempty"`
}

// problem returns an error as problem details (RFC 9457 §3.1).
func problem(shape ErrorShape, status int, detail, id string) problemDetails {
	p := problemDetails{Status: status, Title: http.StatusText(status), Detail: detail, ID: id}
	if shape.DocumentationURL != "" {
		p.Links = &problemLinks{link{shape.DocumentationURL, shape.DocumentationType}}
	}
	return p
}
