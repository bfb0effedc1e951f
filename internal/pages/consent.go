package pages

import (
	"net/http"
	"slices"
)

// ConsentPage asks a person whether an application may use the account.
//
// An owner's template must contain a form with method="post" and action="{{.Action}}", in it a hidden field "request" with the
// value {{.Request}}, and two buttons named "decision" with the values "allow" and "deny". It should show Client.Name, every
// scope, User and Destination, and warn if Local is set: the application chose Name itself, but it cannot choose another
// Destination. If Client.Unchecked is set, it should say that the name is only what the application calls itself.
type ConsentPage struct {
	Frame

	Client   App
	Scopes   []Scope
	Audience []string // the resources the tokens are for (RFC 8707), or empty

	User      string // who is signed in
	SwitchURL string // where to sign in as somebody else, or empty
	AppsURL   string // where the person can take the approval back

	Action  string // the URL the form posts to
	Request string // the sealed request, for the hidden field of that name

	RedirectURI string // where the answer goes, or empty if no redirect follows
	Local       bool   // another program on this device could pose as the application (RFC 8252 §8.6)
	Elsewhere   bool   // RedirectURI leads to another website than the one that describes the application; Pages sets it

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
	page.Elsewhere = page.Client.Described && to.host != "" && to.host != page.Client.Name
	page.Client = App{
		Name: cleanName(page.Client), ID: clean(page.Client.ID), URI: clean(page.Client.URI), Logo: p.logos[page.Client.ID],
		Described: page.Client.Described, CallsItself: clean(page.Client.CallsItself), Unchecked: page.Client.Unchecked,
	}
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
	return p.write(w, http.StatusOK, "consent", page, page.Frame)
}
