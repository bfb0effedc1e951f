package crash_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// client repeats its requests until it gets a definite answer: after a broken connection, and after a 503.
type client struct {
	site    *integration.Server
	http    *http.Client
	person  string // the person at the browser, "" for none
	figures *figures

	refusals *atomic.Int64 // how many answers were 503
}

// bound is how long an answer may take. The server waits for its store for 15 seconds at most, and no test stops it for longer: the
// rest is for a busy machine.
const bound = time.Minute

// reply is a definite answer.
type reply struct {
	status   int
	location url.Values // the query of a redirect
	body     []byte
	again    bool // the request was sent before, and the server may have handled it
}

// tokens returns the answer of the token endpoint.
func (r *reply) tokens() (a integration.Answer) {
	_ = json.Unmarshal(r.body, &a) // of another answer, the members are empty
	a.Status = r.status
	return a
}

// ask sends a request until there is a definite answer. A 503 must have the right form, and no answer may take too long.
func (c *client) ask(ctx context.Context, method, target string, form url.Values, edits ...func(*http.Request)) (*reply, error) {
	again := false
	for {
		began := time.Now()
		answer, err := c.once(ctx, method, target, form, edits)
		took := time.Since(began)
		pause := time.Millisecond
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, syscall.ECONNREFUSED): // the server is not running
		case err != nil: // killing a process breaks its connections
			c.figures.lost.Add(1)
		case took > bound:
			return nil, fmt.Errorf("%s: an answer took %v", target, took)
		case answer.unavailable():
			if err := answer.check(); err != nil {
				return nil, fmt.Errorf("%s: %w", target, err)
			}
			c.figures.refused(took)
			c.refusals.Add(1)
			pause = 100 * time.Millisecond // less than Retry-After
		case answer.status >= 500:
			return nil, fmt.Errorf("%s: %d %s", target, answer.status, answer.body)
		default:
			c.figures.answered(took)
			answer.again = again
			return &answer.reply, nil
		}
		again = again || !errors.Is(err, syscall.ECONNREFUSED)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// raw is an answer with its headers.
type raw struct {
	reply

	header http.Header
}

// unavailable reports whether the answer is temporarily_unavailable.
func (r *raw) unavailable() bool {
	return r.status == http.StatusServiceUnavailable || r.location.Get("error") == "temporarily_unavailable"
}

// check returns an error if an unavailable answer has the wrong form.
func (r *raw) check() error {
	var body struct{ Error string }
	media := r.header.Get("Content-Type")
	_ = json.Unmarshal(r.body, &body)
	switch {
	case r.status == http.StatusSeeOther:
		return nil // a redirect to the client, with the error
	case r.header.Get("Retry-After") == "":
		return errors.New("503 without Retry-After")
	case strings.HasPrefix(media, "application/json") && body.Error != "temporarily_unavailable":
		return fmt.Errorf("503 with the body %s", r.body)
	case media != "" && r.header.Get("Cache-Control") != "no-store":
		return errors.New("503 can be cached")
	}
	return nil
}

func (c *client) once(ctx context.Context, method, target string, form url.Values, edits []func(*http.Request)) (*raw, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if c.person != "" {
		req.SetBasicAuth(c.person, integration.Password)
	}
	for _, edit := range edits {
		edit(req)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	a := &raw{reply{status: resp.StatusCode}, resp.Header}
	if to, err := resp.Location(); err == nil {
		a.location = to.Query()
	}
	a.body, err = io.ReadAll(resp.Body)
	return a, err
}

var sealed = regexp.MustCompile(`name="request" value="([^"]+)"`)

// consent presses Allow and returns the authorization response.
func (c *client) consent(ctx context.Context, authorizeURL string) (url.Values, error) {
	page, err := c.ask(ctx, http.MethodGet, authorizeURL, nil)
	if err != nil {
		return nil, err
	}
	found := sealed.FindSubmatch(page.body)
	if page.status != http.StatusOK || found == nil {
		return nil, fmt.Errorf("authorize: %d %v, want the consent page", page.status, page.location)
	}
	action, _, _ := strings.Cut(authorizeURL, "?")
	answer, err := c.ask(ctx, http.MethodPost, action, url.Values{"request": {string(found[1])}, "decision": {"allow"}})
	if err != nil {
		return nil, err
	}
	if answer.location.Get("code") == "" {
		return nil, fmt.Errorf("consent: %d %v, want a code", answer.status, answer.location)
	}
	return answer.location, nil
}
