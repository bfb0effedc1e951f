package fetch

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"
)

func message() Message {
	return Message{URL: documentURL, Form: url.Values{"logout_token": {"a.b+c"}}}
}

func TestPost(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.Host != "example.com" || r.PostFormValue("logout_token") != "a.b+c" || r.Header.Get("Cookie") != "" {
			t.Errorf("%s %s of %s: %v", r.Method, r.URL, r.Host, r.PostForm)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	if err := s.Post(t.Context(), message()); err != nil {
		t.Fatal(err)
	}
	if want := publicAddress + ":443"; len(s.dials()) != 1 || s.dials()[0].String() != want {
		t.Errorf("dialed %v, want %s", s.dials(), want)
	}
}

// No answer but 2xx is one. A failure does not stop the next message, and no redirect is followed.
func TestPostRefused(t *testing.T) {
	for status, want := range map[int]Reason{301: Redirect, 302: Redirect, 307: Redirect, 308: Redirect, 304: Redirect, 400: Status, 404: Status, 500: Status, 503: Status} {
		asked := 0
		s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
			asked++
			if r.URL.Path != "/client.json" {
				t.Errorf("%d: asked for %s", status, r.URL)
			}
			w.Header().Set("Location", "https://example.com/elsewhere")
			w.WriteHeader(status)
		})
		for range 2 {
			if e := refused(t, s.Post(t.Context(), message()), want); e.Status != status || !e.Sent() {
				t.Errorf("%d: %+v", status, e)
			}
		}
		if asked != 2 {
			t.Errorf("%d: %d requests", status, asked)
		}
	}
}

// The rules for addresses are those of a fetch: also for a name that is public at first, and private when it is used.
func TestPostToSpecialAddresses(t *testing.T) {
	for _, answer := range [][]string{{"127.0.0.1"}, {"10.0.0.1"}, {"169.254.169.254"}, {"::1"}, {"64:ff9b::7f00:1"}, {publicAddress, "10.0.0.1"}} {
		s := newSite(t, sendDocument)
		s.names.answers = [][]string{answer}
		_ = refused(t, s.Post(t.Context(), message()), SpecialAddress)
		if len(s.dials()) != 0 {
			t.Errorf("%v: dialed %v", answer, s.dials())
		}
	}
	s := newSite(t, func(http.ResponseWriter, *http.Request) {})
	s.names.answers = [][]string{{publicAddress}, {"127.0.0.1"}}
	if err := s.Post(t.Context(), message()); err != nil || len(s.names.asked) != 1 {
		t.Errorf("%v, resolved %d times", err, len(s.names.asked))
	}
	_ = refused(t, s.Post(t.Context(), message()), SpecialAddress)
	for _, address := range []string{"https://127.0.0.1/", "https://localhost/", "https://[::1]/", "http://example.com/", "ftp://example.com/", "https://u@example.com/", "https://0x7f.1/", "/"} {
		m := message()
		m.URL = address
		var e *Error
		if err := s.Post(t.Context(), m); !errors.As(err, &e) || e.Reason != SpecialAddress && e.Reason != InvalidURL {
			t.Errorf("%s: %v", address, err)
		}
	}
}

// A stranger's address gets no more messages than it gets fetches.
func TestPostIsLimited(t *testing.T) {
	s := newSite(t, func(http.ResponseWriter, *http.Request) {})
	sent := 0
	for range perMinuteOrigin + 5 {
		var e *Error
		switch err := s.Post(t.Context(), message()); {
		case err == nil:
			sent++
		case !errors.As(err, &e) || e.Reason != RateLimit || e.Sent() || e.Retry <= 0:
			t.Fatalf("%v", err)
		}
	}
	if sent != perMinuteOrigin {
		t.Errorf("%d messages in a minute, want %d", sent, perMinuteOrigin)
	}
}

// However many messages are sent, documents of clients are fetched.
func TestPostTakesNoFetches(t *testing.T) {
	s := newSite(t, sendDocument)
	for range perMinuteOrigin {
		if err := s.Post(t.Context(), message()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Get(t.Context(), Request{URL: documentURL, Known: true, Limit: 1 << 10}); err != nil {
		t.Error(err)
	}
}

// The owner's own addresses may be anywhere, and as many messages go there as there are.
func TestPostTrusted(t *testing.T) {
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked++ }))
	t.Cleanup(server.Close)
	f := New(Config{})
	for range perMinuteOrigin + 5 {
		if err := f.Post(t.Context(), Message{URL: server.URL, Trusted: true}); err != nil {
			t.Fatal(err)
		}
	}
	if asked != perMinuteOrigin+5 {
		t.Errorf("%d requests", asked)
	}
	_ = refused(t, f.Post(t.Context(), Message{URL: "file:///etc/passwd", Trusted: true}), InvalidURL)
}

// Nobody waits for an address that does not answer.
func TestPostTakesNoLongerThanAFetch(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(release) })
	f := New(Config{})
	f.timeout = 50 * time.Millisecond
	_ = refused(t, f.Post(t.Context(), Message{URL: server.URL, Trusted: true}), Timeout)
}
