package pages

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/pages/pagestest"
)

// catalogOf returns the built-in English catalog with some changes, as a catalog of an owner.
func catalogOf(t *testing.T, changes map[string]any, without ...string) []byte {
	t.Helper()
	text, err := catalogs.ReadFile("languages/en.json")
	if err != nil {
		t.Fatal(err)
	}
	words := make(map[string]any)
	if err := json.Unmarshal(text, &words); err != nil {
		t.Fatal(err)
	}
	maps.Copy(words, changes)
	for _, name := range without {
		delete(words, name)
	}
	if text, err = json.Marshal(words); err != nil {
		t.Fatal(err)
	}
	return text
}

// OpenID Connect Core section 3.1.2.1: the application may ask for languages, in its order of preference.
func TestLanguageThatTheApplicationAsksFor(t *testing.T) {
	l, err := newLanguages(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ query, want string }{
		{"", "de"},
		{"ui_locales=fr", "fr"},
		{"ui_locales=fr-CA+en", "fr"},
		{"ui_locales=fi+ja+fr", "ja"},
		{"ui_locales=fi", "de"},
		{"ui_locales=%zz", "de"},
		{"ui_locales=_+-+" + strings.Repeat("x", 300) + "+ar", "ar"},
		{"ui_locales=" + strings.Repeat("fi+", maxUILocales) + "ar", "de"},
		{"x=ui_locales", "de"},
	} {
		r := speaking("de")
		r.URL.RawQuery = tt.query
		if got := l.of(r).tag.String(); got != tt.want {
			t.Errorf("%.60s gives %s, want %s", tt.query, got, tt.want)
		}
	}
}

func TestLanguageOfTheBrowser(t *testing.T) {
	own, err := newLanguages(map[string][]byte{
		"nl":    catalogOf(t, map[string]any{"allow": "Toestaan"}),
		"de-CH": []byte(`{"deny": "Nein"}`),
		"en":    []byte(`{"allow": "Yes"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ header, language, allow string }{
		{"", "en", "Yes"},
		{"*", "en", "Yes"},
		{"de", "de", "Erlauben"},
		{"de-AT,en;q=0.5", "de", "Erlauben"},
		{"de-CH", "de-CH", "Erlauben"},
		{"en-GB", "en", "Yes"},
		{"fr-CA,fr;q=0.9", "fr", "Autoriser"},
		{"es-419", "es", "Permitir"},
		{"ja-JP", "ja", "許可する"},
		{"zh-CN", "zh-Hans", "允许"},
		{"zh", "zh-Hans", "允许"},
		{"ar-EG", "ar", "سماح"},
		{"nl-BE", "nl", "Toestaan"},
		{"sv,fr;q=0.3", "fr", "Autoriser"},
		{"en;q=0.1,ja;q=0.9", "ja", "許可する"},
		{"sv", "en", "Yes"},
		{"not a header;;;", "en", "Yes"},
		{strings.Repeat("ja,", 400), "en", "Yes"}, // too long
	} {
		l := own.of(speaking(tt.header))
		if got := l.tag.String(); got != tt.language || l.text("allow") != tt.allow {
			t.Errorf("%.20q: %s %s, want %s %s", tt.header, got, l.text("allow"), tt.language, tt.allow)
		}
	}
	if swiss := own.of(speaking("de-CH")); swiss.text("deny") != "Nein" {
		t.Errorf("de-CH has %s", swiss.text("deny"))
	}
}

func TestCatalogOfOwner(t *testing.T) {
	for want, own := range map[string]map[string][]byte{
		"language nl: there are no words for allow, deny":                     {"nl": catalogOf(t, nil, "allow", "deny")},
		"language nl: no page has words with the name welcome":                {"nl": catalogOf(t, map[string]any{"welcome": "Hi"})},
		"language de: no page has words with the name welcome":                {"de": []byte(`{"welcome": "Hi"}`)},
		"language en: no page has words with the name welcome":                {"en": []byte(`{"welcome": "Hi"}`)},
		"language en: consent_heading: expected the values {app} {site} as":   {"en": []byte(`{"consent_heading": "{app}!"}`)},
		"language nl: allow: expected the values none as in English, got {x}": {"nl": catalogOf(t, map[string]any{"allow": "{x}"})},
		"language nl: months: expected twelve names":                          {"nl": catalogOf(t, map[string]any{"months": "January"})},
		`language en: expected JSON: there is no plural form "lots"`:          {"en": []byte(`{"used_days": {"lots": "{n}"}}`)},
		`language en: expected JSON: the plural form "other" is missing`:      {"en": []byte(`{"used_days": {"one": "{n}"}}`)},
		"language en: expected JSON: expected a text":                         {"en": []byte(`{"used_days": 7}`)},
		"language en: expected JSON:":                                         {"en": []byte("hello")},
		"language english!: expected the tag of a language":                   {"english!": []byte(`{}`)},
	} {
		if _, err := New(Config{Languages: own}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestPluralsAndDates(t *testing.T) {
	all, err := newLanguages(nil)
	if err != nil {
		t.Fatal(err)
	}
	day := time.Date(2026, 3, 9, 23, 0, 0, 0, time.UTC)
	for tag, want := range map[string][]string{ // 1, 2, 3, 11 and 25 hours or days, and a day
		"en":      {"1 hour ago", "2 hours ago", "3 hours ago", "11 hours ago", "25 days ago", "9 March 2026"},
		"de":      {"vor 1 Stunde", "vor 2 Stunden", "vor 3 Stunden", "vor 11 Stunden", "vor 25 Tagen", "9. März 2026"},
		"fr":      {"il y a 1 heure", "il y a 2 heures", "il y a 3 heures", "il y a 11 heures", "il y a 25 jours", "9 mars 2026"},
		"es":      {"hace 1 hora", "hace 2 horas", "hace 3 horas", "hace 11 horas", "hace 25 días", "9 de marzo de 2026"},
		"ja":      {"1時間前", "2時間前", "3時間前", "11時間前", "25日前", "2026年3月9日"},
		"zh-Hans": {"1 小时前", "2 小时前", "3 小时前", "11 小时前", "25 天前", "2026年3月9日"},
		"ar":      {"قبل ساعة واحدة", "قبل ساعتين", "قبل ٣ ساعات", "قبل ١١ ساعة", "قبل ٢٥ يومًا", "٩ مارس ٢٠٢٦"},
	} {
		l := all.of(speaking(tag))
		got := []string{l.day(day)}
		for _, ago := range []int{1, 2, 3, 11, 25 * 24} {
			got = slices.Insert(got, len(got)-1, l.ago(epoch, epoch.Add(time.Duration(ago)*time.Hour)).Words)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", tag, got, want)
		}
	}
}

// Every page has its words in every language, and no value that is not filled in.
func TestPagesInEveryLanguage(t *testing.T) {
	p := newTestPages(t, "")
	said := make(map[string]string) // the languages by the text of their pages
	for _, l := range p.languages.locales {
		r := speaking(l.tag.String())
		var all strings.Builder
		for name, write := range pagesOf(p, r) {
			w := writtenPage(t, write)
			html := w.Body.String()
			tags, text := pagestest.Parts(w.Body)
			if !strings.Contains(html, `<html lang="`+l.tag.String()+`" dir="`+l.direction()+`">`) || w.Header().Get("Content-Language") != l.tag.String() {
				t.Errorf("%s in %s begins with %v and has the header %v", name, l.tag, tags[0], w.Header())
			}
			if w.Header().Get("Vary") != "Accept-Language" {
				t.Errorf("%s: Vary is %q", name, w.Header().Get("Vary"))
			}
			if left := placeholder.FindString(text); left != "" {
				t.Errorf("%s in %s has %s: %s", name, l.tag, left, text)
			}
			all.WriteString(text)
		}
		if other, same := said[all.String()]; same {
			t.Errorf("%s and %s have the same words", other, l.tag)
		}
		said[all.String()] = l.tag.String()
	}
}

// pagesOf returns functions that write each page, as a request asks for it.
func pagesOf(p *Pages, r *http.Request) map[string]func(http.ResponseWriter) error {
	app := ConnectedApp{
		App: App{ID: "app", Name: "App"}, Scopes: []Scope{{Name: "orders"}, {Name: "other"}},
		RedirectURIs: []string{"http://127.0.0.1/"}, Since: epoch, Used: epoch, Trusted: true,
	}
	other := app
	other.Trusted, other.Used, other.RedirectURIs = false, time.Time{}, nil
	all := map[string]func(http.ResponseWriter) error{
		"consent":   func(w http.ResponseWriter) error { return p.Consent(w, r, sampleConsents[0]) },
		"minimal":   func(w http.ResponseWriter) error { return p.Consent(w, r, sampleConsents[1]) },
		"code":      func(w http.ResponseWriter) error { return p.Code(w, r, CodePage{Client: "App", Code: "c"}) },
		"form_post": func(w http.ResponseWriter) error { return p.FormPost(w, r, FormPostPage{URL: "https://a.example/"}) },
	}
	for _, failure := range []Failure{BadRequest, UnknownApp, Stale, SignIn, Account, Denied, Busy, Broken} {
		all["error "+string(failure)] = func(w http.ResponseWriter) error {
			return p.Error(w, r, 400, ErrorPage{Failure: failure, Detail: "d", ID: "x"})
		}
	}
	for name, page := range map[string]LogoutPage{
		"logout":           {State: AskSignOut, User: "u", Request: "r", Action: "/oauth/logout"},
		"logout of apps":   {State: AskSignOut, SiteStays: true, Everywhere: true},
		"logout of an app": {State: AskSignOut, Client: app.App},
		"logout stayed":    {State: StillSignedIn},
		"logout out":       {State: SignedOut, Continue: "https://a.example/"},
		"logout apps":      {State: SiteSignedIn, Client: app.App, Continue: "https://a.example/"},
	} {
		all[name] = func(w http.ResponseWriter) error { return p.Logout(w, r, page) }
	}
	for name, page := range map[string]AppsPage{
		"no apps":    {},
		"apps":       {Apps: []ConnectedApp{app, other}, User: "u", Removed: "r"},
		"remove":     {Apps: []ConnectedApp{app}, RemoveOne: true},
		"remove all": {Apps: []ConnectedApp{app, other}, RemoveAll: true},
	} {
		page.Now = epoch.Add(3 * time.Hour)
		all[name] = func(w http.ResponseWriter) error { return p.Apps(w, r, page) }
	}
	ask := DeviceAsk{
		Access:  Access{Client: App{ID: "app", Name: "App"}, Scopes: app.Scopes},
		Address: "192.0.2.1", Own: "192.0.2.1", Started: epoch, Now: epoch,
	}
	later := ask
	later.Own, later.Now = "192.0.2.2", epoch.Add(2*time.Minute)
	for name, page := range map[string]DevicePage{
		"device code":  {},
		"device wrong": {Wrong: true, User: "u", SwitchURL: "/login"},
		"device link":  {Code: "WDJB-MJHT"},
		"device ask":   {Code: "WDJB-MJHT", Ask: &ask},
		"device later": {Code: "WDJB-MJHT", Ask: &later, User: "u"},
		"device allow": {Decision: "allow", Client: "App"},
		"device deny":  {Decision: "deny", Client: "App"},
	} {
		all[name] = func(w http.ResponseWriter) error { return p.Device(w, r, page) }
	}
	return all
}

func TestScopeInTheLanguageOfThePage(t *testing.T) {
	p, err := New(Config{
		Languages: map[string][]byte{"de-CH": []byte(`{"deny": "Nein"}`)},
		Scopes: []ScopeWords{
			{Name: "orders", Description: "see your orders", Languages: map[string]string{"de": "Ihre Bestellungen sehen", "zh": "查看您的订单"}},
			{Name: "bare"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	page := sampleConsents[0]
	page.Scopes = []Scope{{Name: "orders"}, {Name: "bare"}}
	for header, want := range map[string]string{
		"en": "see your orders", "fr": "see your orders", "de": "Ihre Bestellungen sehen", "de-CH": "Ihre Bestellungen sehen", "zh-CN": "查看您的订单",
	} {
		w := writtenPage(t, func(w http.ResponseWriter) error { return p.Consent(w, speaking(header), page) })
		if _, text := pagestest.Parts(w.Body); !strings.Contains(text, want) || !strings.Contains(text, "bare") {
			t.Errorf("%s: not %q in %s", header, want, text)
		}
	}
	for name, want := range map[string]string{"de": "", "de-AT": "", "zh": "", "nl": "expected a language of the pages, ar, de, en, es,", "x y": "expected the tag"} {
		if err := CheckLanguage(name, nil); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	if err := CheckLanguage("nl-BE", []string{"nl"}); err != nil {
		t.Error(err)
	}
}

// A template can say nothing that the catalogs do not have, and must give each value.
func TestSay(t *testing.T) {
	said := english(t).said()
	got, err := said.Say("consent_heading", "app", "<b>{site}", "site", "example.com")
	if want := "<bdi>&lt;b&gt;{site}</bdi> wants to access your account on <bdi>example.com</bdi>"; err != nil || string(got) != want {
		t.Errorf("%s %v, want %s", got, err, want)
	}
	if plain, err := said.Plain("consent_title", "app", "<b>"); err != nil || plain != "<b> wants to access your account" {
		t.Errorf("%s %v", plain, err)
	}
	if _, err := said.Say("nothing"); err == nil {
		t.Error("it says what no catalog has")
	}
	if _, err := said.Say("consent_heading", "app", "x"); err == nil || !bytes.Contains([]byte(err.Error()), []byte("{site}")) {
		t.Errorf("without a value: %v", err)
	}
}
