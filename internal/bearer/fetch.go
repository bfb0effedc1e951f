package bearer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/fetch"
	"github.com/caddy-oauth/caddy-oauth/internal/uris"
)

// fetcher fetches the documents of an issuer elsewhere, and only from servers that the issuer names.
type fetcher struct {
	issuer string
	client *http.Client
}

const (
	maxDocument  = 1 << 20 // bytes
	maxRedirects = 3
)

var freshness = fetch.Bounds{Min: time.Minute, Max: 24 * time.Hour, Default: time.Hour}

func newFetcher(issuer string) fetcher {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true // the next request is minutes away
	transport.MaxResponseHeaderBytes = 64 << 10
	transport.Proxy = func(r *http.Request) (*url.URL, error) {
		if uris.IsLoopback(r.URL.Hostname()) {
			return nil, nil //nolint:nilnil // no proxy: this machine is another one to it
		}
		return http.ProxyFromEnvironment(r)
	}
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		return dial(ctx, network, loopbackAddress(address))
	}
	return fetcher{issuer: issuer, client: &http.Client{Transport: transport, CheckRedirect: sameOrigin}}
}

// loopbackAddress replaces a name below localhost in an address by localhost. These names are this machine too (RFC 6761 §6.3), but
// not every resolver knows them.
func loopbackAddress(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err == nil && net.ParseIP(host) == nil && uris.IsLoopback(host) {
		return net.JoinHostPort("localhost", port)
	}
	return address
}

// sameOrigin refuses redirects to another server.
func sameOrigin(r *http.Request, via []*http.Request) error {
	if from := via[0].URL; r.URL.Scheme != from.Scheme || r.URL.Host != from.Host {
		return errors.New("a redirect to another server")
	}
	if len(via) > maxRedirects {
		return errors.New("too many redirects")
	}
	return nil
}

// issuerMetadata is what is used of an issuer's metadata.
type issuerMetadata struct {
	Issuer  string   `json:"issuer"`
	JWKSURI string   `json:"jwks_uri"`
	Scopes  []string `json:"scopes_supported"` // none if the issuer does not say
}

// locate returns the metadata of the issuer, and for how long that is fresh: the authorization server metadata (RFC 8414 §3),
// else that of OpenID Connect Discovery §4.
func (f fetcher) locate(ctx context.Context, now time.Time) (issuerMetadata, time.Duration, error) {
	u, err := url.Parse(f.issuer)
	if err != nil {
		return issuerMetadata{}, 0, err
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	origin := u.Scheme + "://" + u.Host
	doc, fresh, err := f.readMetadata(ctx, origin+"/.well-known/oauth-authorization-server"+path, now)
	if err == nil {
		return doc, fresh, nil
	}
	doc, fresh, err2 := f.readMetadata(ctx, origin+path+"/.well-known/openid-configuration", now)
	if err2 == nil {
		return doc, fresh, nil
	}
	return issuerMetadata{}, 0, errors.Join(err, err2)
}

// readMetadata returns a metadata document, which must be the issuer's own (RFC 8414 §3.3).
func (f fetcher) readMetadata(ctx context.Context, from string, now time.Time) (doc issuerMetadata, fresh time.Duration, err error) {
	body, fresh, err := f.get(ctx, from, now)
	if err != nil {
		return doc, 0, err
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return doc, 0, fmt.Errorf("%s: not a metadata document: %w", from, err)
	}
	if doc.Issuer != f.issuer {
		return doc, 0, fmt.Errorf("%s: the metadata of another issuer, %.200q", from, doc.Issuer)
	}
	uri, err := url.Parse(doc.JWKSURI)
	// Use http only for a JWKS on this machine, of an issuer on this machine: the owner has configured its URL.
	plain := err == nil && uri.Scheme == "http" && strings.HasPrefix(f.issuer, "http:") && uris.IsLoopback(uri.Hostname())
	if err != nil || uri.Host == "" || uri.Scheme != "https" && !plain {
		return doc, 0, fmt.Errorf("%s: expected a jwks_uri with https, not %.200q", from, doc.JWKSURI)
	}
	return doc, fresh, nil
}

// get fetches a document, and returns for how long it is fresh.
func (f fetcher) get(ctx context.Context, from string, now time.Time) ([]byte, time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("%s: %s", from, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", from, err)
	}
	if len(body) > maxDocument {
		return nil, 0, fmt.Errorf("%s: more than %d bytes", from, maxDocument)
	}
	return body, freshness.Freshness(resp.Header, now), nil
}
