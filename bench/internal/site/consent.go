package site

import (
	"context"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Approve opens an authorization request as the person who is signed in, and presses Allow.
func (s *Server) Approve(ctx context.Context, path string, params url.Values) error {
	endpoint := "http://" + s.Address + path
	page, err := s.visit(ctx, http.MethodGet, endpoint+"?"+params.Encode(), nil, http.StatusOK)
	if err != nil {
		return err
	}
	_, rest, found := strings.Cut(page, `name="request" value="`)
	request, _, _ := strings.Cut(rest, `"`)
	if !found {
		return fmt.Errorf("no consent page: %.300s", page)
	}
	form := url.Values{"request": {html.UnescapeString(request)}, "decision": {"allow"}}
	_, err = s.visit(ctx, http.MethodPost, endpoint, form, http.StatusSeeOther)
	return err
}

// visit sends a request, and returns the body of the answer if it has the status.
func (*Server) visit(ctx context.Context, method, target string, form url.Values, status int) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Close = true
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	// A transport follows no redirects, as a client would.
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != status {
		err = fmt.Errorf("consent: %s, want %d: %.300s", resp.Status, status, body)
	}
	return string(body), err
}
