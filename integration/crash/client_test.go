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

// client asks until there is an answer: it comes again when a connection broke, and when it was told to.
type client struct {
	site    *integration.Server
	http    *http.Client
	person  string        // whose browser it is, "" for none
	bound   time.Duration // of an answer
	figures *figures

	refusals *atomic.Int64 // how often it was told to come again
}

// reply is a definite answer.
type reply struct {
	status   int
	location url.Values // where it leads, if it does
	body     []byte
	again    bool // it was asked for before, with an outcome that is not known
}

// tokens is what the token endpoint says.
func (r *reply) tokens() (a integration.Answer) {
	_ = json.Unmarshal(r.body, &a) // what it does not say is missing
	a.Status = r.status
	return a
}

// ask asks until there is an answer that is one. A failure must be told in the right way, and soon.
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
		case errors.Is(err, syscall.ECONNREFUSED): // nobody is there
		case err != nil: // a process that was killed breaks its connections
			c.figures.lost.Add(1)
		case took > c.bound:
			return nil, fmt.Errorf("%s: an answer took %v", target, took)
		case answer.unavailable():
			if err := answer.check(); err != nil {
				return nil, fmt.Errorf("%s: %w", target, err)
			}
			c.figures.refused(took)
			c.refusals.Add(1)
			pause = 100 * time.Millisecond // which is sooner than it was told
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

// unavailable reports whether the answer says to come again.
func (r *raw) unavailable() bool {
	return r.status == http.StatusServiceUnavailable || r.location.Get("error") == "temporarily_unavailable"
}

// check finds what is wrong with how a failure is told.
func (r *raw) check() error {
	var body struct{ Error string }
	media := r.header.Get("Content-Type")
	_ = json.Unmarshal(r.body, &body)
	switch {
	case r.status == http.StatusSeeOther:
		return nil // to the client, which has the error and all that goes with it
	case r.header.Get("Retry-After") == "":
		return errors.New("503 without Retry-After")
	case strings.HasPrefix(media, "application/json") && body.Error != "temporarily_unavailable":
		return fmt.Errorf("503 says %s", r.body)
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

// consent presses Allow and returns what the app is told.
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
