package pages

import (
	"bytes"
	"errors"
	"fmt"
	"html/template"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// ConsentPage asks a person whether an application may use the account.
//
// An owner's template is a whole HTML document in the language of Go's html/template, and can use these fields. It must
// contain a form with method="post" and action="{{.Action}}", in it a hidden field "request" with the value
// {{.Request}}, and two buttons named "decision" with the values "allow" and "deny". A <style> needs
// nonce="{{.Nonce}}". Style attributes and scripts do not run. Images and fonts come from the site itself or from data:
// URLs. The template should show Client.Name, every scope, User and Destination, and warn if Local is set: the
// application chose Name itself, but it cannot choose another Destination.
type ConsentPage struct {
	Frame

	Client   App
	Scopes   []Scope
	Audience []string // the resources the tokens are for (RFC 8707), or empty

	User      string // who is signed in
	SwitchURL string // where to sign in as somebody else, or empty

	Action  string // the URL the form posts to
	Request string // the sealed request, for the hidden field of that name

	RedirectURI string // where the answer goes, or empty if no redirect follows
	Local       bool   // another program on this device could pose as the application (RFC 8252 §8.6)

	// Destination is RedirectURI in words: a host in its ASCII form, or a phrase such as "an app on this device (127.0.0.1)".
	// Pages sets it.
	Destination string
}

// Consent writes the consent page. If it returns an error, it has written nothing.
func (p *Pages) Consent(w http.ResponseWriter, r *http.Request, page ConsentPage) error {
	to, err := parseDestination(page.RedirectURI)
	if err != nil {
		return err
	}
	page.Client = App{Name: cleanName(page.Client), ID: clean(page.Client.ID), URI: clean(page.Client.URI)}
	l := p.languages.of(r)
	page.Frame = p.frame(l)
	page.Scopes = cleanScopes(page.Scopes, p.scopes[l])
	page.Audience = slices.Clone(page.Audience)
	for i, resource := range page.Audience {
		page.Audience[i] = clean(resource)
	}
	page.User, page.Destination = clean(page.User), to.words(l)

	// No form-action: browsers apply it to every redirect that follows the post, and an application may send people on to
	// wherever it likes, such as from its website to an app on the device.
	var policy []string
	if p.ownConsent {
		policy = append(policy, "img-src 'self' data:", "font-src 'self' data:")
	}
	return write(w, http.StatusOK, p.consent, page, page.Frame, policy...)
}

// parseConsent parses an owner's template and renders it with sample data in each language.
func (p *Pages) parseConsent(text string) (*template.Template, error) {
	t, err := template.New("consent").Parse(text)
	if err != nil {
		return nil, err
	}
	for _, sample := range sampleConsents {
		for _, l := range p.languages.locales {
			sample.Frame = p.frame(l)
			var b bytes.Buffer
			if err := t.Execute(&b, sample); err != nil {
				return nil, err
			}
			if err := checkConsent(&b, sample); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

// sampleConsents are a page with every field set, and one with as few as possible.
var sampleConsents = []ConsentPage{
	{
		Client:   App{Name: "Example app", ID: "app", URI: "https://app.example.com"},
		Scopes:   []Scope{{Name: "orders", Description: "your orders", New: true}, {Name: "profile"}},
		Audience: []string{"https://api.example.com"},
		User:     "user@example.com", SwitchURL: "/logout",
		Action: "/oauth/authorize", Request: "sample-request",
		RedirectURI: "https://app.example.com/callback", Destination: "app.example.com",
	},
	{Client: App{Name: "app", ID: "app"}, Action: "/oauth/authorize", Request: "sample-request", Local: true},
}

// checkConsent reports what an owner's page, rendered for the sample, lacks, and what its policy would block.
func checkConsent(page io.Reader, sample ConsentPage) error {
	missing := map[string]string{ // what a browser would send -> what the template needs for it
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
