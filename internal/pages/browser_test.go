package pages

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"golang.org/x/net/html"

	"github.com/caddy-oauth/caddy-oauth/internal/pages/pagestest"
)

// lowTargets lists the targets of a page that are lower than 44 px.
const lowTargets = `[...document.querySelectorAll("a, button:not([hidden]), summary")]
	.filter(e => e.getBoundingClientRect().height < 44).map(e => e.textContent).join()`

// inChromium returns a context of a headless Chromium, which trusts any certificate.
func inChromium(t *testing.T) context.Context {
	t.Helper()
	return pagestest.Chromium(t, 2*time.Minute, chromedp.IgnoreCertErrors) // far longer than a slow machine needs
}

// inPage runs an action in the browser and returns its value.
func inPage[T any](ctx context.Context, t *testing.T, action chromedp.Action[T]) T {
	t.Helper()
	value, err := chromedp.Run(ctx, action)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestPagesInChromium(t *testing.T) {
	ctx, p := inChromium(t), newTestPages(t, "")
	mux := http.NewServeMux()
	server, app := httptest.NewServer(mux), httptest.NewTLSServer(mux)
	defer server.Close()
	defer app.Close()
	elsewhere := strings.NewReplacer("127.0.0.1", "localhost") // the same port, another origin

	page := func(path string, write func(w http.ResponseWriter, r *http.Request) error) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if err := write(w, r); err != nil {
				t.Error(err)
			}
		})
	}
	page("/consent", func(w http.ResponseWriter, r *http.Request) error {
		page := sampleConsents[0]
		page.RedirectURI = cmp.Or(r.FormValue("to"), page.RedirectURI)
		page.Action = cmp.Or(r.FormValue("by"), "/done") + "?" + url.Values{"to": {page.RedirectURI}}.Encode()
		return p.Consent(w, r, page)
	})
	page("/long", func(w http.ResponseWriter, r *http.Request) error {
		long, page := strings.Repeat("long:", 200), sampleConsents[0]
		page.Client.Name, page.User = strings.Repeat("x", 10_000), strings.Repeat("ツ", 300)
		page.Scopes, page.Audience, page.RedirectURI = []Scope{{Name: long, New: true}}, []string{long}, "https://"+strings.Repeat("label.", 30)+"example"
		return p.Consent(w, r, page)
	})
	page("/error", func(w http.ResponseWriter, r *http.Request) error {
		return p.Error(w, r, 400, ErrorPage{Failure: BadRequest, Detail: strings.Repeat("x", 300), ID: strings.Repeat("y", 300)})
	})
	page("/form_post", func(w http.ResponseWriter, r *http.Request) error {
		return p.FormPost(w, r, FormPostPage{URL: app.URL + "/app", Params: [][2]string{{"request", `a "b"`}, {"decision", "&ü"}}})
	})
	page("/code", func(w http.ResponseWriter, r *http.Request) error {
		return p.Code(w, r, CodePage{Client: "App", Code: "sample-code"})
	})
	mux.HandleFunc("/redirect", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.FormValue("to"), http.StatusSeeOther)
	})
	mux.HandleFunc("/app", func(w http.ResponseWriter, r *http.Request) { // redirects to another host of the app
		q := url.Values{"request": {r.FormValue("request")}, "decision": {r.FormValue("decision")}}
		http.Redirect(w, r, elsewhere.Replace(app.URL)+"/done?"+q.Encode(), http.StatusSeeOther)
	})
	mux.HandleFunc("/done", func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("<!doctype html><meta charset=utf-8><p id=done>" + html.EscapeString(r.FormValue("request")+" "+r.FormValue("decision"))))
	})

	// With the keyboard, Tab reaches both buttons in reading order, and Enter presses them.
	for i, want := range []string{"deny", "allow"} {
		inPage(ctx, t, chromedp.Navigate(server.URL+"/consent"))
		for _, focused := range []string{"Not you?", "", "Deny", "Allow"}[:3+i] { // the radio button has no text
			inPage(ctx, t, chromedp.KeyEvent(kb.Tab))
			if got := inPage(ctx, t, chromedp.Evaluate[string](`document.activeElement.textContent`)); got != focused {
				t.Errorf("Tab reached %q, want %q", got, focused)
			}
		}
		inPage(ctx, t, chromedp.KeyEvent(kb.Enter))
		if got := inPage(ctx, t, chromedp.Text(chromedp.ID("done"))); got != "sample-request "+want {
			t.Errorf("posted %q", got)
		}
	}

	// form-action allows the redirects that follow the post.
	for _, to := range []string{app.URL + "/app", elsewhere.Replace(server.URL) + "/done"} {
		inPage(ctx, t, chromedp.Navigate(server.URL+"/consent?"+url.Values{"by": {"/redirect"}, "to": {to}}.Encode()))
		inPage(ctx, t, chromedp.Click(chromedp.CSS("button.main")))
		inPage(ctx, t, chromedp.WaitReady(chromedp.ID("done")))
	}
	inPage(ctx, t, chromedp.Navigate(server.URL+"/form_post"))
	if got := inPage(ctx, t, chromedp.Text(chromedp.ID("done"))); got != `a "b" &ü` {
		t.Errorf("form_post sent %q", got)
	}

	// WCAG 2.2 §1.4.10: nothing scrolls sideways at 320 px. §2.5.5: a target is 44 px high.
	inPage(ctx, t, chromedp.EmulateViewport(320, 640))
	for _, path := range []string{"/consent", "/long", "/error"} {
		inPage(ctx, t, chromedp.Navigate(server.URL+path))
		if width := inPage(ctx, t, chromedp.Evaluate[int](`document.documentElement.scrollWidth`)); width > 320 {
			t.Errorf("%s is %d px wide", path, width)
		}
		if low := inPage(ctx, t, chromedp.Evaluate[string](lowTargets)); low != "" {
			t.Errorf("%s: %s lower than 44 px", path, low)
		}
	}

	// The code is in a field that can be selected, and the button copies it where scripts run.
	copied := chromedp.Evaluate[string](`(f => f.value.slice(f.selectionStart, f.selectionEnd))(document.getElementById("code"))`)
	inPage(ctx, t, chromedp.Navigate(server.URL+"/code"))
	inPage(ctx, t, chromedp.Click(chromedp.CSS("#copy")))
	inPage(ctx, t, chromedp.Poll[bool](`document.getElementById("copy").textContent == "Copied"`))
	if got := inPage(ctx, t, copied); got != "sample-code" {
		t.Errorf("the button selects %q", got)
	}
	withScripts := func(run bool) {
		t.Helper()
		if _, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !run}); err != nil {
			t.Fatal(err)
		}
	}
	withScripts(false)
	inPage(ctx, t, chromedp.Navigate(server.URL+"/code"))
	inPage(ctx, t, chromedp.KeyEvent(kb.Tab))
	if got := inPage(ctx, t, copied); got != "sample-code" {
		t.Errorf("without scripts, Tab selects %q", got)
	}
	if shown := inPage(ctx, t, chromedp.Evaluate[bool](`document.getElementById("copy").checkVisibility()`)); shown {
		t.Error("without scripts, there is a button that does nothing")
	}
	withScripts(true)

	// The widths and heights hold for every page, also from right to left, and each is in the middle of a wide window.
	mux.HandleFunc("/page/{name}/{language}", func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("Accept-Language", r.PathValue("language"))
		if err := pagesOf(p, r)[r.PathValue("name")](w); err != nil {
			t.Error(err)
		}
	})
	for name := range pagesOf(p, speaking("en")) {
		if name == "form_post" { // leaves at once
			continue
		}
		for _, spoken := range []string{"ar", "de"} {
			at := server.URL + "/page/" + url.PathEscape(name) + "/" + spoken
			inPage(ctx, t, chromedp.EmulateViewport(320, 640))
			inPage(ctx, t, chromedp.Navigate(at))
			if width := inPage(ctx, t, chromedp.Evaluate[int](`document.documentElement.scrollWidth`)); width > 320 {
				t.Errorf("%s in %s is %d px wide", name, spoken, width)
			}
			if low := inPage(ctx, t, chromedp.Evaluate[string](lowTargets)); low != "" {
				t.Errorf("%s in %s: %s lower than 44 px", name, spoken, low)
			}
			inPage(ctx, t, chromedp.EmulateViewport(1200, 800))
			if middle := inPage(ctx, t, chromedp.Evaluate[float64](`(b => (b.left + b.right) / 2)(document.querySelector("main").getBoundingClientRect())`)); math.Abs(middle-600) > 10 {
				t.Errorf("%s in %s has its middle at %v px of 1200", name, spoken, middle)
			}
		}
	}

	// The texts that a screen reader reads, in order.
	inPage(ctx, t, chromedp.Navigate(server.URL+"/consent"))
	tree, err := chromedp.Call(ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	if err != nil {
		t.Fatal(err)
	}
	nodes := map[accessibility.NodeID]*accessibility.Node{}
	for _, node := range tree.Nodes {
		nodes[node.NodeID] = node
	}
	spoken, listen := "", (func(accessibility.NodeID))(nil)
	listen = func(id accessibility.NodeID) {
		if node := nodes[id]; !node.Ignored && node.Name != nil {
			spoken += fmt.Sprintf("%s %s\n", node.Role.Value, node.Name.Value)
		}
		for _, child := range nodes[id].ChildIDs {
			listen(child)
		}
	}
	listen(tree.Nodes[0].NodeID)
	rest := spoken
	for _, want := range []string{
		`"main"`, `"heading" "Example app wants to access your account on example.com"`, `"list" "What it asks for"`, `"your orders"`,
		`"term" "You are signed in as"`, `"user@example.com"`, `"app.example.com"`, `"button" "Deny"`, `"button" "Allow"`,
	} {
		var found bool
		if _, rest, found = strings.Cut(rest, want); !found {
			t.Fatalf("%s is not in its place in\n%s", want, spoken)
		}
	}
}
