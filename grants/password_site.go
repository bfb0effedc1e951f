package grants

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

	endpoint *siteEndpoint
}

func (s *SiteLogin) provision() error {
	if err := s.Check(); err != nil {
		return err
	}
	s.endpoint = newSiteEndpoint(s.URL, time.Duration(s.Timeout))
	return nil
}

// Check finds impossible settings.
func (s *SiteLogin) Check() error {
	if err := checkSiteURL(s.URL); err != nil {
		return directive.At("verify", err)
	}
	switch {
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
	person, err := s.ask(ctx, username, password)
	if err != nil && !errors.Is(err, ErrBadUser) {
		return nil, fmt.Errorf("asking the site about a password: %w", err)
	}
	return person, err
}

func (s *SiteLogin) ask(ctx context.Context, username, password string) (*Person, error) {
	contentType, body, err := s.encode(username, password)
	if err != nil {
		return nil, err
	}
	answer, err := s.endpoint.post(ctx, contentType, body)
	switch {
	case err != nil:
		return nil, err
	case answer.status >= 400 && answer.status < 500 && answer.status != http.StatusTooManyRequests:
		return nil, ErrBadUser
	case !answer.accepts():
		return nil, answer.unexpected()
	}
	return s.person(answer, username)
}

// encode returns the credentials as the site wants them.
func (s *SiteLogin) encode(username, password string) (contentType string, body []byte, err error) {
	usernameField, passwordField := cmp.Or(s.UsernameField, "username"), cmp.Or(s.PasswordField, "password")
	if s.Body == "json" {
		body, err = json.Marshal(map[string]string{usernameField: username, passwordField: password})
		return "application/json", body, err
	}
	return formType, []byte(url.Values{usernameField: {username}, passwordField: {password}}.Encode()), nil
}

// person reads the site's response to a correct password.
func (s *SiteLogin) person(answer *siteAnswer, username string) (*Person, error) {
	members, err := answer.members()
	if err != nil {
		return nil, err
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
		return nil, fmt.Errorf("the response has no %q", s.Subject)
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
