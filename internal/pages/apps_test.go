package pages

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/pages/pagestest"
)

var epoch = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func appsOf(t *testing.T, page AppsPage) *recorder {
	t.Helper()
	return writtenPage(t, func(w http.ResponseWriter) error { return newTestPages(t, "").Apps(w, speaking("en"), page) })
}

func english(t *testing.T) *locale {
	t.Helper()
	return newTestPages(t, "").languages.locales[0]
}

func TestAgo(t *testing.T) {
	for _, row := range []struct {
		since time.Duration
		want  string
	}{
		{-time.Minute, "within the last hour"}, // the clocks of two nodes differ
		{0, "within the last hour"},
		{time.Hour - 1, "within the last hour"},
		{time.Hour, "1 hour ago"},
		{23*time.Hour + 59*time.Minute, "23 hours ago"},
		{24 * time.Hour, "1 day ago"},
		{30*24*time.Hour - 1, "29 days ago"},
		{30 * 24 * time.Hour, epoch.UTC().Format("2 January 2006")},
	} {
		if got := english(t).ago(epoch, epoch.Add(row.since)); got.Words != row.want || got.Machine != epoch.UTC().Format(time.RFC3339) {
			t.Errorf("after %v: %+v, want %q", row.since, got, row.want)
		}
	}
	if got := english(t).ago(time.Time{}, epoch); got != (moment{}) {
		t.Errorf("never is %+v", got)
	}
}

// The person may open the page on another device than that of the app.
func TestWhereabouts(t *testing.T) {
	for uri, want := range map[string]string{
		"https://app.example.com/callback":     "app.example.com",
		"https://app.example.com:8443/":        "app.example.com:8443",
		"https://bücher.example/":              "xn--bcher-kva.example",
		"http://app.example.com/":              "http://app.example.com",
		"com.example.app:/callback":            "a device of yours (com.example.app)",
		"http://127.0.0.1:1234/":               "a device of yours (127.0.0.1)",
		"http://localhost/":                    "a device of yours (localhost)",
		"urn:ietf:wg:oauth:2.0:oob":            "",
		"https://[":                            "",
		"https://user:password@app.example/cb": "app.example",
	} {
		if got := whereabouts(english(t), uri); got != want {
			t.Errorf("%s is %q, want %q", uri, got, want)
		}
	}
}

func TestAppsPageHoldsHostileText(t *testing.T) {
	sample := ConnectedApp{
		App: App{ID: "app", Name: "App"}, Scopes: []Scope{{Name: "orders"}, {Name: "c"}},
		RedirectURIs: []string{"https://d.example"}, Used: epoch,
	}
	bad := ConnectedApp{
		App: App{ID: hostile, Name: hostile}, Scopes: []Scope{{Name: "orders"}, {Name: hostile}},
		RedirectURIs: []string{"https://" + url.PathEscape(hostile), "http://<b>"}, Used: epoch,
	}
	for _, page := range []AppsPage{{}, {RemoveOne: true}, {RemoveAll: true}} {
		page.Now, page.User, page.Removed, page.Apps = epoch, "u", "r", []ConnectedApp{sample}
		want, _ := pagestest.Parts(appsOf(t, page).Body)
		page.User, page.Removed, page.Apps = hostile, hostile, []ConnectedApp{bad}
		page.Action, page.Request = "javascript:alert(1)", hostile
		tags, text := pagestest.Parts(appsOf(t, page).Body)
		if len(tags) != len(want) {
			t.Fatalf("elements %v, want %v", tags, want)
		}
		for i, tag := range tags {
			if tag.Data != want[i].Data || len(tag.Attr) != len(want[i].Attr) || strings.Contains(tag.String(), "javascript:") {
				t.Errorf("%v, want %v", tag, want[i])
			}
		}
		if strings.ContainsAny(text, "\u202e\u2066") {
			t.Errorf("the direction of the text can be turned: %q", text)
		}
	}
}

// RFC 9700 §4.16. The post of a person whose session has ended leads to the login page, on any origin.
func TestAppsPagePolicy(t *testing.T) {
	w := appsOf(t, AppsPage{})
	policy := w.Header().Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; style-src 'nonce-") || !strings.Contains(policy, "frame-ancestors 'none'") {
		t.Error(policy)
	}
	if strings.Contains(policy, "form-action") {
		t.Errorf("the policy stops redirects: %s", policy)
	}
	if tags, _ := pagestest.Parts(w.Body); strings.Contains(tags[0].String(), "script") || w.writes != 1 {
		t.Errorf("%d writes of %v", w.writes, tags)
	}
}
