package caddyoauth

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// WireSettings change the form of requests and responses to that of an endpoint that exists already, so that its clients need
// no change. Each setting is independent of the others. Without any, requests and responses follow the RFCs.
type WireSettings struct {
	// The formats that the body of a token request may have: `form`, `json`, or both. Default: `form`, as in the RFC.
	RequestBody []string `json:"request_body,omitempty"`

	// A header in which clients may send their secret, with the client_id in the body, such as `X-API-Key`. **Danger:** logs
	// and proxies hide the value of `Authorization`, but not that of this header. Remove it from Caddy's logs with `format
	// filter` and `request>headers>X-Api-Key delete`.
	ClientSecretHeader string `json:"client_secret_header,omitempty"`

	// Other names that clients may use for grant types, such as `refresh token` for `refresh_token`.
	GrantAliases map[string]string `json:"grant_aliases,omitempty"`

	// Which requests must have a redirect_uri. A client can have its own rules.
	RedirectURIRules *RedirectURIRules `json:"redirect_uri_rules,omitempty"`

	// The form of the token response.
	TokenResponse *TokenResponseSettings `json:"token_response,omitempty"`

	// The form of the errors of the token endpoint.
	Errors *ErrorSettings `json:"errors,omitempty"`
}

// RedirectURIRules say which requests must have a redirect_uri.
type RedirectURIRules struct {
	// `optional`: a client with only one redirect URI may leave it out of the authorization request. `required`: it may not.
	// Default: `optional`.
	Authorize string `json:"authorize,omitempty"`

	// The exchange of a code. `as_sent`: it must have the redirect_uri if the authorization request had it. `required`: it
	// must always have it. `optional`: it may leave it out, and if it has one, it must be the right one. Default:
	// `as_sent`, as in RFC 6749. **Danger:** with `optional` and without PKCE, a stolen code is easier to use.
	Code storage.RedirectRule `json:"code,omitempty"`

	// A refresh. `as_sent`: it must have the redirect_uri if the exchange of the code had it. `required` and `optional` are as
	// above. `ignored`: a redirect_uri is not checked. Default: `ignored`, as in RFC 6749.
	Refresh storage.RedirectRule `json:"refresh,omitempty"`
}

// TokenResponseSettings are about the form of the token response.
type TokenResponseSettings struct {
	// The value of `token_type`. Default: `Bearer`.
	TokenType string `json:"token_type,omitempty"`

	// The members of the response, in this order. Default: `access_token token_type expires_in refresh_token scope`, and
	// `id_token` and `issued_token_type` where a request causes them, and with `consent_lifetime` also `refresh_token_timeout` and
	// `authorization_expires_in`: in how many seconds the refresh token and the approval end, if they do. Without `scope`, a client
	// cannot know that it got fewer scopes than it asked for.
	Members []string `json:"members,omitempty"`

	// The JSON type of `expires_in`: `number` or `string`. Default: `number`, as in the RFC.
	ExpiresIn string `json:"expires_in,omitempty"`

	// The Content-Type. Default: `application/json`.
	ContentType string `json:"content_type,omitempty"`
}

// ErrorSettings are about the form of the errors of the token endpoint.
type ErrorSettings struct {
	// `oauth`: that of RFC 6749. `problem`: application/problem+json with status, title and detail (RFC 9457). Default:
	// `oauth`.
	Format string `json:"format,omitempty"`

	// The page that problems link to as their documentation. Default: none.
	Documentation *Documentation `json:"documentation,omitempty"`

	// Other error codes and texts, by situation (`bad_assertion`, `bad_client`, `bad_code`, `bad_refresh_token`, `bad_subject_token`, `bad_user`) or by the
	// error code of the RFC.
	Texts map[string]ErrorText `json:"texts,omitempty"`

	// Where the error ID goes, by which an error is found in the log. `body`: into the member `error_id`. `header`: into the
	// header `Error-Id`. Default: `body`.
	ID string `json:"id,omitempty"`
}

// Documentation is a page about the errors.
type Documentation struct {
	// Its URL.
	URL string `json:"url"`
	// Its media type. Default: `text/html`.
	Type string `json:"type,omitempty"`
}

// ErrorText replaces the error of a situation, or of an error code.
type ErrorText struct {
	// The error code.
	Code string `json:"code"`
	// The `error_description`, or the `detail` of a problem.
	Text string `json:"text,omitempty"`
	// The HTTP status. Default: the one it has without this setting.
	Status int `json:"status,omitempty"`
}

// errorNames are the situations and the error codes that can have an ErrorText.
var errorNames = slices.Concat(
	[]string{grants.BadAssertion, grants.BadClient, grants.BadCode, grants.BadRefreshToken, grants.BadSubjectToken, grants.BadUser}, grants.Codes,
)

func (w *WireSettings) check(grantTypes []string) error {
	return cmp.Or(
		directive.At("request_body", checkBodies(w.RequestBody)),
		directive.At("client_secret_header", checkSecretHeader(w.ClientSecretHeader)),
		checkGrantAliases(w.GrantAliases, grantTypes),
		directive.At("redirect_uri_rules", w.RedirectURIRules.check()),
		directive.At("token_response", w.TokenResponse.check()),
		directive.At("errors", w.Errors.check()),
	)
}

func checkBodies(bodies []string) error {
	for _, body := range bodies {
		if body != "form" && body != "json" {
			return fmt.Errorf("expected form, json or both, not %s", body)
		}
	}
	return nil
}

func checkSecretHeader(name string) error {
	if name != "" && (!httpguts.ValidHeaderFieldName(name) || strings.EqualFold(name, "Authorization")) {
		return fmt.Errorf("expected the name of a header of its own, not %s", name)
	}
	return nil
}

func checkGrantAliases(aliases map[string]string, grantTypes []string) error {
	for _, alias := range slices.Sorted(maps.Keys(aliases)) {
		if name := aliases[alias]; !slices.Contains(grantTypes, name) {
			return directive.At("grant_alias "+alias, fmt.Errorf("expected one of %s, not %s", strings.Join(grantTypes, ", "), name))
		}
		if slices.Contains(grantTypes, alias) {
			return directive.At("grant_alias "+alias, errors.New("expected another name than that of a grant type"))
		}
	}
	return nil
}

func (r *RedirectURIRules) check() error {
	if r == nil {
		return nil
	}
	return cmp.Or(
		directive.At("authorize", checkChoice(r.Authorize, "optional", "required")),
		directive.At("code", checkChoice(r.Code, storage.RedirectAsSent, storage.RedirectRequired, storage.RedirectOptional)),
		directive.At("refresh", checkChoice(
			r.Refresh, storage.RedirectIgnored, storage.RedirectAsSent, storage.RedirectRequired, storage.RedirectOptional)),
	)
}

func (t *TokenResponseSettings) check() error {
	if t == nil {
		return nil
	}
	if !httpguts.ValidHeaderFieldValue(t.ContentType) {
		return directive.At("content_type", errors.New("expected a media type"))
	}
	return cmp.Or(
		directive.At("members", checkMembers(t.Members)),
		directive.At("expires_in", checkChoice(t.ExpiresIn, "number", "string")),
	)
}

func checkMembers(members []string) error {
	for i, name := range members {
		if !slices.Contains(wire.ResponseMembers, name) || slices.Contains(members[:i], name) {
			return fmt.Errorf("expected, once each, some of %s, not %s", strings.Join(wire.ResponseMembers, ", "), name)
		}
	}
	if len(members) > 0 && !slices.Contains(members, "access_token") {
		return errors.New("expected access_token among them")
	}
	return nil
}

func (e *ErrorSettings) check() error {
	if e == nil {
		return nil
	}
	if e.Documentation != nil && e.Format != "problem" {
		return directive.At("documentation", errors.New("expected with the format problem only"))
	}
	return cmp.Or(
		checkChoice(e.Format, "oauth", "problem"),
		directive.At("id", checkChoice(e.ID, "body", "header")),
		checkErrorTexts(e.Texts),
	)
}

func checkErrorTexts(texts map[string]ErrorText) error {
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		text := texts[name]
		switch {
		case !slices.Contains(errorNames, name):
			return directive.At(name, fmt.Errorf("expected a situation or an error code: one of %s", strings.Join(errorNames, ", ")))
		case !grants.ValidScope(text.Code): // error codes have the same characters (RFC 6749 §5.2)
			return directive.At(name, errors.New("expected an error code of printable ASCII without spaces"))
		case text.Status != 0 && (text.Status < 400 || text.Status > 599):
			return directive.At(name, errors.New("expected a status from 400 to 599"))
		case strings.ContainsFunc(text.Text, func(r rune) bool { return r < 0x20 || r > 0x7e || r == '"' || r == '\\' }):
			return directive.At(name, errors.New("expected a text of printable ASCII without quotes and backslashes (RFC 6749 section 5.2)"))
		}
	}
	return nil
}

// wire returns the form of the issuer's requests and responses.
func (w *WireSettings) wire() wire.Shape {
	shape := wire.Shape{
		Bodies:       w.RequestBody,
		SecretHeader: http.CanonicalHeaderKey(w.ClientSecretHeader),
		GrantAliases: w.GrantAliases,
	}
	if t := w.TokenResponse; t != nil {
		shape.Response = wire.ResponseShape{
			TokenType: t.TokenType, Members: t.Members, ExpiresText: t.ExpiresIn == "string", ContentType: t.ContentType,
		}
	}
	if e := w.Errors; e != nil {
		shape.Errors = e.shape()
	}
	return shape
}

func (e *ErrorSettings) shape() wire.ErrorShape {
	shape := wire.ErrorShape{Problem: e.Format == "problem", IDHeader: e.ID == "header"}
	if d := e.Documentation; d != nil {
		shape.DocumentationURL, shape.DocumentationType = d.URL, d.Type
		if d.Type == "" {
			shape.DocumentationType = "text/html"
		}
	}
	for name, text := range e.Texts {
		if shape.Texts == nil {
			shape.Texts = make(map[string]wire.ErrorText, len(e.Texts))
		}
		shape.Texts[name] = wire.ErrorText{Code: text.Code, Description: text.Text, Status: text.Status}
	}
	return shape
}

// namesEnds reports whether the owner names one of the members that say when refresh tokens and approvals end.
func (t *TokenResponseSettings) namesEnds() bool {
	return t != nil && (slices.Contains(t.Members, "refresh_token_timeout") || slices.Contains(t.Members, "authorization_expires_in"))
}

// redirectRules returns the rules of a client. Each is from the first of the settings that has it.
func redirectRules(settings ...*RedirectURIRules) storage.RedirectRules {
	var rules storage.RedirectRules
	authorize := ""
	for _, s := range settings {
		if s == nil {
			continue
		}
		authorize = cmp.Or(authorize, s.Authorize)
		rules.Code, rules.Refresh = cmp.Or(rules.Code, s.Code), cmp.Or(rules.Refresh, s.Refresh)
	}
	rules.Authorize = authorize == "required"
	return rules
}

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
