package authserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/trail"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
)

// answerWatched answers a request at an endpoint, and shows it to the owner who watches (caddy oauth watch).
func (s *Server) answerWatched(c *call, e *Endpoint) error {
	seen, body := &seenWriter{ResponseWriter: c.w}, new(bytes.Buffer)
	c.w = seen
	if c.r.Body != nil {
		read := c.r.Body
		c.r.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(read, body), read}
	}
	err := s.answerAt(c, e)
	step := &trail.Step{
		Time: time.Now(), Issuer: s.config.Name, Endpoint: e.name, Method: c.r.Method, Client: wire.Loggable(c.named.ID),
		Subject: c.subject, GrantType: c.grant, Address: c.peer.Address, Sent: sentParams(c.r, body.Bytes()),
		Status: seen.status, Result: c.result, Location: wire.Loggable(seen.Header().Get("Location")), ErrorID: c.errorID,
	}
	if c.client != nil {
		step.Client = c.client.ID
	}
	if page, ok := errors.AsType[*PageError](err); ok {
		step.Status = page.Status
	}
	s.config.Trail.Step(step)
	return err
}

// seenWriter remembers the status of a response.
type seenWriter struct {
	http.ResponseWriter

	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *seenWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *seenWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (w *seenWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// harmless are the parameters whose values are never a secret. Of all others only the length is shown.
var harmless = []string{
	"response_type", "response_mode", "redirect_uri", "scope", "resource", "prompt", "code_challenge_method", "grant_type",
	"token_type_hint", "decision", "subject_token_type", "actor_token_type", "requested_token_type", "audience",
}

// maxParams is how many parameters of a request are shown.
const maxParams = 30

// sentParams returns the parameters of a request that somebody may see who watches.
func sentParams(r *http.Request, body []byte) map[string]string {
	params := r.URL.Query()
	if form, err := url.ParseQuery(string(body)); err == nil && len(body) > 0 && body[0] != '{' {
		maps.Copy(params, form)
	}
	var object map[string]any
	if json.Unmarshal(body, &object) == nil {
		for name, value := range object {
			params.Set(name, fmt.Sprint(value))
		}
	}
	delete(params, "client_id") // the step has it, unless it may be a secret
	sent := make(map[string]string, len(params))
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if len(sent) == maxParams {
			break
		}
		value := strings.Join(params[name], " ")
		if !slices.Contains(harmless, name) {
			value = fmt.Sprintf("(%d characters)", len(value))
		}
		sent[wire.Loggable(name)] = wire.Loggable(value)
	}
	return sent
}
