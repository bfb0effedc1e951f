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
	got, err := ChooseAudience(allowed[:17], allowed)
	if got != nil {
		t.Errorf("17 resources give %q", got)
	}
	wantCode(t, err, InvalidTarget)
	if got, err := ChooseAudience(slices.Repeat(allowed[:1], 17), allowed); got != nil || err == nil {
		t.Errorf("one resource 17 times gives %q with error %v", got, err)
	}
	_, err = ChooseAudience([]string{"https://evil.example", "no URI"}, allowed)
	if describe(err) != "resource is not one this client may ask for" {
		t.Errorf("after a resource that is not allowed, the rest is read: %v", err)
	}
}

// Clients spell the URL of a resource in several ways. Tokens have the spelling of the configuration.
func TestSpellingsOfAResource(t *testing.T) {
	const none = ""
	for _, c := range []struct{ allowed, asked, want string }{
		{"https://api.example.com", "https://api.example.com/", "https://api.example.com"},
		{"https://api.example.com/", "https://api.example.com", "https://api.example.com/"},
		{"https://api.example.com/mcp", "https://api.example.com/mcp/", "https://api.example.com/mcp"},
		{"https://api.example.com/mcp", "HTTPS://API.Example.com/mcp", "https://api.example.com/mcp"},
		{"https://api.example.com/mcp", "https://API.EXAMPLE.COM:443/mcp/", "https://api.example.com/mcp"},
		{"http://localhost/mcp", "http://LOCALHOST:80/mcp", "http://localhost/mcp"},
		{"https://api.example.com:8443", "https://api.example.com:8443/", "https://api.example.com:8443"},
		{"https://api.example.com:443", "https://api.example.com", "https://api.example.com:443"},
		{"https://[2001:DB8::1]/mcp", "https://[2001:db8::1]:443/mcp", "https://[2001:DB8::1]/mcp"},
		{"https://api.example.com/mcp?v=1", "https://API.example.com/mcp/?v=1", "https://api.example.com/mcp?v=1"},

		{"https://api.example.com/mcp/", "https://api.example.com/mcp", none},
		{"https://api.example.com/mcp", "https://api.example.com/mcp//", none},
		{"https://api.example.com/mcp", "https://api.example.com/MCP", none},
		{"https://api.example.com/mcp", "https://api.example.com/mcp?", none},
		{"https://api.example.com/mcp", "https://api.example.com/mcp?v=1", none},
		{"https://api.example.com/mcp", "https://api.example.com/mcp/tools", none},
		{"https://api.example.com/mcp", "https://api.example.com/%6dcp", none},
		{"https://api.example.com/a/b", "https://api.example.com/a/./b", none},
		{"https://api.example.com/mcp", "http://api.example.com/mcp", none},
		{"https://api.example.com/mcp", "https://api.example.com:80/mcp", none},
		{"https://api.example.com:8443/mcp", "https://api.example.com/mcp", none},
		{"https://api.example.com/mcp", "https://user@api.example.com/mcp", none},
		{"https://api.example.com/mcp", "https://api.example.com./mcp", none},
		{"https://api.example.com/mcp", "https://api.example.com.evil.example/mcp", none},
		{"urn:example:api", "URN:example:api", none},
		{"urn:example:api", "urn:example:api/", none},

		// The origin of the one resource there.
		{"https://api.example.com/mcp", "https://api.example.com", "https://api.example.com/mcp"},
		{"https://api.example.com/mcp", "https://API.example.com/", "https://api.example.com/mcp"},
		{"https://api.example.com/mcp https://files.example.com", "https://api.example.com", "https://api.example.com/mcp"},
		{"https://api.example.com/mcp https://api.example.com/v1", "https://api.example.com", none},
		{"https://api.example.com/mcp https://api.example.com", "https://api.example.com/", "https://api.example.com"},
		{"https://api.example.com/mcp", "https://api.example.com?v=1", none},
		{"https://api.example.com/mcp", "http://api.example.com", none},

		// A resource with the same spelling takes precedence over one with another spelling.
		{"https://api.example.com/mcp https://api.example.com/mcp/", "https://api.example.com/mcp/", "https://api.example.com/mcp/"},
		{"https://api.example.com/mcp https://api.example.com/mcp/", "https://API.example.com/mcp/", "https://api.example.com/mcp/"},
	} {
		got, err := ChooseAudience([]string{c.asked}, strings.Split(c.allowed, " "))
		if strings.Join(got, " ") != c.want {
			t.Errorf("RFC 8707 §2: %s of %s gives %q, want %q", c.asked, c.allowed, got, c.want)
		}
		if c.want == none {
			wantCode(t, err, InvalidTarget)
		}
	}
	if got, err := ChooseAudience([]string{"https://a.example", "https://A.example/"}, []string{"https://a.example"}); len(got) != 1 {
		t.Errorf("one resource in two spellings gives %q with error %v", got, err)
	}
}

// The chosen resources are allowed, each once. Without a resource in the request, they are all allowed ones.
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
				!slices.Contains(allowed, resource) {
				t.Errorf("%q of %q gives %q", parameters, allowed, chosen)
			}
		}
		for _, asked := range parameters {
			if slices.Contains(allowed, asked) && asked != "" && !slices.Contains(chosen, asked) {
				t.Errorf("%q of %q returns %q and silently drops %q", parameters, allowed, chosen, asked)
			}
		}
	})
}
