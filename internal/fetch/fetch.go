// Package fetch gets JSON documents from URLs that strangers name, such as the URL that is a client ID, and posts forms to such URLs.
//
// Whoever names a URL must not reach what only this server reaches, and must not make it work for them. So [Fetcher.Get] connects to
// public addresses only (address.go), takes five seconds and a few kilobytes at most, follows no redirect, and is limited in number
// (governor.go). Start reading at [Fetcher].
package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/uris"
)

const (
	timeout      = 5 * time.Second // of a fetch in all, from the name to the last byte
	maxURL       = 2048            // bytes
	maxHeader    = 16 << 10        // bytes of a response
	maxValidator = 256             // bytes of an ETag or a Last-Modified
	identity     = "identity"
	userAgent    = "caddy-oauth"
)

// Fetcher fetches documents, and remembers how many it fetched and what failed. There is one for the whole process, whatever is
// configured: its limits hold for all issuers together. Safe for concurrent use.
type Fetcher struct {
	resolver Resolver
	roots    *x509.CertPool
	now      func() time.Time
	timeout  time.Duration

	governor *governor
	posts    *governor // of what is sent, which takes nothing from what is fetched
	flights  Group[*Response]

	// connect connects to an address that was checked. Tests replace it.
	connect func(ctx context.Context, address netip.AddrPort, loopback bool) (net.Conn, error)
}

// Resolver finds the addresses of a name, as [net.Resolver] does.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Config is what a Fetcher is made of. The zero value is for everything but tests.
type Config struct {
	Resolver Resolver         // nil: that of the system
	RootCAs  *x509.CertPool   // nil: those of the system
	Now      func() time.Time // nil: time.Now
}

// New returns a Fetcher.
func New(c Config) *Fetcher {
	if c.Resolver == nil {
		c.Resolver = net.DefaultResolver
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Fetcher{
		resolver: c.Resolver, roots: c.RootCAs, now: c.Now, timeout: timeout,
		governor: newGovernor(c.Now), posts: newGovernor(c.Now), connect: connect,
	}
}

// Request says what to fetch.
type Request struct {
	URL string

	// Purpose is what the document is for. A failure counts for the URL and the purpose, so that nobody can use a URL for what
	// it is not and thereby stop those who need it.
	Purpose string

	// Known says that the URL belongs to a client that is in use. Some of the limits are left to these, so that whoever invents
	// URLs cannot stop them.
	Known bool

	// Loopback allows addresses of this machine, and http to them. It is for an issuer that is on this machine only.
	Loopback bool

	// Limit is how many bytes the document may have.
	Limit int64

	// ETag and LastModified are those of the document that the caller has. They make the request conditional (RFC 9110 §13.1).
	ETag, LastModified string

	// Check returns what is wrong with a document. The fetch has failed then, for all who asked. So the reason must be in the URL, the
	// purpose and the document alone, and in nobody's settings. It may be nil.
	Check func(document []byte) error
}

// Response is a document, or says that the caller's is still the current one. Several callers may have the same: nobody may change it.
type Response struct {
	Status       int // 200, or 304 if the document has not changed
	Body         []byte
	ETag         string
	LastModified string
	Fresh        time.Duration // how long the caller can use the document without asking again
}

// NotModified reports whether the document that the caller has is still the current one.
func (r *Response) NotModified() bool { return r.Status == http.StatusNotModified }

// Get fetches a document. Only one request for it runs at a time: who asks meanwhile gets the same response. The error is an *Error,
// unless ctx has ended; that stops nobody else's request.
func (f *Fetcher) Get(ctx context.Context, r Request) (*Response, error) {
	u, err := parseURL(r.URL, r.Loopback)
	if err != nil {
		return nil, &Error{URL: r.URL, Reason: InvalidURL, Err: err}
	}
	key := fmt.Sprintf("%s\x00%s\x00%s\x00%s\x00%d\x00%t", r.Purpose, r.URL, r.ETag, r.LastModified, r.Limit, r.Loopback)
	return f.flights.Do(ctx, key, f.timeout, func(ctx context.Context) (*Response, error) {
		return f.governed(ctx, u, &r)
	})
}

// governed does one request when the governor lets it.
func (f *Fetcher) governed(ctx context.Context, u *url.URL, r *Request) (_ *Response, err error) {
	leave, err := f.governor.enter(ctx, u, r)
	if err != nil {
		return nil, err
	}
	defer func() { leave(err) }()
	return f.get(ctx, u, r)
}

// host matches a name as the Domain Name System has them. Everything else, such as an address in octal, letters beyond ASCII or a dot at
// the end, another parser may read differently.
var host = regexp.MustCompile(`^(?:[0-9A-Za-z_-]+\.)*[A-Za-z][0-9A-Za-z-]*$`)

// parseURL returns a URL that may be fetched, if its host has an address that may be.
func parseURL(s string, loopback bool) (*url.URL, error) {
	if len(s) > maxURL {
		return nil, fmt.Errorf("expected at most %d bytes", maxURL)
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, errors.New("expected a URL") // the error of url.Parse repeats it
	}
	name, port := u.Hostname(), u.Port()
	address, err := netip.ParseAddr(name)
	number, portErr := strconv.ParseUint(port, 10, 16)
	switch {
	case u.Scheme != "https" && (u.Scheme != "http" || !loopback || !uris.IsLoopback(name)):
		return nil, errors.New("expected https")
	case u.User != nil || u.Opaque != "" || strings.Contains(s, "#"):
		return nil, errors.New("expected a URL without user name and fragment")
	case err == nil && address.Zone() != "" || err != nil && !host.MatchString(name):
		return nil, errors.New("expected the name of a host, or its address")
	case port != "" && (portErr != nil || number == 0) || strings.HasSuffix(u.Host, ":"):
		return nil, errors.New("expected a port between 1 and 65535")
	}
	return u, nil
}

// get does one request. The error is an *Error.
func (f *Fetcher) get(ctx context.Context, u *url.URL, r *Request) (*Response, error) {
	fail := func(reason Reason, status int, format string, args ...any) error {
		return &Error{URL: r.URL, Reason: reason, Status: status, Err: fmt.Errorf(format, args...)}
	}
	resp, err := f.do(ctx, u, r)
	if err != nil {
		return nil, failure(r.URL, err)
	}
	defer resp.Body.Close()
	switch status := resp.StatusCode; {
	case status == http.StatusNotModified && r.conditional():
		return f.response(resp, nil), nil
	case status >= 300 && status <= 399 && status != http.StatusNotModified:
		return nil, fail(Redirect, status, "expected the document, not a redirect to %.200q", resp.Header.Get("Location"))
	case status != http.StatusOK:
		return nil, fail(Status, status, "expected 200, not %d", status)
	}
	if encoding := resp.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, identity) {
		return nil, fail(ContentEncoding, resp.StatusCode, "expected no Content-Encoding, not %.50q", encoding)
	}
	if contentType := resp.Header.Get("Content-Type"); !isJSON(contentType) {
		return nil, fail(ContentType, resp.StatusCode, "expected application/json or application/*+json, not %.100q", contentType)
	}
	if resp.ContentLength > r.Limit {
		return nil, fail(TooLarge, resp.StatusCode, "expected at most %d bytes, not %d", r.Limit, resp.ContentLength)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, r.Limit+1))
	if err == nil {
		err = ctx.Err() // a server that sees the end of the connection can end its answer in time for us to read that
	}
	switch {
	case err != nil:
		return nil, failure(r.URL, err)
	case int64(len(body)) > r.Limit:
		return nil, fail(TooLarge, resp.StatusCode, "expected at most %d bytes", r.Limit)
	}
	if r.Check != nil {
		if err := r.Check(body); err != nil {
			return nil, &Error{URL: r.URL, Reason: InvalidDocument, Status: resp.StatusCode, Err: err}
		}
	}
	return f.response(resp, body), nil
}

func (r *Request) conditional() bool { return r.ETag != "" || r.LastModified != "" }

// response returns what the caller gets of a response.
func (f *Fetcher) response(resp *http.Response, body []byte) *Response {
	validator := func(name string) string {
		v := resp.Header.Get(name)
		if len(v) > maxValidator || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r > '~' }) {
			return "" // it could not be stored, or sent again
		}
		return v
	}
	return &Response{
		Status: resp.StatusCode, Body: body, ETag: validator("ETag"), LastModified: validator("Last-Modified"),
		Fresh: usual.Freshness(resp.Header, f.now()),
	}
}

// isJSON reports whether a Content-Type is JSON (RFC 6839 §3.1).
func isJSON(contentType string) bool {
	mediaType, _, err := mime.ParseMediaType(contentType)
	subtype, ok := strings.CutPrefix(mediaType, "application/")
	return err == nil && ok && (subtype == "json" || strings.HasSuffix(subtype, "+json") && subtype != "+json")
}

// do sends the request. A response has a body to close, which ends with ctx.
func (f *Fetcher) do(ctx context.Context, u *url.URL, r *Request) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Accept-Encoding", identity)
	req.Header.Set("User-Agent", userAgent)
	if r.ETag != "" {
		req.Header.Set("If-None-Match", r.ETag)
	}
	if r.LastModified != "" {
		req.Header.Set("If-Modified-Since", r.LastModified)
	}
	return f.roundTrip(req, func(_ context.Context, _, address string) (net.Conn, error) {
		return f.dial(ctx, address, r.Loopback)
	})
}

// roundTrip sends a request by a transport of its own: it keeps no connection, so nothing is lost, and it can end what it dials. A
// transport dials with a context that outlives that of the request, so dial has to know that one.
func (f *Fetcher) roundTrip(
	req *http.Request, dial func(ctx context.Context, network, address string) (net.Conn, error),
) (*http.Response, error) {
	transport := &http.Transport{
		DialContext:            dial,
		TLSClientConfig:        &tls.Config{RootCAs: f.roots, MinVersion: tls.VersionTLS12},
		DisableKeepAlives:      true,
		DisableCompression:     true, // an answer of a few bytes cannot become a large one
		MaxResponseHeaderBytes: maxHeader,
		Protocols:              new(http.Protocols),
	}
	transport.Protocols.SetHTTP1(true)
	return transport.RoundTrip(req) // follows no redirect
}
