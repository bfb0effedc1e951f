package pages

import (
	"html/template"
	"net/http"
)

// LogoutState is where a person is on the way out. It is part of the names of the words for it.
type LogoutState string

// The states.
const (
	AskSignOut    LogoutState = "ask"       // the person decides
	StillSignedIn LogoutState = "stayed"    // the person has decided to stay
	SignedOut     LogoutState = "out"       // of the site too
	SiteSignedIn  LogoutState = "apps_only" // the site does not sign people out, or has not
)

// LogoutPage is for people who sign out: it asks whether they want to, or says what has become of it.
//
// If State is "ask", an owner's template must contain a form with method="post" and action="{{.Action}}", in it a hidden field
// "request" with the value {{.Request}}, and two buttons named "decision" with the values "sign_out" and "stay". If Continue is set, it
// must contain a link to it.
type LogoutPage struct {
	Frame

	State LogoutState

	User    string // who is signed in, or empty
	Action  string // the URL the form posts to
	Request string // the sealed request, for the hidden field of that name

	// Client is the application that the person comes from; its name may be empty. If State is "ask" and it is not, the person signs
	// out of this application only.
	Client App
	// Everywhere says that the person signs out of applications on all devices, since the site does not tell its sessions apart.
	Everywhere bool
	// SiteStays says that the person stays signed in to the site, which does not sign people out.
	SiteStays bool

	// Continue is where the person can go next, or empty. It is a URI that is registered, and may have the scheme of an app, which a template
	// would not let pass otherwise.
	Continue template.URL
}

// Logout writes the page. If it returns an error, it has written nothing.
func (p *Pages) Logout(w http.ResponseWriter, r *http.Request, page LogoutPage) error {
	page.Frame = p.frame(p.languages.of(r))
	if page.Client.ID != "" {
		page.Client.Name = cleanName(page.Client)
	}
	page.User = clean(page.User)
	return p.write(w, http.StatusOK, "logout", page, page.Frame) // for form-action, see Consent
}
