package load

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// newTestConn returns a connection to a server that answers with a handler.
func newTestConn(t *testing.T, handler http.HandlerFunc) *conn {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	c := &conn{address: server.Listener.Addr().String(), until: time.Now().Add(answerTimeout)}
	t.Cleanup(c.close)
	return c
}

func TestConnReadsAnswers(t *testing.T) {
	var peers []string
	c := newTestConn(t, func(w http.ResponseWriter, r *http.Request) {
		peers = append(peers, r.RemoteAddr)
		switch r.URL.Path {
		case "/redirect":
			w.Header().Set("Location", "https://example.com/?code=c0de&state=s")
			w.WriteHeader(http.StatusSeeOther)
		case "/last":
			w.Header().Set("Connection", "close")
			_, _ = io.WriteString(w, `{"a":"b"}`)
		case "/chunks":
			w.(http.Flusher).Flush()
			_, _ = io.WriteString(w, "chunk")
		case "/refused":
			http.Error(w, "why not", http.StatusForbidden)
		default:
			body, _ := io.ReadAll(r.Body)
			user, password, _ := r.BasicAuth()
			_, _ = io.WriteString(w, `{"user":"`+user+`","password":"`+password+`","form":"`+string(body)+`"}`)
		}
	})
	request := func(path string) []byte { return get(c.address, path, "") }

	form := appendPost(nil, head(c.address, "/form", Client{"id", "a b"}), "a=b&c=d")
	must(t, c.want(http.StatusOK, form))
	for member, want := range map[string]string{"user": "id", "password": "a+b", "form": "a=b&c=d", "other": ""} {
		if got := string(c.member(member)); got != want {
			t.Errorf("%s is %q, want %q", member, got, want)
		}
	}
	must(t, c.want(http.StatusSeeOther, request("/redirect")))
	if got := string(c.location); got != "https://example.com/?code=c0de&state=s" {
		t.Errorf("the location is %q", got)
	}
	if err := c.want(http.StatusOK, request("/refused")); err == nil || !strings.Contains(err.Error(), "403 Forbidden why not") {
		t.Errorf("want on a refusal: %v, want 403 and the body", err)
	}
	if len(c.location) > 0 {
		t.Error("the location of an earlier answer is still set")
	}
	must(t, c.want(http.StatusOK, request("/last")))
	if string(c.member("a")) != "b" || c.net != nil {
		t.Errorf("after an answer that closes the connection: body %s, connection %v", c.body, c.net)
	}
	must(t, c.want(http.StatusOK, request("/")))
	if err := c.want(http.StatusOK, request("/chunks")); !errors.Is(err, errAnswer) || c.net != nil {
		t.Errorf("a chunked answer: %v, want %v", err, errAnswer)
	}
	for i, peer := range peers[1:4] {
		if peer != peers[0] {
			t.Errorf("request %d came from %s, the first from %s: want one connection", i+1, peer, peers[0])
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestConnRefusesMalformedAnswers(t *testing.T) {
	for _, answer := range []string{"\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200 OK\r\nno header\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", ""} {
		c := newTestConn(t, func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_, _ = io.WriteString(conn, answer)
				_ = conn.Close()
			}
		})
		if status, err := c.do(get(c.address, "/", "token")); err == nil || c.net != nil {
			t.Errorf("%q: status %d, want an error", answer, status)
		}
	}
}

// Errors are counted, and do not end the load.
func TestErrorsAreCounted(t *testing.T) {
	n := 0
	c := newTestConn(t, func(w http.ResponseWriter, _ *http.Request) {
		if n++; n%2 == 0 {
			http.Error(w, "overloaded", http.StatusServiceUnavailable)
		}
	})
	result, err := Run(t.Context(), &Plan{
		Work: "static", Address: c.address, Connections: 1, Measure: 50 * time.Millisecond, Clients: []Client{{"id", "secret"}}, Route: "/",
	})
	must(t, err)
	if result.Requests == 0 || result.Errors == 0 || result.Failure != "503 Service Unavailable overloaded\n" {
		t.Errorf("%+v", result)
	}
	if _, err := Run(t.Context(), &Plan{Work: "unknown"}); err == nil {
		t.Error("unknown work: expected an error")
	}
}
