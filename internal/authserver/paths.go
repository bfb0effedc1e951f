package authserver

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Paths are where the endpoints are on the issuer's host.
type Paths struct {
	Authorize  string
	Token      string
	JWKS       string
	Introspect string
	Revoke     string
	Apps       string
}

// DefaultPaths returns the paths below the path of the issuer.
func DefaultPaths(issuer *url.URL) Paths {
	prefix := strings.TrimSuffix(issuer.Path, "/") + "/oauth"
	return Paths{
		Authorize:  prefix + "/authorize",
		Token:      prefix + "/token",
		JWKS:       prefix + "/jwks",
		Introspect: prefix + "/introspect",
		Revoke:     prefix + "/revoke",
		Apps:       prefix + "/apps",
	}
}

// metadataPaths returns every path the metadata of an issuer may be looked for: the well-known name
// before the issuer's path, as RFC 8414 §3 and §3.1 has it, with and without the issuer's terminating
// slash, and after the path, as many clients look for it.
func metadataPaths(issuer *url.URL) []string {
	const wellKnown = "/.well-known/oauth-authorization-server"
	path := strings.TrimSuffix(issuer.Path, "/")
	if path == "" {
		return []string{wellKnown, wellKnown + "/"}
	}
	return []string{wellKnown + path, wellKnown + path + "/", path + wellKnown}
}

// route fills the table of endpoints.
func (s *Server) route(issuer *url.URL) error {
	metadata, err := s.metadata()
	if err != nil {
		return err
	}
	get := []string{http.MethodGet, http.MethodHead}
	getPost := []string{http.MethodGet, http.MethodPost}
	post := []string{http.MethodPost}
	paths := s.config.Paths
	s.endpoints = make(map[string]*endpoint)
	for _, e := range []*endpoint{
		{name: "authorize", paths: []string{paths.Authorize}, methods: getPost, serve: s.authorize},
		{name: "apps", paths: []string{paths.Apps}, methods: getPost, serve: s.apps},
		{name: "token", paths: []string{paths.Token}, methods: post, json: true, cors: true, serve: s.token},
		{name: "introspect", paths: []string{paths.Introspect}, methods: post, json: true, serve: s.introspect},
		{name: "revoke", paths: []string{paths.Revoke}, methods: post, json: true, cors: true, serve: s.revoke},
		{name: "jwks", paths: []string{paths.JWKS}, methods: get, json: true, cors: true, serve: s.serveJWKS},
		{name: "metadata", paths: metadataPaths(issuer), methods: get, json: true, cors: true, serve: serveMetadata(metadata)},
	} {
		for _, path := range e.paths {
			if other, taken := s.endpoints[path]; taken {
				return fmt.Errorf("%s is the path of both the %s and the %s endpoint", path, other.name, e.name)
			}
			s.endpoints[path] = e
		}
	}
	return nil
}

// Serves reports whether a request for the path is for this server.
func (s *Server) Serves(path string) bool {
	_, ok := s.endpoints[path]
	return ok
}
