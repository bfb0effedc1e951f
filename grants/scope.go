package grants

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// authorizationFor returns what a family allows the request, whose scope parameter is scope.
func authorizationFor(req *Request, f *storage.Family, key storage.Key, scope string) (*Authorization, error) {
	scopes, audience, err := req.granted(f, scope)
	if err != nil {
		return nil, err
	}
	var asked storage.AskedClaims
	if slices.Contains(scopes, OpenID) {
		asked = f.Asked
	}
	return &Authorization{
		Subject:  f.Subject,
		Scopes:   scopes,
		Audience: audience,
		Claims:   f.Claims,
		AuthTime: f.AuthTime,
		Session:  f.Session,
		Asked:    asked,
		Family:   key.ID,
		Started:  f.Started,
		Until:    f.Until,
	}, nil
}

// granted returns the scopes and the resources that a request gets of a family: those that the user has approved, as far as the client's
// settings still allow them, narrowed to those that the request asks for.
func (req *Request) granted(f *storage.Family, scope string) (scopes, audience []string, err error) {
	resources := f.Audience
	if !contains(req.Client.Audience, resources) {
		resources = intersect(resources, req.allResources())
	}
	scopes, audience, err = req.choose(scope, intersect(f.Scopes, req.Client.Scopes), resources)
	// An access token needs an audience (RFC 9068 §2.2), and a response without scope means that the requested scope was granted (RFC
	// 6749 §5.1).
	switch {
	case err != nil:
		return nil, nil, err
	case len(scopes) == 0 && len(f.Scopes) > 0:
		return nil, nil, req.ofClient(Refuse(InvalidScope, "the client may have none of the granted scopes any more").
			Explain(strings.Join(f.Scopes, " ")+", as approved", strings.Join(req.Client.Scopes, " "), "scopes"))
	case len(audience) == 0 && len(f.Audience) > 0:
		return nil, nil, req.ofClient(Refuse(InvalidTarget, "the client may have none of the granted resources any more").
			Explain(strings.Join(f.Audience, " ")+", as approved", strings.Join(req.allResources(), " "), "audience"))
	}
	return scopes, audience, nil
}

// intersect returns what is in both lists, in the order of the first.
func intersect(a, b []string) []string {
	if contains(b, a) { // the usual case, without a copy
		return a
	}
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return !slices.Contains(b, s) })
}

// contains reports whether every one of part is in whole.
func contains(whole, part []string) bool {
	return !slices.ContainsFunc(part, func(s string) bool { return !slices.Contains(whole, s) })
}

// choose returns the scopes and the resources that the request asks for, of those that are allowed. Other resources are allowed if
// the request names them.
func (req *Request) choose(scope string, allowedScopes, allowedAudience []string, others ...string) (scopes, audience []string, err error) {
	if scopes, err = ChooseScopes(req.Client, scope, allowedScopes); err == nil {
		audience, err = ChooseAudience(req.Form["resource"], allowedAudience, others...)
	}
	if err != nil {
		return nil, nil, req.ofClient(err)
	}
	return scopes, audience, nil
}

// ofClient prefixes the setting that a refusal names with the client.
func (req *Request) ofClient(err error) error {
	if refusal, ok := errors.AsType[*Error](err); ok && refusal.Setting != "" {
		return refusal.Explain("", "", "client "+req.Client.ID+": "+refusal.Setting)
	}
	return err
}

// otherResources returns the resources that the client may request beside its audience.
func (req *Request) otherResources() []string {
	if req.Client.OwnAudience {
		return nil
	}
	return req.Resources
}

// allResources returns the resources that the client may have now.
func (req *Request) allResources() []string {
	return slices.Concat(req.Client.Audience, req.otherResources())
}

// ChooseScopes returns the scopes that a request of the client gets of those that are allowed: those that its scope parameter
// names, or all if it names none (RFC 6749 §3.3, §6).
//
// A scope that is not allowed is an error. For a client with DropUnknownScopes it is left out instead; if no other scope remains,
// the result is the same as without the parameter.
func ChooseScopes(client *storage.Client, parameter string, allowed []string) ([]string, error) {
	if parameter == "" {
		return allowed, nil
	}
	wanted := make([]string, 0, len(allowed))
	dropped := ""
	count := 0
	for name := range strings.SplitSeq(parameter, " ") {
		place := slices.Index(allowed, name)
		switch {
		case name == "" || slices.Contains(wanted, name):
		case place >= 0:
			wanted = append(wanted, allowed[place]) // name is a part of the body: who keeps it would keep all of that in memory
		case !ValidScope(name):
			return nil, Refuse(InvalidScope, "scope is malformed").Explain(name, "printable ASCII without quotes and backslashes", "scopes")
		default:
			if count++; !client.DropUnknownScopes || count > maxDropped {
				return nil, refuseScope(name, allowed)
			}
			dropped = name
		}
	}
	switch {
	case len(wanted) > 0:
		return wanted, nil
	case dropped != "" && len(allowed) == 0:
		return nil, refuseScope(dropped, allowed)
	}
	return allowed, nil
}

// maxDropped is how many unknown scopes one request may have, for a client whose unknown scopes are dropped.
const maxDropped = 100

// ValidScope reports whether s is a scope-token of RFC 6749 §3.3.
func ValidScope(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r < 0x21 || r > 0x7e || r == '"' || r == '\\'
	})
}

func refuseScope(name string, allowed []string) *Error {
	description := "the client may not ask for a scope"
	if len(name) <= 64 && !strings.HasPrefix(name, "eyJ") { // a long one, or a JWT, is not the name of a scope
		description = "the client may not ask for the scope " + name
	}
	return Refuse(InvalidScope, description).Explain(name, strings.Join(allowed, " "), "scopes")
}

// ChooseAudience returns the resources that the resource parameters of a request name, all of which must be allowed, or all that
// are allowed if there are none (RFC 8707 §2, §2.2). A request may also name some of others. ChooseAudience returns the resources
// as they are spelled there. A request may spell them differently: scheme and host in upper case, with the default port, or with a slash at
// the end.
func ChooseAudience(parameters, allowed []string, others ...string) ([]string, error) {
	var wanted []string
	named := allowed
	if len(others) > 0 {
		named = slices.Concat(allowed, others)
	}
	count := 0
	for _, parameter := range parameters {
		if parameter == "" {
			continue
		}
		if count++; count > maxResources {
			return nil, Refuse(InvalidTarget, fmt.Sprintf("resource is there more than %d times", maxResources))
		}
		resource, err := findResource(parameter, named)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(wanted, resource) {
			wanted = append(wanted, resource)
		}
	}
	if len(wanted) == 0 {
		return allowed, nil
	}
	return wanted, nil
}

const maxResources = 16

// findResource returns the allowed resource that a parameter means. Clients that parse and write URLs spell them differently:
// scheme and host in upper case, the port that is the scheme's default, a slash at the end. A client that knows only the origin
// of a resource, as some learn it from the root of the site, means the one resource that is there.
func findResource(parameter string, allowed []string) (string, error) {
	if !ValidResource(parameter) {
		return "", Refuse(InvalidTarget, "resource must be an absolute URI without a fragment").
			Explain(parameter, strings.Join(allowed, " "), "audience")
	}
	if place := slices.Index(allowed, parameter); place >= 0 {
		return allowed[place], nil
	}
	asked, ok := parseResource(parameter)
	if !ok {
		return "", refuseResource(parameter, allowed)
	}
	var slashed, there []string
	for _, resource := range allowed {
		own, ok := parseResource(resource)
		switch {
		case !ok || own.origin != asked.origin:
			continue
		case own == asked:
			return resource, nil
		case own.query == asked.query && differInSlash(own.path, asked.path):
			slashed = append(slashed, resource)
		}
		there = append(there, resource)
	}
	switch {
	case len(slashed) > 0:
		return slashed[0], nil
	case len(there) == 1 && asked.query == "" && (asked.path == "" || asked.path == "/"):
		return there[0], nil
	}
	return "", refuseResource(parameter, allowed)
}

// ValidResource reports whether s can name a resource: an absolute URI without a fragment (RFC 8707 §2).
func ValidResource(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.IsAbs() && !strings.Contains(s, "#")
}

// resourceURL is a resource with a host, in its parts.
type resourceURL struct {
	origin string // scheme, host and port, in lower case and without the default port
	path   string // as it is escaped
	query  string // with its question mark
}

func parseResource(s string) (resourceURL, bool) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil {
		return resourceURL{}, false
	}
	host := strings.ToLower(u.Host)
	switch u.Scheme {
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	}
	r := resourceURL{origin: u.Scheme + "://" + host, path: u.EscapedPath()}
	if u.RawQuery != "" || u.ForceQuery {
		r.query = "?" + u.RawQuery
	}
	return r, true
}

// differInSlash reports whether one slash at the end is all that two paths differ in, where it may be left out or added: an empty
// path is the same as a slash (RFC 3986 §6.2.3), and some programs add a slash to any path.
func differInSlash(own, asked string) bool {
	return own == "/" && asked == "" || !strings.HasSuffix(own, "/") && asked == own+"/"
}

func refuseResource(parameter string, allowed []string) *Error {
	return Refuse(InvalidTarget, "resource is not one this client may ask for").Explain(parameter, strings.Join(allowed, " "), "audience")
}

// OpenID is the scope of a request that signs a person in (OpenID Connect Core §3.1.2.1).
const OpenID = "openid"

// OpenIDScopes are the scopes that OpenID Connect defines (Core §3.1.2.1, §5.4, §11). They are for requests that name openid.
var OpenIDScopes = []string{OpenID, "profile", "email", "address", "phone", "offline_access"}

// AllowedScopes returns the scopes of the client that a request with this scope parameter may have. A request that does not name openid
// gets none of the OpenIDScopes: it is not about OpenID Connect (Core §3.1.2.1).
func AllowedScopes(client *storage.Client, parameter string) []string {
	if client.OpenID == nil || slices.Contains(strings.Fields(parameter), OpenID) {
		return client.Scopes
	}
	return withoutOpenID(client)
}

// withoutOpenID returns the scopes of a client for a request that signs nobody in.
func withoutOpenID(client *storage.Client) []string {
	if client.OpenID == nil {
		return client.Scopes
	}
	return slices.DeleteFunc(slices.Clone(client.Scopes), func(s string) bool { return slices.Contains(OpenIDScopes, s) })
}

// namesAccess reports whether scopes of a token let a client do more than sign a person in. Those of OpenID Connect mean that only
// together with openid.
func namesAccess(scopes []string) bool {
	if !slices.Contains(scopes, OpenID) {
		return len(scopes) > 0
	}
	return !contains(OpenIDScopes, scopes)
}
