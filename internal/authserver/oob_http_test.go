package authserver

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/internal/pages/pagestest"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// outOfBandClient returns an edit that adds an out-of-band redirect URI to a client.
func outOfBandClient(id, uri string) func(*Config) {
	return client(id, func(c *storage.Client) { c.RedirectURIs = append(c.RedirectURIs, uri) })
}

// asksOutOfBand returns a valid authorization request of a client.
func asksOutOfBand(id, uri string, pairs ...string) url.Values {
	return merge(asks(id, "redirect_uri", uri), pairs...)
}

// shownCode returns the code on a page, and the page's title.
func shownCode(t *testing.T, a answer) (code, title string) {
	t.Helper()
	a.check(t, http.StatusOK, "")
	checkNotFramed(t, a)
	if to := a.Header().Get("Location"); to != "" {
		t.Errorf("Location %s", to)
	}
	page := a.Body.String()
	for _, forbidden := range []string{"<script>", "http-equiv", "<form", "<a "} {
		if strings.Contains(page, forbidden) {
			t.Errorf("%s in the page", forbidden)
		}
	}
	match := regexp.MustCompile(`<input class="id" id="code" value="([^"]+)" readonly`).FindStringSubmatch(page)
	head := regexp.MustCompile(`<title>([^<]*)</title>`).FindStringSubmatch(page)
	if match == nil || head == nil {
		t.Fatalf("no code on the page, or no title: %s", page)
	}
	return match[1], html.UnescapeString(head[1])
}

func TestOutOfBandCode(t *testing.T) {
	for _, uri := range []string{uris.OutOfBand, uris.OutOfBandAuto} {
		for _, id := range []string{"webapp", "native"} {
			t.Run(id+" "+uri, func(t *testing.T) {
				s := newTestServer(t, outOfBandClient(id, uri), client(id, func(c *storage.Client) { c.CodePrefix = "auth_" }))
				page := s.get(t, asksOutOfBand(id, uri))
				if _, text := pagestest.Parts(strings.NewReader(page.Body.String())); !strings.Contains(text, "a page that shows a code") {
					t.Errorf("the consent page does not show where the answer goes: %s", text)
				}
				code, title := shownCode(t, s.decide(t, page, "allow"))
				s.seen = append(s.seen, code)
				if want := "Success code=" + code + "&state=xyz"; title != want || !strings.HasPrefix(code, "auth_") {
					t.Errorf("title %q, want %q", title, want)
				}
				form := redeems(code, "redirect_uri", uri)
				if id == "native" {
					form.Set("client_id", id)
				}
				other := map[string]string{uris.OutOfBand: uris.OutOfBandAuto, uris.OutOfBandAuto: uris.OutOfBand}[uri]
				s.token(t, merge(form, "redirect_uri", other)).check(t, http.StatusBadRequest, "invalid_grant")
				s.token(t, form).check(t, http.StatusOK, "")
				s.token(t, form).check(t, http.StatusBadRequest, "invalid_grant")
			})
		}
	}
}

func TestOutOfBandMustBeRegistered(t *testing.T) {
	for _, uri := range []string{uris.OutOfBand, uris.OutOfBandAuto, uris.OutOfBand + ":other", strings.ToUpper(uris.OutOfBand)} {
		s := newTestServer(t, outOfBandClient("native", "urn:ietf:wg:oauth:2.0:oob:nothing"))
		if uri == uris.OutOfBandAuto {
			s = newTestServer(t, outOfBandClient("native", uris.OutOfBand))
		}
		a := s.get(t, asksOutOfBand("native", uri))
		a.check(t, http.StatusBadRequest, "invalid_request")
		if a.page == nil || a.Header().Get("Location") != "" {
			t.Errorf("%s: %d %v", uri, a.Code, a.Header())
		}
	}
}

// Anybody can start such a request, on this device or by telling a person the link. So the person is asked each time, unless the
// client has a secret or the owner has configured otherwise.
func TestOutOfBandConsent(t *testing.T) {
	for _, tt := range []struct {
		name, id string
		mode     storage.ConsentMode
		again    bool // the person is asked again
	}{
		{"RFC 8252 §8.6 a public client", "native", "", true},
		{"a public client, once", "native", storage.ConsentOnce, false},
		{"a client with a secret", "webapp", "", false},
		{"a client with a secret, always", "webapp", storage.ConsentAlways, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t, outOfBandClient(tt.id, uris.OutOfBandAuto), client(tt.id, func(c *storage.Client) { c.Consent = tt.mode }))
			request := asksOutOfBand(tt.id, uris.OutOfBandAuto)
			code, _ := shownCode(t, s.decide(t, s.get(t, request), "allow"))
			second := s.get(t, request)
			if strings.Contains(second.Body.String(), `name="decision"`) != tt.again {
				t.Errorf("asked again: %t, want %t", !tt.again, tt.again)
			}
			if !tt.again {
				if another, _ := shownCode(t, second); another == code {
					t.Errorf("code %q twice", code)
				}
			}
		})
	}
}

// Errors of out-of-band requests cannot go to the client, so a page shows them to the person.
func TestOutOfBandErrors(t *testing.T) {
	for _, tt := range []struct {
		name  string
		pairs []string
		error string
	}{
		{"scope", []string{"scope", "admin"}, "invalid_scope"},
		{"resource", []string{"resource", "https://other.example"}, "invalid_target"},
		{"response_type", []string{"response_type", "token"}, "unsupported_response_type"},
		{"RFC 7636 §4.4.1 no PKCE", []string{"code_challenge", "", "code_challenge_method", ""}, "invalid_request"},
		{"form_post", []string{"response_mode", "form_post"}, "invalid_request"},
		{"prompt=none", []string{"prompt", "none"}, "consent_required"},
		{"markup in what was asked for", []string{"scope", "<script>alert(1)</script>"}, "invalid_scope"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t, outOfBandClient("native", uris.OutOfBand))
			a := s.get(t, asksOutOfBand("native", uris.OutOfBand, tt.pairs...))
			a.check(t, http.StatusBadRequest, tt.error)
			checkErrorPage(t, a)
			if strings.Contains(a.Body.String(), "<script>") {
				t.Errorf("page %s", a.Body)
			}
		})
	}
	t.Run("RFC 6749 §4.1.2.1 the person denies", func(t *testing.T) {
		s := newTestServer(t, outOfBandClient("native", uris.OutOfBand))
		a := s.decide(t, s.get(t, asksOutOfBand("native", uris.OutOfBand)), "deny")
		a.check(t, http.StatusBadRequest, "access_denied")
		_, text := pagestest.Parts(strings.NewReader(a.Body.String()))
		if !strings.Contains(text, "You did not allow access") || strings.Contains(text, "error ID") || strings.Contains(text, "the user denied") {
			t.Errorf("the page says %s", text)
		}
	})
	t.Run("the store is down", func(t *testing.T) {
		s := newTestServer(t, outOfBandClient("native", uris.OutOfBand))
		page := s.get(t, asksOutOfBand("native", uris.OutOfBand))
		s.store.Err = errDown
		a := s.decide(t, page, "allow")
		a.check(t, http.StatusServiceUnavailable, "temporarily_unavailable")
		checkErrorPage(t, a)
	})
	t.Run("nobody is signed in", func(t *testing.T) {
		s := newTestServer(t, outOfBandClient("native", uris.OutOfBand))
		s.site.user = nil
		s.get(t, asksOutOfBand("native", uris.OutOfBand)).check(t, http.StatusUnauthorized, "login_required")
	})
}

// A client chooses its name and the state. They cannot inject markup into the page, or a code into its title.
func TestOutOfBandPageEscapes(t *testing.T) {
	for _, state := range []string{"</title><script>alert(1)</script>", "x&code=evil", `"'><img src=x>`, "a b+c%20", "\u202eevil", "é🔑", ""} {
		s := newTestServer(t, outOfBandClient("webapp", uris.OutOfBand), client("webapp", func(c *storage.Client) {
			c.Name, c.Consent = `<b>"Shop"</b> & </title>`, storage.ConsentNever
		}))
		a := s.get(t, asksOutOfBand("webapp", uris.OutOfBand, "state", state))
		code, title := shownCode(t, a)
		params, err := url.ParseQuery(strings.TrimPrefix(title, "Success "))
		if err != nil || params.Get("code") != code || len(params["code"]) != 1 {
			t.Errorf("state %q: title %q: %v", state, title, err)
		}
		if strings.ContainsAny(title, "<>\"\u202e") || strings.Contains(a.Body.String(), "<b>") || strings.Contains(a.Body.String(), "<img") {
			t.Errorf("state %q: %s", state, a.Body)
		}
		if params.Get("state") != state { // RFC 6749 §4.1.2
			t.Errorf("state %q comes back as %q", state, params.Get("state"))
		}
	}
}
