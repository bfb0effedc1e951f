package signin

import (
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/routes"
)

// DefaultUser is where the logins of Caddy put the ID of a person.
const DefaultUser = "{http.auth.user.id}"

// Result is what is known of the placeholders that a login sets.
type Result struct {
	sets    []string // prefixes of their names; nil: nothing is known
	headers []string // of the answer of forward_auth, that copy_headers names; nil: none are named
	copied  []string // headers of the request that are from the login
}

// loginDirectives are the directives of Caddy that find out who a person is, and the placeholders that they set.
var loginDirectives = map[string]string{
	"basic_auth": authPlaceholders, "basicauth": authPlaceholders,
	"forward_auth": proxyPlaceholders, "reverse_proxy": proxyPlaceholders,
}

const (
	authPlaceholders   = "http.auth.user."
	proxyPlaceholders  = "http.reverse_proxy."
	headerPlaceholders = proxyPlaceholders + "header."
)

// OfHandlers returns what the handlers of a login set. It looks at handlers that are provisioned.
func OfHandlers(login caddyhttp.RouteList) *Result {
	result := new(Result)
	for handler := range routes.Handlers(login) {
		switch handler := handler.(type) {
		case *caddyauth.Authentication:
			result.sets = append(result.sets, authPlaceholders)
		case *reverseproxy.Handler:
			result.sets = append(result.sets, proxyPlaceholders)
			result.copies(handler)
		default:
			return &Result{copied: result.copied}
		}
	}
	return result
}

// copies notes the headers that a forward_auth copies from the answer to the request.
func (r *Result) copies(proxy *reverseproxy.Handler) {
	for _, response := range proxy.HandleResponse {
		for handler := range routes.Handlers(response.Routes) {
			copies, ok := handler.(*headers.Handler)
			if !ok || copies.Request == nil {
				continue
			}
			for _, to := range slices.Sorted(maps.Keys(copies.Request.Set)) {
				for _, name := range directive.Placeholders(strings.Join(copies.Request.Set[to], "")) {
					if from, ok := strings.CutPrefix(name, headerPlaceholders); ok {
						r.headers, r.copied = append(r.headers, from), append(r.copied, to)
					}
				}
			}
		}
	}
}

// OfDirectives returns what the directives of a login set.
func OfDirectives(login []directive.Line) *Result {
	result := new(Result)
	for _, line := range login {
		for _, l := range line.Block {
			if l.Words[0] != "copy_headers" {
				continue
			}
			names := slices.Clone(l.Words[1:])
			for _, more := range l.Block {
				names = append(names, more.Words...)
			}
			for _, name := range names {
				from, to, renamed := strings.Cut(name, ">")
				if !renamed {
					to = from
				}
				result.headers, result.copied = append(result.headers, from), append(result.copied, to)
			}
		}
		if prefix, known := loginDirectives[line.Words[0]]; known {
			result.sets = append(result.sets, prefix)
			continue
		}
		return &Result{copied: result.copied}
	}
	return result
}

// Wrong returns what is wrong with the placeholder of a user or a claim after this login, "" if it may work, and what to write.
func (r *Result) Wrong(name string) (seen, instead string) {
	if name == "http.auth.user" || name == "user" {
		return NothingSets(name)
	}
	if header, ok := strings.CutPrefix(name, "http.request.header."); ok {
		if hasHeader(r.copied, header) {
			return "", ""
		}
		return "the header " + header + " comes from the request, and every browser can forge it", "{rp.header." + header + "} after forward_auth"
	}
	if strings.HasPrefix(name, "http.request.") && !strings.HasPrefix(name, "http.request.tls.") {
		return "{" + name + "} comes from the request, and every browser can forge it", "a placeholder that Caddy sets after a login, such as " + DefaultUser
	}
	if len(r.sets) == 0 || !IsFromLogin(name) {
		return "", ""
	}
	if !slices.ContainsFunc(r.sets, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
		instead = DefaultUser
		if strings.HasPrefix(name, authPlaceholders) {
			instead = "user {rp.header.Remote-User}, or the header in which your site names the person"
		}
		return "the directives of login do not set {" + name + "}", instead
	}
	if header, ok := strings.CutPrefix(name, headerPlaceholders); ok && len(r.headers) > 0 && !hasHeader(r.headers, header) {
		return "the login copies " + strings.Join(r.headers, ", ") + ", and not the header " + header, "{rp.header." + r.headers[0] + "}, or " + header + " in copy_headers too"
	}
	return "", ""
}

// NothingSets returns what is wrong with a placeholder that nothing sets, and what to write.
func NothingSets(name string) (seen, instead string) {
	return "nothing sets {" + name + "}", DefaultUser + ", or {rp.header.Remote-User} after forward_auth"
}

func hasHeader(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
}

// IsFromLogin reports whether the logins of Caddy set a placeholder of this name.
func IsFromLogin(name string) bool {
	return strings.HasPrefix(name, authPlaceholders) || strings.HasPrefix(name, proxyPlaceholders)
}

// IsDirective reports whether a directive of this name lets only those pass who are signed in.
func IsDirective(name string) bool {
	_, known := loginDirectives[name]
	return known && name != "reverse_proxy"
}
