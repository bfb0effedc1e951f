package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Message is a form to post.
type Message struct {
	URL  string
	Form url.Values

	// Loopback is as in [Request].
	Loopback bool

	// Trusted says that the owner of the server wrote the URL into the configuration. It may have any address and http, and nothing limits
	// how many messages go there.
	Trusted bool
}

// Post posts a form. Any answer but one with a status of 2xx is an error. Nobody reads the body of the answer. Unlike a failed Get, a failed
// Post does not stop the next one: the caller decides when to try again. The error is an *Error, unless ctx has ended.
func (f *Fetcher) Post(ctx context.Context, m Message) error {
	parse := func() (*url.URL, error) { return parseURL(m.URL, m.Loopback) }
	if m.Trusted {
		parse = func() (*url.URL, error) { return parseTrusted(m.URL) }
	}
	u, err := parse()
	if err != nil {
		return &Error{URL: m.URL, Reason: InvalidURL, Err: err}
	}
	if !m.Trusted {
		leave, err := f.posts.enter(ctx, u, &Request{URL: m.URL, Purpose: "post", Known: true})
		if err != nil {
			return err
		}
		defer leave(nil)
	}
	within, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	if err := f.post(within, u, &m); err != nil {
		return cmp.Or(context.Cause(ctx), err)
	}
	return nil
}

// parseTrusted returns a URL of the configuration.
func parseTrusted(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return nil, errors.New("expected a URL with https or http")
	}
	return u, nil
}

func (f *Fetcher) post(ctx context.Context, u *url.URL, m *Message) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(m.Form.Encode()))
	if err != nil {
		return &Error{URL: m.URL, Reason: InvalidURL, Err: err}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept-Encoding", identity)
	req.Header.Set("User-Agent", userAgent)
	dial := func(_ context.Context, _, address string) (net.Conn, error) { return f.dial(ctx, address, m.Loopback) }
	if m.Trusted {
		dial = func(_ context.Context, network, address string) (net.Conn, error) {
			return dialTrusted(ctx, network, address)
		}
	}
	resp, err := f.roundTrip(req, dial)
	if err != nil {
		return failure(m.URL, err)
	}
	defer resp.Body.Close()
	switch status := resp.StatusCode; {
	case status >= 300 && status <= 399:
		return &Error{URL: m.URL, Reason: Redirect, Status: status, Err: fmt.Errorf("expected 2xx, not a redirect to %.200q", resp.Header.Get("Location"))}
	case status < 200 || status > 299:
		return &Error{URL: m.URL, Reason: Status, Status: status, Err: fmt.Errorf("expected 2xx, not %d", status)}
	}
	return nil
}

// dialTrusted connects to any address. The connection ends when the time of ctx is over.
func dialTrusted(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{KeepAlive: -1}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(timeout)
	}
	return conn, conn.SetDeadline(deadline)
}
