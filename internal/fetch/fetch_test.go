package fetch

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/testclock"
)

const (
	publicAddress = "93.184.216.34"
	documentURL   = "https://example.com/client.json" // a name in the certificate of httptest
	document      = `{"client_id":"https://example.com/client.json"}`
)

// names is a resolver.
type names struct {
	mu      sync.Mutex
	answers [][]string // one after the other; the last one stays
	asked   []string
}

func (n *names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, host)
	answer := n.answers[0]
	if len(n.answers) > 1 {
		n.answers = n.answers[1:]
	}
	if answer == nil {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	var addresses []netip.Addr
	for _, a := range answer {
		addresses = append(addresses, netip.MustParseAddr(a))
	}
	return addresses, nil
}

// site is a fetcher, and the one server of its Internet.
type site struct {
	*Fetcher
	server *httptest.Server
	names  *names
	clock  *testclock.Clock

	mu     sync.Mutex
	dialed []netip.AddrPort
}

func newSite(t *testing.T, handler http.HandlerFunc) *site {
	t.Helper()
	s := &site{names: &names{answers: [][]string{{publicAddress}}}, clock: testclock.New()}
	s.server = httptest.NewUnstartedServer(handler)
	s.server.Config.ErrorLog = nil
	s.server.StartTLS()
	t.Cleanup(s.server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.server.Certificate())
	s.Fetcher = New(Config{Resolver: s.names, RootCAs: roots, Now: s.clock.Now})
	s.connect = func(ctx context.Context, address netip.AddrPort, _ bool) (net.Conn, error) {
		s.mu.Lock()
		s.dialed = append(s.dialed, address)
		s.mu.Unlock()
		return new(net.Dialer).DialContext(ctx, "tcp", s.server.Listener.Addr().String())
	}
	return s
}

func (s *site) dials() []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dialed
}

func request() Request { return Request{URL: documentURL, Purpose: "test", Limit: 16 << 10} }

// refused requires that a fetch fails for a reason.
func refused(t *testing.T, err error, want Reason) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Reason != want {
		t.Fatalf("error %v, want %q", err, want)
	}
	return e
}

func sendDocument(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprint(w, document)
}

func TestGet(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.Host != "example.com" || r.TLS.ServerName != "example.com" || r.URL.String() != "/client.json" {
			t.Errorf("%s %s of %s, SNI %s", r.Method, r.URL, r.Host, r.TLS.ServerName)
		}
		if r.Header.Get("Accept") != "application/json" || r.Header.Get("Accept-Encoding") != "identity" || r.Header.Get("Cookie") != "" {
			t.Errorf("header %v", r.Header)
		}
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Last-Modified", "Sun, 01 Mar 2026 00:00:00 GMT")
		w.Header().Set("Cache-Control", "max-age=7200")
		sendDocument(w, r)
	})
	got, err := s.Get(t.Context(), request())
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Body) != document || got.ETag != `"1"` || got.LastModified != "Sun, 01 Mar 2026 00:00:00 GMT" ||
		got.Fresh != 2*time.Hour || got.Status != 200 || got.NotModified() {
		t.Errorf("%+v", got)
	}
	if want := publicAddress + ":443"; len(s.dials()) != 1 || s.dials()[0].String() != want {
		t.Errorf("dialed %v, want %s", s.dials(), want)
	}
	if len(s.names.asked) != 1 || s.names.asked[0] != "example.com." {
		t.Errorf("resolved %q", s.names.asked)
	}
}

func TestGetNeedsNoHTTP2(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 || !r.Close {
			t.Errorf("%s, close %v", r.Proto, r.Close)
		}
		sendDocument(w, r)
	})
	if _, err := s.Get(t.Context(), request()); err != nil {
		t.Fatal(err)
	}
}

func TestConditional(t *testing.T) {
	for name, validator := range map[string][2]string{"ETag": {"If-None-Match", `W/"1"`}, "Last-Modified": {"If-Modified-Since", "Sun, 01 Mar 2026 00:00:00 GMT"}} {
		s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(name, validator[1])
			w.Header().Set("Cache-Control", "max-age=600")
			if r.Header.Get(validator[0]) == validator[1] {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			sendDocument(w, r)
		})
		r := request()
		first, err := s.Get(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		r.ETag, r.LastModified = first.ETag, first.LastModified
		second, err := s.Get(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if !second.NotModified() || second.Body != nil || second.Fresh != 10*time.Minute || second.ETag != first.ETag {
			t.Errorf("%s: %+v", name, second)
		}
	}
}

// A validator that cannot be kept or sent again is as good as none.
func TestValidatorsOfNoUse(t *testing.T) {
	for _, etag := range []string{`"` + strings.Repeat("x", 300) + `"`, "\"\xff\"", "\"\t\""} {
		s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header()["ETag"] = []string{etag}
			sendDocument(w, r)
		})
		if got, err := s.Get(t.Context(), request()); err != nil || got.ETag != "" {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

// What an answer must not be. The reason is for the owner, and the body is in no error.
func TestRefusedAnswers(t *testing.T) {
	gzipped := new(bytes.Buffer)
	bomb := gzip.NewWriter(gzipped)
	if _, err := bomb.Write(make([]byte, 10<<20)); err != nil || bomb.Close() != nil {
		t.Fatal(err)
	}
	const secret = "BODY-OF-ANOTHER-SERVER"
	answer := func(status int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for n := 0; n < len(header); n += 2 {
				w.Header().Set(header[n], header[n+1])
			}
			w.WriteHeader(status)
			if status != http.StatusNotModified && status != http.StatusNoContent {
				fmt.Fprint(w, `"`+secret+`"`)
			}
		}
	}
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		want    Reason
		status  int
	}{
		{"redirect", answer(302, "Location", "https://example.com/other.json"), Redirect, 302},
		{"redirect for good", answer(301, "Location", "/other.json"), Redirect, 301},
		{"redirect to loopback", answer(307, "Location", "http://127.0.0.1:2019/config/"), Redirect, 307},
		{"redirect with 308", answer(308, "Location", "https://example.com/"), Redirect, 308},
		{"redirect without a location", answer(303), Redirect, 303},
		{"201", answer(201), Status, 201},
		{"204", answer(204), Status, 204},
		{"206", answer(206, "Content-Range", "bytes 0-9/10"), Status, 206},
		{"304 that nobody asked for", answer(304), Status, 304},
		{"404", answer(404), Status, 404},
		{"500", answer(500), Status, 500},
		{"HTML", answer(200, "Content-Type", "text/html; charset=utf-8"), ContentType, 200},
		{"text", answer(200, "Content-Type", "text/plain"), ContentType, 200},
		{"JSON of another tree", answer(200, "Content-Type", "text/json"), ContentType, 200},
		{"a suffix without a name", answer(200, "Content-Type", "application/+json"), ContentType, 200},
		{"a type that contains json", answer(200, "Content-Type", "application/json-seq"), ContentType, 200},
		{"a malformed type", answer(200, "Content-Type", "application/json; ="), ContentType, 200},
		{"no type", answer(200, "Content-Type", ""), ContentType, 200},
		{"gzip", answer(200, "Content-Encoding", "gzip"), ContentEncoding, 200},
		{"gzip bomb", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(gzipped.Bytes())
		}, ContentEncoding, 200},
		{"17 KB", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Write(make([]byte, 17<<10))
		}, TooLarge, 200},
		{"17 KB of unknown length", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for range 17 {
				w.Write(make([]byte, 1<<10))
				w.(http.Flusher).Flush()
			}
		}, TooLarge, 200},
		{"without end", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for r.Context().Err() == nil {
				w.Write(make([]byte, 1<<10))
			}
		}, TooLarge, 200},
		{"a body that breaks off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "{")
		}, NoConnection, 0},
		{"a large header", answer(200, "X-Large", strings.Repeat("x", 32<<10)), NoConnection, 0},
		{"no answer", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, NoConnection, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := refused(t, second(newSite(t, c.handler).Get(t.Context(), request())), c.want)
			if e.Status != c.status {
				t.Errorf("status %d, want %d", e.Status, c.status)
			}
			if strings.Contains(e.Error(), secret) {
				t.Errorf("the error has the body: %v", e)
			}
			if !e.Sent() {
				t.Error("no request was sent")
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

func TestJSONTypes(t *testing.T) {
	for _, contentType := range []string{
		"application/json", "application/json; charset=utf-8", "Application/JSON", "application/client-metadata+json", "application/jwk-set+json",
	} {
		s := newSite(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			fmt.Fprint(w, document)
		})
		if _, err := s.Get(t.Context(), request()); err != nil {
			t.Errorf("%s: %v", contentType, err)
		}
	}
}

func TestSixteenKilobytes(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(bytes.Repeat([]byte(" "), 16<<10))
	})
	if got, err := s.Get(t.Context(), request()); err != nil || len(got.Body) != 16<<10 {
		t.Errorf("%v", err)
	}
}

// A server that is slow anywhere takes the time of a fetch and no more, and keeps no goroutine of this process.
func TestSlowServers(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"slow header": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"slow body": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, "{")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		},
		"a byte now and then": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for r.Context().Err() == nil {
				w.Write([]byte(" "))
				w.(http.Flusher).Flush()
				<-tick.C
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, handler)
			s.timeout = 100 * time.Millisecond
			r := request()
			r.Limit = 1 << 30
			_ = refused(t, second(s.Get(t.Context(), r)), Timeout)
		})
	}
}

// A server that accepts a connection and says nothing ends with the fetch too, though net/http dials with a context of its own.
func TestSilentServer(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	s := newSite(t, sendDocument)
	s.timeout = 100 * time.Millisecond
	s.connect = func(ctx context.Context, _ netip.AddrPort, _ bool) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", listener.Addr().String())
	}
	closed := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			_, err = io.Copy(io.Discard, conn) // until the fetcher closes it
		}
		closed <- err
	}()
	_ = refused(t, second(s.Get(t.Context(), request())), Timeout)
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestUntrustedCertificate(t *testing.T) {
	s := newSite(t, sendDocument)
	s.roots = x509.NewCertPool()
	_ = refused(t, second(s.Get(t.Context(), request())), NoConnection)
}

func TestCertificateOfAnotherHost(t *testing.T) {
	s := newSite(t, sendDocument)
	r := request()
	r.URL = "https://example.net/client.json"
	_ = refused(t, second(s.Get(t.Context(), r)), NoConnection)
}

func TestCheck(t *testing.T) {
	s := newSite(t, sendDocument)
	r := request()
	r.Check = func(body []byte) error {
		if string(body) != document {
			t.Errorf("checked %q", body)
		}
		return errors.New("not what was expected")
	}
	e := refused(t, second(s.Get(t.Context(), r)), InvalidDocument)
	if e.Status != 200 || e.Err.Error() != "not what was expected" {
		t.Errorf("%+v", e)
	}
	_ = refused(t, second(s.Get(t.Context(), r)), BackOff)
}

// The proxy of the environment could connect to what the fetcher may not.
func TestNoProxy(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	s := newSite(t, sendDocument)
	if _, err := s.Get(t.Context(), request()); err != nil {
		t.Fatal(err)
	}
	if len(s.dials()) != 1 || s.dials()[0].String() != publicAddress+":443" {
		t.Errorf("dialed %v", s.dials())
	}
}

func TestURLs(t *testing.T) {
	for url, want := range map[string]bool{
		"https://example.com/a?b=c": true, "https://example.com:8443/": true, "https://93.184.216.34/": true, "https://[2606:2800::1]/": true,
		"https://a_b.example/": true, "https://EXAMPLE.com/": true, "https://xn--bcher-kva.example/": true,

		"": false, "http://example.com/": false, "ftp://example.com/": false, "file:///etc/passwd": false, "//example.com/": false,
		"https:example.com": false, "https://": false, "https:///a": false, "https://user@example.com/": false, "https://u:p@example.com/": false,
		"https://@example.com/": false, "https://example.com/#": false, "https://example.com/#a": false, "https://example.com:0/": false,
		"https://example.com:65536/": false, "https://example.com:/": false, "https://example.com:-1/": false, "https://example.com:+1/": false,
		"https://2130706433/": false, "https://0x7f000001/": false, "https://0177.0.0.1/": false, "https://127.1/": false, "https://127.0.0x1/": false,
		"https://1.2.3.4.5/": false, "https://example.com./": false, "https://.example.com/": false, "https://a..example/": false,
		"https://[fe80::1%25eth0]/": false, "https://[fe80::1%eth0]/": false, "https://[::1/": false, "https://１２７.0.0.1/": false,
		"https://bücher.example/": false, "https://ⓔxample.com/": false, "https://exa%6dple.com/": false, "https://example.com%00.evil.example/": false,
		`https://example.com\@evil.example/`: false, "https://exa mple.com/": false, "https://example.com\r\nX: y/": false,
		"http://localhost/": false, "http://127.0.0.1/": false,
		"https://example.com/" + strings.Repeat("a", 2048): false,
	} {
		if _, err := parseURL(url, false); (err == nil) != want {
			t.Errorf("%q: %v", url, err)
		}
	}
	for url, want := range map[string]bool{
		"http://localhost:8080/a": true, "http://app.localhost/": true, "http://127.0.0.1:1/": true, "http://[::1]/": true,
		"http://example.com/": false, "http://127.0.0.1.evil.example/": false, "http://localhost./": false, "http://0.0.0.0/": false,
		"http://localhost@example.com/": false, "http://localhost.evil.example/": false,
	} {
		if _, err := parseURL(url, true); (err == nil) != want {
			t.Errorf("with loopback, %q: %v", url, err)
		}
	}
	s := newSite(t, sendDocument)
	for range 2 { // a wrong URL costs nothing and is remembered nowhere
		_ = refused(t, second(s.Get(t.Context(), Request{URL: "https://127.1/"})), InvalidURL)
	}
	if len(s.dials()) != 0 || len(s.names.asked) != 0 {
		t.Errorf("dialed %v, resolved %v", s.dials(), s.names.asked)
	}
}
