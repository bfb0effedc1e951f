package grants

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestValidResource(t *testing.T) {
	for uri, want := range map[string]bool{
		"https://api.example.com":            true,
		"https://api.example.com/a?b=c":      true,
		"urn:example:api":                    true,
		"https://api.example.com#fragment":   false,
		"https://api.example.com#":           false,
		"https://api.example.com/%23":        true,
		"//api.example.com":                  false,
		"/api":                               false,
		"api.example.com":                    false,
		"":                                   false,
		"https://api.example.com/\n":         false,
		"https://api.example.com:port":       false,
		"https://api.example.com/%zz":        false,
		"1https://api.example.com":           false,
		"https://[::1":                       false,
		" https://api.example.com":           false,
		"https://api.example.com\x00.evil.x": false,
	} {
		if got := ValidResource(uri); got != want {
			t.Errorf("RFC 8707 §2: %q is valid: %v, want %v", uri, got, want)
		}
	}
}

// A client may ask for many resources, but a request cannot make the server compare without end.
func TestChooseAudienceIsBounded(t *testing.T) {
	allowed := make([]string, 100)
	for n := range allowed {
		allowed[n] = fmt.Sprintf("https://api.example.com/%d", n)
	}
	if got, err := ChooseAudience(allowed[:16], allowed); err != nil || !slices.Equal(got, allowed[:16]) {
		t.Errorf("16 resources give %q with error %v", got, err)
	}
	if got, err := ChooseAudience(slices.Repeat(allowed[:16], 100), allowed); err != nil || !slices.Equal(got, allowed[:16]) {
		t.Errorf("16 resources many times give %q with error %v", got, err)
	}
	got, err := ChooseAudience(allowed[:17], allowed)
	if got != nil {
		t.Errorf("17 resources give %q", got)
	}
	wantCode(t, err, InvalidTarget)
}

// What is chosen is allowed, there once and asked for; without a wish it is all that is allowed.
func FuzzAudience(f *testing.F) {
	f.Add("https://api.example.com", "https://api.example.com https://files.example.com")
	f.Add("", "https://api.example.com")
	f.Add(" ", "https://api.example.com")
	f.Add("https://API.example.com https://api.example.com/", "https://api.example.com")
	f.Add("urn:a urn:a urn:b", "urn:b urn:a")
	f.Add("urn:a#", "urn:a#")
	f.Fuzz(func(t *testing.T, wanted, configured string) {
		parameters, allowed := strings.Split(wanted, " "), strings.Split(configured, " ")
		chosen, err := ChooseAudience(parameters, allowed)
		if err != nil {
			if chosen != nil {
				t.Errorf("both %q and error %v", chosen, err)
			}
			wantCode(t, err, InvalidTarget)
			return
		}
		if strings.Trim(wanted, " ") == "" {
			if !slices.Equal(chosen, allowed) {
				t.Errorf("no resource gives %q, want %q", chosen, allowed)
			}
			return
		}
		for n, resource := range chosen {
			u, err := url.Parse(resource)
			if err != nil || u.Scheme == "" || strings.Contains(resource, "#") || slices.Contains(chosen[:n], resource) ||
				!slices.Contains(allowed, resource) || !slices.Contains(parameters, resource) {
				t.Errorf("%q of %q gives %q", parameters, allowed, chosen)
			}
		}
		for _, asked := range parameters {
			if asked != "" && !slices.Contains(chosen, asked) {
				t.Errorf("%q of %q gives %q and drops %q in silence", parameters, allowed, chosen, asked)
			}
		}
	})
}
