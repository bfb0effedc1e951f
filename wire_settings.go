package caddyoauth

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// WireSettings give an endpoint the shape of one that exists already, so that its clients need no
// change. Every one is independent of the others. Without them, all is as the RFCs say.
type WireSettings struct {
	// The kinds of bodies that token requests may have: `form`, `json`. Default: `form`, the RFC's only one.
	RequestBody []string `json:"request_body,omitempty"`

	// A header that may carry a client's secret, with the client_id in the body, such as `X-API-Key`. Logs and
	// proxies do not know it for a secret as they know `Authorization`: take it out of Caddy's logs with
	// `format filter`, as `request>headers>X-Api-Key delete`.
	ClientSecretHeader string `json:"client_secret_header,omitempty"`

	// Other names for grant types, such as `refresh token` for `refresh_token`.
	GrantAliases map[string]string `json:"grant_aliases,omitempty"`

	// Where requests must name their redirect_uri. A client can have its own rules.
	RedirectURIRules *RedirectURIRules `json:"redirect_uri_rules,omitempty"`

	// What the answer with the tokens looks like.
	TokenResponse *TokenResponseSettings `json:"token_response,omitempty"`

	// What errors of the token endpoint look like.
	Errors *ErrorSettings `json:"errors,omitempty"`
}

// RedirectURIRules say where requests must name their redirect_uri.
type RedirectURIRules struct {
	// `optional` lets authorization requests of clients with a single one leave it out, `required` does
	// not. Default: `optional`.
	Authorize string `json:"authorize,omitempty"`

	// `as_sent`: the exchange of a code must have it if the authorization request had it. `required`: it
	// must always. `optional`: it need not, and must be right if it is there; without PKCE, this makes a
	// stolen code easier to use. Default: `as_sent`, as RFC 6749 has it.
	Code storage.RedirectRule `json:"code,omitempty"`

	// The same for refreshes, where `as_sent` is about the exchange of the code. `ignored` does not look
	// at it. Default: `ignored`, as RFC 6749 has it.
	Refresh storage.RedirectRule `json:"refresh,omitempty"`
}

// TokenResponseSettings say what the answer with the tokens looks like.
type TokenResponseSettings struct {
	// The value of `token_type`. Default: `Bearer`.
	TokenType string `json:"token_type,omitempty"`

	// The members of the answer, in their order. Default: `access_token token_type expires_in
	// refresh_token scope`. Without `scope`, a client that gets less than it asked for is not told.
	Members []string `json:"members,omitempty"`

	// `number` or `string`. Default: `number`, as the RFC has it.
	ExpiresIn string `json:"expires_in,omitempty"`

	// The Content-Type. Default: `application/json`.
	ContentType string `json:"content_type,omitempty"`
}

// ErrorSettings say what errors of the token endpoint look like.
type ErrorSettings struct {
	// `oauth` is RFC 6749's, `problem` is application/problem+json with status, title and detail
	// (RFC 9457). Default: `oauth`.
	Format string `json:"format,omitempty"`

	// What problems link to as their documentation.
	Documentation *Documentation `json:"documentation,omitempty"`

	// Other codes and texts: by situation (`bad_client`, `bad_code`, `bad_refresh_token`, `bad_user`) or by
	// error code.
	Texts map[string]ErrorText `json:"texts,omitempty"`

	// Where the id goes that leads from an answer to the log: a member `error_id` of the `body`, or the `header`
	// Error-Id. Default: `body`.
	ID string `json:"id,omitempty"`
}

// Documentation is where errors are documented.
type Documentation struct {
	// The URL.
	URL string `json:"url"`
	// The media type of what is there. Default: `text/html`.
	Type string `json:"type,omitempty"`
}

// ErrorText is how a situation is answered.
type ErrorText struct {
	// The error code.
	Code string `json:"code"`
	// The description, or the detail of a problem.
	Text string `json:"text,omitempty"`
	// The status. Default: as without this setting.
	Status int `json:"status,omitempty"`
}

// errorNames are what can have a text of its own: situations, and error codes for all others.
var errorNames = slices.Concat(
	[]string{grants.BadClient, grants.BadCode, grants.BadRefreshToken, grants.BadUser}, grants.Codes,
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
		if !slices.Contains(authserver.ResponseMembers, name) || slices.Contains(members[:i], name) {
			return fmt.Errorf("expected, once each, some of %s, not %s", strings.Join(authserver.ResponseMembers, ", "), name)
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

// wire returns the shape of the issuer's requests and answers.
func (i *Issuer) wire() authserver.Wire {
	shape := authserver.Wire{
		Bodies:       i.RequestBody,
		SecretHeader: http.CanonicalHeaderKey(i.ClientSecretHeader),
		GrantAliases: i.GrantAliases,
	}
	if a := i.AccessToken; a != nil {
		shape.AccessToken = authserver.AccessTokenShape{
			Opaque: a.Format == "opaque", Prefix: a.Prefix, Length: a.Length,
			Minimal: a.Claims == "minimal", Rename: a.Rename,
		}
	}
	if t := i.TokenResponse; t != nil {
		shape.Response = authserver.ResponseShape{
			TokenType: t.TokenType, Members: t.Members, ExpiresText: t.ExpiresIn == "string", ContentType: t.ContentType,
		}
	}
	if e := i.Errors; e != nil {
		shape.Errors = e.shape()
	}
	return shape
}

func (e *ErrorSettings) shape() authserver.ErrorShape {
	shape := authserver.ErrorShape{Problem: e.Format == "problem", IDHeader: e.ID == "header"}
	if d := e.Documentation; d != nil {
		shape.DocumentationURL, shape.DocumentationType = d.URL, d.Type
		if d.Type == "" {
			shape.DocumentationType = "text/html"
		}
	}
	for name, text := range e.Texts {
		if shape.Texts == nil {
			shape.Texts = make(map[string]authserver.ErrorText, len(e.Texts))
		}
		shape.Texts[name] = authserver.ErrorText{Code: text.Code, Description: text.Text, Status: text.Status}
	}
	return shape
}

// redirectRules returns the rules of which each is from the first that sets it.
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
