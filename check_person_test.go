package caddyoauth_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

// loginBackend is the app of a site, which knows alice by her cookies. It returns the address of the app and the headers of her first request.
func loginBackend(t *testing.T) (address string, first func() http.Header) {
	t.Helper()
	came := make(chan http.Header, 100)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Cookie") == "" {
			http.Redirect(w, r, "/login", http.StatusSeeOther)
			return
		}
		came <- r.Header
		w.Header().Set("Remote-User", "alice")
	}))
	t.Cleanup(app.Close)
	return strings.TrimPrefix(app.URL, "http://"), func() http.Header {
		select {
		case header := <-came:
			return header
		default:
			t.Fatal("nobody has come with a cookie")
			return nil
		}
	}
}

// Clients that have to push or sign their requests are right, although the check cannot do so for them.
func TestCheckOfExamplesThatPushOrSign(t *testing.T) {
	t.Setenv("SHOP_APP_SECRET", "only-for-this-test-0123456789abcdef")
	for name, host := range map[string]string{"pushed": "pushed.example.com", "signed": "signed.example.com", "fapi2": "bank.example.com"} {
		s := newServer(t)
		app, _ := loginBackend(t)
		text, err := os.ReadFile("examples/" + name + ".Caddyfile")
		if err != nil {
			t.Fatal(err)
		}
		const here = "http://127.0.0.1:PORT"
		site := strings.NewReplacer("https://"+host, here, host, here, "app:8080", app).Replace(string(text))
		file := s.writeCaddyfile(t, "", site)
		s.run(t, "", site)
		report, status := s.check(t, "--config", file)
		if status != 0 || report.has("fail", "") || !report.has("not checked", "pushes or signs its requests") {
			t.Errorf("%s: status %d, %+v", name, status, report)
		}
	}
}

// People copy the headers of a whole request from their browser. Those that are about that request alone are not sent.
func TestCheckAsAPersonWithCopiedHeaders(t *testing.T) {
	s := newServer(t)
	app, first := loginBackend(t)
	site := "http://127.0.0.1:PORT {\n\toauth {\n\t\tlogin {\n\t\t\tforward_auth " + app + " {\n\t\t\t\turi /whoami\n\t\t\t}\n\t\t}\n\t\tuser {rp.header.Remote-User}\n\t}\n}"
	file := s.writeCaddyfile(t, checked, site)
	s.run(t, checked, site)
	copied := "Host: other.example\nAccept-Encoding: br\nRange: bytes=0-1\nIf-None-Match: \"x\"\nContent-Length: 3\nContent-Type: text/plain\n" +
		"cookie: a=1\nAccept-Language: de\nCookie: b=2\n"
	report, status := s.check(t, "--config", file, "--client", "app", "--as-user", write(t, t.TempDir(), "headers", copied))
	if status != 0 || !report.has("ok", "as a person, gets to the consent page, and with it a code, gets its tokens") {
		t.Errorf("status %d, %+v", status, report)
	}
	came := first()
	if came.Get("Cookie") != "a=1; b=2" || came.Get("Accept-Language") != "de" {
		t.Errorf("got %q", came)
	}
	for _, name := range []string{"Range", "If-None-Match", "Content-Type"} {
		if came.Get(name) != "" || strings.Contains(came.Get("Accept-Encoding"), "br") {
			t.Errorf("%s is sent, or an answer in br is asked for: %q", name, came)
		}
	}
	if _, status := s.check(t, "--config", file, "--as-user", write(t, t.TempDir(), "headers", "Host: other.example\nRange: bytes=0-1\n")); status != 2 {
		t.Errorf("with nothing left: status %d", status)
	}
	if _, status := s.check(t, "--url", "http://shop.example", "--as-user", write(t, t.TempDir(), "headers", copied)); status != 2 {
		t.Errorf("in clear: status %d", status)
	}
}
