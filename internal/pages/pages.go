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

	languages *languages
	scopes    map[*locale]map[string]string // their descriptions
	site      string
}

// Config is what the pages of an issuer have of their own.
type Config struct {
	Host   string // of the issuer
	Scopes []ScopeWords

	// Languages are catalogs of words by the tag of their language, which add to the built-in ones. See languages/en.json.
	Languages map[string][]byte

	// Consent is the text of an owner's template for the consent page; if it is empty, the built-in one is used.
	Consent string
}

// New returns the pages. It checks the owner's catalogs and renders the owner's template with sample data, so that a mistake in
// them is found when the configuration is loaded.
func New(config Config) (*Pages, error) {
	p := &Pages{
		failure: builtin("error"), formPost: builtin("form_post"), code: builtin("code"), apps: builtin("apps"),
		site: clean(config.Host),
	}
	var err error
	if p.languages, err = newLanguages(config.Languages); err != nil {
		return nil, err
	}
	if p.scopes, err = p.languages.describe(config.Scopes); err != nil {
		return nil, err
	}
	if config.Consent == "" {
		p.consent = builtin("consent")
		return p, nil
	}
	if p.consent, err = p.parseConsent(config.Consent); err != nil {
		return nil, fmt.Errorf("consent page: %w", err)
	}
	p.ownConsent = true
	return p, nil
}

// Frame is what the templates of all pages can use. Pages sets it.
type Frame struct {
	Said

	Site  string // the site that the account is of
	Nonce string // for <style>
}

// frame returns the frame of a page in a language.
func (p *Pages) frame(l *locale) Frame {
	return Frame{Said: l.said(), Site: p.site, Nonce: rand.Text()}
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
	Name string // the scope, as in "orders"
	New  bool   // the person has approved other scopes for this application, but not this one

	Description string // the scope in words, or empty; set by Pages
}

// Failure is what went wrong, as far as it matters to a person. It is part of the names of the words for it.
type Failure string

// The failures.
const (
	BadRequest Failure = "request" // the application made a mistake
	Stale      Failure = "stale"   // the page was open too long, or is not of this site
	SignIn     Failure = "sign_in"
	Account    Failure = "account" // it cannot be used with applications
	Denied     Failure = "denied"  // by the person
	Busy       Failure = "busy"    // too many attempts
	Broken     Failure = "broken"
)

// ErrorPage says what went wrong.
type ErrorPage struct {
	Frame

	Failure Failure
	Detail  string // for the people who make the application, in English, or empty
	ID      string // the error ID in the log, or empty

	Title, Text string // the failure in words, set by Pages
}

// Error writes an error page with the HTTP status. If it returns an error, it has written nothing.
func (p *Pages) Error(w http.ResponseWriter, r *http.Request, status int, page ErrorPage) error {
	l := p.languages.of(r)
	page.Frame = p.frame(l)
	page.Title, page.Text = l.text("error_"+string(page.Failure)+"_title"), l.text("error_"+string(page.Failure)+"_text")
	page.Detail, page.ID = clean(page.Detail), clean(page.ID)
	return write(w, status, p.failure, page, page.Frame, "form-action 'none'")
}

// FormPostPage hands an authorization response to the application (OAuth 2.0 Form Post Response Mode).
type FormPostPage struct {
	Frame

	URL    string      // the redirect URI, see AcceptsFormPost
	Params [][2]string // names and values, posted in this order

	Destination string // set by Pages, see ConsentPage
}

// AcceptsFormPost reports whether a form can be posted to the redirect URI: browsers post to http and https only.
func AcceptsFormPost(redirectURI string) bool {
	to, err := parseDestination(redirectURI)
	return err == nil && to.web
}

// FormPost writes a page that posts the response to the application: at once where scripts run, otherwise when the
// person presses the button. If it returns an error, it has written nothing.
func (p *Pages) FormPost(w http.ResponseWriter, r *http.Request, page FormPostPage) error {
	to, err := parseDestination(page.URL)
	if err != nil {
		return err
	}
	if !to.web {
		return errors.New("form_post needs an http or https redirect URI")
	}
	l := p.languages.of(r)
	page.Frame, page.Destination = p.frame(l), to.words(l)
	return write(w, http.StatusOK, p.formPost, page, page.Frame, "script-src 'nonce-"+page.Nonce+"'") // for form-action, see Consent
}

// CodePage shows an authorization code, which the person copies into the application. The code is also in the title,
// where an application that opened the window can read it.
type CodePage struct {
	Frame

	Client      string // the name of the application
	Code, State string // the title has State form-encoded
}

// Code writes a page with an authorization code. If it returns an error, it has written nothing.
func (p *Pages) Code(w http.ResponseWriter, r *http.Request, page CodePage) error {
	page.Frame, page.Client = p.frame(p.languages.of(r)), clean(page.Client)
	return write(w, http.StatusOK, p.code, page, page.Frame, "form-action 'none'")
}

// write renders into memory first: a page is written whole, or not at all. policy holds the directives of the Content
// Security Policy that differ between pages.
func write(w http.ResponseWriter, status int, t *template.Template, data any, frame Frame, policy ...string) error {
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		return fmt.Errorf("page: %w", err)
	}
	// RFC 9700 §4.16: other sites must not frame these pages.
	policy = append([]string{
		"default-src 'none'", "style-src 'nonce-" + frame.Nonce + "'", "base-uri 'none'", "frame-ancestors 'none'",
	}, policy...)
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Language", frame.Language)
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	h.Set("Content-Security-Policy", strings.Join(policy, "; "))
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Referrer-Policy", "no-referrer")
	h.Add("Vary", "Accept-Language")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	w.WriteHeader(status)
	w.Write(b.Bytes()) // fails only if the client is gone
	return nil
}
