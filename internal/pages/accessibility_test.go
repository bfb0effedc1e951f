package pages

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/caddy-oauth/caddy-oauth/internal/testneeds"
)

// axe returns the script of axe-core, which npm installs, and which finds what makes pages hard to use for people with disabilities.
func axe(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"package.json", "package-lock.json"} {
		content, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		testneeds.Missing(t, fmt.Sprintf("npm cannot install axe-core: %v %s", err, out))
	}
	script, err := os.ReadFile(filepath.Join(dir, "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	return string(script)
}

// violations runs axe, and returns what it found in a few words.
const violations = `axe.run().then(r => JSON.stringify(r.violations.map(v => v.id + ": " + v.nodes.map(n => n.target.join(" ") + " " + n.failureSummary).join(", "))))`

// Every page is without findings of axe: light and dark, from left to right and from right to left. At 200 % zoom in a window of
// 640 px, none scrolls sideways (WCAG 2.2 §1.4.4, §1.4.10).
func TestPagesAreAccessible(t *testing.T) {
	ctx, script, p := inChromium(t), axe(t), newTestPages(t, "")
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	var paths []string
	show := func(path string, write func(w http.ResponseWriter, r *http.Request) error) {
		paths = append(paths, path)
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if err := write(w, r); err != nil {
				t.Error(err)
			}
		})
	}
	for _, name := range Names {
		for i, s := range samples[name] {
			show(fmt.Sprintf("/%s/%d", name, i), func(w http.ResponseWriter, r *http.Request) error { return s.write(p, w, r) })
		}
	}
	for _, failure := range []Failure{UnknownApp, Stale, SignIn, Account, Busy, Broken} {
		show("/error/"+string(failure), func(w http.ResponseWriter, r *http.Request) error {
			return p.Error(w, r, http.StatusBadRequest, ErrorPage{Failure: failure, ID: "sample-id"})
		})
	}
	withScripts := func(run bool) {
		t.Helper()
		if _, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !run}); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range paths {
		handsOver := strings.HasPrefix(path, "/form_post") // it leaves at once where scripts run
		for _, language := range []string{"en", "de", "ar"} {
			withScripts(!handsOver)
			inPage(ctx, t, chromedp.EmulateViewport(320, 480, chromedp.EmulateScale(2)))
			inPage(ctx, t, chromedp.Navigate(server.URL+path+"?ui_locales="+language))
			withScripts(true)
			if width := inPage(ctx, t, chromedp.Evaluate[int](`document.documentElement.scrollWidth`)); width > 320 {
				t.Errorf("%s in %s at 200 %%: %d px of 320", path, language, width)
			}
			if language == "de" { // which has long words, and nothing else of its own
				continue
			}
			inPage(ctx, t, chromedp.Evaluate[bool](script+"; true"))
			for _, scheme := range []string{"light", "dark"} {
				media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
					{Name: "prefers-color-scheme", Value: scheme},
					{Name: "prefers-reduced-motion", Value: "reduce"}, // else a button changes its color slowly
				}}
				if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, media); err != nil {
					t.Fatal(err)
				}
				var found []string
				if err := json.Unmarshal([]byte(inPage(ctx, t, chromedp.Evaluate[string](violations, chromedp.EvalAwaitPromise))), &found); err != nil {
					t.Fatal(err)
				}
				if slices.Sort(found); len(found) > 0 {
					t.Errorf("%s in %s, %s: %q", path, language, scheme, found)
				}
			}
		}
	}
}
