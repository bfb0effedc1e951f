package authserver

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/internal/pages/pagestest"
)

// A user ID that cannot be the sub of a token gets no code, and the client gets an error.
func TestUserIDs(t *testing.T) {
	for _, tt := range []struct {
		name, subject, error string
	}{
		{"e-mail address", "alice@example.com", ""},
		{"letters of the world", "日本🔑 ü", ""},
		{"markup", `<img src=x onerror=alert(1)>"'`, ""},
		{"a path", "../../etc/passwd", ""},
		{"255 bytes", strings.Repeat("a", 255), ""},
		{"the ID of a client without client_credentials", "webapp", ""},
		{"256 bytes", strings.Repeat("a", 256), "access_denied"},
		{"256 bytes of 128 letters", strings.Repeat("ü", 128), "access_denied"},
		{"300 bytes", strings.Repeat("a", 300), "access_denied"},
		{"NUL", "alice\x00", "access_denied"},
		{"line break", "alice\r\nbob", "access_denied"},
		{"C1 control character", "alice\u0085", "access_denied"},
		{"not UTF-8", "alice\xff", "access_denied"},
		{"RFC 9700 §4.15 the ID of a client with client_credentials", "billing", "access_denied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t)
			s.site.user = &User{Subject: tt.subject}
			a := s.get(t, asks("webapp"))
			if tt.error != "" {
				a.check(t, http.StatusSeeOther, tt.error)
				return
			}
			_, text := pagestest.Parts(strings.NewReader(a.Body.String()))
			if !strings.Contains(text, tt.subject) {
				t.Errorf("the consent page does not show whose account it is: %s", text)
			}
			body := s.token(t, redeems(s.code(t, asks("webapp")))).json(t)
			if sub := s.claims(t, body["access_token"])["sub"]; sub != tt.subject {
				t.Errorf("sub %q", sub)
			}
		})
	}
	t.Run("the log says which rule the user ID breaks", func(t *testing.T) {
		s := newTestServer(t)
		s.site.user = &User{Subject: "billing"}
		s.get(t, asks("webapp"))
		cause, _ := s.logs.All()[len(s.logs.All())-1].ContextMap()["cause"].(string)
		if !strings.Contains(cause, "client with client_credentials") {
			t.Errorf("cause %q", cause)
		}
	})
	t.Run("the client learns nothing about the user", func(t *testing.T) {
		s := newTestServer(t)
		s.site.user = &User{Subject: "alice\x00"}
		if to := s.get(t, asks("webapp")).Header().Get("Location"); strings.Contains(to, "alice") {
			t.Errorf("the redirect is %s", to)
		}
	})
}
