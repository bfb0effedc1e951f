package pages

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"image/color"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/image/colornames"
)

// maxImage is how long a logo may be. Pages have it inline, and a list of apps can have many.
const maxImage = 128 << 10

// CheckImage checks that the content of a file can be a logo.
func CheckImage(image []byte) error {
	_, err := dataURI(image)
	return err
}

// dataURI returns an image as a data: URL. The type is that of the content, whatever the name of the file.
func dataURI(image []byte) (template.URL, error) {
	if len(image) > maxImage {
		return "", fmt.Errorf("expected an image of at most %d KB, got %d KB", maxImage>>10, len(image)>>10)
	}
	mediaType := http.DetectContentType(image)
	switch {
	case isSVG(image):
		mediaType = "image/svg+xml"
	case !slices.Contains([]string{"image/png", "image/jpeg", "image/webp"}, mediaType):
		return "", errors.New("expected an image: SVG, PNG, JPEG or WebP")
	}
	return template.URL("data:" + mediaType + ";base64," + base64.StdEncoding.EncodeToString(image)), nil //nolint:gosec // G203: base64
}

// isSVG reports whether the content is an SVG. Browsers run no script in one that is shown as an image.
func isSVG(content []byte) bool {
	decoder := xml.NewDecoder(bytes.NewReader(content))
	for {
		token, err := decoder.RawToken()
		if err != nil {
			return false
		}
		if start, ok := token.(xml.StartElement); ok {
			return start.Name.Local == "svg" && slices.ContainsFunc(start.Attr, func(a xml.Attr) bool {
				return strings.HasPrefix(a.Name.Space+a.Name.Local, "xmlns") && a.Value == "http://www.w3.org/2000/svg"
			})
		}
	}
}

// letterIcon returns an icon with the first letter of a name.
func letterIcon(name string, c Color) template.URL {
	letter, _ := utf8.DecodeRuneInString(name)
	var text bytes.Buffer
	_ = xml.EscapeText(&text, []byte(string(unicode.ToUpper(letter)))) // a buffer takes everything
	svg := `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="` + c.String() +
		`"/><text x="16" y="23" font-family="sans-serif" font-size="20" font-weight="bold" text-anchor="middle" fill="` +
		c.textOn().String() + `">` + text.String() + `</text></svg>`
	return template.URL("data:image/svg+xml;base64," + base64.StdEncoding.EncodeToString([]byte(svg))) //nolint:gosec // G203: base64
}

// Color is an opaque color of CSS.
type Color color.RGBA

var (
	white = Color{255, 255, 255, 255}
	black = Color{0, 0, 0, 255}

	// Of the built-in look, see templates/layout.html.
	defaultAccent = Color{0x24, 0x50, 0xc8, 255}
	lightCard     = white
	darkCard      = Color{0x19, 0x1c, 0x23, 255}
)

var (
	hexColor  = regexp.MustCompile(`^#(?:[0-9a-f]{3}|[0-9a-f]{6})$`)
	functions = regexp.MustCompile(`^(rgb|hsl)\(\s*([\d.]+)(?:deg)?\s*[, ]\s*([\d.]+)(%?)\s*[, ]\s*([\d.]+)(%?)\s*\)$`)
)

// ParseColor reads a color of CSS: hexadecimal, a name, rgb() or hsl().
func ParseColor(text string) (Color, error) {
	s := strings.ToLower(strings.TrimSpace(text))
	if named, ok := colornames.Map[s]; ok {
		return Color(named), nil
	}
	if hexColor.MatchString(s) {
		digits := s[1:]
		if len(digits) == 3 {
			digits = string([]byte{s[1], s[1], s[2], s[2], s[3], s[3]})
		}
		rgb, err := strconv.ParseUint(digits, 16, 32)
		return Color{byte(rgb >> 16), byte(rgb >> 8), byte(rgb), 255}, err //nolint:gosec // G115: three bytes
	}
	if parts := functions.FindStringSubmatch(s); parts != nil {
		var values [3]float64
		for i, part := range []string{parts[2], parts[3], parts[5]} {
			values[i], _ = strconv.ParseFloat(part, 64) // a number that is none is 0, and black
		}
		percent := parts[4] != "" && parts[6] != ""
		switch {
		case parts[1] == "rgb" && parts[4]+parts[6] == "" && max(values[0], values[1], values[2]) <= 255:
			return Color{byte(values[0]), byte(values[1]), byte(values[2]), 255}, nil
		case parts[1] == "hsl" && percent && values[0] <= 360 && max(values[1], values[2]) <= 100:
			return hsl(values[0], values[1]/100, values[2]/100), nil
		}
	}
	return Color{}, fmt.Errorf("expected a color such as #2450c8, navy, rgb(36 80 200) or hsl(224 69%% 46%%), not %s", text)
}

// hsl converts a color (CSS Color Module Level 4, section 7.1).
func hsl(hue, saturation, lightness float64) Color {
	channel := func(n float64) byte {
		k := math.Mod(n+hue/30, 12)
		return byte(math.Round(255 * (lightness - saturation*min(lightness, 1-lightness)*max(-1, min(k-3, 9-k, 1)))))
	}
	return Color{channel(0), channel(8), channel(4), 255}
}

func (c Color) String() string { return fmt.Sprintf("#%02x%02x%02x", c.R, c.G, c.B) }

// luminance is the relative luminance of WCAG 2.2.
func (c Color) luminance() float64 {
	linear := func(channel byte) float64 {
		v := float64(channel) / 255
		if v <= .04045 {
			return v / 12.92
		}
		return math.Pow((v+.055)/1.055, 2.4)
	}
	return .2126*linear(c.R) + .7152*linear(c.G) + .0722*linear(c.B)
}

// contrast is the contrast ratio of WCAG 2.2.
func (c Color) contrast(other Color) float64 {
	a, b := c.luminance(), other.luminance()
	return (max(a, b) + .05) / (min(a, b) + .05)
}

// textOn returns black or white, whichever can be read better on the color. The contrast is at least 4.5.
func (c Color) textOn() Color {
	if c.contrast(white) >= c.contrast(black) {
		return white
	}
	return black
}

func (c Color) mix(other Color, part float64) Color {
	channel := func(a, b byte) byte { return byte(math.Round(float64(a)*(1-part) + float64(b)*part)) }
	return Color{channel(c.R, other.R), channel(c.G, other.G), channel(c.B, other.B), 255}
}

// on returns the color, darker or lighter as far as it must be to have a contrast with a background.
func (c Color) on(background Color, least float64) Color {
	end := background.textOn()
	for part := 0.0; part < 1; part += .05 {
		if mixed := c.mix(end, part); mixed.contrast(background) >= least {
			return mixed
		}
	}
	return end
}

// palette returns the variables of the style that an accent color changes. WCAG 2.2 §1.4.3 asks 4.5 of text, §1.4.11 asks 3 of
// the edges of controls and of focus rings.
func (c Color) palette() template.CSS {
	look := func(card Color) string {
		text := c.textOn()
		hover, badge := c.mix(black, .12), card.mix(c, .14)
		if text == black {
			hover = c.mix(white, .12)
		}
		edge := "var(--edge)"
		if c.contrast(card) >= 3 {
			edge = c.String()
		}
		return fmt.Sprintf(":root { --accent: %s; --accent-hover: %s; --accent-edge: %s; --on-accent: %s; --link: %s; --badge: %s; --on-badge: %s; }",
			c, hover, edge, text, c.on(card, 4.5), badge, c.on(badge, 4.5))
	}
	return template.CSS(look(lightCard) + "\n@media (prefers-color-scheme: dark) { " + look(darkCard) + " }") //nolint:gosec // G203: colors
}
