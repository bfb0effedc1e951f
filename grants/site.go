package grants

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

const (
	defaultSiteTimeout = 5 * time.Second
	maxSiteAnswer      = 64 << 10
)

const formType = "application/x-www-form-urlencoded"

// siteEndpoint is a URL of the site that the server posts to.
type siteEndpoint struct {
	url       string
	timeout   time.Duration
	transport http.RoundTripper
}

func newSiteEndpoint(address string, timeout time.Duration) *siteEndpoint {
	if timeout == 0 {
		timeout = defaultSiteTimeout
	}
	// A transport follows no redirects, so the request goes to this URL only.
	return &siteEndpoint{address, timeout, &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute}}
}

func checkSiteURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Fragment != "" || u.User != nil {
		return errors.New("expected an http or https URL")
	}
	return nil
}

// siteAnswer is a response of the site. Its body was read only if the status is 2xx.
type siteAnswer struct {
	status int
	body   []byte
}

func (a *siteAnswer) accepts() bool { return a.status >= 200 && a.status <= 299 }

// unexpected returns the error about a status that says neither yes nor no.
func (a *siteAnswer) unexpected() error { return fmt.Errorf("it responded with status %d", a.status) }

// post posts a body to the endpoint. The time and the size of the response are limited.
func (e *siteEndpoint) post(ctx context.Context, contentType string, body []byte) (*siteAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("Accept", "application/json")
	res, err := e.transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	answer := &siteAnswer{status: res.StatusCode}
	if !answer.accepts() {
		return answer, nil
	}
	answer.body, err = io.ReadAll(io.LimitReader(res.Body, maxSiteAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the response: %w", err)
	case len(answer.body) > maxSiteAnswer:
		return nil, fmt.Errorf("the response is over %d bytes", maxSiteAnswer)
	}
	return answer, nil
}

// members returns the members of the JSON object in the body.
func (a *siteAnswer) members() (map[string]any, error) {
	var members map[string]any
	decoder := json.NewDecoder(bytes.NewReader(a.body))
	decoder.UseNumber() // keep a number that is an ID as it is written
	if !json.Valid(a.body) || decoder.Decode(&members) != nil || members == nil {
		return nil, errors.New("the response is not a JSON object")
	}
	return members, nil
}
