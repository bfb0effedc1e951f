package authserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/uris"
)

// remoteFetcher gets the documents of an issuer elsewhere, and nothing from anywhere that the issuer did not name.
type remoteFetcher struct {
	issuer string
	client *http.Client
}

const (
	remoteMost      = 1 << 20 // bytes of a document
	remoteRedirects = 3

	// How long a document is good, whatever its headers say; and without headers.
	remoteLeastFresh   = time.Minute
	remoteMostFresh    = 24 * time.Hour
	remoteDefaultFresh = time.Hour
)

func newRemoteFetcher(issuer string) remoteFetcher {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true // the next request is minutes away
	transport.MaxResponseHeaderBytes = 64 << 10
	return remoteFetcher{issuer: issuer, client: &http.Client{Transport: transport, CheckRedirect: sameOrigin}}
}

// sameOrigin keeps redirects at the server that was asked.
func sameOrigin(r *http.Request, via []*http.Request) error {
	if from := via[0].URL; r.URL.Scheme != from.Scheme || r.URL.Host != from.Host {
		return errors.New("a redirect to another server")
	}
	if len(via) > remoteRedirects {
		return errors.New("too many redirects")
	}
	return nil
}

// locate returns the URL of the issuer's JWKS, and for how long that is good: from the authorization server metadata
// (RFC 8414 §3), else from OpenID Connect Discovery §4.
func (f remoteFetcher) locate(ctx context.Context, now time.Time) (string, time.Duration, error) {
	u, err := url.Parse(f.issuer)
	if err != nil {
		return "", 0, err
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	origin := u.Scheme + "://" + u.Host
	uri, fresh, err := f.readMetadata(ctx, origin+"/.well-known/oauth-authorization-server"+path, now)
	if err == nil {
		return uri, fresh, nil
	}
	uri, fresh, err2 := f.readMetadata(ctx, origin+path+"/.well-known/openid-configuration", now)
	if err2 == nil {
		return uri, fresh, nil
	}
	return "", 0, errors.Join(err, err2)
}

// readMetadata returns the URL of the JWKS that a metadata document names. The document must be the issuer's own
// (RFC 8414 §3.3).
func (f remoteFetcher) readMetadata(ctx context.Context, from string, now time.Time) (string, time.Duration, error) {
	body, fresh, err := f.get(ctx, from, now)
	if err != nil {
		return "", 0, err
	}
	var doc struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return "", 0, fmt.Errorf("%s: no metadata: %w", from, err)
	}
	if doc.Issuer != f.issuer {
		return "", 0, fmt.Errorf("%s: the metadata of another issuer, %.200q", from, doc.Issuer)
	}
	uri, err := url.Parse(doc.JWKSURI)
	// Over http only what is on this machine, of an issuer on this machine, which the owner has named.
	plain := err == nil && uri.Scheme == "http" && strings.HasPrefix(f.issuer, "http:") && uris.IsLoopback(uri.Hostname())
	if err != nil || uri.Host == "" || uri.Scheme != "https" && !plain {
		return "", 0, fmt.Errorf("%s: expected a jwks_uri with https, not %.200q", from, doc.JWKSURI)
	}
	return doc.JWKSURI, fresh, nil
}

// get returns a document, and for how long it is good.
func (f remoteFetcher) get(ctx context.Context, from string, now time.Time) ([]byte, time.Duration, error) {
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
	body, err := io.ReadAll(io.LimitReader(resp.Body, remoteMost+1))
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", from, err)
	}
	if len(body) > remoteMost {
		return nil, 0, fmt.Errorf("%s: more than %d bytes", from, remoteMost)
	}
	return body, freshness(resp.Header, now), nil
}

// freshness returns for how long a response is good (RFC 9111 §4.2), within bounds of our own.
func freshness(h http.Header, now time.Time) time.Duration {
	return min(max(statedFreshness(h, now), remoteLeastFresh), remoteMostFresh)
}

func statedFreshness(h http.Header, now time.Time) time.Duration {
	maxAge, stated := -1, false
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(directive)), "=")
		switch name {
		case "no-store", "no-cache":
			return 0
		case "max-age":
			seconds, err := strconv.Atoi(strings.Trim(value, `"`))
			stated = true
			maxAge = min(max(seconds, 0), int(remoteMostFresh/time.Second))
			if err != nil {
				maxAge = 0 // §4.2.1: what cannot be read is stale
			}
		}
	}
	if stated {
		age, err := strconv.Atoi(h.Get("Age"))
		if err != nil || age < 0 || age > maxAge {
			age = 0
		}
		return time.Duration(maxAge-age) * time.Second
	}
	if expires, err := http.ParseTime(h.Get("Expires")); err == nil {
		return expires.Sub(now)
	}
	return remoteDefaultFresh
}
