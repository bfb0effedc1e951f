package pages

import (
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// AppsPage lists the applications that have access to an account, or asks whether to remove some.
type AppsPage struct {
	User      string // who is signed in
	SwitchURL string // where to sign in as somebody else, or empty

	Apps []ConnectedApp
	Now  time.Time // for "3 hours ago"

	// RemoveOne asks whether to remove the only app in Apps, RemoveAll whether to remove all of them.
	RemoveOne, RemoveAll bool
	Removed              string // the application that was removed just now, or empty

	Action  string // the URL of this page
	Request string // the sealed text for the hidden field of that name
}

// ConnectedApp is an application that has access to an account.
type ConnectedApp struct {
	App

	Scopes       []Scope
	RedirectURIs []string
	Since        time.Time // when the person approved it
	Used         time.Time // last, to the hour; zero for never
	Ends         time.Time // when its access ends by itself; zero for never
	Trusted      bool      // it gets access without asking the person
}

// appsView is an AppsPage as the template reads it.
type appsView struct {
	AppsPage
	Frame

	Apps []appView
}

// appView is a ConnectedApp as the template reads it.
type appView struct {
	ConnectedApp

	Initial           string
	Where             []string // the application runs, in words
	Since, Used, Ends moment
}

// Apps writes the list, or the question. If it returns an error, it has written nothing.
func (p *Pages) Apps(w http.ResponseWriter, r *http.Request, page AppsPage) error {
	l := p.languages.of(r)
	view := appsView{AppsPage: page, Frame: p.frame(l)}
	for _, app := range page.Apps {
		view.Apps = append(view.Apps, p.viewOf(l, app, page.Now))
	}
	view.User, view.Removed = clean(page.User), clean(page.Removed)

	return p.write(w, http.StatusOK, "apps", view, view.Frame) // for form-action, see Consent
}

func (p *Pages) viewOf(l *locale, app ConnectedApp, now time.Time) appView {
	app.Logo, app.Name, app.Scopes = p.logos[app.ID], cleanName(app.App), cleanScopes(app.Scopes, p.scopes[l]) // the ID stays as it is: the form posts it
	view := appView{ConnectedApp: app, Since: l.since(app.Since), Used: l.ago(app.Used, now), Ends: l.end(app.Ends, now)}
	first, _ := utf8.DecodeRuneInString(app.Name)
	view.Initial = strings.ToUpper(string(first))
	for _, uri := range app.RedirectURIs {
		if where := clean(whereabouts(l, uri)); where != "" && !slices.Contains(view.Where, where) {
			view.Where = append(view.Where, where)
		}
	}
	return view
}

// whereabouts returns where the application with a redirect URI runs, in words, or "" if the URI does not tell. It says
// "a device" because the person may look at the page on another device.
func whereabouts(l *locale, redirectURI string) string {
	to, err := parseDestination(redirectURI)
	switch {
	case err != nil:
		return ""
	case to.device != "":
		return l.text("on_device", "name", to.device)
	}
	return to.host
}

// moment is a time for people, and for programs that read the page.
type moment struct{ Words, Machine string }

// since returns the day of a time.
func (l *locale) since(t time.Time) moment {
	return moment{l.day(t), t.UTC().Format(time.RFC3339)}
}

// ago returns how long ago t was, in hours or days because uses are recorded by the hour (storage.UseInterval).
func (l *locale) ago(t, now time.Time) moment {
	if t.IsZero() {
		return moment{}
	}
	m := l.since(t)
	switch hours := int(now.Sub(t).Hours()); {
	case hours < 1:
		m.Words = l.text("used_now")
	case hours < 24:
		m.Words = l.text("used_hours", "n", hours)
	case hours < 30*24:
		m.Words = l.text("used_days", "n", hours/24)
	}
	return m
}
