package authserver

import (
	"bytes"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/html"
)

//go:embed pages/*.html
var pageFiles embed.FS

// Pages writes what a person sees. The pages set no cookie, load nothing, and work without
// JavaScript. Safe for concurrent use.
type Pages struct {
	consent, failure, formPost, code, apps *template.Template

	// An owner's consent template may show the site's own images and fonts.
	owned bool
}

// Party is an application as a person is told of it.
type Party struct {
	Name string // what the application calls itself; the ID if it has no name
	ID   string // its client ID
	URI  string // its website as it states it, or empty
}

// ScopeLine is one thing an application asks for.
type ScopeLine struct {
	Name        string // the scope, as in "orders"
	Description string // what it means to a person, or empty
	New         bool   // the person has approved others for this application before, but not this one
}

// ConsentPage is what the consent page tells and asks.
//
// An owner's template is a whole HTML document in the language of Go's html/template, and finds these
// fields. It must hold a form with method="post" and action="{{.Action}}", in it the hidden field
// "request" with the value {{.Request}}, and two buttons named "decision" with the values "allow" and
// "deny". A <style> needs nonce="{{.Nonce}}", style attributes and scripts do not run, and images and
// fonts come from the site itself or from data: URLs. The template should show Client.Name, every
// scope, User and Destination, and warn if Local is set: Name is what the application says of
// itself, Destination is what is known.
type ConsentPage struct {
	Client   Party
	Scopes   []ScopeLine
	Audience []string // the resources the tokens are for (RFC 8707), or empty
	Site     string   // the host of the account, or empty

	User      string // who is signed in
	SwitchURL string // where to sign in as somebody else, or empty

	Action  string // the URL the form posts to
	Request string // the sealed request, for the hidden field of that name

	RedirectURI string // where the answer goes, or empty if no redirect follows
	Local       bool   // another program on this device could pose as the application (RFC 8252 §8.6)

	// Set by Pages: RedirectURI in words, which are a host in its ASCII form or a phrase such as "an app on
	// this device (127.0.0.1)"; and the nonce for <style>.
	Destination, Nonce string
}

// ErrorPage tells a person what went wrong.
type ErrorPage struct {
	Title       string // a few words
	Description string // what happened, in a sentence, or empty
	ID          string // what the log calls this error, or empty

	Nonce string // set by Pages
}

// FormPostPage hands an authorization response to the application (OAuth 2.0 Form Post Response Mode).
type FormPostPage struct {
	URL    string      // the redirect URI, http or https
	Params [][2]string // names and values, posted in this order

	Destination, Nonce string // set by Pages
}

// CodePage shows an authorization code to the person, who carries it over to the application. It stands in the title
// too, where an application that opened the window can read it.
type CodePage struct {
	Client      string // the name of the application
	Code, State string // State as it came, form-encoded in the title

	Nonce string // set by Pages
}

// NewPages returns the pages, with the text of an owner's template for the consent page or, if that is
// empty, the built-in one. A template that does not work on sample data is an error here,
// so that it is found when the config loads.
func NewPages(consentTemplate string) (*Pages, error) {
	p := &Pages{
		failure: builtinPage("error"), formPost: builtinPage("form_post"),
		code: builtinPage("code"), apps: builtinPage("apps"),
	}
	if consentTemplate == "" {
		p.consent = builtinPage("consent")
		return p, nil
	}
	var err error
	if p.consent, err = template.New("consent").Parse(consentTemplate); err != nil {
		return nil, fmt.Errorf("consent page: %w", err)
	}
	p.owned = true
	for _, sample := range sampleConsents {
		var b bytes.Buffer
		if err := p.consent.Execute(&b, sample); err != nil {
			return nil, fmt.Errorf("consent page: %w", err)
		}
		if err := checkConsent(&b, sample); err != nil {
			return nil, fmt.Errorf("consent page: %w", err)
		}
	}
	return p, nil
}

func builtinPage(name string) *template.Template {
	return template.Must(template.ParseFS(pageFiles, "pages/layout.html", "pages/"+name+".html"))
}

// The two ends of what a consent page is given: everything, and next to nothing.
var sampleConsents = []ConsentPage{
	{
		Client:   Party{Name: "Example app", ID: "app", URI: "https://app.example.com"},
		Scopes:   []ScopeLine{{Name: "orders", Description: "your orders", New: true}, {Name: "profile"}},
		Audience: []string{"https://api.example.com"}, Site: "example.com",
		User: "user@example.com", SwitchURL: "/logout",
		Action: "/oauth/authorize", Request: "sample-request",
		RedirectURI: "https://app.example.com/callback", Destination: "app.example.com", Nonce: "sample-nonce",
	},
	{
		Client: Party{Name: "app", ID: "app"}, Action: "/oauth/authorize", Request: "sample-request",
		Local: true, Nonce: "sample-nonce",
	},
}

// checkConsent says what an owner's consent page, rendered for that sample, lacks or has in vain.
func checkConsent(page io.Reader, sample ConsentPage) error {
	missing := map[string]string{ // what a browser would send, and how a template makes it
		"form post " + sample.Action: `a <form method="post" action="{{.Action}}">`,
		"request=" + sample.Request:  `a hidden field "request" with the value {{.Request}}`,
		"decision=allow":             `a button named "decision" with the value "allow"`,
		"decision=deny":              `a button named "decision" with the value "deny"`,
	}
	for z := html.NewTokenizer(page); z.Next() != html.ErrorToken; {
		tag := z.Token()
		if tag.Type != html.StartTagToken && tag.Type != html.SelfClosingTagToken {
			continue
		}
		attr := map[string]string{}
		for _, a := range tag.Attr {
			attr[a.Key] = a.Val
		}
		switch tag.Data {
		case "form":
			delete(missing, "form "+strings.ToLower(attr["method"])+" "+attr["action"])
		case "input", "button":
			delete(missing, attr["name"]+"="+attr["value"])
		case "script":
			return errors.New("it has a <script>, which the page's policy forbids")
		case "style":
			if attr["nonce"] != sample.Nonce {
				return errors.New(`a <style> lacks nonce="{{.Nonce}}"`)
			}
		}
		if _, ok := attr["style"]; ok {
			return fmt.Errorf("<%s> has a style attribute, which the page's policy forbids", tag.Data)
		}
	}
	if len(missing) > 0 {
		return errors.New("it lacks " + strings.Join(slices.Sorted(maps.Values(missing)), ", "))
	}
	return nil
}

// Consent asks the person whether the application may have what it asks for. On an error nothing
// has been written.
func (p *Pages) Consent(w http.ResponseWriter, page ConsentPage) error {
	to, err := targetOf(page.RedirectURI)
	if err != nil {
		return err
	}
	page.Client.Name, page.Client.ID, page.Client.URI = plain(page.Client.Name), plain(page.Client.ID), plain(page.Client.URI)
	if page.Client.Name == "" {
		page.Client.Name = page.Client.ID
	}
	page.Scopes = slices.Clone(page.Scopes)
	for i, s := range page.Scopes {
		page.Scopes[i].Name, page.Scopes[i].Description = plain(s.Name), plain(s.Description)
	}
	page.Audience = slices.Clone(page.Audience)
	for i, a := range page.Audience {
		page.Audience[i] = plain(a)
	}
	page.Site, page.User = plain(page.Site), plain(page.User)
	page.Destination, page.Nonce = to.words, rand.Text()

	// Browsers hold form-action against every redirect that follows the post, so it names where the
	// answer goes; an application behind https may send the person on to another of its hosts.
	policy := []string{strings.TrimSpace("form-action 'self' https: " + to.source)}
	if p.owned {
		policy = append(policy, "img-src 'self' data:", "font-src 'self' data:")
	}
	return writePage(w, http.StatusOK, p.consent, page, page.Nonce, policy...)
}

// Error tells the person what went wrong, with that HTTP status. On an error nothing has been written.
func (p *Pages) Error(w http.ResponseWriter, status int, page ErrorPage) error {
	page.Title, page.Description, page.ID = plain(page.Title), plain(page.Description), plain(page.ID)
	page.Nonce = rand.Text()
	return writePage(w, status, p.failure, page, page.Nonce, "form-action 'none'")
}

// FormPost makes the browser post the response to the application, by itself where it runs scripts and at
// the press of a button elsewhere. On an error nothing has been written.
func (p *Pages) FormPost(w http.ResponseWriter, page FormPostPage) error {
	to, err := targetOf(page.URL)
	if err != nil {
		return err
	}
	if !to.web {
		return errors.New("a form can be posted to http and https only")
	}
	page.Destination, page.Nonce = to.words, rand.Text()
	// As with Consent, the application may answer the post with a redirect to another of its hosts.
	return writePage(w, http.StatusOK, p.formPost, page, page.Nonce,
		"script-src 'nonce-"+page.Nonce+"'", strings.TrimSpace("form-action https: "+to.source))
}

// Code shows an authorization code. On an error nothing has been written.
func (p *Pages) Code(w http.ResponseWriter, page CodePage) error {
	page.Client, page.Nonce = plain(page.Client), rand.Text()
	return writePage(w, http.StatusOK, p.code, page, page.Nonce, "form-action 'none'")
}

// writePage renders to memory first, so that a page is written whole or not at all.
func writePage(w http.ResponseWriter, status int, t *template.Template, data any, nonce string, policy ...string) error {
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		return fmt.Errorf("page: %w", err)
	}
	// RFC 9700 §4.16: nobody may frame these pages.
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
	w.Write(b.Bytes()) // fails only when the person has left
	return nil
}
