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

	Access

	SignIn bool     // the application asks for nothing but to sign the person in, with what the site knows of the person
	Claims []string // of the person, that no scope gives; Pages adds them to Scopes, in words

	User      string // who is signed in
	SwitchURL string // where to sign in as somebody else, or empty

	Action  string // the URL the form posts to
	Request string // the sealed request, for the hidden field of that name

	RedirectURI string // where the answer goes, or empty if no redirect follows
	Local       bool   // another program on this device could pose as the application (RFC 8252 §8.6)
	Elsewhere   bool   // RedirectURI leads to another website than the one that describes the application; Pages sets it

	// Destination is RedirectURI in words: a host in its ASCII form, or a phrase such as "an app on this device (127.0.0.1)".
	// Pages sets it.
	Destination string
}

// Access is what an application asks for.
type Access struct {
	Client   App
	Scopes   []Scope
	Audience []string // the resources the tokens are for (RFC 8707), or empty

	// Lifetimes are how long the person can let the application have access. A page with more than one should have a radio button
	// "lifetime" for each, with the value {{.Value}} and the words {{.Words}}. Without the buttons, the one that is Chosen counts.
	Lifetimes []Lifetime

	AppsURL string // where the person can take the approval back
}

// cleanAccess returns what an application asks for, in words.
func (p *Pages) cleanAccess(a Access, l *locale) Access {
	client := a.Client
	a.Client = App{
		Name: cleanName(client), ID: clean(client.ID), URI: clean(client.URI), Logo: p.logos[client.ID],
		Described: client.Described, CallsItself: clean(client.CallsItself), Unchecked: client.Unchecked,
	}
	a.Scopes, a.Audience = cleanScopes(a.Scopes, p.scopes[l]), slices.Clone(a.Audience)
	for i, resource := range a.Audience {
		a.Audience[i] = clean(resource)
	}
	a.Lifetimes = l.inWords(a.Lifetimes)
	return a
}

// claimWords are the names of the words for claims about a person (OpenID Connect Core §5.1). Some have the same words.
var claimWords = map[string]string{
	"name": "claim_name", "family_name": "claim_name", "given_name": "claim_name", "middle_name": "claim_name", "nickname": "claim_name",
	"preferred_username": "claim_username", "picture": "claim_picture", "profile": "claim_website", "website": "claim_website",
	"gender": "claim_gender", "birthdate": "claim_birthdate", "zoneinfo": "claim_locale", "locale": "claim_locale",
	"email": "claim_email", "email_verified": "claim_email", "phone_number": "claim_phone", "phone_number_verified": "claim_phone",
	"address": "claim_address",
}

// claimsInWords returns claims as people see them, those with the same words once.
func claimsInWords(claims []string, l *locale) (all []Scope) {
	for _, name := range claims {
		asked := Scope{Name: clean(name)}
		if words, ok := claimWords[name]; ok {
			asked.Description = l.text(words)
		} else {
			asked.Description = l.text("claim_other", "claim", asked.Name)
		}
		if !slices.ContainsFunc(all, func(s Scope) bool { return s.Description == asked.Description }) {
			all = append(all, asked)
		}
	}
	return all
}

// Consent writes the consent page. If it returns an error, it has written nothing.
func (p *Pages) Consent(w http.ResponseWriter, r *http.Request, page ConsentPage) error {
	to, err := parseDestination(page.RedirectURI)
	if err != nil {
		return err
	}
	page.Elsewhere = page.Client.Described && to.host != "" && to.host != page.Client.Name
	l := p.languages.of(r)
	page.Frame, page.Access = p.frame(l), p.cleanAccess(page.Access, l)
	page.Scopes = append(page.Scopes, claimsInWords(page.Claims, l)...)
	page.User, page.Destination = clean(page.User), to.words(l)

	// No form-action: browsers apply it to every redirect that follows the post, and an application may send people on to
	// wherever it likes, such as from its website to an app on the device.
	return p.write(w, http.StatusOK, "consent", page, page.Frame)
}
