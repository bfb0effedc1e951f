package pages

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/internal/pages/pagestest"
)

// The shortest valid templates of an owner, by the name of their page.
var ownTemplates = map[string]string{
	"consent": ownTemplate,
	"apps": `<title>Own</title>{{range .Apps}}{{.Name}}{{if not (or $.RemoveOne $.RemoveAll)}}<a href="{{$.Action}}?client={{.ID}}">x</a>{{end}}{{end}}
{{if or .RemoveOne .RemoveAll}}<form method="post" action="{{.Action}}"><input type="hidden" name="request" value="{{.Request}}">
{{if .RemoveOne}}<button name="client" value="{{(index .Apps 0).ID}}">x</button>{{else}}<button name="all" value="1">x</button>{{end}}</form>{{end}}`,
	"device": `<title>Own</title>{{if .Decision}}{{.Client}}{{else}}<form method="post" action="{{.Action}}">
<input type="hidden" name="request" value="{{.Request}}">{{with .Ask}}{{.Client.Name}} {{.Address}} {{range .Scopes}}{{.Name}}{{end}} {{$.Code}} {{$.User}}
<button name="decision" value="allow">x</button><button name="decision" value="deny">x</button>{{else}}<input name="user_code" value="{{.Code}}">{{end}}</form>{{end}}`,
	"code": `<title>{{.PageTitle}}</title><input readonly value="{{.Code}}"><script nonce="{{.Nonce}}">1</script>`,
	"form_post": `<title>Own</title><form method="post" action="{{.URL}}">{{range .Params}}<input type="hidden" name="{{index . 0}}" value="{{index . 1}}">{{end}}
<button>{{.Say "continue"}}</button></form><script nonce="{{.Nonce}}">document.forms[0].submit()</script>`,
	"logout": `<title>Own</title><form method="post" action="{{.Action}}"><input type="hidden" name="request" value="{{.Request}}">
		<button name="decision" value="sign_out">out</button><button name="decision" value="stay">stay</button></form><a href="{{.Continue}}">on</a>`,
	"error": `<title>Own</title><h1>{{.Title}}</h1>{{.Text}} {{.ID}} {{if eq .Language "de"}}Hallo{{end}}`,
}

func TestTemplatesOfOwner(t *testing.T) {
	for name, template := range ownTemplates {
		p, err := New(Config{Host: "example.com", Templates: owners(name, template)})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		builtin := newTestPages(t, "")
		for page, write := range pagesOf(p, speaking("de")) {
			own := pageNamed(page) == name
			w := writtenPage(t, write)
			if policy := w.Header().Get("Content-Security-Policy"); strings.Contains(policy, "img-src 'self' data:; font-src 'self' data:") != own {
				t.Errorf("%s with a template for %s: %s", page, name, policy)
			}
			_, text := pagestest.Parts(w.Body)
			_, usual := pagestest.Parts(writtenPage(t, pagesOf(builtin, speaking("de"))[page]).Body)
			if (text != usual) != own && !strings.Contains(usual, "Ihre Bestellungen") {
				t.Errorf("%s with a template for %s: %s", page, name, text)
			}
		}
	}
	if len(ownTemplates) != len(Names) {
		t.Errorf("%d templates for %d pages", len(ownTemplates), len(Names))
	}
}

// pageNamed returns the name of the template of a page of pagesOf.
func pageNamed(page string) string {
	switch {
	case page == "minimal":
		return "consent"
	case strings.HasPrefix(page, "device"):
		return "device"
	case strings.HasPrefix(page, "error"):
		return "error"
	case page == "code", page == "consent", page == "form_post":
		return page
	case strings.HasPrefix(page, "logout"):
		return "logout"
	}
	return "apps"
}

// A mistake in a template is found when the configuration is loaded, whichever page, case or language it is in.
func TestTemplatesOfOwnerAreTried(t *testing.T) {
	for _, tt := range []struct{ name, template, want string }{
		{"consent", "one\ntwo\n{{.Client.Nope}}", "template: consent:3:"},
		{"consent", "one\n{{if .User}}", "consent:2:"},
		{"consent", "{{if not .User}}{{.Nope}}{{end}}" + ownTemplate, "Nope"},
		{"consent", "<a href='{{if .User}}x'{{end}}", "end in different contexts"},
		{"consent", "hello", `it lacks a <form method="post" action="{{.Action}}">`},
		{"consent", strings.ReplaceAll(ownTemplate, `="deny"`, `="no"`), `the value "deny"`},
		{"consent", strings.ReplaceAll(ownTemplate, `.Request`, `.Action`), `the value {{.Request}}`},
		{"consent", strings.ReplaceAll(ownTemplate, `{{.User}}`, ``), "it lacks {{.User}}"},
		{"consent", strings.ReplaceAll(ownTemplate, `{{.Destination}}`, ``), "it lacks {{.Destination}}"},
		{"consent", strings.ReplaceAll(ownTemplate, `.Nonce`, `.User`), "<style> lacks nonce"},
		{"consent", ownTemplate + "<script>alert(1)</script>", "has a <script>"},
		{"consent", ownTemplate + "<p style='color:red'>", "<p> has a style attribute"},
		{"consent", ownTemplate + "<p onclick='x()'>", "<p> has an onclick attribute"},
		{"consent", ownTemplate + `{{.Say "welcome"}}`, "no page has words with the name welcome"},
		{"consent", ownTemplate + `{{if eq .Language "ja"}}{{.Nope}}{{end}}`, "Nope"},
		{"apps", strings.ReplaceAll(ownTemplates["apps"], "?client=", "?app="), "a link to {{$.Action}}?client={{.ID}}"},
		{"apps", strings.ReplaceAll(ownTemplates["apps"], `name="client"`, `name="app"`), "if .RemoveOne is set"},
		{"apps", strings.ReplaceAll(ownTemplates["apps"], `name="all"`, `name="every"`), "if .RemoveAll is set"},
		{"code", strings.ReplaceAll(ownTemplates["code"], "{{.PageTitle}}", "Hi"), "{{.PageTitle}}"},
		{"code", strings.ReplaceAll(ownTemplates["code"], `value="{{.Code}}"`, ""), `<input readonly value="{{.Code}}">`},
		{"code", strings.ReplaceAll(ownTemplates["code"], ` nonce="{{.Nonce}}"`, ""), "<script> lacks nonce"},
		{"device", strings.ReplaceAll(ownTemplates["device"], "user_code", "code"), `a field "user_code"`},
		{"device", strings.ReplaceAll(ownTemplates["device"], "{{.Address}}", ""), "{{.Ask.Address}}"},
		{"device", strings.ReplaceAll(ownTemplates["device"], `value="deny"`, ""), "if .Ask is set"},
		{"form_post", strings.ReplaceAll(ownTemplates["form_post"], "{{index . 1}}", "x"), "for each of .Params"},
		{"form_post", strings.ReplaceAll(ownTemplates["form_post"], "button", "b"), "a <button>"},
		{"error", strings.ReplaceAll(ownTemplates["error"], "{{.ID}}", ""), "it lacks {{.ID}}"},
		{"layout", "x", "expected one of: apps, code, consent, device, error, form_post"},
	} {
		if _, err := New(Config{Templates: owners(tt.name, tt.template)}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %s\n%v, want %s", tt.name, tt.template, err, tt.want)
		}
	}
}

var _ http.ResponseWriter = (*trial)(nil)
