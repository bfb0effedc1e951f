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

// endpoint is a server that runs an example, and the credentials of one of its clients.
type endpoint struct {
	*contract

	site    string
	http    *http.Client
	secrets *integration.Secrets // nil if there is no log
	pass    func(time.Duration)  // lets time pass; nil if the clock is real
}

const (
	userPassword = "wonderland" // in all the examples
	wrongSecret  = "not-the-secret-of-any-client"
)

const formType = "application/x-www-form-urlencoded"

// edit changes a request.
type edit func(*http.Request)

// basic sends credentials as HTTP Basic.
func basic(id, secret string) edit { return func(r *http.Request) { r.SetBasicAuth(id, secret) } }

// header adds a header.
func header(name, value string) edit { return func(r *http.Request) { r.Header.Add(name, value) } }

// post sends a form to the token endpoint. pairs are names, each with its value.
func (e *endpoint) post(t T, pairs []string, edits ...edit) *answer {
	t.Helper()
	return e.send(t, http.MethodPost, e.site+e.token, form(pairs...).Encode(), append([]edit{header("Content-Type", formType)}, edits...)...)
}

// postJSON sends a JSON object to the token endpoint. pairs are names, each with its value.
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

// bodies are the ways to send parameters to endpoints that accept both.
var bodies = map[string]func(*endpoint, T, []string, ...edit) *answer{"form": (*endpoint).post, "JSON": (*endpoint).postJSON}

// form returns parameters from pairs of names and values. The last value of a name counts, and an empty one removes it.
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

// with returns pairs with more pairs, whose values replace the earlier ones.
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

// ask sends an authorization request as the person with the account, with more parameters, and presses a button if there is a
// consent page. It returns the last answer to the browser.
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

// shown returns the parameters in the title of a page, as a client reads them.
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

// code returns a code that the person has approved.
func (e *endpoint) code(t T, more ...string) string {
	t.Helper()
	page := e.ask(t, "allow", more...)
	location, err := url.Parse(page.header.Get("Location"))
	must(t, err)
	code := location.Query().Get("code") + page.shown(t).Get("code")
	if code == "" {
		t.Fatalf("the authorize endpoint answers %d, Location %q, without a code", page.status, location)
	}
	if e.secrets != nil {
		e.secrets.Add(code)
	}
	return code
}

// form returns the target and the hidden fields of the form on a page, or nothing if it has no form.
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
