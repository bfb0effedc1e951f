package authserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
)

// pipes is a listener for connections within the process, whose deadlines follow the clock of a synctest bubble.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	close(p.closed)
	return nil
}

func (*pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// serveOverPipes serves a server over HTTP/1.1 until the test ends, and returns a function that connects to it.
func serveOverPipes(t *testing.T, s *testServer, edits ...func(*http.Server)) (connect func() net.Conn) {
	t.Helper()
	listener := &pipes{make(chan net.Conn), make(chan struct{})}
	server := &http.Server{ReadHeaderTimeout: time.Hour, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := s.ServeHTTP(w, r, s.site)
		if page, ok := errors.AsType[*PageError](err); ok {
			err = s.WritePage(w, r, page)
		}
		if err != nil {
			t.Error(err)
		}
	})}
	for _, edit := range edits {
		edit(server)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return func() net.Conn {
		client, remote := net.Pipe()
		t.Cleanup(func() { _ = client.Close() })
		listener.conns <- remote
		return client
	}
}

// stalled returns a request with half a body.
func stalled(method, path, contentType string) string {
	return fmt.Sprintf("%s %s HTTP/1.1\r\nHost: example.com\r\nContent-Type: %s\r\nContent-Length: 100\r\n\r\ntoken=half", method, path, contentType)
}

// However an endpoint answers, a client that sends no more of the body it has announced is cut off after ten seconds.
func TestStalledBodiesAreCutOff(t *testing.T) {
	const form = "application/x-www-form-urlencoded"
	for _, tt := range []struct {
		name    string
		request string
		status  int
	}{
		{"token", stalled("POST", "/oauth/token", form), http.StatusRequestTimeout},
		{"introspect", stalled("POST", "/oauth/introspect", form), http.StatusRequestTimeout},
		{"revoke", stalled("POST", "/oauth/revoke", form), http.StatusRequestTimeout},
		{"authorize", stalled("POST", "/oauth/authorize", form), http.StatusRequestTimeout},
		{"apps", stalled("POST", "/oauth/apps", form), http.StatusRequestTimeout},
		{"in chunks", "POST /oauth/token HTTP/1.1\r\nHost: example.com\r\nContent-Type: " + form +
			"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ntoken\r\n", http.StatusRequestTimeout},
		{"a body that the handler does not read", stalled("POST", "/oauth/token", "text/plain"), http.StatusBadRequest},
		{"a method that is refused", stalled("PUT", "/oauth/token", form), http.StatusMethodNotAllowed},
		{"a body of a GET request", stalled("GET", "/oauth/jwks", form), http.StatusOK},
		{"a body of a preflight", stalled("OPTIONS", "/oauth/token", form), http.StatusNoContent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn, start := serveOverPipes(t, newTestServer(t))(), time.Now()
				go func() { _, _ = io.WriteString(conn, tt.request) }()
				r := bufio.NewReader(conn)
				answer, err := http.ReadResponse(r, nil)
				if err != nil || answer.StatusCode != tt.status {
					t.Fatalf("%v, error %v", answer, err)
				}
				body, _ := io.ReadAll(answer.Body)
				_ = answer.Body.Close()
				if tt.status == http.StatusRequestTimeout && !strings.Contains(string(body), "did not arrive in time") {
					t.Errorf("%s", body)
				}
				if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
					t.Errorf("the connection is open: %v", err)
				}
				if elapsed := time.Since(start); elapsed != 10*time.Second {
					t.Errorf("cut off after %s", elapsed)
				}
			})
		})
	}
}

// slowGrant is a grant that takes long, as a site that checks a password may.
type slowGrant struct{}

func (slowGrant) Type() string { return "client_credentials" }

func (slowGrant) Exchange(ctx context.Context, _ *grants.Request) (*grants.Authorization, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(time.Minute):
		return &grants.Authorization{Subject: "billing"}, nil
	}
}

// The limit ends with the body: neither a long exchange nor the next request on the connection feels it.
func TestLimitOfABodyEndsWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, func(c *Config) {
			c.Grants, c.StoreTimeout = append(c.Grants[:2:2], slowGrant{}), time.Hour
		})
		conn := serveOverPipes(t, s)()
		r := bufio.NewReader(conn)
		for range 3 {
			request := postRequest("/oauth/token", asBilling().Encode())
			go func() { _ = request.Write(conn) }()
			answer, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if err != nil || answer.StatusCode != http.StatusOK {
				t.Errorf("%d %s, error %v", answer.StatusCode, body, err)
			}
			time.Sleep(time.Minute) // the connection is idle
		}
	})
}

// A stricter limit in the configuration of Caddy applies.
func TestStricterReadTimeoutOfTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		connect := serveOverPipes(t, newTestServer(t), func(server *http.Server) { server.ReadTimeout = 3 * time.Second })
		conn, start := connect(), time.Now()
		go func() {
			_, _ = io.WriteString(conn, stalled("POST", "/oauth/token", "application/x-www-form-urlencoded"))
		}()
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || answer.StatusCode != http.StatusRequestTimeout {
			t.Fatalf("%v, error %v", answer, err)
		}
		defer answer.Body.Close()
		if elapsed := time.Since(start); elapsed != 3*time.Second {
			t.Errorf("cut off after %s", elapsed)
		}
	})
}
