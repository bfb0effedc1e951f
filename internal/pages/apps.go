package pages

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// AppsPage lists the applications that have access to an account, or asks whether to remove some.
type AppsPage struct {
	Site, User string // see ConsentPage
	Apps       []ConnectedApp
	Now        time.Time // for "3 hours ago"

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
	Trusted      bool      // it gets access without asking the person
}

// appsView is an AppsPage as the template reads it.
type appsView struct {
	AppsPage

	Apps  []appView
	Nonce string
}

// Trusted reports whether any of the applications gets access without asking.
func (v appsView) Trusted() bool {
	return slices.ContainsFunc(v.Apps, func(a appView) bool { return a.ConnectedApp.Trusted })
}

// appView is a ConnectedApp as the template reads it.
type appView struct {
	ConnectedApp

	Initial     string
	Where       []string // the application runs, in words
	Since, Used moment
}

// Apps writes the list, or the question. If it returns an error, it has written nothing.
func (p *Pages) Apps(w http.ResponseWriter, page AppsPage) error {
	view := appsView{AppsPage: page, Nonce: rand.Text()}
	for _, app := range page.Apps {
		view.Apps = append(view.Apps, viewOf(app, page.Now))
	}
	view.Site, view.User, view.Removed = clean(page.Site), clean(page.User), clean(page.Removed)

	return write(w, http.StatusOK, p.apps, view, view.Nonce) // for form-action, see Consent
}

func viewOf(app ConnectedApp, now time.Time) appView {
	app.Name, app.Scopes = cleanName(app.App), cleanScopes(app.Scopes) // the ID stays as it is: the form posts it
	view := appView{ConnectedApp: app, Since: day(app.Since), Used: ago(app.Used, now)}
	first, _ := utf8.DecodeRuneInString(app.Name)
	view.Initial = strings.ToUpper(string(first))
	for _, uri := range app.RedirectURIs {
		if where := clean(whereabouts(uri)); where != "" && !slices.Contains(view.Where, where) {
			view.Where = append(view.Where, where)
		}
	}
	return view
}

// whereabouts returns where the application with a redirect URI runs, in words, or "" if the URI does not tell. It says
// "a device" because the person may look at the page on another device.
func whereabouts(redirectURI string) string {
	to, err := parseDestination(redirectURI)
	switch {
	case err != nil:
		return ""
	case to.device != "":
		return "a device of yours (" + to.device + ")"
	case to.web:
		return to.words
	}
	return ""
}

// moment is a time for people, and for programs that read the page.
type moment struct{ Words, Machine string }

// day returns the day of a time, in UTC since the person's time zone is unknown.
func day(t time.Time) moment {
	t = t.UTC()
	return moment{t.Format("2 January 2006"), t.Format(time.RFC3339)}
}

// ago returns how long ago t was, in hours or days because uses are recorded by the hour (storage.UseInterval).
func ago(t, now time.Time) moment {
	if t.IsZero() {
		return moment{}
	}
	m := day(t)
	switch hours := int(now.Sub(t).Hours()); {
	case hours < 1:
		m.Words = "within the last hour"
	case hours < 24:
		m.Words = plural(hours, "hour") + " ago"
	case hours < 30*24:
		m.Words = plural(hours/24, "day") + " ago"
	}
	return m
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
