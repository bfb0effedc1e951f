package contract_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"golang.org/x/net/html"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// endpoint is a server that runs an example, and what one of its clients knows.
type endpoint struct {
	*contract

	site    string
	http    *http.Client
	secrets *integration.Secrets // nil where there is no log to look for them in
	pass    func(time.Duration)  // lets time go by; nil where the clock is real
}

const (
	userPassword = "wonderland" // in all the examples
	wrongSecret  = "a-secret-that-nobody-has"
)

const formType = "application/x-www-form-urlencoded"

// edit changes a request.
type edit func(*http.Request)

// basic sends credentials as HTTP Basic.
func basic(id, secret string) edit { return func(r *http.Request) { r.SetBasicAuth(id, secret) } }

// header adds a header.
func header(name, value string) edit { return func(r *http.Request) { r.Header.Add(name, value) } }

// post sends a form to the token endpoint: names and values in turn.
func (e *endpoint) post(t T, pairs []string, edits ...edit) *answer {
	t.Helper()
	return e.send(t, http.MethodPost, e.site+e.token, form(pairs...).Encode(), append([]edit{header("Content-Type", formType)}, edits...)...)
}

// postJSON sends a JSON object to the token endpoint: names and values in turn.
func (e *endpoint) postJSON(t T, pairs []string, edits ...edit) *answer {
	t.Helper()
	object := make(map[string]string)
	for name, values := range form(pairs...) {
		object[name] = values[0]
	}
	body, err := json.Marshal(object)
	must(t, err)
	return e.send(t, http.MethodPost, e.site+e.token, string(body), append([]edit{header("Content-Type", "application/json")}, edits...)...)
}

// bodies are the ways to send parameters, for endpoints that take both.
var bodies = map[string]func(*endpoint, T, []string, ...edit) *answer{"form": (*endpoint).post, "JSON": (*endpoint).postJSON}

// form returns parameters from names and values in turn; the last value of a name counts, and an empty one is none.
func form(pairs ...string) url.Values {
	values := make(url.Values)
	for i := 0; i+1 < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
		if pairs[i+1] == "" {
			values.Del(pairs[i])
		}
	}
	return values
}

// with returns parameters and more, of which the last value counts.
func with(pairs []string, more ...string) []string {
	return append(append([]string(nil), pairs...), more...)
}

func (e *endpoint) send(t T, method, target, body string, edits ...edit) *answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	must(t, err)
	for _, edit := range edits {
		edit(req)
	}
	resp, err := e.http.Do(req)
	must(t, err)
	return e.read(t, resp)
}

func (e *endpoint) read(t T, resp *http.Response) *answer {
	t.Helper()
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	a := &answer{status: resp.StatusCode, header: resp.Header, body: string(text)}
	if e.secrets != nil {
		e.secrets.Add(a.member("access_token"), a.member("refresh_token"))
	}
	return a
}

// ask sends the person who has the account to the authorize endpoint, with these parameters beside the usual ones, and has
// them press a button if they are asked. It returns what the browser gets in the end.
func (e *endpoint) ask(t T, decision string, more ...string) *answer {
	t.Helper()
	params := form(append([]string{"response_type", "code", "client_id", e.clientID}, more...)...)
	for name, values := range e.authorizationParams {
		if !params.Has(name) {
			params[name] = values
		}
	}
	signedIn := basic(e.user, userPassword)
	page := e.send(t, http.MethodGet, e.site+e.authorize+"?"+params.Encode(), "", signedIn)
	action, fields := page.form(t)
	if action == "" {
		return page
	}
	fields.Set("decision", decision)
	return e.send(t, http.MethodPost, e.site+action, fields.Encode(), signedIn, header("Content-Type", formType))
}

var title = regexp.MustCompile(`<title>Success (.*)</title>`)

// shown returns what the title of a page gives to a client that reads it.
func (a *answer) shown(t T) url.Values {
	t.Helper()
	found := title.FindStringSubmatch(a.body)
	if found == nil {
		return nil
	}
	params, err := url.ParseQuery(html.UnescapeString(found[1]))
	must(t, err)
	return params
}

// code returns the code that the person gives to the client.
func (e *endpoint) code(t T, more ...string) string {
	t.Helper()
	page := e.ask(t, "allow", more...)
	location, err := url.Parse(page.header.Get("Location"))
	must(t, err)
	code := location.Query().Get("code") + page.shown(t).Get("code")
	if code == "" {
		t.Fatalf("the authorize endpoint answers %d, Location %q, and gives no code", page.status, location)
	}
	if e.secrets != nil {
		e.secrets.Add(code)
	}
	return code
}

// form returns where the form of a page goes to and what stands in its hidden fields; a page without one has none.
func (a *answer) form(t T) (action string, fields url.Values) {
	t.Helper()
	document, err := html.Parse(strings.NewReader(a.body))
	must(t, err)
	fields = make(url.Values)
	for node := range document.Descendants() {
		attr := make(map[string]string)
		for _, a := range node.Attr {
			attr[a.Key] = a.Val
		}
		switch node.Data {
		case "form":
			action = attr["action"]
		case "input":
			fields.Set(attr["name"], attr["value"])
		}
	}
	return action, fields
}
