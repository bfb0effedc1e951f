package integration

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/html"
	"golang.org/x/oauth2"
)

// Person is a person with an account on a site and a browser that runs no scripts.
type Person struct {
	Name, Password string
	Browser        *http.Client // follows no redirects
}

// Page is an answer to a browser.
type Page struct {
	URL      *url.URL
	Status   int
	Location string // of a redirect, or ""
	Text     string
}

// Open requests a page as the person who is signed in.
func (p *Person) Open(t *testing.T, pageURL string) *Page {
	t.Helper()
	page, err := p.send(t.Context(), http.MethodGet, pageURL, nil)
	Must(t, err)
	return page
}

// Allow opens an authorization request, presses Allow and returns the parameters of the authorization response.
func (p *Person) Allow(t *testing.T, authorizeURL string) url.Values {
	t.Helper()
	answer, err := p.Decide(t.Context(), authorizeURL, "allow")
	Must(t, err)
	return answer
}

// Deny is Allow with the other button.
func (p *Person) Deny(t *testing.T, authorizeURL string) url.Values {
	t.Helper()
	answer, err := p.Decide(t.Context(), authorizeURL, "deny")
	Must(t, err)
	return answer
}

// Decide opens an authorization request, presses a button, allow or deny, and returns the parameters of the authorization
// response.
func (p *Person) Decide(ctx context.Context, authorizeURL, decision string) (url.Values, error) {
	page, err := p.send(ctx, http.MethodGet, authorizeURL, nil)
	if err != nil {
		return nil, err
	}
	if page.Status != http.StatusOK {
		return nil, fmt.Errorf("GET %s: %d, want the consent page", authorizeURL, page.Status)
	}
	answer, err := p.Press(ctx, page, decision)
	if err != nil {
		return nil, err
	}
	if answer.Status != http.StatusSeeOther {
		return nil, fmt.Errorf("the answer to %s is %d, want a redirect by 303", decision, answer.Status)
	}
	location, err := url.Parse(answer.Location)
	if err != nil {
		return nil, err
	}
	return location.Query(), nil
}

// Press presses a button of the consent page, allow or deny, and returns the answer.
func (p *Person) Press(ctx context.Context, page *Page, decision string) (*Page, error) {
	_, action, form, err := page.form()
	if err != nil {
		return nil, err
	}
	form.Set("decision", decision)
	return p.send(ctx, http.MethodPost, action, form)
}

// SignIn opens a page of an application, signs in at the site with this URL, and returns the last page. It follows redirects and
// presses the button of each page that has one: that of the application, and Allow. The browser needs a jar for cookies.
func (p *Person) SignIn(ctx context.Context, pageURL, siteURL string) (*Page, error) {
	method, target, form := http.MethodGet, pageURL, url.Values(nil)
	for range 20 {
		visitor := *p
		if !strings.HasPrefix(target, siteURL+"/") {
			visitor.Name = "" // the password is the site's
		}
		if method == http.MethodGet && form != nil {
			target, form = target+"?"+form.Encode(), nil
		}
		page, err := visitor.send(ctx, method, target, form)
		if err != nil {
			return nil, err
		}
		if page.Location != "" {
			next, err := page.URL.Parse(page.Location)
			if err != nil {
				return nil, err
			}
			method, target, form = http.MethodGet, next.String(), nil
			continue
		}
		if page.Status >= http.StatusBadRequest {
			return page, nil
		}
		if method, target, form, err = page.form(); err != nil {
			if errors.Is(err, errNoForm) {
				err = nil
			}
			return page, err
		}
		if visitor.Name != "" {
			form.Set("decision", "allow")
		}
	}
	return nil, fmt.Errorf("%s: still no end at %s", pageURL, target)
}

// Connect types the code that a device shows, on the page with the code filled in if there is one, and presses Allow.
func (p *Person) Connect(t *testing.T, pageURL, userCode string) {
	t.Helper()
	page := p.Open(t, pageURL)
	for _, answer := range [][2]string{{"user_code", userCode}, {"decision", "allow"}} {
		_, action, form, err := page.form()
		if err != nil {
			t.Fatalf("%v: %d %s", err, page.Status, page.Text)
		}
		form.Set(answer[0], answer[1])
		page, err = p.send(t.Context(), http.MethodPost, action, form)
		Must(t, err)
	}
	if page.Status != http.StatusSeeOther {
		t.Fatalf("the answer to the approval is %d, want a redirect by 303: %s", page.Status, page.Text)
	}
}

func (p *Person) send(ctx context.Context, method, target string, form url.Values) (*Page, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if p.Name != "" {
		req.SetBasicAuth(p.Name, p.Password)
	}
	resp, err := p.Browser.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return &Page{URL: req.URL, Status: resp.StatusCode, Location: resp.Header.Get("Location"), Text: string(text)}, err
}

var errNoForm = errors.New("the page has no form")

// form returns the method, the target and the hidden fields of the form on the page.
func (page *Page) form() (method, action string, fields url.Values, err error) {
	document, err := html.Parse(strings.NewReader(page.Text))
	if err != nil {
		return "", "", nil, err
	}
	fields = make(url.Values)
	for node := range document.Descendants() {
		attr := make(map[string]string)
		for _, a := range node.Attr {
			attr[a.Key] = a.Val
		}
		switch {
		case node.Data == "form":
			u, err := page.URL.Parse(attr["action"])
			if err != nil {
				return "", "", nil, err
			}
			method, action = strings.ToUpper(cmp.Or(attr["method"], http.MethodGet)), u.String()
		case node.Data == "input" && attr["type"] == "hidden":
			fields.Set(attr["name"], attr["value"])
		}
	}
	if action == "" {
		return "", "", nil, errNoForm
	}
	return method, action, fields, nil
}

// Answer is an answer of the token endpoint.
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

// Refused reports whether the answer is an error with that code (RFC 6749 §5.2).
func (a *Answer) Refused(code string) bool {
	return a.Status == http.StatusBadRequest && a.Error == code && a.AccessToken == "" && a.RefreshToken == ""
}

// Post sends a request to a token endpoint. It returns an error if the connection fails.
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

// CodeRequest returns the token request of a public client with a code.
func CodeRequest(config *oauth2.Config, code, verifier string) url.Values {
	return url.Values{
		"grant_type": {"authorization_code"}, "client_id": {config.ClientID},
		"code": {code}, "redirect_uri": {config.RedirectURL}, "code_verifier": {verifier},
	}
}

// RefreshRequest returns the token request of a public client with a refresh token.
func RefreshRequest(clientID, refreshToken string) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "client_id": {clientID}, "refresh_token": {refreshToken}}
}
