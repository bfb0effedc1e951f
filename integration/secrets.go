package integration

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Secrets has all secrets that a test has sent or received. Safe for concurrent use.
type Secrets struct {
	mu     sync.Mutex
	values map[string]bool
}

// secretNames are the parameters, members and cookies that are secrets. "request" is the sealed request in a consent page.
var secretNames = []string{
	"access_token", "refresh_token", "code", "code_verifier", "client_secret", "password", "request", "session",
}

// Add adds secrets.
func (s *Secrets) Add(values ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.values == nil {
		s.values = make(map[string]bool)
	}
	for _, value := range values {
		if value != "" {
			s.values[value] = true
		}
	}
}

// AddFrom adds the secrets among parameters.
func (s *Secrets) AddFrom(params url.Values) {
	for _, name := range secretNames {
		s.Add(params[name]...)
	}
}

// pieceLength is the length of the pieces of secrets that must not be in a log. Any 31 consecutive characters of a long secret
// contain a whole piece. A shorter secret is one piece.
const pieceLength = 16

// pieces returns the texts that must not be in a log. The header and the payload of a JWT are not secret.
func (s *Secrets) pieces() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]bool)
	for value := range s.values {
		if strings.HasPrefix(value, "eyJ") && strings.Count(value, ".") == 2 {
			value = value[strings.LastIndexByte(value, '.')+1:]
		}
		quoted, _ := json.Marshal(value) // encoding a string never fails
		for _, form := range []string{value, url.QueryEscape(value), url.PathEscape(value), string(quoted[1 : len(quoted)-1])} {
			if len(form) < pieceLength {
				all[form] = true
			}
			for ; len(form) >= pieceLength; form = form[pieceLength:] {
				all[form[:pieceLength]] = true
			}
		}
	}
	return all
}

// In returns the lines of a log that contain a secret or a piece of one.
func (s *Secrets) In(log []byte) (lines []string) {
	pieces := s.pieces()
	var short []string
	for piece := range pieces {
		if len(piece) < pieceLength {
			short = append(short, piece)
		}
	}
	for line := range strings.Lines(string(log)) {
		leaks := slices.ContainsFunc(short, func(piece string) bool { return strings.Contains(line, piece) })
		for i := 0; i+pieceLength <= len(line) && !leaks; i++ {
			leaks = pieces[line[i:i+pieceLength]]
		}
		if leaks {
			lines = append(lines, line)
		}
	}
	return lines
}

// Record returns a transport that adds the secrets in requests and answers.
func (s *Secrets) Record(next http.RoundTripper) http.RoundTripper { return &recorder{s, next} }

type recorder struct {
	secrets *Secrets
	next    http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := r.request(req); err != nil {
		return nil, err
	}
	resp, err := r.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	r.response(resp, body)
	return resp, nil
}

func (r *recorder) request(req *http.Request) error {
	if _, password, ok := req.BasicAuth(); ok {
		decoded, err := url.QueryUnescape(password) // RFC 6749 §2.3.1
		if err == nil {
			r.secrets.Add(decoded)
		}
		r.secrets.Add(password)
	}
	if scheme, credentials, ok := strings.Cut(req.Header.Get("Authorization"), " "); ok && scheme != "" {
		r.secrets.Add(credentials)
	}
	if req.GetBody == nil {
		return nil
	}
	copied, err := req.GetBody()
	if err != nil {
		return err
	}
	body, err := io.ReadAll(copied)
	if err != nil {
		return err
	}
	r.parameters(string(body))
	return nil
}

func (r *recorder) parameters(encoded string) {
	params, err := url.ParseQuery(encoded)
	if err == nil {
		r.secrets.AddFrom(params)
	}
}

var hiddenField = regexp.MustCompile(`<input type="hidden" name="(code|request)" value="([^"]+)">`)

func (r *recorder) response(resp *http.Response, body []byte) {
	if location, err := resp.Location(); err == nil {
		r.secrets.Add(location.Query()["code"]...)
	}
	for _, cookie := range resp.Cookies() {
		r.secrets.Add(cookie.Value)
	}
	switch mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); mediaType {
	case "application/json":
		var members map[string]any
		if json.Unmarshal(body, &members) == nil {
			for _, name := range secretNames {
				if value, ok := members[name].(string); ok {
					r.secrets.Add(value)
				}
			}
		}
	case "text/html":
		for _, field := range hiddenField.FindAllSubmatch(body, -1) {
			r.secrets.Add(string(field[2]))
		}
	}
}
