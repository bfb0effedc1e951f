package pages

import (
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/internal/pages/pagestest"
)

const hostile = "<img src=x onerror=alert(1)>\"'><script>alert(1)</script>\u202egro.elpmaxe\u2066\x00\r\n{{.Nonce}}"

// ownTemplate is the shortest valid template of an owner.
const ownTemplate = `<!doctype html><title>Hi</title><style nonce="{{.Nonce}}">b{color:red}</style>
<form method="post" action="{{.Action}}"><b>{{.Client.Name}}</b> {{.User}} {{.Destination}} {{range .Scopes}}{{.Name}}{{end}}
<input type="hidden" name="request" value="{{.Request}}">
<button name="decision" value="allow">Yes</button><button name="decision" value="deny">No</button></form>`

// owners returns an owner's template for a page, if there is one.
func owners(name, template string) map[string][]byte {
	if template == "" {
		return nil
	}
	return map[string][]byte{name: []byte(template)}
}

func newTestPages(t *testing.T, consentTemplate string) *Pages {
	t.Helper()
	p, err := New(Config{
		Host: "example.com", Templates: owners("consent", consentTemplate),
		Scopes: []ScopeWords{{Name: "orders", Description: "your orders", Languages: map[string]string{"de": "Ihre Bestellungen"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// speaking returns a request of a browser with the languages.
func speaking(languages string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Accept-Language", languages)
	return r
}

// recorder counts the writes of a page.
type recorder struct {
	*httptest.ResponseRecorder
	writes int
}

func (w *recorder) Write(b []byte) (int, error) {
	w.writes++
	return w.ResponseRecorder.Write(b)
}

func writtenPage(t *testing.T, write func(http.ResponseWriter) error) *recorder {
	t.Helper()
	w := &recorder{ResponseRecorder: httptest.NewRecorder()}
	if err := write(w); err != nil {
		t.Fatal(err)
	}
	return w
}

func consentOf(t *testing.T, page ConsentPage) *recorder {
	t.Helper()
	return writtenPage(t, func(w http.ResponseWriter) error { return newTestPages(t, "").Consent(w, speaking("en"), page) })
}

func TestPagesAreSealed(t *testing.T) {
	built, own := newTestPages(t, ""), newTestPages(t, ownTemplate)
	for name, test := range map[string]struct {
		write  func(http.ResponseWriter) error
		status int
		policy string // after the directives of every page
	}{
		"consent": {func(w http.ResponseWriter) error { return built.Consent(w, speaking("en"), sampleConsents[0]) }, 200, ""},
		"owner's": {func(w http.ResponseWriter) error { return own.Consent(w, speaking("en"), sampleConsents[0]) }, 200, ""},
		"code":    {func(w http.ResponseWriter) error { return built.Code(w, speaking("en"), CodePage{}) }, 200, "script-src 'nonce-NONCE'; form-action 'none'"},
		"error": {func(w http.ResponseWriter) error {
			return built.Error(w, speaking("en"), 418, ErrorPage{Failure: BadRequest, ID: "x"})
		}, 418, "form-action 'none'"},
		"form": {func(w http.ResponseWriter) error {
			return built.FormPost(w, speaking("en"), FormPostPage{URL: "https://a.example/"})
		}, 200, "script-src 'nonce-NONCE'"},
	} {
		t.Run(name, func(t *testing.T) {
			w := writtenPage(t, test.write)
			if w.Code != test.status || w.writes != 1 || w.Header().Get("Content-Length") != strconv.Itoa(w.Body.Len()) {
				t.Errorf("status %d, %d writes, Content-Length %q of %d", w.Code, w.writes, w.Header().Get("Content-Length"), w.Body.Len())
			}
			found := regexp.MustCompile(`nonce="(\w{26})"`).FindStringSubmatch(w.Body.String())
			if found == nil || strings.Contains(writtenPage(t, test.write).Body.String(), found[1]) {
				t.Fatalf("no fresh nonce: %q", found)
			}
			images := "img-src data:"
			if name == "owner's" {
				images = "img-src 'self' data:; font-src 'self' data:"
			}
			for header, want := range map[string]string{
				"Cache-Control": "no-store", "Content-Type": "text/html; charset=utf-8", "Referrer-Policy": "no-referrer",
				"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Set-Cookie": "",
				"Content-Security-Policy": strings.TrimSuffix("default-src 'none'; style-src 'nonce-NONCE'; "+images+"; base-uri 'none'; frame-ancestors 'none'; "+test.policy, "; "),
			} {
				if got := strings.ReplaceAll(w.Header().Get(header), found[1], "NONCE"); got != want {
					t.Errorf("%s: %q, want %q", header, got, want)
				}
			}
			if loads := regexp.MustCompile(`url\(|@import|src="[^d]|href="h|style="`).FindString(w.Body.String()); loads != "" {
				t.Errorf("the page has %q", loads)
			}
		})
	}
}

func TestConsentPageTarget(t *testing.T) {
	for i, test := range []struct {
		uri, destination string
		refused          bool
	}{
		{uri: "https://app.example.com/cb?x=1", destination: "app.example.com"},
		{uri: "https://APP.example.com:8443/cb", destination: "app.example.com:8443"},
		{uri: "https://user@app.example.com@evil.example/cb", destination: "evil.example"},
		{uri: "https://аpple.com/cb", destination: "xn--pple-43d.com"}, // Cyrillic а
		{uri: "https://[2001:db8::1]:8443/", destination: "[2001:db8::1]:8443"},
		{uri: "http://127.0.0.1:4711/cb", destination: "an app on this device (127.0.0.1)"},
		{uri: "http://localhost/cb", destination: "an app on this device (localhost)"},
		{uri: "http://app.localhost:3000/cb", destination: "an app on this device (app.localhost)"},
		{uri: "http://[::1]:4711/cb", destination: "an app on this device (::1)"},
		{uri: "http://127.8.8.8/cb", destination: "an app on this device (127.8.8.8)"},
		{uri: "http://intra.example:8080/cb", destination: "http://intra.example:8080"},
		{uri: "http://a;script-src,*/cb", destination: "http://a;script-src,*"},
		{uri: "com.example.app:/cb", destination: "an app on this device (com.example.app)"},
		{uri: "urn:ietf:wg:oauth:2.0:oob:auto", destination: "a page that shows a code to copy into the app"},
		{uri: ""},
		{uri: "https:///cb", refused: true},
		{uri: "https://a b/", refused: true},
		{uri: "https://xn--a/", refused: true},
	} {
		page := sampleConsents[0]
		page.RedirectURI, page.Local = test.uri, i%2 > 0
		w := httptest.NewRecorder()
		err := newTestPages(t, "").Consent(w, speaking("en"), page)
		if test.refused || err != nil {
			if test.refused != (err != nil) || w.Body.Len() > 0 {
				t.Errorf("%s: %v, %d bytes", test.uri, err, w.Body.Len())
			}
			continue
		}
		_, text := pagestest.Parts(w.Body)
		if !strings.Contains(text, test.destination) || strings.Contains(text, "pose as this one") != page.Local {
			t.Errorf("%s: not %q, local %v, in %q", test.uri, test.destination, page.Local, text)
		}
		// Browsers apply form-action to every redirect that follows the post, and the application decides where these lead.
		if policy := w.Header().Get("Content-Security-Policy"); strings.Contains(policy, "form-action") {
			t.Errorf("%s: %s", test.uri, policy)
		}
	}
}

func TestConsentForStrangers(t *testing.T) {
	for name, test := range map[string]struct {
		app         App
		redirectURI string
		want        []string
		not         []string
	}{
		"the owner's client": {
			App{Name: "Shop", ID: "shop"},
			"https://shop.example/cb",
			[]string{"Shop wants to access", "Your answer goes only here."},
			[]string{"calls itself Shop", "another website"},
		},
		"a registered client": {
			App{Name: "Shop", ID: "d.1", Unchecked: true},
			"https://shop.example/cb",
			[]string{"An app that calls itself Shop wants to access", "shop.example", "Your answer goes only here."},
			[]string{"another website"},
		},
		"a described client": {
			App{Name: "shop.example", ID: "https://shop.example/client.json", Described: true, CallsItself: "Shop"},
			"https://shop.example/cb",
			[]string{"shop.example wants to access", "The app calls itself Shop.", "Your answer goes only here."},
			[]string{"another website"},
		},
		"a described client that leads elsewhere": {
			App{Name: "shop.example", ID: "https://shop.example/client.json", Described: true, CallsItself: "Shop"},
			"https://evil.example/cb",
			[]string{"shop.example wants to access", "evil.example", "This is another website than shop.example."},
			[]string{"goes only here"},
		},
		"a described client without a name that leads elsewhere": {
			App{Name: "shop.example", ID: "https://shop.example/client.json", Described: true},
			"https://evil.example/cb",
			[]string{"shop.example wants to access", "This is another website than shop.example."},
			[]string{"calls itself", "goes only here"},
		},
		"a described client on this device": {
			App{Name: "shop.example", ID: "https://shop.example/client.json", Described: true, CallsItself: "Shop"},
			"http://127.0.0.1:1/cb",
			[]string{"an app on this device (127.0.0.1)", "pose as this one"},
			[]string{"another website", "goes only here"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			page := sampleConsents[0]
			page.Client, page.RedirectURI = test.app, test.redirectURI
			page.Local = strings.HasPrefix(test.redirectURI, "http:")
			_, text := pagestest.Parts(consentOf(t, page).Body)
			for _, want := range test.want {
				if !strings.Contains(text, want) {
					t.Errorf("not %q in %q", want, text)
				}
			}
			for _, not := range test.not {
				if strings.Contains(text, not) {
					t.Errorf("%q in %q", not, text)
				}
			}
		})
	}
}

func TestPagesHoldHostileText(t *testing.T) {
	page := sampleConsents[0]
	want, _ := pagestest.Parts(consentOf(t, page).Body)
	page.Client = App{Name: hostile, ID: hostile, URI: "javascript:alert(1)"}
	page.Scopes = []Scope{{Name: "orders", New: true}, {Name: hostile}}
	page.Audience, page.User = []string{hostile}, hostile
	page.SwitchURL, page.Action = "javascript:alert(1)", "javascript:alert(1)"
	tags, text := pagestest.Parts(consentOf(t, page).Body)
	if len(tags) != len(want) {
		t.Fatalf("elements %v, want %v", tags, want)
	}
	for i, tag := range tags {
		if tag.Data != want[i].Data || len(tag.Attr) != len(want[i].Attr) || strings.Contains(tag.String(), "javascript:") {
			t.Errorf("%v, want %v", tag, want[i])
		}
	}
	if strings.ContainsAny(text, "\u202e\u2066\x00\r") || strings.Count(text, "gro.elpmaxe {{.Nonce}}") != 6 {
		t.Errorf("%q", text)
	}

	if newTestPages(t, "").FormPost(httptest.NewRecorder(), speaking("en"), FormPostPage{URL: "javascript:alert(1)"}) == nil {
		t.Error("a form posts to javascript:")
	}
	w := writtenPage(t, func(w http.ResponseWriter) error {
		return newTestPages(t, "").FormPost(w, speaking("en"), FormPostPage{URL: "https://a.example/?x=\"><b>", Params: [][2]string{{"state", "\"><b>"}}})
	})
	if strings.Contains(w.Body.String(), "<b>") {
		t.Error(w.Body)
	}
}

// WCAG 2.2 §1.4.3 asks 4.5 of text, §1.4.11 asks 3 of the edges of controls and of focus rings.
func TestPagePalette(t *testing.T) {
	layout, err := templates.ReadFile("templates/layout.html")
	if err != nil {
		t.Fatal(err)
	}
	light, dark, ok := strings.Cut(string(layout), "@media (prefers-color-scheme: dark)")
	if !ok {
		t.Fatal("no dark palette")
	}
	for name, css := range map[string]string{"light": light, "dark": dark} {
		luminance := map[string]float64{}
		for _, m := range regexp.MustCompile(`--([a-z-]+): #(..)(..)(..);`).FindAllStringSubmatch(css, -1) {
			for i, weight := range []float64{.2126, .7152, .0722} {
				channel, err := strconv.ParseUint(m[2+i], 16, 8)
				if err != nil {
					t.Fatal(err)
				}
				luminance[m[1]] += weight * math.Pow((float64(channel)/255+.055)/1.055, 2.4)
			}
		}
		for _, test := range []struct {
			front, back string
			least       float64
		}{
			{"text", "card", 4.5},
			{"text", "hover", 4.5},
			{"muted", "card", 4.5},
			{"link", "card", 4.5},
			{"accent-edge", "card", 3},
			{"danger", "card", 4.5},
			{"on-danger", "danger", 4.5},
			{"on-danger", "danger-hover", 4.5},
			{"on-accent", "accent", 4.5},
			{"on-accent", "accent-hover", 4.5},
			{"on-badge", "badge", 4.5},
			{"on-note", "note", 4.5},
			{"edge", "card", 3},
		} {
			a, aok := luminance[test.front]
			b, bok := luminance[test.back]
			if ratio := (max(a, b) + .05) / (min(a, b) + .05); !aok || !bok || ratio < test.least {
				t.Errorf("%s: %s on %s has %.2f, want %.1f", name, test.front, test.back, ratio, test.least)
			}
		}
	}
}
