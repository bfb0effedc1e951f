package authserver

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/grants"
)

// Endpoint is one of a server's endpoints, at one path or more.
type Endpoint struct {
	// Login is whether people sign in before the endpoint answers.
	Login Login
	// SecretLocation says that the Location of an answer can have what no log may have: an authorization code, the code of a device, or an
	// ID token.
	SecretLocation bool

	name    string
	paths   []string
	methods []string
	cors    bool                // scripts of other sites may call it (RFC 9700 §2.6)
	bearer  bool                // whoever may call it has a Bearer token, and its errors are as RFC 6750 §3 and RFC 7591 §3.2.2 have them
	serve   func(c *call) error // of the type that is named after the endpoint, such as tokenEndpoint in token.go
}

// Login is whether people sign in before an endpoint answers.
type Login int

// An endpoint for programs has LoginNone. All others are pages for people.
const (
	LoginNone         Login = iota
	LoginRequired           // a person who is not signed in gets the login of the site
	LoginUnlessSilent       // as LoginRequired, but not for requests that want no page, see [Server.WantsNoPage]
	LoginOptional           // the endpoint also answers people who are not signed in
)

// route fills the table of endpoints by path.
func (s *Server) route(issuer *url.URL) error {
	if err := s.publishMetadata(); err != nil {
		return err
	}
	get := []string{http.MethodGet, http.MethodHead}
	page := []string{http.MethodGet, http.MethodHead, http.MethodPost}
	post := []string{http.MethodPost}
	paths := s.config.Paths
	s.endpoints = make(map[string]*Endpoint)
	all := []*Endpoint{
		{name: "authorize", paths: []string{paths.Authorize}, methods: page, Login: LoginUnlessSilent, SecretLocation: true, serve: s.authorize.serve},
		{name: "apps", paths: []string{paths.Apps}, methods: page, Login: LoginRequired, serve: (&appsEndpoint{s.core}).serve},
		{name: "par", paths: []string{paths.PAR}, methods: post, cors: true, serve: (&parEndpoint{s.authorize}).serve},
		{name: "device", paths: []string{paths.Device}, methods: page, Login: LoginRequired, SecretLocation: true, serve: (&deviceEndpoint{s.core}).serve},
		{
			name: "device_authorization", paths: []string{paths.DeviceAuthorization}, methods: post, cors: true,
			serve: (&deviceAuthorizationEndpoint{s.core}).serve,
		},
		{name: "token", paths: []string{paths.Token}, methods: post, cors: true, serve: newTokenEndpoint(s.core).serve},
		{name: "introspect", paths: []string{paths.Introspect}, methods: post, serve: (&introspectEndpoint{s.core}).serve},
		{name: "revoke", paths: []string{paths.Revoke}, methods: post, cors: true, serve: (&revokeEndpoint{s.core}).serve},
		{name: "revoke_user", paths: []string{paths.RevokeUser}, methods: post, serve: (&revokeUserEndpoint{s.core}).serve},
		{name: "jwks", paths: []string{paths.JWKS}, methods: get, cors: true, serve: s.serveJWKS},
		{name: "metadata", paths: metadataPaths(issuer), methods: get, cors: true, serve: s.serveMetadata},
	}
	if s.registrations != nil {
		all = append(all, &Endpoint{
			name: "register", paths: []string{paths.Register}, methods: registerMethods, cors: true, bearer: true,
			serve: (&registerEndpoint{s.core}).serve,
		})
	}
	if s.config.OpenID {
		all = append(all, &Endpoint{
			name: "userinfo", paths: []string{paths.Userinfo}, methods: userinfoMethods, cors: true, bearer: true,
			serve: (&userinfoEndpoint{s.core}).serve,
		})
		all = append(all,
			&Endpoint{name: "logout", paths: []string{paths.Logout}, methods: page, Login: LoginOptional, SecretLocation: true, serve: (&logoutEndpoint{s.core}).serve},
			&Endpoint{name: "sessions", paths: []string{paths.Sessions}, methods: post, serve: (&sessionsEndpoint{s.core}).serve})
	}
	for _, e := range all {
		for _, path := range e.paths {
			if other, taken := s.endpoints[path]; taken {
				return fmt.Errorf("%s is the path of both the %s and the %s endpoint", path, other.name, e.name)
			}
			s.endpoints[path] = e
		}
	}
	for path, e := range maps.Clone(s.endpoints) { // clients differ in whether they keep the slash at the end
		other := path + "/"
		if bare, ok := strings.CutSuffix(path, "/"); ok {
			other = bare
		}
		if _, taken := s.endpoints[other]; !taken && other != "" {
			s.endpoints[other] = e
		}
	}
	s.unknown = &Endpoint{name: "metadata", methods: get, cors: true, serve: s.refuseUnknownIssuer}
	return nil
}

// Endpoint returns the endpoint at a path, nil if there is none.
func (s *Server) Endpoint(path string) *Endpoint { return s.endpoints[path] }

// UnknownMetadata returns the endpoint which says that there is no issuer whose metadata has this path, nil if the path is not one of
// metadata. It is for a path at which no server on the host has an endpoint: clients take any other answer with 200 for metadata.
func (s *Server) UnknownMetadata(path string) *Endpoint {
	if slices.ContainsFunc(wellKnownNames, func(name string) bool {
		rest, ok := strings.CutPrefix(path, name)
		return ok && (rest == "" || rest[0] == '/')
	}) {
		return s.unknown
	}
	return nil
}

// refuseUnknownIssuer answers a request for the metadata of an issuer that is not here.
func (s *Server) refuseUnknownIssuer(c *call) error {
	return &grants.Error{
		Code: grants.InvalidRequest, Description: "there is no issuer with this URL here", Status: http.StatusNotFound,
		Sent: c.r.URL.Path, Expected: s.config.URL, Setting: "issuer",
	}
}
