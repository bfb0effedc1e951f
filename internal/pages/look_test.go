package pages

import (
	"encoding/base64"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/internal/pages/pagestest"
)

const (
	svgLogo = `<?xml version="1.0"?><!-- a logo --><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`
	pngLogo = "\x89PNG\r\n\x1a\n"
)

func TestLogoType(t *testing.T) {
	for content, want := range map[string]string{
		svgLogo: "data:image/svg+xml;base64,",
		`<s:svg xmlns:s="http://www.w3.org/2000/svg"/>`: "data:image/svg+xml;base64,",
		pngLogo + "x":                  "data:image/png;base64,",
		"\xff\xd8\xff\xe0":             "data:image/jpeg;base64,",
		"RIFF\x00\x00\x00\x00WEBPVP8 ": "data:image/webp;base64,",
		"GIF89a":                       "",
		"<svg>":                        "",
		"<html><svg xmlns='http://www.w3.org/2000/svg'/></html>": "",
		"":                                     "",
		"hello":                                "",
		pngLogo + strings.Repeat("x", 128<<10): "",
	} {
		uri, err := dataURI([]byte(content))
		if (err == nil) != (want != "") || !strings.HasPrefix(string(uri), want) {
			t.Errorf("%.20q: %.40s %v, want %s", content, uri, err, want)
		}
	}
}

func TestColorOfCSS(t *testing.T) {
	for text, want := range map[string]string{
		"#2450c8": "#2450c8", "#ABC": "#aabbcc", " Navy ": "#000080", "rebeccapurple": "",
		"rgb(36, 80, 200)": "#2450c8", "rgb(36 80 200)": "#2450c8", "hsl(120 100% 25%)": "#008000", "hsl(224deg, 69%, 46%)": "#2450c6",
		"": "", "#12345": "", "#12345678": "", "rgb(256 0 0)": "", "rgb(10% 0 0)": "", "hsl(0 0 0)": "", "hsl(361 1% 1%)": "",
		"red;}": "", "url(x)": "", "var(--x)": "", "rgb(1..2 0 0)": "#000000", "transparent": "", "currentcolor": "",
	} {
		c, err := ParseColor(text)
		if (err == nil) != (want != "") || err == nil && c.String() != want {
			t.Errorf("%q: %s %v, want %s", text, c, err, want)
		}
	}
}

// Whatever color the owner chooses, people can read what has it.
func TestEveryColorCanBeRead(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	colors := []Color{white, black, {255, 255, 0, 255}, {128, 128, 128, 255}, {0, 0, 255, 255}, darkCard}
	for range 500 {
		colors = append(colors, Color{byte(random.IntN(256)), byte(random.IntN(256)), byte(random.IntN(256)), 255})
	}
	variable := regexp.MustCompile(`--([a-z-]+): (#\w{6}|var\(--edge\));`)
	for _, c := range colors {
		light, dark, _ := strings.Cut(string(c.palette()), "@media (prefers-color-scheme: dark)")
		for card, css := range map[Color]string{lightCard: light, darkCard: dark} {
			values := map[string]Color{"card": card}
			for _, m := range variable.FindAllStringSubmatch(css, -1) {
				if m[2] != "var(--edge)" {
					values[m[1]], _ = ParseColor(m[2])
				}
			}
			for _, pair := range []struct {
				front, back string
				least       float64
			}{
				{"on-accent", "accent", 4.5},
				{"on-accent", "accent-hover", 4.5},
				{"link", "card", 4.5},
				{"on-badge", "badge", 4.5},
				{"accent-edge", "card", 3},
			} {
				front, ok := values[pair.front]
				back := values[pair.back]
				if pair.front == "accent-edge" && !ok { // the edge of the built-in look
					continue
				}
				if got := front.contrast(back); !ok || back == (Color{}) || got < pair.least {
					t.Fatalf("%s: %s %s on %s %s has %.2f, want %.1f", c, pair.front, front, pair.back, back, got, pair.least)
				}
			}
		}
	}
}

func TestFaceOfTheSite(t *testing.T) {
	p, err := New(Config{
		Host: "localhost", Name: "Corner <Shop>", Logo: []byte(svgLogo), Color: "#7a1fa2", Support: "mailto:help@example.com", Privacy: "/privacy",
		AppLogos: map[string][]byte{"app": []byte(pngLogo)},
	})
	if err != nil {
		t.Fatal(err)
	}
	svg := "data:image/svg+xml;base64," + base64.StdEncoding.EncodeToString([]byte(svgLogo))
	png := "data:image/png;base64," + base64.StdEncoding.EncodeToString([]byte(pngLogo))
	for name, write := range pagesOf(p, speaking("en")) {
		w := writtenPage(t, write)
		if policy := w.Header().Get("Content-Security-Policy"); !strings.Contains(policy, "; img-src data:;") {
			t.Errorf("%s: %s", name, policy)
		}
		images, links := map[string]string{}, ""
		html := w.Body.String()
		tags, text := pagestest.Parts(w.Body)
		for _, tag := range tags {
			attr := map[string]string{}
			for _, a := range tag.Attr {
				attr[a.Key] = a.Val
			}
			switch tag.Data {
			case "img":
				images[attr["src"]] = attr["alt"]
			case "link":
				links += attr["rel"] + " " + attr["href"] + "\n"
			case "a":
				links += attr["href"] + "\n"
			}
		}
		if _, shown := images[svg]; !shown || !strings.Contains(text, "Corner <Shop>") || strings.Contains(text, "localhost") {
			t.Errorf("%s does not show the name and the logo: %v %s", name, images, text)
		}
		if links := "\n" + links; !strings.Contains(links, "icon "+svg) || !strings.Contains(links, "\nmailto:help@example.com\n") || !strings.Contains(links, "\n/privacy\n") {
			t.Errorf("%s has the links %s", name, links)
		}
		if !strings.Contains(html, "--accent: #7a1fa2") {
			t.Errorf("%s does not have the color", name)
		}
		if _, shown := images[png]; shown != slices.Contains([]string{"consent", "minimal", "apps", "device ask", "device later"}, name) {
			t.Errorf("%s: the logo of the app is shown: %v", name, shown)
		}
	}
}

// A site without settings has an icon with the first letter of its host, so that browsers ask for no other.
func TestIconOfASite(t *testing.T) {
	w := writtenPage(t, func(w http.ResponseWriter) error {
		return newTestPages(t, "").Error(w, speaking("en"), 400, ErrorPage{Failure: Stale})
	})
	found := regexp.MustCompile(`<link rel="icon" href="data:image/svg&#43;xml;base64,([^"]+)">`).FindStringSubmatch(w.Body.String())
	if found == nil {
		t.Fatalf("no icon in %s", w.Body)
	}
	svg, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(found[1], "&#43;", "+"))
	if err != nil || !strings.Contains(string(svg), ">E</text>") || !isSVG(svg) {
		t.Errorf("the icon is %s %v", svg, err)
	}
	if icon := letterIcon("<&", black); strings.Contains(string(icon), "<") {
		t.Errorf("the icon is %s", icon)
	}
}
