package authserver

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/internal/pages/pagestest"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// An error page says in the person's words what to do. Only the people who make the app get the words of the RFCs, and only for a
// mistake of the app.
func TestErrorPagesAreForPeople(t *testing.T) {
	for name, tt := range map[string]struct {
		answer func(t *testing.T, s *testServer) answer
		says   string
		detail string
	}{
		"unknown client": {
			func(t *testing.T, s *testServer) answer {
				t.Helper()
				return s.get(t, asks("webapp", "client_id", "nobody"))
			},
			"This app is not known here", "client_id is missing or wrong",
		},
		"wrong redirect URI": {
			func(t *testing.T, s *testServer) answer {
				t.Helper()
				return s.get(t, asks("webapp", "redirect_uri", "https://evil.example/"))
			},
			"This link does not work", "redirect_uri is not one that is registered",
		},
		"nobody is signed in": {
			func(t *testing.T, s *testServer) answer {
				t.Helper()
				s.site.user = nil
				return s.get(t, asks("webapp"))
			},
			"Please sign in", "",
		},
		"a form of yesterday": {
			func(t *testing.T, s *testServer) answer {
				t.Helper()
				page := s.get(t, asks("webapp"))
				s.clock.Advance(maxAsk)
				return s.decide(t, page, "allow")
			},
			"This page is no longer valid", "",
		},
		"a form of another site": {
			func(t *testing.T, s *testServer) answer {
				t.Helper()
				form := url.Values{"request": {s.get(t, asks("webapp")).sealed(t)}, "decision": {"allow"}}
				r := postRequest("/oauth/authorize", form.Encode())
				r.Header.Set("Sec-Fetch-Site", "cross-site")
				return s.do(t, r)
			},
			"This page is no longer valid", "",
		},
		"an account that no token can name": {
			func(t *testing.T, s *testServer) answer {
				t.Helper()
				s.site.user = &User{Subject: "billing"}
				return s.do(t, httptest.NewRequest(http.MethodGet, "/oauth/apps", nil))
			},
			"This account cannot be used with apps", "",
		},
		"the store is down": {
			func(t *testing.T, s *testServer) answer {
				t.Helper()
				s.store.Err = errDown
				return s.do(t, httptest.NewRequest(http.MethodGet, "/oauth/apps", nil))
			},
			"That did not work", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := tt.answer(t, newTestServer(t))
			if a.page == nil {
				t.Fatalf("%d and no page", a.Code)
			}
			_, text := pagestest.Parts(strings.NewReader(a.Body.String()))
			if !strings.Contains(text, tt.says) || !strings.Contains(text, a.page.ID) || a.page.ID == "" {
				t.Errorf("not %q with an ID in %s", tt.says, text)
			}
			if _, detail, found := strings.Cut(text, "For the people who make the app"); found != (tt.detail != "") || !strings.Contains(detail, tt.detail) {
				t.Errorf("the detail is %q, want %q", detail, tt.detail)
			}
		})
	}
}

func TestPagesSpeakTheLanguageOfTheBrowser(t *testing.T) {
	s := newTestServer(t, func(c *Config) {
		c.Scopes[1].Languages = map[string]string{"de": "Ihre Bestellungen"}
	})
	for path, want := range map[string]string{
		"/oauth/authorize?" + asks("webapp").Encode():                        "The app webapp möchte auf Ihr Konto bei example.com zugreifen Die App möchte your name Ihre Bestellungen",
		"/oauth/authorize?" + asks("webapp", "client_id", "nobody").Encode(): "Diese App ist hier nicht bekannt",
		"/oauth/apps": "Keine App hat Zugriff auf Ihr Konto.",
	} {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("Accept-Language", "de-DE,de;q=0.9,en;q=0.5")
		_, text := pagestest.Parts(s.do(t, r).Body)
		if text = strings.Join(strings.Fields(text), " "); !strings.Contains(text, want) {
			t.Errorf("%s: not %q in %s", path, want, text)
		}
	}
}

// "Not you?" leads to the login page, and back to the same request as somebody else.
func TestNotYou(t *testing.T) {
	s := newTestServer(t)
	if page := s.get(t, asks("webapp")).Body.String(); strings.Contains(page, "Not you?") {
		t.Errorf("without a login page: %s", page)
	}
	s.site.login = "/login"
	link := func(a answer) string {
		t.Helper()
		tags, _ := pagestest.Parts(a.Body)
		for _, tag := range tags {
			for _, attr := range tag.Attr {
				if attr.Key == "href" && strings.HasPrefix(attr.Val, "/login?") {
					return attr.Val
				}
			}
		}
		t.Fatal("no link to the login page")
		return ""
	}
	to, err := url.Parse(link(s.get(t, asks("webapp"))))
	if err != nil {
		t.Fatal(err)
	}
	s.site.user = &User{Subject: "bob"}
	again := s.do(t, httptest.NewRequest(http.MethodGet, to.Query().Get("return_to"), nil))
	if text := again.Body.String(); !strings.Contains(text, "bob") || strings.Contains(text, "alice") {
		t.Errorf("after the login: %s", text)
	}
	answered := s.decide(t, again, "allow")
	if answered.Code != http.StatusSeeOther || answered.location().Get("state") != "xyz" {
		t.Errorf("bob allows it: %d %v", answered.Code, answered.Header())
	}
	if to := link(s.do(t, httptest.NewRequest(http.MethodGet, "/oauth/apps", nil))); to != "/login?return_to=%2Foauth%2Fapps" {
		t.Errorf("the list of apps leads to %s", to)
	}
}

// A person who denies has made no error, and a parameter without a value is not sent, whatever the mode.
func TestDenialHasNoErrorID(t *testing.T) {
	for _, mode := range []string{"query", "form_post"} {
		s := newTestServer(t, client("webapp", func(c *storage.Client) { c.OmitIssuer = true }))
		a := s.decide(t, s.get(t, asks("webapp", "response_mode", mode, "state", "")), "deny")
		var got url.Values
		if mode == "query" {
			got = a.location()
		} else {
			got = formPost(t, a)
		}
		if got.Get("error") != "access_denied" || len(got) != 2 || got.Get("error_description") == "" {
			t.Errorf("%s: the client gets %v", mode, got)
		}
	}
}

// The consent page says where the person can take it back.
func TestConsentPageLeadsToTheApps(t *testing.T) {
	s := newTestServer(t)
	if page := s.get(t, asks("webapp")).Body.String(); !strings.Contains(page, `<a class="target" href="/oauth/apps">Connected apps</a>`) {
		t.Errorf("the page does not: %s", page)
	}
}
