package caddyoauth

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/pages"
)

// PageSettings are about the pages that people see. The pages speak the first language of the browser that they have: English,
// Arabic, French, German, Japanese, Simplified Chinese or Spanish.
type PageSettings struct {
	// Files with the words of the pages, by the tag of their language (BCP 47), such as `nl`. They are like
	// `internal/pages/languages/en.json` in the source. A file for a new language has all words. A file for one that the pages
	// have, such as `en` or `de-CH`, has those that differ.
	Languages map[string]string `json:"languages,omitempty"`
}

// page reads the settings of the pages.
func (p parser) page(i *Issuer) directive.Setting {
	return p.Nested(func() directive.Settings {
		i.Page = new(PageSettings)
		return directive.Settings{
			"language": p.Pair("a language, such as nl, and a file", &i.Page.Languages),
		}
	})
}

// scopeLanguages reads the descriptions of a scope in other languages.
func (p parser) scopeLanguages(scope *Scope) directive.Settings {
	return directive.Settings{directive.AnyName: func(tag string) error {
		var description string
		if err := p.Word("a description, in quotes", &description)(tag); err != nil {
			return err
		}
		if scope.Languages == nil {
			scope.Languages = make(map[string]string)
		}
		scope.Languages[tag] = description
		return nil
	}}
}

func (s *PageSettings) resolve(repl *caddy.Replacer) error {
	if s == nil {
		return nil
	}
	return resolveFiles(repl, "language", s.Languages)
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
	for _, tag := range s.languages() {
		if _, err := pages.ParseLanguage(tag); err != nil {
			return directive.At("language "+tag, err)
		}
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

// pages reads the files of the pages.
func (i *Issuer) pages() (config pages.Config, err error) {
	if i.ConsentPage != "" {
		template, err := readFile(i.ConsentPage)
		if err != nil {
			return config, directive.At("consent_page", err)
		}
		config.Consent = string(template)
	}
	if i.Page == nil {
		return config, nil
	}
	config.Languages, err = readFiles("language", i.Page.Languages)
	return config, directive.At("page", err)
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
