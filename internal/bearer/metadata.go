package bearer

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/wire"
)

const wellKnown = "/.well-known/oauth-protected-resource" // RFC 9728 §3

// Metadata is the document in which a protected resource describes itself (RFC 9728 §2).
type Metadata struct {
	Resource string   `json:"resource"`
	Servers  []string `json:"authorization_servers,omitempty"`
	Scopes   []string `json:"scopes_supported,omitempty"`
	Methods  []string `json:"bearer_methods_supported,omitempty"`

	body  []byte
	url   string
	paths []string
}

// Prepare encodes the document. Call it before any other method, and do not change the document after that.
func (m *Metadata) Prepare() error {
	u, err := url.Parse(m.Resource)
	if err != nil {
		return err
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	if u.RawQuery != "" { // §3.1
		path += "?" + u.RawQuery
	}
	m.url = u.Scheme + "://" + u.Host + wellKnown + path
	m.paths = []string{wellKnown}
	if p := strings.TrimSuffix(u.Path, "/"); p != "" {
		m.paths = append(m.paths, wellKnown+p)
	}
	m.body, err = json.Marshal(m)
	return err
}

// URL returns where clients find the document.
func (m *Metadata) URL() string { return m.url }

// Paths returns where the document is served: with the resource's path, and without.
func (m *Metadata) Paths() []string { return m.paths }

// ServeHTTP serves the document.
func (m *Metadata) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*")
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		wire.ServeDocument(w, r, m.body, time.Hour)
	case http.MethodOptions:
		w.WriteHeader(http.StatusNoContent)
	default:
		w.Header().Set("Allow", "GET, HEAD, OPTIONS")
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}
