package grants

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestParseScope(t *testing.T) {
	for _, c := range []struct {
		name, parameter string
		want            []string
		refused         bool
	}{
		{"RFC 6749 §3.3 nothing", "", nil, false},
		{"RFC 6749 §3.3 one", "profile", []string{"profile"}, false},
		{"RFC 6749 §3.3 several, in their order", "profile orders", []string{"profile", "orders"}, false},
		{"RFC 6749 §3.3 case-sensitive", "Orders orders", []string{"Orders", "orders"}, false},
		{"RFC 6749 §3.3 all characters at the borders of the grammar", "!#[]~", []string{"!#[]~"}, false},
		{"RFC 6749 §3.3 a quote", `a"b`, nil, true},
		{"RFC 6749 §3.3 a backslash", `a\b`, nil, true},
		{"RFC 6749 §3.3 DEL", "a\x7f", nil, true},
		{"RFC 6749 §3.3 a tab between", "profile\torders", nil, true},
		{"RFC 6749 §3.3 a line end between", "profile\norders", nil, true},
		{"RFC 6749 §3.3 beyond ASCII", "profilé", nil, true},
		{"RFC 6749 §3.3 no UTF-8", "profil\xe9", nil, true},
		{"RFC 6749 §3.3 a space that is not ASCII", "profile\u00a0orders", nil, true},
		{"one bad among good", "profile \x00 orders", nil, true},
		{"spaces around and between", "  profile   orders ", []string{"profile", "orders"}, false},
		{"spaces only", "   ", nil, false},
		{"one twice", "profile orders profile", []string{"profile", "orders"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseScope(c.parameter)
			if !slices.Equal(got, c.want) || (err != nil) != c.refused {
				t.Errorf("got %q with error %v, want %q", got, err, c.want)
			}
		})
	}
}

// What is chosen is allowed, valid, there once and asked for; without a wish it is all that is allowed.
func FuzzScope(f *testing.F) {
	f.Add("profile orders", "profile orders mail")
	f.Add("", "profile")
	f.Add("admin", "profile")
	f.Add("admin\tprofile", "admin profile")
	f.Add(" a  a ", "a")
	f.Add("a\"", "a\"")
	f.Add("\xff", "\xff")
	token := regexp.MustCompile(`^[\x21\x23-\x5b\x5d-\x7e]+$`)
	f.Fuzz(func(t *testing.T, parameter, configured string) {
		parsed, err := ParseScope(parameter)
		if err != nil {
			if parsed != nil {
				t.Errorf("both %q and error %v", parsed, err)
			}
			wantCode(t, err, InvalidScope)
		}
		again, err2 := ParseScope(strings.Join(parsed, " "))
		if err == nil && (err2 != nil || !slices.Equal(again, parsed)) {
			t.Errorf("%q is %q, which is %q with error %v", parameter, parsed, again, err2)
		}

		allowed := slices.DeleteFunc(strings.Split(configured, " "), func(s string) bool { return !ValidScope(s) })
		before := slices.Clone(allowed)
		chosen, err := ChooseScopes(parameter, allowed)
		if !slices.Equal(before, allowed) {
			t.Errorf("the allowed scopes %q became %q", before, allowed)
		}
		if err != nil {
			if chosen != nil {
				t.Errorf("both %q and error %v", chosen, err)
			}
			wantCode(t, err, InvalidScope)
			return
		}
		if strings.Trim(parameter, " ") == "" {
			if !slices.Equal(chosen, allowed) {
				t.Errorf("no scope gives %q, want %q", chosen, allowed)
			}
			return
		}
		for n, scope := range chosen {
			if !token.MatchString(scope) || !slices.Contains(allowed, scope) || slices.Contains(chosen[:n], scope) ||
				!slices.Contains(strings.Split(parameter, " "), scope) {
				t.Errorf("%q of %q gives %q", parameter, allowed, chosen)
			}
		}
		for asked := range strings.SplitSeq(parameter, " ") {
			if asked != "" && !slices.Contains(chosen, asked) {
				t.Errorf("%q of %q gives %q and drops %q in silence", parameter, allowed, chosen, asked)
			}
		}
	})
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var refusal *Error
	if !errors.As(err, &refusal) || refusal.Code != code {
		t.Errorf("got error %v, want %s", err, code)
	}
}
