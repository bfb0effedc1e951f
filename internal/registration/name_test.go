package registration

import (
	"strings"
	"testing"
)

func TestCleanName(t *testing.T) {
	for name, want := range map[string]string{
		"  An \t App \r\n":                   "An App",
		"a\u202eb\u2066c\u200d\u200b\ufeffd": "abcd",
		"a\x00\x1b[31mb\u0085c\u2028d":       "a[31mb c d",
		"Zoë’s 日本 app":                       "Zoë’s 日本 app",
		"\xff\ufffd":                         "",
		strings.Repeat("é", 70):              strings.Repeat("é", 64),
		strings.Repeat("x", 63) + " y":       strings.Repeat("x", 63),
	} {
		if got := cleanName(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func TestLooksLike(t *testing.T) {
	for name, want := range map[string]bool{
		"Pineapple Shop": true, "PINEAPPLE shop": true, "Pineapple-Shop!": true, "Pinéapple  Shop": true, "P1neapp1e Sh0p": true,
		"Рineаррle Shор": true, "Ｐｉｎｅａｐｐｌｅ　Ｓｈｏｐ": true, "𝐏𝐢𝐧𝐞𝐚𝐩𝐩𝐥𝐞 𝐒𝐡𝐨𝐩": true, "PineappIe Shop": true,
		"Pineapple": false, "Claude": false, "": false, "!!!": false, "菠萝": false,
	} {
		if got := LooksLike(name, "", "Other", "Pineapple Shop"); got != want {
			t.Errorf("%q: got %v, want %v", name, got, want)
		}
	}
	if !LooksLike("Ⅿodern", "rnodern") || LooksLike("a", "") || LooksLike("", "") {
		t.Error("got another result")
	}
}

func TestLookalikesAreUnambiguous(t *testing.T) {
	for from, to := range lookalikes {
		if _, ok := lookalikes[to]; ok {
			t.Errorf("%c stands for %c, which stands for another letter", from, to)
		}
	}
}
