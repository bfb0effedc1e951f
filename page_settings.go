package caddyoauth

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/pages"
)

// PageSettings are about the pages that people see. The pages speak the first language of the browser that they have: English,
// Arabic, French, German, Japanese, Simplified Chinese or Spanish. They load nothing from elsewhere.
type PageSettings struct {
	// The name of the site. Default: the host of the issuer's URL.
	Name string `json:"name,omitempty"`

	// A file with the logo of the site: SVG, PNG, JPEG or WebP, at most 128 KB. It is also the icon of the browser's tab.
	// Default: none, and an icon with the first letter of the name.
	Logo string `json:"logo,omitempty"`

	// The color of buttons and links, as in CSS: `#2450c8`, `navy`, `rgb(36 80 200)` or `hsl(224 69% 46%)`. The text on buttons
	// is black or white, whichever can be read better, and links are as much darker or lighter as they must be to be read.
	// Default: blue.
	Color string `json:"color,omitempty"`

	// The URL or the path of a page where people find help, or `mailto:` and an address. Default: none.
	Support string `json:"support,omitempty"`

	// The URL or the path of your privacy policy. Default: none.
	Privacy string `json:"privacy,omitempty"`

	// Files with the words of the pages, by the tag of their language (BCP 47), such as `nl`. They are like
	// `internal/pages/languages/en.json` in the source. A file for a new language has all words. A file for one that the pages
	// have, such as `en` or `de-CH`, has those that differ.
	Languages map[string]string `json:"languages,omitempty"`

	// Files with your own pages, as Go html/templates, by the name of the page: `apps`, `code`, `consent`, `device`,
	// `error`, `form_post` or `logout`. They are tried when the configuration is loaded. Default: the built-in pages.
	Templates map[string]string `json:"templates,omitempty"`
}

func (s *PageSettings) resolve(repl *caddy.Replacer) error {
	if s == nil {
		return nil
	}
	return cmp.Or(
		directive.At("name", replace(repl, &s.Name)),
		directive.At("logo", replace(repl, &s.Logo)),
		directive.At("support", replace(repl, &s.Support)),
		directive.At("privacy", replace(repl, &s.Privacy)),
		resolveFiles(repl, "language", s.Languages),
		resolveFiles(repl, "template", s.Templates),
	)
}

// resolveFiles replaces the placeholders in the names of files.
func resolveFiles(repl *caddy.Replacer, setting string, files map[string]string) error {
	for name, file := range files {
		if err := replace(repl, &file); err != nil {
			return directive.At(setting+" "+name, err)
		}
		files[name] = file
	}
	return nil
}

// check finds impossible settings. It does not look at files.
func (s *PageSettings) check() error {
	if s == nil {
		return nil
	}
	if s.Color != "" {
		if _, err := pages.ParseColor(s.Color); err != nil {
			return directive.At("color", err)
		}
	}
	if err := checkLink(s.Support, "https", "http", "mailto"); err != nil {
		return directive.At("support", err)
	}
	if err := checkLink(s.Privacy, "https", "http"); err != nil {
		return directive.At("privacy", err)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Templates)) {
		if !slices.Contains(pages.Names, name) {
			return directive.At("template "+name, fmt.Errorf("expected %s, not %s", directive.OneOf(pages.Names), name))
		}
	}
	for _, tag := range s.languages() {
		if _, err := pages.ParseLanguage(tag); err != nil {
			return directive.At("language "+tag, err)
		}
	}
	return nil
}

// checkLink checks a link on the pages: a URL with one of the schemes, or a path on the site.
func checkLink(link string, schemes ...string) error {
	if link == "" || unresolved(link) {
		return nil
	}
	u, err := url.Parse(link)
	path := err == nil && u.Scheme == "" && u.Host == "" && strings.HasPrefix(u.Path, "/")
	full := err == nil && slices.Contains(schemes, u.Scheme) && u.Host+u.Opaque != ""
	if !path && !full {
		return fmt.Errorf("expected a path, or a URL with %s, not %s", strings.Join(schemes, " or "), link)
	}
	return nil
}

// languages returns the tags of the languages that the owner adds or changes.
func (s *PageSettings) languages() []string {
	if s == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(s.Languages))
}

// read reads the files of the pages.
func (s *PageSettings) read() (config pages.Config, err error) {
	if s == nil {
		return config, nil
	}
	config.Name, config.Color, config.Support, config.Privacy = s.Name, s.Color, s.Support, s.Privacy
	if s.Logo != "" {
		if config.Logo, err = readImage(s.Logo); err != nil {
			return config, directive.At("logo", err)
		}
	}
	if config.Languages, err = readFiles("language", s.Languages); err != nil {
		return config, err
	}
	config.Templates, err = readFiles("template", s.Templates)
	return config, err
}

func readFiles(setting string, files map[string]string) (map[string][]byte, error) {
	all := make(map[string][]byte, len(files))
	for name, file := range files {
		content, err := readFile(file)
		if err != nil {
			return nil, directive.At(setting+" "+name, err)
		}
		all[name] = content
	}
	return all, nil
}

func readImage(name string) ([]byte, error) {
	image, err := readFile(name)
	if err != nil {
		return nil, err
	}
	return image, pages.CheckImage(image)
}

// maxFile is how long a file may be of which a page is made.
const maxFile = 256 << 10

// readFile reads a file that the configuration names.
func readFile(name string) ([]byte, error) {
	file, err := os.Open(name) //nolint:gosec // G304: the configuration names the file
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = fmt.Errorf("expected a file of at most %d KB: %s", maxFile>>10, name)
	}
	return content, err
}
