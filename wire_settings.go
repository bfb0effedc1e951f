package caddyoauth

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
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

func (w *WireSettings) check(grantTypes []string) (problem string, path []string) {
	for _, body := range w.RequestBody {
		if body != "form" && body != "json" {
			return "expected form, json or both, not " + body, []string{"request_body"}
		}
	}
	if h := w.ClientSecretHeader; h != "" && (!httpguts.ValidHeaderFieldName(h) || strings.EqualFold(h, "Authorization")) {
		return "expected the name of a header of its own, not " + h, []string{"client_secret_header"}
	}
	for _, alias := range sortedKeys(w.GrantAliases) {
		if name := w.GrantAliases[alias]; !slices.Contains(grantTypes, name) {
			return "expected one of " + strings.Join(grantTypes, ", ") + ", not " + name, []string{"grant_alias " + alias}
		}
		if slices.Contains(grantTypes, alias) {
			return "expected another name than that of a grant type", []string{"grant_alias " + alias}
		}
	}
	if problem, setting := w.RedirectURIRules.check(); problem != "" {
		return problem, []string{"redirect_uri_rules", setting}
	}
	if problem, setting := w.TokenResponse.check(); problem != "" {
		return problem, []string{"token_response", setting}
	}
	switch problem, setting := w.Errors.check(); {
	case problem != "" && setting == "":
		return problem, []string{"errors"}
	case problem != "":
		return problem, []string{"errors", setting}
	}
	return "", nil
}

func (r *RedirectURIRules) check() (problem, setting string) {
	rules := []storage.RedirectRule{"", storage.RedirectAsSent, storage.RedirectRequired, storage.RedirectOptional}
	switch {
	case r == nil:
		return "", ""
	case r.Authorize != "" && r.Authorize != "optional" && r.Authorize != "required":
		return "expected optional or required, not " + r.Authorize, "authorize"
	case !slices.Contains(rules, r.Code):
		return "expected as_sent, required or optional, not " + string(r.Code), "code"
	case !slices.Contains(append(rules, storage.RedirectIgnored), r.Refresh):
		return "expected ignored, as_sent, required or optional, not " + string(r.Refresh), "refresh"
	}
	return "", ""
}

func (t *TokenResponseSettings) check() (problem, setting string) {
	if t == nil {
		return "", ""
	}
	for i, name := range t.Members {
		if !slices.Contains(authserver.ResponseMembers, name) || slices.Contains(t.Members[:i], name) {
			return "expected, once each, some of " + strings.Join(authserver.ResponseMembers, ", ") + ", not " + name, "members"
		}
	}
	switch {
	case len(t.Members) > 0 && !slices.Contains(t.Members, "access_token"):
		return "expected access_token among them", "members"
	case t.ExpiresIn != "" && t.ExpiresIn != "number" && t.ExpiresIn != "string":
		return "expected number or string, not " + t.ExpiresIn, "expires_in"
	case !httpguts.ValidHeaderFieldValue(t.ContentType):
		return "expected a media type", "content_type"
	}
	return "", ""
}

func (e *ErrorSettings) check() (problem, setting string) {
	switch {
	case e == nil:
		return "", ""
	case e.Format != "" && e.Format != "oauth" && e.Format != "problem":
		return "expected oauth or problem, not " + e.Format, ""
	case e.ID != "" && e.ID != "body" && e.ID != "header":
		return "expected body or header, not " + e.ID, "id"
	case e.Documentation != nil && e.Format != "problem":
		return "expected with the format problem only", "documentation"
	}
	for _, name := range sortedKeys(e.Texts) {
		text := e.Texts[name]
		switch {
		case !slices.Contains(errorNames, name):
			return "expected a situation or an error code: one of " + strings.Join(errorNames, ", "), name
		case !grants.ValidScope(text.Code): // the same characters (RFC 6749 §5.2)
			return "expected an error code of printable ASCII without spaces", name
		case text.Status != 0 && (text.Status < 400 || text.Status > 599):
			return "expected a status from 400 to 599", name
		case strings.ContainsFunc(text.Text, func(r rune) bool { return r < 0x20 || r > 0x7e || r == '"' || r == '\\' }):
			return "expected a text of printable ASCII without quotes and backslashes (RFC 6749 section 5.2)", name
		}
	}
	return "", ""
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
