package caddyoauth

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
)

// Endpoints are paths on the issuer's host.
type Endpoints struct {
	// The page where people approve a client.
	Authorize string `json:"authorize,omitempty"`
	// The endpoint where clients get tokens.
	Token string `json:"token,omitempty"`
	// The public keys.
	JWKS string `json:"jwks,omitempty"`
	// The endpoint where resource servers ask whether a token is valid.
	Introspect string `json:"introspect,omitempty"`
	// The endpoint where clients revoke their tokens.
	Revoke string `json:"revoke,omitempty"`
	// The endpoint where an identity provider revokes all tokens of a user, see `revokes_users`.
	RevokeUser string `json:"revoke_user,omitempty"`
	// The page where people see which apps have access to their account, and remove them. Like the page where people approve
	// a client, it must be behind the site's login.
	Apps string `json:"apps,omitempty"`
	// The endpoint where clients register themselves, see `dynamic`.
	Register string `json:"register,omitempty"`
	// The endpoint where clients ask about the person who has signed in, with `openid`.
	Userinfo string `json:"userinfo,omitempty"`
	// The endpoint where a program that has no browser asks for access, see the grant type
	// `urn:ietf:params:oauth:grant-type:device_code`.
	DeviceAuthorization string `json:"device_authorization,omitempty"`
	// The page where people type the code that such a program shows, and decide. Like the page where people approve a client, it
	// must be behind the site's login.
	Device string `json:"device,omitempty"`
	// The page where people sign out, and where applications send them for that, with `openid`.
	Logout string `json:"logout,omitempty"`
	// The endpoint where the site says that a session of its own has ended, with `openid`, see `ends_sessions`.
	Sessions string `json:"sessions,omitempty"`
	// The endpoint where clients push their authorization requests (RFC 9126).
	PAR string `json:"par,omitempty"`
}

// byName returns the paths by their names in a Caddyfile.
func (e *Endpoints) byName() map[string]*string {
	return map[string]*string{
		"authorize": &e.Authorize, "token": &e.Token, "jwks": &e.JWKS,
		"introspect": &e.Introspect, "revoke": &e.Revoke, "revoke_user": &e.RevokeUser, "apps": &e.Apps, "register": &e.Register, "userinfo": &e.Userinfo,
		"device_authorization": &e.DeviceAuthorization, "device": &e.Device, "par": &e.PAR,
		"logout": &e.Logout, "sessions": &e.Sessions,
	}
}

// check looks for impossible paths, and for two endpoints of the issuer at one path, which may be a default one.
func (e *Endpoints) check(issuer string) error {
	if e == nil {
		return nil
	}
	set := e.byName()
	for _, name := range slices.Sorted(maps.Keys(set)) {
		switch path := *set[name]; {
		case path == "":
		case !isEndpointPath(path):
			return directive.At("endpoint "+name, fmt.Errorf("expected a path on the issuer's host, such as /oauth/%s, not %s", name, path))
		case strings.Contains(path, wellKnown), strings.Contains(path, openIDConfiguration):
			return directive.At("endpoint "+name, errors.New("expected another path, as the metadata is at "+wellKnown+" and "+openIDConfiguration))
		}
	}
	if unresolved(issuer) {
		return nil
	}
	u, err := url.Parse(issuer)
	if err != nil {
		return err
	}
	taken := make(map[string]string)
	all := pathsByName(e.paths(u))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		other := taken[all[name]]
		taken[all[name]] = name
		if other != "" && *set[name] == "" {
			name, other = other, name
		}
		if other != "" {
			return directive.At("endpoint "+name, fmt.Errorf("expected another path than that of the %s endpoint, %s", other, all[name]))
		}
	}
	return nil
}

const (
	wellKnown           = "/.well-known/oauth-authorization-server"
	openIDConfiguration = "/.well-known/openid-configuration"
)

// isEndpointPath reports whether requests can have this path. They cannot if the path has to be escaped, or if browsers change
// it before they send it.
func isEndpointPath(path string) bool {
	segments := strings.Split(path, "/")
	return path[0] == '/' && (&url.URL{Path: path}).EscapedPath() == path && !strings.ContainsAny(path, "*") &&
		!slices.Contains(segments[1:len(segments)-1], "") && !slices.Contains(segments, ".") && !slices.Contains(segments, "..")
}

// paths returns the paths of the endpoints of an issuer.
func (e *Endpoints) paths(issuer *url.URL) authserver.Paths {
	paths := authserver.DefaultPaths(issuer)
	if e == nil {
		return paths
	}
	return authserver.Paths{
		Authorize:  cmp.Or(e.Authorize, paths.Authorize),
		Token:      cmp.Or(e.Token, paths.Token),
		JWKS:       cmp.Or(e.JWKS, paths.JWKS),
		Introspect: cmp.Or(e.Introspect, paths.Introspect),
		Revoke:     cmp.Or(e.Revoke, paths.Revoke),
		RevokeUser: cmp.Or(e.RevokeUser, paths.RevokeUser),
		Apps:       cmp.Or(e.Apps, paths.Apps),
		Register:   cmp.Or(e.Register, paths.Register),
		Userinfo:   cmp.Or(e.Userinfo, paths.Userinfo),

		DeviceAuthorization: cmp.Or(e.DeviceAuthorization, paths.DeviceAuthorization),
		Device:              cmp.Or(e.Device, paths.Device),
		Logout:              cmp.Or(e.Logout, paths.Logout),
		Sessions:            cmp.Or(e.Sessions, paths.Sessions),
		PAR:                 cmp.Or(e.PAR, paths.PAR),
	}
}

func pathsByName(p authserver.Paths) map[string]string {
	return map[string]string{
		"authorize": p.Authorize, "token": p.Token, "jwks": p.JWKS, "introspect": p.Introspect, "revoke": p.Revoke,
		"revoke_user": p.RevokeUser,
		"apps":        p.Apps, "register": p.Register, "userinfo": p.Userinfo,
		"device_authorization": p.DeviceAuthorization, "device": p.Device, "par": p.PAR,
		"logout": p.Logout, "sessions": p.Sessions,
	}
}
