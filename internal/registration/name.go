package registration

import (
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// maxName is how many characters of a name are kept.
const maxName = 64

// cleanName returns a name as a page may show it: one line of at most maxName characters, without controls and without marks that
// change the direction of the text around it or cannot be seen.
func cleanName(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsGraphic(r) || r == unicode.ReplacementChar:
			return -1
		}
		return r
	}, name)
	runes := []rune(strings.Join(strings.Fields(name), " "))
	return strings.TrimSpace(string(runes[:min(len(runes), maxName)]))
}

// LooksLike reports whether people could take a name for one of the names that are taken: it differs in nothing but case, accents,
// spaces, punctuation and letters that look alike.
func LooksLike(name string, taken ...string) bool {
	own := skeleton(name)
	return own != "" && slices.ContainsFunc(taken, func(other string) bool { return skeleton(other) == own })
}

// skeleton returns the letters and digits of a name, with one for all those that look alike.
func skeleton(name string) string {
	var b strings.Builder
	for _, r := range norm.NFKD.String(name) { // fullwidth letters, ligatures and accents become plain letters, and marks
		r = unicode.ToLower(r)
		if same, ok := lookalikes[r]; ok {
			r = same
		}
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			b.WriteRune(r)
		}
	}
	return strings.NewReplacer("rn", "m", "vv", "w", "cl", "d").Replace(b.String())
}

// lookalikes are lower-case characters of other scripts, and digits, by the Latin letter that they look like.
var lookalikes = func() map[rune]rune {
	all := make(map[rune]rune)
	for letter, others := range map[rune]string{
		'a': "аαɑ@4", 'b': "вьβ8", 'c': "сϲ¢", 'd': "ԁɗ", 'e': "еҽɛε3", 'g': "ɡց9", 'h': "һнհ", 'j': "јϳ", 'k': "кκ",
		'l': "i1ıіιӏוɩ", 'm': "м", 'n': "ոпηи", 'o': "оοօסø0", 'p': "рρ", 'q': "ԛգ", 'r': "гᴦя", 's': "ѕꜱ$5", 't': "тτ7",
		'u': "υսцᴜ", 'v': "νѵ", 'w': "ѡԝωш", 'x': "хχ", 'y': "уүγ", 'z': "ᴢ2",
	} {
		for _, other := range others {
			all[other] = letter
		}
	}
	return all
}()
