package caddyoauth_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/quic-go/quic-go/http3"

	"github.com/caddy-oauth/caddy-oauth/internal/testport"
)

// streamer is a site with responses that last until the client is gone, and one that lasts until the test says so.
type streamer struct {
	*httptest.Server
	open   atomic.Int32  // responses that last
	finish chan struct{} // ends the export
}

func newStreamer(t *testing.T) *streamer {
	t.Helper()
	up := &streamer{finish: make(chan struct{})}
	lasts := func(w http.ResponseWriter, r *http.Request, write func() error) {
		up.open.Add(1)
		defer up.open.Add(-1)
		w.WriteHeader(http.StatusOK)
		for r.Context().Err() == nil && http.NewResponseController(w).Flush() == nil {
			if write() != nil {
				return
			}
			time.Sleep(time.Millisecond) // between events
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		lasts(w, r, func() error { _, err := io.WriteString(w, "data: x\n\n"); return err })
	})
	mux.HandleFunc("/silent", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		lasts(w, r, func() error { <-r.Context().Done(); return r.Context().Err() })
	})
	mux.HandleFunc("/mcp", func(w http.ResponseWriter, r *http.Request) { // which answers each message by a stream
		if message, err := io.ReadAll(r.Body); err != nil || (len(message) > 0) != (r.Method == http.MethodPost) {
			http.Error(w, "expected a message by POST", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		lasts(w, r, func() error { _, err := io.WriteString(w, "event: message\ndata: {}\n\n"); return err })
	})
	mux.HandleFunc("/socket", func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }() // it was hijacked
		up.open.Add(1)
		defer up.open.Add(-1)
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(conn, conn)
	})
	mux.HandleFunc("/export", func(w http.ResponseWriter, r *http.Request) {
		up.open.Add(1)
		defer up.open.Add(-1)
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, "begin ")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-up.finish:
			_, _ = io.WriteString(w, "end")
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/", func(http.ResponseWriter, *http.Request) {})
	up.Server = httptest.NewServer(mux)
	t.Cleanup(up.Close)
	return up
}

// host returns the host and the port of the site. A request names it in a header, so that a Caddy can have several such sites behind it.
func (up *streamer) host() string { return strings.TrimPrefix(up.URL, "http://") }

const toStreamer = "reverse_proxy {header.Upstream}\n"

// stream is a response that the test has begun to read.
type stream struct {
	conn net.Conn
	resp *http.Response
	rest io.Reader // of the response, or of the connection after an upgrade
}

func (s *server) stream(t *testing.T, up *streamer, path, token string) *stream {
	t.Helper()
	stream, status := s.request(t, up, path, token)
	if stream == nil {
		t.Fatalf("%s: %d", path, status)
	}
	return stream
}

// brief returns a stream with a token that does not live long. On a busy machine, one may have expired before the guard sees it.
func (s *server) brief(t *testing.T, up *streamer, path string) (opened *stream, token string) {
	t.Helper()
	eventually(t, "a stream", func() bool {
		token = s.signIn(t, s.url("shop.localhost")).AccessToken
		var status int
		opened, status = s.request(t, up, path, token)
		if opened == nil && status != http.StatusUnauthorized {
			t.Fatalf("%s: %d", path, status)
		}
		return opened != nil
	})
	return opened, token
}

// request requests a stream, and returns nil if the answer has another status than a stream.
func (s *server) request(t *testing.T, up *streamer, path, token string) (opened *stream, status int) {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", "127.0.0.1:"+s.port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // it may have been cut
	upgrade, want := "", http.StatusOK
	if path == "/socket" {
		upgrade, want = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", http.StatusSwitchingProtocols
	}
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: shop.localhost:"+s.port+"\r\nUpstream: "+up.host()+"\r\nAuthorization: Bearer "+token+"\r\n"+upgrade+"\r\n"); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, nil) //nolint:bodyclose // the connection is closed
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	switch {
	case resp.StatusCode != want:
		return nil, resp.StatusCode
	case path == "/socket":
		return &stream{conn, resp, reader}, want
	}
	return &stream{conn, resp, resp.Body}, want
}

// ended waits until the server has cut the response.
func (s *stream) ended(t *testing.T) {
	t.Helper()
	_ = s.conn.SetReadDeadline(time.Now().Add(patience)) // a connection that is closed gives an error below
	if _, err := io.Copy(io.Discard, s.rest); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("the response goes on")
	}
}

// streaming runs the shop with guarded streams. The tokens live as long as is said, without a leeway.
func streaming(t *testing.T, lifetime string) (*server, func()) {
	t.Helper()
	s := newServer(t)
	global := strings.Replace(shop, "scope orders\n", "scope orders\naccess_token {\nlifetime "+lifetime+"\n}\n", 1)
	site := `http://shop.localhost:PORT {
		vars person alice
		oauth {
			user {vars.person}
		}
		oauth_guard /export {
			leeway 0
		}
		oauth_guard /* {
			leeway 0
			cors
		}
		` + toStreamer + `
	}`
	s.run(t, global, site)
	return s, func() {
		// A change, however small, replaces all apps.
		if err := caddy.Load(s.adapt(t, global, site+"\nhttp://other.localhost:PORT {\n}"), true); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *server) revoke(t *testing.T, token string) {
	t.Helper()
	form := url.Values{"token": {token}, "client_id": {"app"}, "client_secret": {"app-secret"}}
	if answer := s.do(t, http.MethodPost, s.url("shop.localhost")+"/oauth/revoke", "application/x-www-form-urlencoded", form.Encode()); answer.status != 200 {
		t.Fatalf("revoke: %d %s", answer.status, answer.body)
	}
}

func TestStreamsEndWhenTheTokenIsRevoked(t *testing.T) {
	for _, reloaded := range []bool{false, true} {
		t.Run(map[bool]string{true: "after a reload", false: "at once"}[reloaded], func(t *testing.T) {
			paths := []string{"/events", "/silent", "/export"}
			if !reloaded {
				paths = append(paths, "/socket") // Caddy closes these when it replaces the configuration
			}
			s, reload := streaming(t, "10m")
			ups, opened, got := make([]*streamer, len(paths)), make([]*stream, len(paths)), make([]tokens, len(paths))
			for i, path := range paths {
				ups[i], got[i] = newStreamer(t), s.signIn(t, s.url("shop.localhost"))
				opened[i] = s.stream(t, ups[i], path, got[i].AccessToken)
			}
			if reloaded {
				reload()
			}
			for i, path := range paths {
				if ups[i].open.Load() != 1 {
					t.Fatalf("%s: the response does not last", path)
				}
				s.revoke(t, got[i].RefreshToken) // and with it the family
			}
			for i, path := range paths {
				t.Run(strings.TrimPrefix(path, "/"), func(t *testing.T) {
					opened[i].ended(t)
					eventually(t, "the site to be left alone", func() bool { return ups[i].open.Load() == 0 })
				})
			}
		})
	}
}

// Over HTTP/2 and HTTP/3, only the stream ends: the connection may have other requests.
func TestStreamsOfOneConnectionEndAlone(t *testing.T) { //nolint:tparallel // there is one Caddy in this process
	s := newServer(t)
	securePort := testport.New(t)
	const guarded = "oauth_guard /export {\nleeway 0\n}\noauth_guard {\nleeway 0\n}\n" + toStreamer + "}\n"
	s.run(t, "skip_install_trust\nauto_https disable_redirects\nservers {\nprotocols h1 h2 h2c h3\n}\n"+
		strings.Replace(shop, "scope orders\n", "scope orders\naccess_token {\nlifetime 3s\n}\n", 1),
		"http://shop.localhost:PORT {\nvars person {header.Person}\noauth {\nuser {vars.person}\n}\n"+guarded+
			"https://shop.localhost:"+securePort+" {\ntls internal\n"+guarded)
	for _, protocol := range []struct {
		name, scheme, port string
		major              int
		open               func() (transport http.RoundTripper, closeAll func())
	}{
		{"HTTP2 without TLS", "http", s.port, 2, func() (http.RoundTripper, func()) {
			h2c := &http.Transport{Protocols: new(http.Protocols)}
			h2c.Protocols.SetUnencryptedHTTP2(true)
			return h2c, h2c.CloseIdleConnections
		}},
		{"HTTP2", "https", securePort, 2, func() (http.RoundTripper, func()) {
			h2 := &http.Transport{TLSClientConfig: trusting(), ForceAttemptHTTP2: true}
			return h2, h2.CloseIdleConnections
		}},
		{"HTTP3", "https", securePort, 3, func() (http.RoundTripper, func()) {
			h3 := &http3.Transport{TLSClientConfig: trusting()}
			return h3, func() { _ = h3.Close() }
		}},
	} {
		for _, path := range []string{"/events", "/silent"} {
			t.Run(protocol.name+path, func(t *testing.T) {
				t.Parallel()
				up := newStreamer(t)
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				transport, closeAll := protocol.open()
				defer closeAll()
				get := func(path string) (resp *http.Response, got tokens) {
					eventually(t, "an answer, once there is a certificate", func() bool {
						if got.AccessToken == "" {
							got = s.signIn(t, s.url("shop.localhost"), "Person", strings.ToLower(strings.ReplaceAll(protocol.name+path, " ", "-")))
						}
						req, err := http.NewRequestWithContext(ctx, http.MethodGet, protocol.scheme+"://127.0.0.1:"+protocol.port+path, nil)
						if err != nil {
							t.Fatal(err)
						}
						req.Host = "shop.localhost:" + protocol.port
						req.Header.Set("Authorization", "Bearer "+got.AccessToken)
						req.Header.Set("Upstream", up.host())
						resp, err = transport.RoundTrip(req) //nolint:bodyclose // the caller closes it
						if err == nil && resp.StatusCode == http.StatusUnauthorized {
							resp.Body.Close()
							got = tokens{} // it has expired meanwhile
						}
						return err == nil && resp.StatusCode != http.StatusUnauthorized
					})
					if resp.StatusCode != http.StatusOK || resp.ProtoMajor != protocol.major {
						t.Fatalf("%s: %v", path, resp)
					}
					return resp, got
				}
				first, _ := get("/")
				first.Body.Close()

				kept, _ := get("/export")
				defer kept.Body.Close()
				cut, revoked := get(path)
				defer cut.Body.Close()
				s.revoke(t, revoked.RefreshToken)
				if _, err := io.Copy(io.Discard, cut.Body); err == nil || ctx.Err() != nil {
					t.Errorf("the stream of a revoked token goes on, or ends as if it were complete: %v", err)
				}
				eventually(t, "the site to be left alone", func() bool { return up.open.Load() == 1 })

				expired, _ := get(path)
				defer expired.Body.Close()
				if _, err := io.Copy(io.Discard, expired.Body); err == nil || ctx.Err() != nil {
					t.Errorf("the stream of an expired token goes on, or ends as if it were complete: %v", err)
				}
				eventually(t, "the site to be left alone", func() bool { return up.open.Load() == 1 })

				close(up.finish)
				if text, err := io.ReadAll(kept.Body); err != nil || string(text) != "begin end" {
					t.Errorf("the other response is %q, %v", text, err)
				}
			})
		}
	}
}

// trusting accepts the certificate of the test's own authority.
func trusting() *tls.Config {
	return &tls.Config{ServerName: "shop.localhost", InsecureSkipVerify: true} //nolint:gosec // it is this test's own server
}

func TestStreamsEndWhenTheTokenExpires(t *testing.T) { //nolint:tparallel // there is one Caddy in this process
	s, _ := streaming(t, "2s")
	for _, path := range []string{"/events", "/silent", "/socket"} {
		t.Run(strings.TrimPrefix(path, "/"), func(t *testing.T) {
			t.Parallel()
			up := newStreamer(t)
			stream, _ := s.brief(t, up, path)
			stream.ended(t)
			eventually(t, "the site to be left alone", func() bool { return up.open.Load() == 0 })
		})
	}
	t.Run("not a response that has an end of its own", func(t *testing.T) {
		t.Parallel()
		up := newStreamer(t)
		export, token := s.brief(t, up, "/export")
		eventually(t, "the token to expire", func() bool {
			return s.get(t, s.url("shop.localhost")+"/", "Upstream", up.host(), "Authorization", "Bearer "+token).status == http.StatusUnauthorized
		})
		events, _ := s.brief(t, up, "/events")
		events.ended(t) // by now the guard has looked at the export as well
		close(up.finish)
		var text bytes.Buffer
		if _, err := text.ReadFrom(export.rest); err != nil || text.String() != "begin end" {
			t.Errorf("the export is %q, %v", text.String(), err)
		}
	})
}

// M27: streams of an MCP server end with the token, those that answer a message too, be it that the guard had to read it and to begin
// again, or not.
func TestStreamsOfAnMCPServerEnd(t *testing.T) {
	for end, lifetime := range map[string]string{"revoked": "10m", "expired": "2s"} {
		t.Run(end, func(t *testing.T) {
			s := newServer(t)
			s.run(t, strings.Replace(mcpShop, "scope orders\n", "scope orders\naccess_token {\nlifetime "+lifetime+"\n}\n", 1), `http://shop.localhost:PORT {
				vars person alice
				oauth {
					user {vars.person}
				}
				`+strings.ReplaceAll(toolGuards, "scopes", "leeway 0\nscopes")+toStreamer+`
			}`)
			for _, tt := range []struct {
				name, method, message string
				header                []string
			}{
				{"events for a client", http.MethodGet, "", []string{"Accept", "text/event-stream", "Last-Event-ID", "7"}},
				{"the answer to a message", http.MethodPost, listTools, []string{"Mcp-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/list"}},
				{"the answer to a message of an older revision", http.MethodPost, getOrder, []string{"Mcp-Protocol-Version", "2025-06-18"}},
			} {
				t.Run(tt.name, func(t *testing.T) {
					t.Parallel()
					up := newStreamer(t)
					var resp *http.Response
					var got tokens
					eventually(t, "a stream", func() bool {
						got = s.signIn(t, s.url("shop.localhost"))
						req, err := http.NewRequestWithContext(t.Context(), tt.method, "http://127.0.0.1:"+s.port+"/mcp", strings.NewReader(tt.message))
						if err != nil {
							t.Fatal(err)
						}
						req.Host = "shop.localhost:" + s.port
						req.Header.Set("Upstream", up.host())
						for header := append([]string{"Authorization", "Bearer " + got.AccessToken, "Content-Type", "application/json"}, tt.header...); len(header) > 0; header = header[2:] {
							req.Header.Set(header[0], header[1])
						}
						if resp, err = http.DefaultTransport.RoundTrip(req); err != nil { //nolint:bodyclose // closed below
							t.Fatal(err)
						}
						if resp.StatusCode != http.StatusOK {
							resp.Body.Close()
						}
						return resp.StatusCode != http.StatusUnauthorized // as it is after the token has expired
					})
					defer resp.Body.Close()
					if resp.StatusCode != http.StatusOK || resp.ContentLength != -1 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
						t.Fatalf("got %v", resp)
					}
					if end == "revoked" {
						s.revoke(t, got.RefreshToken)
					}
					timer := time.AfterFunc(patience, func() { resp.Body.Close() })
					n, err := io.Copy(io.Discard, resp.Body)
					if !timer.Stop() {
						t.Fatal("the stream goes on")
					}
					if err == nil || n == 0 {
						t.Errorf("the stream ends after %d bytes as if it were complete", n)
					}
					eventually(t, "the server to be left alone", func() bool { return up.open.Load() == 0 })
				})
			}
		})
	}
}
