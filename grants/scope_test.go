package grants

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

func TestChooseScopes(t *testing.T) {
	configured := []string{"profile", "orders", "!#[]~"}
	for _, c := range []struct {
		name, parameter string
		want            []string
		refused         string // the description
	}{
		{"RFC 6749 §3.3 nothing", "", configured, ""},
		{"RFC 6749 §3.3 one", "profile", []string{"profile"}, ""},
		{"RFC 6749 §3.3 several, in their order", "orders profile", []string{"orders", "profile"}, ""},
		{"RFC 6749 §3.3 case-sensitive", "Orders orders", nil, "the client may not ask for the scope Orders"},
		{"RFC 6749 §3.3 all characters at the borders of the grammar", "!#[]~", []string{"!#[]~"}, ""},
		{"RFC 6749 §3.3 a quote", `a"b`, nil, "scope is malformed"},
		{"RFC 6749 §3.3 a backslash", `a\b`, nil, "scope is malformed"},
		{"RFC 6749 §3.3 DEL", "a\x7f", nil, "scope is malformed"},
		{"RFC 6749 §3.3 a tab between", "profile\torders", nil, "scope is malformed"},
		{"RFC 6749 §3.3 a line end between", "profile\norders", nil, "scope is malformed"},
		{"RFC 6749 §3.3 beyond ASCII", "profilé", nil, "scope is malformed"},
		{"RFC 6749 §3.3 no UTF-8", "profil\xe9", nil, "scope is malformed"},
		{"RFC 6749 §3.3 a space that is not ASCII", "profile\u00a0orders", nil, "scope is malformed"},
		{"one malformed, others valid", "profile \x00 orders", nil, "scope is malformed"},
		{"spaces around and between", "  profile   orders ", []string{"profile", "orders"}, ""},
		{"spaces only", "   ", configured, ""},
		{"one twice", "profile orders profile", []string{"profile", "orders"}, ""},
		{"one that is not allowed", "profile admin orders", nil, "the client may not ask for the scope admin"},
		{"a long one", strings.Repeat("a", 65), nil, "the client may not ask for a scope"},
		{"a token in the wrong place", "eyJhbGciOiJFUzI1NiJ9.e30.c2ln", nil, "the client may not ask for a scope"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ChooseScopes(new(storage.Client), c.parameter, configured)
			if !slices.Equal(got, c.want) || describe(err) != c.refused {
				t.Errorf("got %q with error %v, want %q", got, err, c.want)
			}
		})
	}
}

// The server keeps scopes and resources in memory. As parts of the body of a request, they would keep all of it there.
func TestChoicesAreNoPartsOfTheRequest(t *testing.T) {
	scopes, resources := []string{"profile", "orders"}, []string{"https://api.example.com/", "https://shop.example.com/"}
	body := "refresh_token=secret&scope=orders&resource=https://shop.example.com/"
	form, err := url.ParseQuery(body)
	if err != nil {
		t.Fatal(err)
	}
	scope, err1 := ChooseScopes(new(storage.Client), form.Get("scope"), scopes)
	resource, err2 := ChooseAudience(form["resource"], resources)
	if err := errors.Join(err1, err2); err != nil || len(scope) != 1 || len(resource) != 1 {
		t.Fatal(scope, resource, err)
	}
	if unsafe.StringData(scope[0]) != unsafe.StringData(scopes[1]) {
		t.Error("the scope is not that of the settings")
	}
	if unsafe.StringData(resource[0]) != unsafe.StringData(resources[1]) {
		t.Error("the resource is not that of the settings")
	}
}

func TestUnknownScopesAreDropped(t *testing.T) {
	many := strings.Repeat("x ", 100)
	distinct := func(n int) string {
		var names strings.Builder
		for i := range n {
			fmt.Fprintf(&names, "unknown%d ", i)
		}
		return names.String()
	}
	for _, c := range []struct {
		name, parameter string
		allowed, want   []string
		refused         bool
	}{
		{"some", "openid profile email", []string{"orders", "profile"}, []string{"profile"}, false},
		{"all unknown: it gets the default scopes", "openid email", []string{"orders", "profile"}, []string{"orders", "profile"}, false},
		{"all, and it may have none", "openid", nil, nil, true},
		{"nothing is asked for", "", nil, nil, false},
		{"a malformed scope", `profile a"b`, []string{"profile"}, nil, true},
		{"a hundred", distinct(100) + "profile", []string{"profile"}, []string{"profile"}, false},
		{"too many scopes", distinct(101) + "profile", []string{"profile"}, nil, true},
		{"too many repeats of one scope", many + "x profile", []string{"profile"}, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ChooseScopes(&storage.Client{DropUnknownScopes: true}, c.parameter, c.allowed)
			if !slices.Equal(got, c.want) || (err != nil) != c.refused {
				t.Errorf("got %q with error %v, want %q", got, err, c.want)
			}
			if err != nil {
				wantCode(t, err, InvalidScope)
			}
		})
	}
}

// A long request is read only up to the first scope that is not allowed, and repeated scopes take no memory.
func TestChooseScopesStopsEarly(t *testing.T) {
	if _, err := ChooseScopes(new(storage.Client), "profile admin \x00", []string{"profile"}); !strings.Contains(describe(err), "admin") {
		t.Errorf("after a scope that is not allowed, the rest is read: %v", err)
	}
	client, allowed := new(storage.Client), []string{"a", "b", "c"}
	short, long := "c b a", strings.Repeat("c b a ", 10_000)
	allocations := func(parameter string) float64 {
		return testing.AllocsPerRun(10, func() {
			if _, err := ChooseScopes(client, parameter, allowed); err != nil {
				t.Fatal(err)
			}
		})
	}
	if few, many := allocations(short), allocations(long); many != few {
		t.Errorf("%v allocations for three names, %v for ten thousand times the three", few, many)
	}
}

// The time for each byte must not depend on the number of names.
func BenchmarkChooseScopes(b *testing.B) {
	allowed := []string{"profile", "orders", "email", "address"}
	for _, names := range []int{10, 1_000, 10_000} {
		var distinct strings.Builder
		for i := range names {
			fmt.Fprintf(&distinct, "s%d ", i)
		}
		for what, parameter := range map[string]string{
			"distinct": distinct.String(), "repeated": strings.Repeat("address ", names),
		} {
			for _, drop := range []bool{false, true} {
				b.Run(fmt.Sprintf("%s/%d/drop=%t", what, names, drop), func(b *testing.B) {
					b.SetBytes(int64(len(parameter)))
					for b.Loop() {
						_, _ = ChooseScopes(&storage.Client{DropUnknownScopes: drop}, parameter, allowed)
					}
				})
			}
		}
	}
}

// The chosen scopes are allowed, valid and requested, each once. Without scopes in the request, they are all allowed ones.
func FuzzScope(f *testing.F) {
	f.Add("profile orders", "profile orders mail", false)
	f.Add("", "profile", false)
	f.Add("admin", "profile", true)
	f.Add("admin profile", "profile", true)
	f.Add("admin\tprofile", "admin profile", true)
	f.Add(" a  a ", "a", false)
	f.Add("a\"", "a\"", false)
	f.Add("\xff", "\xff", false)
	token := regexp.MustCompile(`^[\x21\x23-\x5b\x5d-\x7e]+$`)
	f.Fuzz(func(t *testing.T, parameter, configured string, drop bool) {
		allowed := slices.DeleteFunc(strings.Split(configured, " "), func(s string) bool { return !ValidScope(s) })
		before := slices.Clone(allowed)
		chosen, err := ChooseScopes(&storage.Client{DropUnknownScopes: drop}, parameter, allowed)
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
		names := strings.Split(parameter, " ")
		known := slices.ContainsFunc(names, func(name string) bool { return slices.Contains(allowed, name) })
		if strings.Trim(parameter, " ") == "" || drop && !known {
			if !slices.Equal(chosen, allowed) {
				t.Errorf("%q gives %q, want %q", parameter, chosen, allowed)
			}
			return
		}
		for n, scope := range chosen {
			if !token.MatchString(scope) || !slices.Contains(allowed, scope) || slices.Contains(chosen[:n], scope) ||
				!slices.Contains(names, scope) {
				t.Errorf("%q of %q gives %q", parameter, allowed, chosen)
			}
		}
		for _, asked := range names {
			if asked != "" && !slices.Contains(chosen, asked) && (!drop || slices.Contains(allowed, asked)) {
				t.Errorf("%q of %q returns %q and silently drops %q", parameter, allowed, chosen, asked)
			}
		}
	})
}

// describe returns the description for the client, "" for no error.
func describe(err error) string {
	var refusal *Error
	if !errors.As(err, &refusal) {
		return ""
	}
	return refusal.Description
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var refusal *Error
	if !errors.As(err, &refusal) || refusal.Code != code {
		t.Errorf("got error %v, want %s", err, code)
		return
	}
	for _, r := range refusal.Description {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			t.Errorf("%q must not be in a description (RFC 6749 §5.2): %s", r, refusal.Description)
		}
	}
}
