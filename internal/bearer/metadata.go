package bearer

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/wire"
)

const wellKnown = "/.well-known/oauth-protected-resource" // RFC 9728 §3

// Catalog has the documents of the protected resources of a site, by path.
type Catalog map[string]*Metadata

// NewCatalog returns the documents to serve for the resources. Several can describe the same resource, such as the guards of
// two of its routes: they become one document. At the well-known path itself is the resource that has no path, or else the only
// one there is: some clients look nowhere else. Of several, none is there, as a client would take it for the one that it calls.
func NewCatalog(resources []*Metadata) (Catalog, error) {
	var documents []*Metadata
	byResource := make(map[string]*Metadata)
	for _, m := range resources {
		d := byResource[m.Resource]
		if d == nil {
			d = &Metadata{Resource: m.Resource}
			byResource[m.Resource] = d
			documents = append(documents, d)
		}
		d.Name = cmp.Or(d.Name, m.Name)
		d.Servers, d.Scopes, d.Methods = Union(d.Servers, m.Servers), Union(d.Scopes, m.Scopes), Union(d.Methods, m.Methods)
	}
	catalog := make(Catalog)
	for _, d := range documents {
		if err := d.Prepare(); err != nil {
			return nil, err
		}
		catalog[wellKnown+d.path] = d
	}
	if catalog[wellKnown] == nil && len(documents) == 1 {
		catalog[wellKnown] = documents[0]
	}
	return catalog, nil
}

// Union returns a list with what else is in another one. It does not change them.
func Union(list, more []string) []string {
	for _, one := range more {
		if !slices.Contains(list, one) {
			list = append(slices.Clip(list), one)
		}
	}
	return list
}

// Serve serves the document at a path that [IsMetadata]. A path without a document is not found, whatever the site has for unknown paths.
func (c Catalog) Serve(w http.ResponseWriter, r *http.Request, path string) {
	wire.AllowOrigin(w.Header(), "*")
	m := c[strings.TrimSuffix(path, "/")]
	switch {
	case r.Method == http.MethodOptions:
		wire.AllowRequest(w.Header(), r, "GET, HEAD")
		w.WriteHeader(http.StatusNoContent)
	case m != nil:
		m.serve(w, r)
	default:
		wire.WriteBody(w, http.StatusNotFound, "application/json", []byte(`{"error":"not_found","error_description":"no protected resource has its metadata here"}`))
	}
}

// IsMetadata reports whether the metadata of a protected resource can be at a path (RFC 9728 §3).
func IsMetadata(path string) bool { return path == wellKnown || strings.HasPrefix(path, wellKnown+"/") }

// Metadata is the document in which a protected resource describes itself (RFC 9728 §2).
type Metadata struct {
	Resource string   `json:"resource"`
	Servers  []string `json:"authorization_servers,omitempty"`
	Scopes   []string `json:"scopes_supported,omitempty"`
	Methods  []string `json:"bearer_methods_supported,omitempty"`
	Name     string   `json:"resource_name,omitempty"` // for people

	body []byte
	url  string
	path string // of the resource, without a slash at its end
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
	m.path = strings.TrimSuffix(u.Path, "/")
	m.body, err = json.Marshal(m)
	return err
}

// URL returns where clients find the document.
func (m *Metadata) URL() string { return m.url }

func (m *Metadata) serve(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		wire.ServeDocument(w, r, m.body, time.Hour)
	default:
		w.Header().Set("Allow", "GET, HEAD, OPTIONS")
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}
