package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/html"
	"golang.org/x/oauth2"
)

// Person is somebody with an account on a site, and a browser that runs no scripts.
type Person struct {
	Name, Password string
	Browser        *http.Client // follows no redirects
}

// Page is what a browser gets.
type Page struct {
	URL      *url.URL
	Status   int
	Location string // where it leads on to, if it does
	Text     string
}

// Open asks for a page as the person who is signed in.
func (p *Person) Open(t *testing.T, pageURL string) *Page {
	t.Helper()
	return p.send(t, http.MethodGet, pageURL, nil)
}

// Allow opens an authorization request, presses Allow and returns what the client is told.
func (p *Person) Allow(t *testing.T, authorizeURL string) url.Values {
	t.Helper()
	return p.decide(t, authorizeURL, "allow")
}

// Deny is Allow with the other button.
func (p *Person) Deny(t *testing.T, authorizeURL string) url.Values {
	t.Helper()
	return p.decide(t, authorizeURL, "deny")
}

func (p *Person) decide(t *testing.T, authorizeURL, decision string) url.Values {
	t.Helper()
	page := p.Open(t, authorizeURL)
	if page.Status != http.StatusOK {
		t.Fatalf("GET %s: %d, want the consent page", authorizeURL, page.Status)
	}
	action, form := readForm(t, page)
	form.Set("decision", decision)
	answer := p.send(t, http.MethodPost, action, form)
	location, err := url.Parse(answer.Location)
	if err != nil || answer.Status != http.StatusSeeOther {
		t.Fatalf("the answer to %s is %d %v, want a redirect by 303", decision, answer.Status, err)
	}
	return location.Query()
}

func (p *Person) send(t *testing.T, method, target string, form url.Values) *Page {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(form.Encode()))
	must(t, err)
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.SetBasicAuth(p.Name, p.Password)
	resp, err := p.Browser.Do(req)
	must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	return &Page{URL: req.URL, Status: resp.StatusCode, Location: resp.Header.Get("Location"), Text: string(text)}
}

// readForm returns where the form of a page goes to, and what stands in its hidden fields.
func readForm(t *testing.T, page *Page) (action string, fields url.Values) {
	t.Helper()
	document, err := html.Parse(strings.NewReader(page.Text))
	must(t, err)
	fields = make(url.Values)
	for node := range document.Descendants() {
		attr := make(map[string]string)
		for _, a := range node.Attr {
			attr[a.Key] = a.Val
		}
		switch {
		case node.Data == "form":
			u, err := page.URL.Parse(attr["action"])
			must(t, err)
			action = u.String()
		case node.Data == "input" && attr["type"] == "hidden":
			fields.Set(attr["name"], attr["value"])
		}
	}
	if action == "" {
		t.Fatal("the page has no form")
	}
	return action, fields
}

// Answer is what the token endpoint says.
type Answer struct {
	Status       int    `json:"-"`
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int    `json:"expires_in"`
	Scope        string `json:"scope"`
	Error        string `json:"error"`
	Description  string `json:"error_description"`
}

// Refused reports whether the answer is that refusal (RFC 6749 §5.2).
func (a *Answer) Refused(code string) bool {
	return a.Status == http.StatusBadRequest && a.Error == code && a.AccessToken == "" && a.RefreshToken == ""
}

// Post sends a request to a token endpoint. An error is one of the connection.
func Post(ctx context.Context, client *http.Client, tokenURL string, form url.Values) (*Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, tokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer := &Answer{Status: resp.StatusCode}
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return nil, fmt.Errorf("%s: %w", resp.Status, err)
	}
	return answer, nil
}

// CodeRequest is the token request of a public client for a code.
func CodeRequest(config *oauth2.Config, code, verifier string) url.Values {
	return url.Values{
		"grant_type": {"authorization_code"}, "client_id": {config.ClientID},
		"code": {code}, "redirect_uri": {config.RedirectURL}, "code_verifier": {verifier},
	}
}

// RefreshRequest is the token request of a public client for a refresh token.
func RefreshRequest(clientID, refreshToken string) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "client_id": {clientID}, "refresh_token": {refreshToken}}
}
