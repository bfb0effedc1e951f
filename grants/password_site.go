package grants

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
)

// SiteLogin lets the site check passwords: the server posts user name and password to it. A status of 2xx with a JSON object
// accepts the password, 4xx (except 429) rejects it. Anything else, such as a timeout, 429, 5xx or a body that is not a JSON
// object, is an outage: the client gets 503, and the log says why.
type SiteLogin struct {
	// The URL to post to, such as `http://app:8080/login`. **Danger:** anybody else who can reach it can guess passwords there
	// without limit.
	URL string `json:"url"`

	// The format of the body: `form` or `json`. Default: `form`.
	Body string `json:"body,omitempty"`

	// The names of the fields with the user name and the password. Default: `username` and `password`.
	UsernameField string `json:"username_field,omitempty"`
	PasswordField string `json:"password_field,omitempty"`

	// The member of the response that is the person's ID. Default: the user name, as the client sent it.
	Subject string `json:"subject,omitempty"`

	// The members of the response that become claims of the person's tokens. Default: none.
	Claims []string `json:"claims,omitempty"`

	// How long to wait for the response. Default: 5 seconds.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	transport http.RoundTripper
}

const (
	defaultSiteTimeout = 5 * time.Second
	maxSiteAnswer      = 64 << 10
)

func (s *SiteLogin) provision() error {
	if err := s.Check(); err != nil {
		return err
	}
	if s.Timeout == 0 {
		s.Timeout = caddy.Duration(defaultSiteTimeout)
	}
	// A transport follows no redirects, so the credentials go to this URL only.
	s.transport = &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute}
	return nil
}

// Check finds impossible settings.
func (s *SiteLogin) Check() error {
	u, err := url.Parse(s.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Fragment != "" || u.User != nil:
		return directive.At("verify", errors.New("expected an http or https URL"))
	case s.Body != "" && s.Body != "form" && s.Body != "json":
		return directive.At("verify", directive.At("body", errors.New("expected form or json")))
	case cmp.Or(s.UsernameField, "username") == cmp.Or(s.PasswordField, "password"):
		return directive.At("verify", directive.At("fields", errors.New("expected two names")))
	case s.Timeout < 0:
		return directive.At("verify", directive.At("timeout", errors.New("expected a duration")))
	}
	return nil
}

// Verify implements Verifier.
func (s *SiteLogin) Verify(ctx context.Context, username, password string) (*Person, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(s.Timeout))
	defer cancel()
	req, err := s.request(ctx, username, password)
	if err != nil {
		return nil, err
	}
	res, err := s.transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("asking the site about a password: %w", err)
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode >= 400 && res.StatusCode < 500 && res.StatusCode != http.StatusTooManyRequests:
		return nil, ErrBadUser
	case res.StatusCode < 200 || res.StatusCode > 299:
		return nil, fmt.Errorf("asking the site about a password: it responded with status %d", res.StatusCode)
	}
	return s.person(res.Body, username)
}

func (s *SiteLogin) request(ctx context.Context, username, password string) (*http.Request, error) {
	usernameField, passwordField := cmp.Or(s.UsernameField, "username"), cmp.Or(s.PasswordField, "password")
	body := []byte(url.Values{usernameField: {username}, passwordField: {password}}.Encode())
	contentType := "application/x-www-form-urlencoded"
	if s.Body == "json" {
		var err error
		if body, err = json.Marshal(map[string]string{usernameField: username, passwordField: password}); err != nil {
			return nil, err
		}
		contentType = "application/json"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Accept", "application/json")
	return req, nil
}

// person reads the site's response to a correct password.
func (s *SiteLogin) person(body io.Reader, username string) (*Person, error) {
	answer, err := io.ReadAll(io.LimitReader(body, maxSiteAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("asking the site about a password: reading the response: %w", err)
	case len(answer) > maxSiteAnswer:
		return nil, fmt.Errorf("asking the site about a password: the response is over %d bytes", maxSiteAnswer)
	}
	var members map[string]any
	decoder := json.NewDecoder(bytes.NewReader(answer))
	decoder.UseNumber() // keep a number that is an ID as it is written
	if !json.Valid(answer) || decoder.Decode(&members) != nil || members == nil {
		return nil, errors.New("asking the site about a password: the response is not a JSON object")
	}
	person := &Person{Subject: username}
	if s.Subject != "" {
		switch id := members[s.Subject].(type) {
		case string:
			person.Subject = id
		case json.Number:
			person.Subject = id.String()
		default:
			person.Subject = ""
		}
	}
	if person.Subject == "" {
		return nil, fmt.Errorf("asking the site about a password: the response has no %q", s.Subject)
	}
	for _, name := range s.Claims {
		if value, ok := members[name]; ok && value != nil {
			if person.Claims == nil {
				person.Claims = make(map[string]any, len(s.Claims))
			}
			person.Claims[name] = value
		}
	}
	return person, nil
}
