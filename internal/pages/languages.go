package pages

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
	"golang.org/x/text/number"
)

// The catalogs are JSON: the words by their key. In the words, {app} and the like stand for a value. Words with a number have a
// form for each plural category of the language (CLDR). "date" is how a day is written, with its parts {day}, {month} and {year},
// and "months" has the names of the months.
//
//go:embed languages/*.json
var catalogs embed.FS

// locale is a language of the pages.
type locale struct {
	tag     language.Tag
	words   map[string]phrase
	months  []string
	numbers *message.Printer
}

// phrase has the forms of words that depend on a number. Most words have one form, plural.Other.
type phrase map[plural.Form]string

var pluralForms = map[string]plural.Form{
	"zero": plural.Zero, "one": plural.One, "two": plural.Two, "few": plural.Few, "many": plural.Many, "other": plural.Other,
}

// UnmarshalJSON reads a text, or an object with a text for each plural form.
func (p *phrase) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*p = phrase{plural.Other: one}
		return nil
	}
	var forms map[string]string
	if err := json.Unmarshal(b, &forms); err != nil {
		return errors.New("expected a text, or an object with a text for each plural form")
	}
	*p = make(phrase, len(forms))
	for name, text := range forms {
		form, ok := pluralForms[name]
		if !ok {
			return fmt.Errorf("there is no plural form %q", name)
		}
		(*p)[form] = text
	}
	if _, ok := (*p)[plural.Other]; !ok {
		return errors.New(`the plural form "other" is missing`)
	}
	return nil
}

// languages are the languages of the pages.
type languages struct {
	locales []*locale // English first, which people get whose language is not among them
	matcher language.Matcher
}

// newLanguages returns the built-in languages, changed by catalogs of the owner by their tag. The catalog of a new language must
// have all words. That of a language that is there already, or of a region of it, needs only the words that differ.
func newLanguages(own map[string][]byte) (*languages, error) {
	builtin, err := builtinLanguages()
	if err != nil {
		return nil, err
	}
	l := &languages{locales: slices.Clone(builtin.locales), matcher: builtin.matcher}
	for _, name := range slices.Sorted(maps.Keys(own)) {
		if err := l.add(name, own[name]); err != nil {
			return nil, fmt.Errorf("language %s: %w", name, err)
		}
	}
	return l, nil
}

// builtinLanguages returns the built-in languages, which all issuers share.
var builtinLanguages = sync.OnceValues(func() (*languages, error) {
	l := new(languages)
	names, err := builtinNames()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		catalog, err := catalogs.ReadFile("languages/" + name + ".json")
		if err != nil {
			return nil, err
		}
		if err := l.add(name, catalog); err != nil {
			return nil, fmt.Errorf("language %s: %w", name, err)
		}
	}
	return l, nil
})

// builtinNames returns the tags of the built-in languages, English first.
func builtinNames() ([]string, error) {
	files, err := catalogs.ReadDir("languages")
	if err != nil {
		return nil, err
	}
	names := []string{"en"}
	for _, file := range files {
		if name := strings.TrimSuffix(file.Name(), ".json"); name != "en" {
			names = append(names, name)
		}
	}
	return names, nil
}

// add adds a language, or changes one.
func (l *languages) add(name string, catalog []byte) error {
	tag, err := ParseLanguage(name)
	if err != nil {
		return err
	}
	i, base, english := len(l.locales), map[string]phrase(nil), map[string]phrase(nil)
	if i > 0 {
		english = l.locales[0].words
		_, at, confidence := l.matcher.Match(tag)
		if confidence >= language.High {
			base = l.locales[at].words
		}
		if confidence == language.Exact {
			i, tag = at, l.locales[at].tag
		}
	}
	added, err := newLocale(tag, base, catalog, english)
	if err != nil {
		return err
	}
	l.locales = slices.Replace(l.locales, i, min(i+1, len(l.locales)), added)
	l.matcher = matcherOf(l.locales)
	return nil
}

// ParseLanguage reads the tag of a language (BCP 47).
func ParseLanguage(name string) (language.Tag, error) {
	tag, err := language.Parse(name)
	if err != nil || tag == language.Und {
		return tag, fmt.Errorf("expected the tag of a language, such as nl or pt-BR, not %s", name)
	}
	return tag, nil
}

func matcherOf(locales []*locale) language.Matcher {
	tags := make([]language.Tag, len(locales))
	for i, l := range locales {
		tags[i] = l.tag
	}
	return language.NewMatcher(tags)
}

// newLocale returns a language with the words of base, changed by a catalog. It must have the same words as English, with the
// same values in them.
func newLocale(tag language.Tag, base map[string]phrase, catalog []byte, english map[string]phrase) (*locale, error) {
	changed := make(map[string]phrase)
	if err := json.Unmarshal(catalog, &changed); err != nil {
		return nil, fmt.Errorf("expected JSON: %w", err)
	}
	l := &locale{tag: tag, words: make(map[string]phrase), numbers: message.NewPrinter(tag)}
	maps.Copy(l.words, base)
	maps.Copy(l.words, changed)
	if english == nil {
		english = l.words
	}
	if err := l.checkLike(english); err != nil {
		return nil, err
	}
	l.months = strings.Split(l.text("months"), ", ")
	if len(l.months) != 12 {
		return nil, fmt.Errorf("months: expected twelve names with a comma and a space between them, got %d", len(l.months))
	}
	return l, nil
}

var placeholder = regexp.MustCompile(`\{[a-z]+\}`)

func (l *locale) checkLike(english map[string]phrase) error {
	var missing []string
	for _, key := range slices.Sorted(maps.Keys(english)) {
		words, ok := l.words[key]
		if !ok {
			missing = append(missing, key)
			continue
		}
		expected := valuesIn(english[key][plural.Other])
		for _, form := range slices.Sorted(maps.Keys(words)) {
			got := valuesIn(words[form])
			if form != plural.Other && len(got) == 0 { // "two hours ago" needs no number
				continue
			}
			if !slices.Equal(got, expected) {
				return fmt.Errorf("%s: expected the values %s as in English, got %s", key, listed(expected), listed(got))
			}
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("there are no words for %s", strings.Join(missing, ", "))
	}
	for _, key := range slices.Sorted(maps.Keys(l.words)) {
		if _, ok := english[key]; !ok {
			return fmt.Errorf("no page has words with the name %s", key)
		}
	}
	return nil
}

// valuesIn returns the placeholders in words, sorted, each once.
func valuesIn(words string) []string {
	found := placeholder.FindAllString(words, -1)
	slices.Sort(found)
	return slices.Compact(found)
}

func listed(values []string) string {
	if len(values) == 0 {
		return "none"
	}
	return strings.Join(values, " ")
}

// maxAcceptLanguage is how many bytes of the header are read; browsers send less than 100.
const maxAcceptLanguage = 1024

// maxUILocales is how many languages of the parameter are read.
const maxUILocales = 10

// of returns the language of a request: the first one that the application asks for and that is here, or that of the browser.
func (l *languages) of(r *http.Request) *locale {
	if asked := l.asked(r); asked != nil {
		return asked
	}
	header := r.Header.Get("Accept-Language")
	if len(header) > maxAcceptLanguage {
		return l.locales[0]
	}
	wanted, _, err := language.ParseAcceptLanguage(header)
	if err != nil {
		return l.locales[0]
	}
	_, i, _ := l.matcher.Match(wanted...)
	return l.locales[i]
}

// asked returns the language that the application asks for in the parameter ui_locales (OpenID Connect Core section 3.1.2.1), and nil
// if none of them is here.
func (l *languages) asked(r *http.Request) *locale {
	if r.URL == nil || !strings.Contains(r.URL.RawQuery, "ui_locales") {
		return nil
	}
	tags := strings.Fields(r.URL.Query().Get("ui_locales"))
	for _, name := range tags[:min(len(tags), maxUILocales)] {
		tag, err := language.Parse(name)
		if err != nil {
			continue
		}
		if _, i, confidence := l.matcher.Match(tag); confidence >= language.High {
			return l.locales[i]
		}
	}
	return nil
}

// rightToLeft are the scripts that are written from right to left.
var rightToLeft = []string{"Adlm", "Arab", "Aran", "Hebr", "Mand", "Nkoo", "Rohg", "Samr", "Syrc", "Thaa"}

func (l *locale) direction() string {
	if script, _ := l.tag.Script(); slices.Contains(rightToLeft, script.String()) {
		return "rtl"
	}
	return "ltr"
}

// say returns the words with a name, and values in the place of their placeholders: pairs of a name and a text, or a number, which
// chooses the plural form. The words pass through text and the values through value.
func (l *locale) say(name string, pairs []any, text, value func(string) string) (string, error) {
	words, ok := l.words[name]
	if !ok {
		return "", fmt.Errorf("no page has words with the name %s", name)
	}
	form, replace := plural.Other, make([]string, 0, len(pairs))
	for ; len(pairs) >= 2; pairs = pairs[2:] {
		content := fmt.Sprint(pairs[1])
		if n, ok := pairs[1].(int); ok {
			form, content = plural.Cardinal.MatchPlural(l.tag, n, 0, 0, 0, 0), l.number(n)
		}
		replace = append(replace, fmt.Sprintf("{%v}", pairs[0]), value(content))
	}
	if _, ok := words[form]; !ok {
		form = plural.Other
	}
	for _, needed := range valuesIn(words[form]) {
		if !slices.Contains(replace, needed) {
			return "", fmt.Errorf("the words %s need the value %s", name, needed)
		}
	}
	return strings.NewReplacer(replace...).Replace(text(words[form])), nil
}

// text is say for words that are there.
func (l *locale) text(name string, pairs ...any) string {
	same := func(s string) string { return s }
	said, _ := l.say(name, pairs, same, same)
	return said
}

func (l *locale) number(n int) string {
	return l.numbers.Sprint(number.Decimal(n, number.NoSeparator()))
}

// day returns the day of a time, in UTC since the person's time zone is unknown.
func (l *locale) day(t time.Time) string {
	t = t.UTC()
	return strings.NewReplacer("{day}", l.number(t.Day()), "{month}", l.months[t.Month()-1], "{year}", l.number(t.Year())).
		Replace(l.words["date"][plural.Other])
}

// Said is what the templates of all pages can use to speak the person's language.
type Said struct {
	Language  string // the tag of the page's language, for the attribute lang
	Direction string // ltr or rtl, for the attribute dir

	locale *locale
}

func (l *locale) said() Said {
	return Said{Language: l.tag.String(), Direction: l.direction(), locale: l}
}

// Say returns words of the catalog as HTML, such as {{.Say "consent_heading" "app" .Client.Name "site" .Site}}. Each value is
// isolated, so that a name in another script does not turn the words around it.
func (s Said) Say(name string, values ...any) (template.HTML, error) {
	said, err := s.locale.say(name, values, template.HTMLEscapeString, func(value string) string {
		return "<bdi>" + template.HTMLEscapeString(value) + "</bdi>"
	})
	return template.HTML(said), err //nolint:gosec // G203: all parts are escaped
}

// Plain returns words of the catalog as text, for titles and attributes.
func (s Said) Plain(name string, values ...any) (string, error) {
	same := func(text string) string { return text }
	return s.locale.say(name, values, same, same)
}

// ScopeWords is a scope in words, and in the words of other languages by their tag.
type ScopeWords struct {
	Name        string
	Description string
	Languages   map[string]string
	Standard    bool // it is a scope of OpenID Connect: the pages have words for it, where there are no others
}

// describe returns the descriptions of scopes by their name, in each language of the pages.
func (l *languages) describe(scopes []ScopeWords) (map[*locale]map[string]string, error) {
	all := make(map[*locale]map[string]string, len(l.locales))
	for _, spoken := range l.locales {
		all[spoken] = make(map[string]string, len(scopes))
	}
	for _, scope := range scopes {
		tags := []language.Tag{language.Und}
		words := []string{scope.Description}
		for _, name := range slices.Sorted(maps.Keys(scope.Languages)) {
			tag, err := ParseLanguage(name)
			if err != nil {
				return nil, fmt.Errorf("scope %s: %w", scope.Name, err)
			}
			tags, words = append(tags, tag), append(words, scope.Languages[name])
		}
		matcher := language.NewMatcher(tags)
		for _, spoken := range l.locales {
			_, i, confidence := matcher.Match(spoken.tag)
			if confidence < language.High {
				i = 0
			}
			all[spoken][scope.Name] = words[i]
			if words[i] == "" && scope.Standard {
				all[spoken][scope.Name] = spoken.text("scope_" + scope.Name)
			}
		}
	}
	return all, nil
}

// CheckLanguage checks that the pages have a language when the owner has added some.
func CheckLanguage(name string, added []string) error {
	tag, err := ParseLanguage(name)
	if err != nil {
		return err
	}
	names, err := builtinNames()
	if err != nil {
		return err
	}
	names = append(names, added...)
	tags := make([]language.Tag, len(names))
	for i, name := range names {
		tags[i] = language.Make(name)
	}
	if _, _, confidence := language.NewMatcher(tags).Match(tag); confidence < language.High {
		slices.Sort(names)
		return fmt.Errorf("expected a language of the pages, %s, or one that language adds", strings.Join(slices.Compact(names), ", "))
	}
	return nil
}
