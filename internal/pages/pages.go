// Package pages renders the HTML that people see: the consent page, the list of connected apps, authorization codes to
// copy, form posts and errors. Start reading at [Pages]. The templates are in the directory templates; layout.html is
// the frame of all pages.
package pages

import (
	"bytes"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
)

//go:embed templates/*.html
var templates embed.FS

// Pages writes the pages. They set no cookie, load nothing, and work without JavaScript. Safe for concurrent use.
type Pages struct {
	consent, failure, formPost, code, apps *template.Template

	// ownConsent means that consent is a template of the site's owner, which may show the site's images and fonts.
	ownConsent bool
}

// New returns the pages. consentTemplate is the text of an owner's template for the consent page; if it is empty, the
// built-in one is used. New renders an owner's template with sample data, so that a mistake in it is found when the
// configuration is loaded.
func New(consentTemplate string) (*Pages, error) {
	p := &Pages{
		failure: builtin("error"), formPost: builtin("form_post"), code: builtin("code"), apps: builtin("apps"),
	}
	if consentTemplate == "" {
		p.consent = builtin("consent")
		return p, nil
	}
	var err error
	if p.consent, err = parseConsent(consentTemplate); err != nil {
		return nil, fmt.Errorf("consent page: %w", err)
	}
	p.ownConsent = true
	return p, nil
}

func builtin(name string) *template.Template {
	return template.Must(template.ParseFS(templates, "templates/layout.html", "templates/"+name+".html"))
}

// App is an application as a person sees it.
type App struct {
	Name string // the client's name; if it is empty, the ID is shown
	ID   string // the client ID
	URI  string // the website that the client states, or empty
}

// Scope is one permission of an application.
type Scope struct {
	Name        string // the scope, as in "orders"
	Description string // the scope in words, or empty
	New         bool   // the person has approved other scopes for this application, but not this one
}

// ErrorPage says what went wrong.
type ErrorPage struct {
	Title       string // a few words
	Description string // one sentence, or empty
	ID          string // the error ID in the log, or empty

	Nonce string // set by Pages
}

// Error writes an error page with the HTTP status. If it returns an error, it has written nothing.
func (p *Pages) Error(w http.ResponseWriter, status int, page ErrorPage) error {
	page.Title, page.Description, page.ID = clean(page.Title), clean(page.Description), clean(page.ID)
	page.Nonce = rand.Text()
	return write(w, status, p.failure, page, page.Nonce, "form-action 'none'")
}

// FormPostPage hands an authorization response to the application (OAuth 2.0 Form Post Response Mode).
type FormPostPage struct {
	URL    string      // the redirect URI, see AcceptsFormPost
	Params [][2]string // names and values, posted in this order

	Destination, Nonce string // set by Pages
}

// AcceptsFormPost reports whether a form can be posted to the redirect URI: browsers post to http and https only.
func AcceptsFormPost(redirectURI string) bool {
	to, err := parseDestination(redirectURI)
	return err == nil && to.web
}

// FormPost writes a page that posts the response to the application: at once where scripts run, otherwise when the
// person presses the button. If it returns an error, it has written nothing.
func (p *Pages) FormPost(w http.ResponseWriter, page FormPostPage) error {
	to, err := parseDestination(page.URL)
	if err != nil {
		return err
	}
	if !to.web {
		return errors.New("form_post needs an http or https redirect URI")
	}
	page.Destination, page.Nonce = to.words, rand.Text()
	return write(w, http.StatusOK, p.formPost, page, page.Nonce, "script-src 'nonce-"+page.Nonce+"'") // for form-action, see Consent
}

// CodePage shows an authorization code, which the person copies into the application. The code is also in the title,
// where an application that opened the window can read it.
type CodePage struct {
	Client      string // the name of the application
	Code, State string // the title has State form-encoded

	Nonce string // set by Pages
}

// Code writes a page with an authorization code. If it returns an error, it has written nothing.
func (p *Pages) Code(w http.ResponseWriter, page CodePage) error {
	page.Client, page.Nonce = clean(page.Client), rand.Text()
	return write(w, http.StatusOK, p.code, page, page.Nonce, "form-action 'none'")
}

// write renders into memory first: a page is written whole, or not at all. policy holds the directives of the Content
// Security Policy that differ between pages.
func write(w http.ResponseWriter, status int, t *template.Template, data any, nonce string, policy ...string) error {
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		return fmt.Errorf("page: %w", err)
	}
	// RFC 9700 §4.16: other sites must not frame these pages.
	policy = append([]string{
		"default-src 'none'", "style-src 'nonce-" + nonce + "'", "base-uri 'none'", "frame-ancestors 'none'",
	}, policy...)
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	h.Set("Content-Security-Policy", strings.Join(policy, "; "))
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	w.WriteHeader(status)
	w.Write(b.Bytes()) // fails only if the client is gone
	return nil
}
