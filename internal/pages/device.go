package pages

import (
	"net/http"
	"time"
)

// DevicePage is where a person types the code that another device shows, and decides whether the program there gets access.
//
// It has three parts. If Decision is set, the person has decided, and there is nothing more to do. If Ask is set, the person decides: an
// owner's template must contain a form with method="post" and action="{{.Action}}", in it a hidden field "request" with the value
// {{.Request}}, and two buttons named "decision" with the values "allow" and "deny"; and it should show Code, Ask.Client.Name, every
// scope, User, and where and when the program asked: the program may be somebody else's, who sent the person the code. Otherwise the form
// has the same hidden field, and a field "user_code" with the value {{.Code}}.
type DevicePage struct {
	Frame

	User      string // who is signed in
	SwitchURL string // where to sign in as somebody else, or empty

	Action  string // the URL the form posts to
	Request string // the sealed text for the hidden field of that name

	Code  string // as the device shows it; empty if the person has not typed it yet
	Wrong bool   // no device has the code that the person typed, or not any more

	Ask *DeviceAsk // what the person decides on, or nil

	Decision string // "allow" or "deny", or empty
	Client   string // the name of the application, with a Decision
}

// DeviceAsk is a request for access from a program on another device.
type DeviceAsk struct {
	Said // Pages sets it
	Access

	Address string // where the program asked from
	Own     string // the address of the person
	Started time.Time
	Now     time.Time

	Minutes int  // since the program asked; Pages sets it
	Same    bool // the program and the person have the same address; Pages sets it
}

// Device writes the page. If it returns an error, it has written nothing.
func (p *Pages) Device(w http.ResponseWriter, r *http.Request, page DevicePage) error {
	l := p.languages.of(r)
	page.Frame, page.User, page.Code, page.Client = p.frame(l), clean(page.User), clean(page.Code), clean(page.Client)
	if page.Ask != nil {
		ask := *page.Ask
		ask.Said, ask.Access = page.Said, p.cleanAccess(ask.Access, l)
		ask.Same, ask.Minutes = ask.Address == ask.Own, max(0, int(ask.Now.Sub(ask.Started)/time.Minute))
		ask.Address, ask.Own = clean(ask.Address), clean(ask.Own)
		page.Ask = &ask
	}
	return p.write(w, http.StatusOK, "device", page, page.Frame) // for form-action, see Consent
}
