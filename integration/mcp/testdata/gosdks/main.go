// Command gosdks connects with an SDK for clients, and calls tools for alice:
//
//	gosdks <SDK> <server> [<client ID or URL of a document>]
//
// Without a client ID, it registers. It prints what the tools answered, the scopes with which they did, and the client ID.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Result is what this program prints.
type Result struct {
	Read, First   string
	Tools         int
	Refreshed     bool
	Deleted, Then string
	Client        string
}

const callback = "http://127.0.0.1:4711/callback"

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	run := map[string]func(ctx context.Context, server, id string) (*Result, error){"go-sdk": goSDK, "mcp-go": mcpGo}[os.Args[1]]
	id := ""
	if len(os.Args) > 3 {
		id = os.Args[3]
	}
	result, err := run(ctx, os.Args[2], id)
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		log.Fatal(err)
	}
}

var (
	action  = regexp.MustCompile(`action="([^"]+)"`)
	request = regexp.MustCompile(`name="request" value="([^"]+)"`)
)

// allow opens an authorization request as alice, presses Allow, and returns the parameters of the authorization response.
func allow(ctx context.Context, authorizeURL string) (url.Values, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	browser := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	open := func(method, target string, form url.Values) (page string, next *url.URL, err error) {
		req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(form.Encode()))
		if err != nil {
			return "", nil, err
		}
		req.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("alice:wonderland")))
		if form != nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		resp, err := browser.Do(req)
		if err != nil {
			return "", nil, err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode == http.StatusOK {
			return string(body), nil, err
		}
		next, err = resp.Location()
		return "", next, err
	}
	page, next, err := open(http.MethodGet, authorizeURL, nil)
	if err != nil {
		return nil, err
	}
	if next == nil {
		at, sealed := action.FindStringSubmatch(page), request.FindStringSubmatch(page)
		if at == nil || sealed == nil {
			return nil, errors.New("the page has no form")
		}
		base, err := url.Parse(authorizeURL)
		if err != nil {
			return nil, err
		}
		target, err := base.Parse(html.UnescapeString(at[1]))
		if err != nil {
			return nil, err
		}
		_, next, err = open(http.MethodPost, target.String(), url.Values{"request": {html.UnescapeString(sealed[1])}, "decision": {"allow"}})
		if err != nil {
			return nil, err
		}
		if next == nil {
			return nil, errors.New("no redirect after the decision")
		}
	}
	if !strings.HasPrefix(next.String(), callback+"?") {
		return nil, fmt.Errorf("a redirect to %s", next)
	}
	return next.Query(), nil
}

// sorted returns the scopes of a list in their order.
func sorted(scope string) string {
	return strings.Join(slices.Sorted(slices.Values(strings.Fields(scope))), " ")
}
