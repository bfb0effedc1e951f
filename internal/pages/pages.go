// Package pages renders the HTML that people see: the consent pages, the pages for devices, the list of connected apps,
// authorization codes to copy, form posts, the logout page and errors. Start reading at [Pages]. The templates are in the directory
// templates; layout.html is the frame of all pages.
package pages

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
)

//go:embed templates/*.html
var templates embed.FS

// Pages writes the pages. They set no cookie, load nothing, and work without JavaScript. Safe for concurrent use.
type Pages struct {
	templates map[string]*template.Template // by the names in Names
	own       map[string]bool               // which of them are the owner's; they may show the site's images and fonts

	languages *languages
	scopes    map[*locale]map[string]string // their descriptions
	logos     map[string]template.URL       // of applications, by client ID
	frames    Frame                         // what the frames of all pages have in common

	withoutLifetimes []string // see WithoutLifetimes
}

// Config is what the pages of an issuer have of their own.
type Config struct {
	Host   string // of the issuer
	Scopes []ScopeWords

	Name             string // of the site; if it is empty, people see Host
	Logo             []byte // an image of the site, or nil
	Color            string // of buttons and links, or empty
	Support, Privacy string // links to pages of the site, or empty

	AppLogos map[string][]byte // by client ID

	// Languages are catalogs of words by the tag of their language, which add to the built-in ones. See languages/en.json.
	Languages map[string][]byte

	// Templates are the owner's templates, by the name of the page that each replaces.
	Templates map[string][]byte
}

// Names are the names of the pages that an owner's template can replace.
var Names = []string{"apps", "code", "consent", "device", "error", "form_post", "logout"}

// New returns the pages. It checks the owner's catalogs and renders the owner's templates with sample data, so that a mistake in
// them is found when the configuration is loaded.
func New(config Config) (*Pages, error) {
	p := &Pages{templates: make(map[string]*template.Template, len(Names)), own: make(map[string]bool)}
	maps.Copy(p.templates, builtin())
	err := p.look(config)
	if err != nil {
		return nil, err
	}
	if p.languages, err = newLanguages(config.Languages); err != nil {
		return nil, err
	}
	if p.scopes, err = p.languages.describe(config.Scopes); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(config.Templates)) {
		if err := p.replace(name, string(config.Templates[name])); err != nil {
			return nil, fmt.Errorf("template %s: %w", name, err)
		}
	}
	return p, nil
}

// WithoutLifetimes returns the names of the pages on which the owner's template has no buttons for Access.Lifetimes. A person there gets
// the lifetime that is chosen beforehand.
func (p *Pages) WithoutLifetimes() []string { return slices.Clone(p.withoutLifetimes) }

// Languages returns the tags of the languages of the pages, English first.
func (p *Pages) Languages() []string {
	tags := make([]string, 0, len(p.languages.locales))
	for _, l := range p.languages.locales {
		tags = append(tags, l.tag.String())
	}
	return tags
}

// Frame is what the templates of all pages can use. Pages sets it.
type Frame struct {
	Said

	Site  string // the name of the site that the account is of, or its host
	Named bool   // Site is a name
	Nonce string // for <style>

	Logo, Icon       template.URL // images of the site; Logo may be empty
	Palette          template.CSS // variables of the style, for a color of the owner's
	Support, Privacy string       // URLs, or empty
}

// frame returns the frame of a page in a language.
func (p *Pages) frame(l *locale) Frame {
	f := p.frames
	f.Said, f.Nonce = l.said(), rand.Text()
	return f
}

// look makes what all pages have in common.
func (p *Pages) look(config Config) error {
	name := clean(config.Name)
	p.frames = Frame{Site: cmp.Or(name, clean(config.Host)), Named: name != "", Support: config.Support, Privacy: config.Privacy}
	accent := defaultAccent
	if config.Color != "" {
		var err error
		if accent, err = ParseColor(config.Color); err != nil {
			return fmt.Errorf("color: %w", err)
		}
		p.frames.Palette = accent.palette()
	}
	p.frames.Icon = letterIcon(p.frames.Site, accent)
	if config.Logo != nil {
		logo, err := dataURI(config.Logo)
		if err != nil {
			return fmt.Errorf("logo: %w", err)
		}
		p.frames.Logo, p.frames.Icon = logo, logo
	}
	p.logos = make(map[string]template.URL, len(config.AppLogos))
	for id, image := range config.AppLogos {
		logo, err := dataURI(image)
		if err != nil {
			return fmt.Errorf("client %s: logo: %w", id, err)
		}
		p.logos[id] = logo
	}
	return nil
}

// builtin returns the built-in templates by name. All issuers share them.
var builtin = sync.OnceValue(func() map[string]*template.Template {
	all := make(map[string]*template.Template, len(Names))
	for _, name := range Names {
		all[name] = template.Must(template.ParseFS(templates, "templates/layout.html", "templates/access.html", "templates/"+name+".html"))
	}
	return all
})

// App is an application as a person sees it.
type App struct {
	Name string // the client's name; if it is empty, the ID is shown
	ID   string // the client ID
	URI  string // the website that the client states, or empty

	// Described says that Name is the host of the website that describes the application. CallsItself is the name that is stated
	// there, or empty.
	Described   bool
	CallsItself string
	// Unchecked says that the application chose Name itself. Only where the answer goes tells who it is.
	Unchecked bool

	Logo template.URL // set by Pages, or empty
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
	UnknownApp Failure = "app"     // there is no such application, or not any more
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
	return p.write(w, status, "error", page, page.Frame, "form-action 'none'")
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
	return p.write(w, http.StatusOK, "form_post", page, page.Frame, "script-src 'nonce-"+page.Nonce+"'") // for form-action, see Consent
}

// CodePage shows an authorization code, which the person copies into the application. The code is also in the title,
// where an application that opened the window can read it.
type CodePage struct {
	Frame

	Client      string // the name of the application
	Code, State string

	PageTitle string // with Code and State, form-encoded; set by Pages
}

// Code writes a page with an authorization code. If it returns an error, it has written nothing.
func (p *Pages) Code(w http.ResponseWriter, r *http.Request, page CodePage) error {
	page.Frame, page.Client = p.frame(p.languages.of(r)), clean(page.Client)
	page.PageTitle = "Success code=" + page.Code
	if page.State != "" {
		page.PageTitle += "&state=" + url.QueryEscape(page.State)
	}
	return p.write(w, http.StatusOK, "code", page, page.Frame, "script-src 'nonce-"+page.Nonce+"'", "form-action 'none'")
}

// write renders into memory first: a page is written whole, or not at all. policy holds the directives of the Content
// Security Policy that differ between pages.
func (p *Pages) write(w http.ResponseWriter, status int, name string, data any, frame Frame, policy ...string) error {
	var b bytes.Buffer
	if err := p.templates[name].Execute(&b, data); err != nil {
		return fmt.Errorf("page: %w", err)
	}
	images := "img-src data:"
	if p.own[name] {
		images = "img-src 'self' data:; font-src 'self' data:"
	}
	// RFC 9700 §4.16: other sites must not frame these pages.
	policy = append([]string{
		"default-src 'none'", "style-src 'nonce-" + frame.Nonce + "'", images, "base-uri 'none'", "frame-ancestors 'none'",
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
