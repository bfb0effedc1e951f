package caddyoauth

import (
	"net/url"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
)

// Endpoints are paths on the issuer's host.
type Endpoints struct {
	// Where people are sent to approve a client.
	Authorize string `json:"authorize,omitempty"`
	// Where clients get tokens.
	Token string `json:"token,omitempty"`
	// Where the public keys are.
	JWKS string `json:"jwks,omitempty"`
}

// byName returns the paths by the names they have in a Caddyfile.
func (e *Endpoints) byName() map[string]*string {
	return map[string]*string{"authorize": &e.Authorize, "token": &e.Token, "jwks": &e.JWKS}
}

func (e *Endpoints) check() (problem, name string) {
	if e == nil {
		return "", ""
	}
	taken := make(map[string]string)
	endpoints := e.byName()
	for _, name := range sortedKeys(endpoints) {
		path := *endpoints[name]
		switch {
		case path == "":
			continue
		case path[0] != '/' || strings.ContainsAny(path, "?#*{} \\") || strings.Contains(path, "//"):
			return "expected a path on the issuer's host, such as /oauth/" + name, name
		case taken[path] != "":
			return "expected another path than that of the " + taken[path] + " endpoint", name
		}
		taken[path] = name
	}
	return "", ""
}

// paths returns where the endpoints of an issuer are.
func (e *Endpoints) paths(issuer *url.URL) authserver.Paths {
	paths := authserver.DefaultPaths(issuer)
	if e == nil {
		return paths
	}
	for _, p := range []struct{ set, path *string }{
		{&e.Authorize, &paths.Authorize}, {&e.Token, &paths.Token}, {&e.JWKS, &paths.JWKS},
	} {
		if *p.set != "" {
			*p.path = *p.set
		}
	}
	return paths
}
