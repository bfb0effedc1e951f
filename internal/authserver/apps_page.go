package authserver

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// AppsPage tells a person which applications have access to the account.
type AppsPage struct {
	Site, User string // as on the ConsentPage
	Apps       []AppLine

	Ask     Ask
	Removed string // the application that lost its access just now, or empty

	Action   string // the URL of this page
	Request  string // the sealed text that its posts carry
	LoginURL string // where a post leads if the person is not signed in any more, or empty

	Nonce string // set by Pages
}

// Trusted reports whether any of the applications gets access without asking.
func (p AppsPage) Trusted() bool {
	return slices.ContainsFunc(p.Apps, func(a AppLine) bool { return a.Trusted })
}

// Ask is what an AppsPage asks instead of listing the applications.
type Ask string

// What can be asked.
const (
	AskOne Ask = "one" // whether to take away the access of the only one of Apps
	AskAll Ask = "all" // or of all of them
)

// AppLine is an application that has access.
type AppLine struct {
	Party
	Scopes      []ScopeLine
	Where       []string // it runs, in words
	Since, Used Moment
	Trusted     bool // it gets access without asking the person

	Initial string // set by Pages
}

// Moment is a time for people, and for programs that read the page.
type Moment struct{ Words, Machine string }

// since returns a day. It is one of UTC, as nothing is known of where the person is.
func since(t time.Time) Moment {
	t = t.UTC()
	return Moment{t.Format("2 January 2006"), t.Format(time.RFC3339)}
}

// ago returns how long ago something was, as exactly as it is known (storage.UseInterval).
func ago(t, now time.Time) Moment {
	if t.IsZero() {
		return Moment{}
	}
	m := since(t)
	switch hours := int(now.Sub(t).Hours()); {
	case hours < 1:
		m.Words = "within the last hour"
	case hours < 24:
		m.Words = count(hours, "hour") + " ago"
	case hours < 30*24:
		m.Words = count(hours/24, "day") + " ago"
	}
	return m
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// whereabouts returns where the application with a redirect URI is, in words; "" if that says nothing. The device that
// the page is looked at need not be the one with the application.
func whereabouts(redirectURI string) string {
	to, err := targetOf(redirectURI)
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

// Apps lists the applications, or asks. On an error nothing has been written.
func (p *Pages) Apps(w http.ResponseWriter, page AppsPage) error {
	lines := make([]AppLine, len(page.Apps))
	for i, app := range page.Apps {
		app.Name = plain(app.Name)
		if app.Name == "" {
			app.Name = plain(app.ID)
		}
		first, _ := utf8.DecodeRuneInString(app.Name)
		app.Initial = strings.ToUpper(string(first))
		scopes := make([]ScopeLine, len(app.Scopes))
		for j, s := range app.Scopes {
			scopes[j] = ScopeLine{Name: plain(s.Name), Description: plain(s.Description)}
		}
		app.Scopes = scopes
		app.Where = slices.Clone(app.Where)
		for j, where := range app.Where {
			app.Where[j] = plain(where)
		}
		lines[i] = app
	}
	page.Apps = lines
	page.Site, page.User, page.Removed, page.Nonce = plain(page.Site), plain(page.User), plain(page.Removed), rand.Text()

	// A post of somebody who is not signed in any more is redirected to the login, which can be elsewhere, and
	// browsers hold form-action against that.
	login, err := targetOf(page.LoginURL)
	if err != nil {
		return err
	}
	return writePage(w, http.StatusOK, p.apps, page, page.Nonce, strings.TrimSpace("form-action 'self' https: "+login.source))
}
