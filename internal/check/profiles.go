package check

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// profile is a kind of client, and what it does. Each is a JSON file.
type profile struct {
	Name  string   `json:"name"`
	Title string   `json:"title"` // with its article
	Needs needs    `json:"needs"` // what a client of the configuration must have to be of this kind
	Steps []string `json:"steps"` // in their order, see steps
}

// needs are what makes a client be of a kind.
type needs struct {
	Grant       string `json:"grant"`       // a grant type
	Public      *bool  `json:"public"`      // without a secret, or with one
	Redirect    bool   `json:"redirect"`    // an https or http redirect URI
	Introspects bool   `json:"introspects"` // resources of which it may introspect tokens
}

//go:embed profiles/*.json
var profileFiles embed.FS

func readProfiles() ([]*profile, error) {
	return readProfilesOf(profileFiles, "profiles/*.json", func(p *profile) error {
		for _, step := range p.Steps {
			if steps[step] == nil {
				return fmt.Errorf("there is no step %q", step)
			}
		}
		return nil
	})
}

// readProfilesOf reads the embedded files of one kind.
func readProfilesOf[T any](files embed.FS, pattern string, check func(*T) error) ([]*T, error) {
	names, err := fs.Glob(files, pattern)
	if err != nil {
		return nil, err
	}
	all := make([]*T, 0, len(names))
	for _, name := range names {
		text, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		one := new(T)
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.DisallowUnknownFields()
		err = decoder.Decode(one)
		if err == nil {
			err = check(one)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, one)
	}
	return all, nil
}

// fits reports whether a client is of the kind.
func (p *profile) fits(c *client) bool {
	web := slices.ContainsFunc(c.RedirectURIs, func(uri string) bool { return strings.HasPrefix(uri, "https:") || strings.HasPrefix(uri, "http:") })
	return (p.Needs.Grant == "" || slices.Contains(c.grantTypes(), p.Needs.Grant)) &&
		(p.Needs.Public == nil || *p.Needs.Public == c.public()) &&
		(!p.Needs.Redirect || web) && (!p.Needs.Introspects || len(c.Introspects) > 0)
}

// testClient is a client whose requests the check sends.
type testClient struct {
	*live
	id      string
	client  *client
	literal bool // it goes by the error codes of RFC 6749

	confidential bool // it authenticates, although nothing here says how
}

// testClients tests the clients of the configuration that are of a kind. only is the ID of a client, or the name of a kind, "" is all.
func (l *live) testClients(p *profile, only string) {
	for _, id := range slices.Sorted(maps.Keys(l.issuer.Clients)) {
		c := l.issuer.Clients[id]
		if c == nil || !p.fits(c) || only != "" && only != id && only != p.Name {
			continue
		}
		as := &testClient{live: l, id: id, client: c}
		seen, problem := "it would connect", (*Finding)(nil)
		for _, step := range p.Steps {
			reached, stopped := steps[step](as)
			if problem = stopped; problem != nil {
				break
			}
			seen += ", " + reached
		}
		if problem == nil && len(l.asUser) > 0 && slices.Contains(p.Steps, "authorize") {
			var reached string
			reached, problem = as.asPerson()
			seen += "; " + reached
		}
		if problem == nil {
			problem = &Finding{Verdict: OK, Seen: seen}
		}
		problem.Check, problem.Issuer, problem.Client = "as "+p.Title, l.issuer.Name, id
		l.report.add(*problem)
	}
}

// steps are what clients do. Each returns how far the client has come, or what stops it.
var steps = map[string]func(p *testClient) (reached string, problem *Finding){
	"discover":     (*testClient).discover,
	"authorize":    (*testClient).authorize,
	"redeem":       (*testClient).redeem,
	"authenticate": (*testClient).authenticate,
	"introspect":   (*testClient).introspect,
}

func stops(at, seen, why, paste, read string) (string, *Finding) {
	return "", &Finding{Verdict: Fail, Seen: "it stops at " + at + ": " + seen, Why: why, Paste: paste, Read: read}
}

func unseen(what string, err error) (string, *Finding) {
	return "", &Finding{Verdict: NotChecked, Seen: what + ": " + err.Error()}
}

// discover looks for the endpoints in the metadata.
func (p *testClient) discover() (string, *Finding) {
	for _, grant := range p.client.grantTypes() {
		if !slices.ContainsFunc(p.metadata.GrantTypes, func(name string) bool { return name == grant || strings.HasSuffix(name, ":grant-type:"+grant) }) {
			return stops("discovery", "the metadata does not have its grant type "+grant, "The running site has another configuration than this one.", "", "")
		}
	}
	for _, scope := range p.client.Scopes {
		if !slices.Contains(p.metadata.Scopes, scope) {
			return stops("discovery", "the metadata does not have its scope "+scope, "The running site has another configuration than this one.", "", "")
		}
	}
	return "finds the endpoints", nil
}

// verifier is the code_verifier of the requests. Nothing depends on its being secret: no code comes of them.
const verifier = "made-up-by-caddy-oauth-check-0123456789abcdefghij"

// authorize sends the authorization request of a person who is not signed in. The answer must be a login.
func (p *testClient) authorize() (string, *Finding) {
	if p.metadata.RequirePushed || p.metadata.RequireSigned || p.client.RequirePushed || p.client.RequireSigned || p.client.Profile != "" {
		return unseen("the authorize endpoint", errors.New("this client pushes or signs its requests, which the check does not"))
	}
	redirect := p.redirectURI()
	if redirect == "" {
		return unseen("the authorize endpoint", errors.New("its redirect URIs have placeholders"))
	}
	challenge := sha256.Sum256([]byte(verifier))
	target := p.metadata.Authorize + "?" + url.Values{
		"response_type": {"code"}, "client_id": {p.id}, "redirect_uri": {redirect}, "state": {"caddy-oauth-check"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}.Encode()
	found, err := p.ask(http.MethodGet, target, nil)
	if err != nil {
		return unseen("the authorize endpoint", err)
	}
	if signedIn(found, redirect) {
		return stops("the login", "somebody is signed in who sent no cookie and no password",
			"Everybody gets a code, for the account that the site names. The user of the oauth directive is not from a login, or a proxy before Caddy sends one.",
			"user {http.auth.user.id}", "docs/reference/oauth.md#directive-oauth")
	}
	forged, err := p.ask(http.MethodGet, target, nil, p.forgery()...)
	if err == nil && signedIn(forged, redirect) {
		return stops("the login", "a request that brings the login's header itself is signed in",
			"Everybody can be anybody. The login must remove the header from requests, or be one that sets it after a success.",
			"request_header -Remote-User", "docs/reference/oauth.md#directive-oauth")
	}
	return p.login(found)
}

// redirectURI returns a redirect URI of the client, "" if all have placeholders.
func (p *testClient) redirectURI() string {
	for _, uri := range p.client.RedirectURIs {
		if !strings.Contains(uri, "{") {
			return uri
		}
	}
	return ""
}

// forgery returns headers by which logins pass on who a person is, as a stranger would forge them.
func (p *testClient) forgery() []string {
	names := []string{"Remote-User", "X-Remote-User", "X-Forwarded-User", "X-Auth-Request-User", "X-User", "X-authentik-username", "Tailscale-User-Login"}
	for _, s := range p.config.Served {
		for _, prefix := range []string{"{http.reverse_proxy.header.", "{http.request.header."} {
			if name, ok := strings.CutPrefix(s.User, prefix); ok {
				names = append(names, strings.TrimSuffix(name, "}"))
			}
		}
	}
	header := make([]string, 0, 2*len(names))
	for _, name := range names {
		header = append(header, name, "caddy-oauth-check")
	}
	return header
}

// signedIn reports whether the answer of the authorize endpoint is one for a person who is signed in: the consent page, or an
// answer for the app with a code.
func signedIn(found *answer, redirect string) bool {
	to := found.Header.Get("Location")
	sent, err := url.Parse(to)
	return found.StatusCode == http.StatusOK && strings.Contains(string(found.body), `name="decision"`) ||
		err == nil && strings.HasPrefix(to, redirect) && sent.Query().Has("code")
}

// login looks at how the site asks a person to sign in.
func (p *testClient) login(found *answer) (string, *Finding) {
	switch to := found.Header.Get("Location"); {
	case found.StatusCode == http.StatusUnauthorized && strings.HasPrefix(strings.ToLower(found.Header.Get("WWW-Authenticate")), "basic"):
		return "gets to the login dialog of the browser", nil
	case found.StatusCode == http.StatusUnauthorized:
		return stops("the login", "nobody is signed in, and the site shows no login", "People see an error page. The site has no login before the pages for people, and "+
			"no login page is set.", "login /your-login-page", "docs/guides/login-page.md")
	case found.StatusCode >= 300 && found.StatusCode < 400 && to != "":
		return p.loginPage(found, to)
	case found.StatusCode == http.StatusOK:
		return "gets to the login page", nil // the site has answered itself, without a redirect
	}
	return stops("the authorize endpoint", fmt.Sprintf("it answers with status %d %s", found.StatusCode, found.oauthError()),
		"People see an error. Look at it with: caddy oauth explain", "", "docs/troubleshooting.md")
}

// loginPage follows the redirect to the login page.
func (p *testClient) loginPage(found *answer, to string) (string, *Finding) {
	target, err := found.Request.URL.Parse(to)
	if err != nil {
		return stops("the login", "it redirects to "+to, "No browser can follow that.", "", "docs/guides/login-page.md")
	}
	if code := target.Query().Get("error"); code != "" {
		return stops("the authorize endpoint", code+": "+target.Query().Get("error_description"), "The app gets an error. Look at it with: caddy oauth explain "+
			target.Query().Get("error_id"), "", "docs/troubleshooting.md")
	}
	page, err := p.ask(http.MethodGet, target.String(), nil)
	if err != nil {
		return unseen("the login page "+target.String(), err)
	}
	if page.StatusCode >= 400 && page.StatusCode != http.StatusUnauthorized {
		return stops("the login", fmt.Sprintf("the login page %s answers with status %d", target.Path, page.StatusCode), "People cannot sign in.",
			"login /your-login-page", "docs/guides/login-page.md")
	}
	return "gets to the login page " + target.Scheme + "://" + target.Host + target.Path, nil
}

// redeem brings a code that nobody issued.
func (p *testClient) redeem() (string, *Finding) {
	if !p.client.public() {
		return "and then needs its secret, which was not tried", nil
	}
	found, err := p.ask(http.MethodPost, p.metadata.Token, url.Values{
		"grant_type": {"authorization_code"}, "client_id": {p.id}, "code": {"made-up-by-caddy-oauth-check"}, "code_verifier": {verifier},
	}, "Origin", "https://client.example")
	switch {
	case err != nil:
		return unseen("the token endpoint", err)
	case found.StatusCode < 400:
		return stops("the token endpoint", "a code that nobody issued is accepted", "Something else answers there.", "", "")
	case found.StatusCode == http.StatusTooManyRequests || found.StatusCode == http.StatusServiceUnavailable:
		return unseen("the token endpoint", fmt.Errorf("status %d", found.StatusCode))
	case p.literal && found.oauthError() != "invalid_grant":
		return stops("the token endpoint", fmt.Sprintf("a code that nobody issued is refused with status %d %s, not with invalid_grant", found.StatusCode,
			found.oauthError()), "Clients ask for a new login only after invalid_grant.", "", "docs/troubleshooting.md")
	case found.Header.Get("Access-Control-Allow-Origin") == "":
		return stops("the token endpoint", "a script cannot read the answer (CORS)", "An app in a browser cannot get its tokens.", "", "docs/reference/oauth.md#directive-oauth")
	}
	return "and is refused with a code that nobody issued", nil
}

// authenticate asks for a token without the secret.
func (p *testClient) authenticate() (string, *Finding) {
	found, err := p.ask(http.MethodPost, p.metadata.Token, url.Values{"grant_type": {"client_credentials"}, "client_id": {p.id}})
	switch {
	case err != nil:
		return unseen("the token endpoint", err)
	case found.StatusCode == http.StatusOK:
		return stops("the token endpoint", "it gets a token without its secret", "Everybody can be this client.", "client "+p.id+" {\n\tsecret {env.ITS_SECRET}\n}",
			"docs/guides/scripts.md")
	case found.StatusCode == http.StatusTooManyRequests || found.StatusCode == http.StatusServiceUnavailable:
		return unseen("the token endpoint", fmt.Errorf("status %d", found.StatusCode))
	}
	return "and needs its secret for that, which was not tried", nil
}

// introspect asks about a token without the secret.
func (p *testClient) introspect() (string, *Finding) {
	found, err := p.ask(http.MethodPost, p.metadata.Introspect, url.Values{"client_id": {p.id}, "token": {"made-up-by-caddy-oauth-check"}})
	switch {
	case err != nil:
		return unseen("the introspection endpoint", err)
	case found.StatusCode == http.StatusOK:
		return stops("introspection", "it learns about tokens without its secret", "Everybody can find out whose tokens are valid.", "", "docs/guides/resource-servers.md")
	}
	return "and needs its secret for that, which was not tried", nil
}
