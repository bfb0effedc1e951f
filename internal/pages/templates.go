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
	"time"

	"golang.org/x/net/html"
)

// replace replaces a page by an owner's template, and tries it with samples in each language.
//
// An owner's template is a whole HTML document in the language of Go's html/template. It can use the fields of the page, such as
// those of [ConsentPage], and those of [Frame]. A <style>, and on the pages with a script, a <script>, needs nonce="{{.Nonce}}".
// Images and fonts come from the site itself or from data: URLs.
func (p *Pages) replace(name, text string) error {
	all, ok := samples[name]
	if !ok {
		return fmt.Errorf("expected one of: %s", strings.Join(Names, ", "))
	}
	t, err := template.New(name).Parse(text)
	if err != nil {
		return err
	}
	p.templates[name], p.own[name] = t, true
	for _, l := range p.languages.locales {
		r := &http.Request{Header: http.Header{"Accept-Language": {l.tag.String()}}}
		for _, s := range all {
			w := &trial{header: make(http.Header)}
			if err := s.write(p, w, r); err != nil {
				return err
			}
			page, err := partsOf(&w.body, w.header.Get("Content-Security-Policy"))
			if err != nil {
				return err
			}
			if err := page.check(s.needs); err != nil {
				return err
			}
			if s.lifetimes && !page.has["lifetime="+sampleLifetimes[0].Value] && !slices.Contains(p.withoutLifetimes, name) {
				p.withoutLifetimes = append(p.withoutLifetimes, name)
			}
		}
	}
	return nil
}

// trial keeps a page.
type trial struct {
	header http.Header
	body   bytes.Buffer
}

func (t *trial) Header() http.Header         { return t.header }
func (t *trial) WriteHeader(int)             {}
func (t *trial) Write(b []byte) (int, error) { return t.body.Write(b) }

// sample is a page with sample data.
type sample struct {
	write func(p *Pages, w http.ResponseWriter, r *http.Request) error
	needs map[string]string // what the browser must get, see partsOf, and what the template needs for it

	lifetimes bool // the person can choose one of sampleLifetimes
}

var samples = map[string][]sample{
	"consent":   {consentSample(sampleConsents[0]), consentSample(sampleConsents[1])},
	"apps":      appsSamples(),
	"device":    deviceSamples(),
	"code":      {codeSample(CodePage{Client: "Example app", Code: "sample-code", State: "sample-state"})},
	"form_post": {formPostSample()},
	"logout":    logoutSamples(),
	"error":     {errorSample(UnknownApp, "", "sample-id"), errorSample(BadRequest, "client_id is missing", "sample-id"), errorSample(Denied, "", "")},
}

// sampleConsents are a page with every field set, and one with as few as possible.
var sampleConsents = []ConsentPage{
	{
		Access: Access{
			Client:    App{Name: "Example app", ID: "app", URI: "https://app.example.com"},
			Scopes:    []Scope{{Name: "orders", New: true}, {Name: "profile"}},
			Audience:  []string{"https://api.example.com"},
			Lifetimes: sampleLifetimes,
			AppsURL:   "/oauth/apps",
		},
		User: "user@example.com", SwitchURL: "/login",
		Action: "/oauth/authorize", Request: "sample-request",
		RedirectURI: "https://app.example.com/callback",
	},
	{
		Access: Access{Client: App{Name: "app", ID: "app"}, AppsURL: "/oauth/apps"},
		Action: "/oauth/authorize", Request: "sample-request", Local: true,
	},
}

// sampleLifetimes have all the words for a lifetime.
var sampleLifetimes = []Lifetime{
	{Value: "1800", Duration: 30 * time.Minute},
	{Value: "7200", Duration: 2 * time.Hour},
	{Value: "604800", Duration: 7 * 24 * time.Hour, Chosen: true},
	{Value: "never"},
}

func consentSample(page ConsentPage) sample {
	return sample{
		write: func(p *Pages, w http.ResponseWriter, r *http.Request) error { return p.Consent(w, r, page) },
		needs: map[string]string{
			"post to " + page.Action:         `a <form method="post" action="{{.Action}}">`,
			"request=" + page.Request:        `a hidden field "request" with the value {{.Request}}`,
			"decision=allow":                 `a button named "decision" with the value "allow"`,
			"decision=deny":                  `a button named "decision" with the value "deny"`,
			"text " + page.Client.Name:       "{{.Client.Name}}",
			"text " + page.User:              "{{.User}}",
			"text " + sampleHost(page):       "{{.Destination}}",
			"text " + scopeName(page.Scopes): "the name or the description of each of .Scopes",
		},
		lifetimes: len(page.Lifetimes) > 0,
	}
}

func sampleHost(page ConsentPage) string {
	to, _ := parseDestination(page.RedirectURI)
	return to.host
}

func scopeName(scopes []Scope) string {
	if len(scopes) == 0 {
		return ""
	}
	return scopes[len(scopes)-1].Name
}

func appsSamples() []sample {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	app := ConnectedApp{
		App: App{Name: "Example app", ID: "app"}, Scopes: []Scope{{Name: "orders"}, {Name: "profile"}},
		RedirectURIs: []string{"https://app.example.com/callback"}, Since: now.AddDate(0, -1, 0), Used: now.Add(-time.Hour), Ends: now.AddDate(0, 0, 6), Trusted: true,
	}
	bare := ConnectedApp{App: App{Name: "Other", ID: "other"}, Since: now}
	const action, link = "/oauth/apps", `a link to {{$.Action}}?client={{.ID}} for each of .Apps`
	asks := map[string]string{
		"post to " + action:      `a <form method="post" action="{{.Action}}">`,
		"request=sample-request": `a hidden field "request" with the value {{.Request}}`,
	}
	one, all := maps.Clone(asks), maps.Clone(asks)
	one["client=app"] = `a button named "client" with the value {{.ID}} if .RemoveOne is set`
	all["all=1"] = `a button named "all" with the value "1" if .RemoveAll is set`
	cases := []struct {
		page  AppsPage
		needs map[string]string
	}{
		{AppsPage{User: "user@example.com"}, nil},
		{AppsPage{Apps: []ConnectedApp{app, bare}, Removed: "Gone"}, map[string]string{
			"link to " + action + "?client=app": link, "link to " + action + "?client=other": link,
			"text Example app": "{{.Name}} of each of .Apps",
		}},
		{AppsPage{Apps: []ConnectedApp{app}, RemoveOne: true}, one},
		{AppsPage{Apps: []ConnectedApp{app, bare}, RemoveAll: true}, all},
	}
	made := make([]sample, len(cases))
	for i, c := range cases {
		page := c.page
		page.Now, page.Action, page.Request = now, action, "sample-request"
		made[i] = sample{
			write: func(p *Pages, w http.ResponseWriter, r *http.Request) error { return p.Apps(w, r, page) }, needs: c.needs,
		}
	}
	return made
}

func deviceSamples() []sample {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	const action, request = "/oauth/device", "sample-request"
	form := map[string]string{
		"post to " + action:  `a <form method="post" action="{{.Action}}">`,
		"request=" + request: `a hidden field "request" with the value {{.Request}}`,
	}
	enter, ask := maps.Clone(form), maps.Clone(form)
	enter["user_code=WDJB-MJHT"] = `a field "user_code" with the value {{.Code}}`
	maps.Copy(ask, map[string]string{
		"decision=allow": `a button named "decision" with the value "allow" if .Ask is set`,
		"decision=deny":  `a button named "decision" with the value "deny" if .Ask is set`,
		"text WDJB-MJHT": "{{.Code}}", "text user@example.com": "{{.User}}", "text Example app": "{{.Ask.Client.Name}}",
		"text orders": "the name or the description of each of .Ask.Scopes", "text 192.0.2.1": "{{.Ask.Address}}",
	})
	cases := []struct {
		page  DevicePage
		needs map[string]string
	}{
		{DevicePage{Code: "WDJB-MJHT", User: "user@example.com", SwitchURL: "/login"}, enter},
		{DevicePage{Wrong: true}, form},
		{DevicePage{Code: "WDJB-MJHT", User: "user@example.com", Ask: &DeviceAsk{
			Access: Access{
				Client: App{Name: "Example app", ID: "app"}, Scopes: []Scope{{Name: "orders"}}, Audience: []string{"https://api.example.com"},
				Lifetimes: sampleLifetimes, AppsURL: "/oauth/apps",
			},
			Address: "192.0.2.1", Own: "192.0.2.2", Started: now.Add(-2 * time.Minute), Now: now,
		}}, ask},
		{DevicePage{Decision: "allow", Client: "Example app"}, nil},
		{DevicePage{Decision: "deny", Client: "Example app"}, nil},
	}
	made := make([]sample, len(cases))
	for i, c := range cases {
		page := c.page
		page.Action, page.Request = action, request
		made[i] = sample{
			write: func(p *Pages, w http.ResponseWriter, r *http.Request) error { return p.Device(w, r, page) },
			needs: c.needs, lifetimes: page.Ask != nil,
		}
	}
	return made
}

func codeSample(page CodePage) sample {
	return sample{
		write: func(p *Pages, w http.ResponseWriter, r *http.Request) error { return p.Code(w, r, page) },
		needs: map[string]string{
			"title Success code=" + page.Code + "&state=" + page.State: `<title>{{.PageTitle}}</title>, where some apps read the code`,
			"field " + page.Code: `a field <input readonly value="{{.Code}}">`,
		},
	}
}

func formPostSample() sample {
	page := FormPostPage{URL: "https://app.example.com/callback", Params: [][2]string{{"code", "sample-code"}, {"state", "sample-state"}}}
	fields := `a hidden field named {{index . 0}} with the value {{index . 1}} for each of .Params`
	return sample{
		write: func(p *Pages, w http.ResponseWriter, r *http.Request) error { return p.FormPost(w, r, page) },
		needs: map[string]string{
			"post to " + page.URL: `a <form method="post" action="{{.URL}}">`,
			"code=sample-code":    fields, "state=sample-state": fields,
			"button": "a <button>, for browsers without scripts",
		},
	}
}

func logoutSamples() []sample {
	const action = "/oauth/logout"
	ask := LogoutPage{State: AskSignOut, User: "user@example.com", Action: action, Request: "sample-request"}
	one := ask
	one.Client, one.SiteStays, one.Everywhere = App{Name: "Example app", ID: "app"}, true, true
	asks := map[string]string{
		"post to " + action:      `a <form method="post" action="{{.Action}}"> if .State is "ask"`,
		"request=sample-request": `a hidden field "request" with the value {{.Request}} if .State is "ask"`,
		"decision=sign_out":      `a button named "decision" with the value "sign_out" if .State is "ask"`,
		"decision=stay":          `a button named "decision" with the value "stay" if .State is "ask"`,
	}
	const next = "https://app.example.com/bye"
	cases := []struct {
		page  LogoutPage
		needs map[string]string
	}{
		{ask, asks},
		{one, asks},
		{LogoutPage{State: StillSignedIn}, nil},
		{LogoutPage{State: SignedOut}, nil},
		{LogoutPage{State: SiteSignedIn, Client: one.Client, Continue: next}, map[string]string{"link to " + next: "a link to {{.Continue}}"}},
	}
	made := make([]sample, len(cases))
	for i, c := range cases {
		made[i] = sample{
			write: func(p *Pages, w http.ResponseWriter, r *http.Request) error { return p.Logout(w, r, c.page) }, needs: c.needs,
		}
	}
	return made
}

func errorSample(failure Failure, detail, id string) sample {
	page := ErrorPage{Failure: failure, Detail: detail, ID: id}
	return sample{
		write: func(p *Pages, w http.ResponseWriter, r *http.Request) error {
			return p.Error(w, r, http.StatusBadRequest, page)
		},
		needs: map[string]string{"text " + id: "{{.ID}}"},
	}
}

// check reports what an owner's page lacks.
func (p *parts) check(needs map[string]string) error {
	var missing []string
	for part, need := range needs {
		kind, value, _ := strings.Cut(part, " ")
		found := p.has[part]
		if kind == "text" {
			found = strings.Contains(p.text, value)
		}
		if !found && !slices.Contains(missing, need) {
			missing = append(missing, need)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return errors.New("it lacks " + strings.Join(missing, ", "))
	}
	return nil
}

// parts are what a browser gets from a page: "post to" a URL, "link to" a URL, "title" and its text, a "button", the values of
// fields and buttons, as name=value, and of a "field" that is only for people; and the text.
type parts struct {
	has  map[string]bool
	text string
}

// partsOf reads a page. What its policy forbids is an error.
func partsOf(page io.Reader, policy string) (*parts, error) {
	p := &parts{has: make(map[string]bool)}
	inside := ""
	for z := html.NewTokenizer(page); z.Next() != html.ErrorToken; {
		switch token := z.Token(); token.Type {
		case html.TextToken:
			switch inside {
			case "title":
				p.has["title "+strings.TrimSpace(token.Data)] = true
			case "style", "script":
			default:
				p.text += token.Data
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			inside = token.Data
			attr := make(map[string]string)
			for _, a := range token.Attr {
				attr[a.Key] = a.Val
			}
			if err := allowed(token.Data, attr, policy); err != nil {
				return nil, err
			}
			p.add(token.Data, attr)
		case html.EndTagToken:
			inside = ""
		}
	}
	return p, nil
}

func (p *parts) add(tag string, attr map[string]string) {
	switch tag {
	case "form":
		p.has[strings.ToLower(attr["method"])+" to "+attr["action"]] = true
	case "a":
		p.has["link to "+attr["href"]] = true
	case "input", "button":
		p.has[tag] = true
		p.has[attr["name"]+"="+attr["value"]] = true
		p.has["field "+attr["value"]] = true
	}
}

// allowed checks an element against the policy of its page.
func allowed(tag string, attr map[string]string, policy string) error {
	nonce := strings.Contains(policy, "'nonce-"+attr["nonce"]+"'") && attr["nonce"] != ""
	switch {
	case tag == "script" && !strings.Contains(policy, "script-src"):
		return errors.New("it has a <script>, which the page's policy forbids")
	case (tag == "style" || tag == "script") && !nonce:
		return fmt.Errorf(`a <%s> lacks nonce="{{.Nonce}}"`, tag)
	}
	for name := range attr {
		if name == "style" || strings.HasPrefix(name, "on") {
			article := "a"
			if name != "style" {
				article = "an"
			}
			return fmt.Errorf("<%s> has %s %s attribute, which the page's policy forbids", tag, article, name)
		}
	}
	return nil
}
