package check

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// live checks an issuer that runs.
type live struct {
	ctx    context.Context
	report *Report
	config *config
	issuer *issuer
	http   *http.Client

	outside bool // requests go through a proxy elsewhere
	noted   func(errorID string) (address string, err error)
	own     func() []string // the addresses of this machine

	asUser    []string // headers of somebody who is signed in, names and values
	untrusted bool     // the certificate is not valid
	naming    func(issuer string) (clients []string, err error)

	metadata metadata
	keySet   []publicKey
}

// publicKey is a key of the issuer (RFC 7517).
type publicKey struct {
	Type      string `json:"kty"`
	ID        string `json:"kid"`
	Algorithm string `json:"alg"`
	Modulus   string `json:"n"`
	Private   string `json:"d"`
}

// metadata is what the checks need of the issuer's metadata (RFC 8414).
type metadata struct {
	Issuer      string   `json:"issuer"`
	Authorize   string   `json:"authorization_endpoint"`
	Token       string   `json:"token_endpoint"`
	JWKS        string   `json:"jwks_uri"`
	Introspect  string   `json:"introspection_endpoint"`
	Revoke      string   `json:"revocation_endpoint"`
	Scopes      []string `json:"scopes_supported"`
	GrantTypes  []string `json:"grant_types_supported"`
	PKCEMethods []string `json:"code_challenge_methods_supported"`
	AuthMethods []string `json:"token_endpoint_auth_methods_supported"`
	Register    string   `json:"registration_endpoint"`
	Documents   bool     `json:"client_id_metadata_document_supported"`
	UserInfo    string   `json:"userinfo_endpoint"`
	IDTokenAlgs []string `json:"id_token_signing_alg_values_supported"`
	Claims      []string `json:"claims_supported"`

	RequirePushed bool `json:"require_pushed_authorization_requests"`
	RequireSigned bool `json:"require_signed_request_object"`
}

// answer is a response with its body.
type answer struct {
	*http.Response
	body []byte
}

// oauthError returns the error code in the body, "" if there is none.
func (a *answer) oauthError() string {
	var body struct {
		Error string `json:"error"`
	}
	_ = json.Unmarshal(a.body, &body)
	return body.Error
}

const maxBody = 1 << 20

// ask sends a request. A form makes it a POST.
func (l *live) ask(method, target string, form url.Values, header ...string) (*answer, error) {
	if form == nil {
		return l.send(method, target, "", nil, header...)
	}
	return l.send(method, target, "application/x-www-form-urlencoded", strings.NewReader(form.Encode()), header...)
}

// send sends a request with a body, which may be nil.
func (l *live) send(method, target, contentType string, body io.Reader, header ...string) (*answer, error) {
	req, err := http.NewRequestWithContext(l.ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "caddy-oauth-check")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for pair := range slices.Chunk(header, 2) {
		req.Header.Set(pair[0], pair[1])
	}
	resp, err := l.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	return &answer{resp, text}, err
}

func (l *live) say(verdict Verdict, check, seen, why, paste, read string) {
	l.report.add(Finding{Verdict: verdict, Check: check, Issuer: l.issuer.Name, Seen: seen, Why: why, Paste: paste, Read: read})
}

func (l *live) ok(check, seen string) { l.say(OK, check, seen, "", "", "") }

// site checks what everybody can see of the issuer. It reports false if nobody answers there.
func (l *live) site() bool {
	if strings.Contains(l.issuer.URL, "{") {
		l.say(NotChecked, "site", "the running site: the issuer's URL has a placeholder, "+l.issuer.URL, "", "", "")
		return false
	}
	issuer, err := url.Parse(strings.TrimSuffix(l.issuer.URL, "/"))
	if err != nil {
		l.say(Fail, "site", err.Error(), "", "", "")
		return false
	}
	document := *issuer
	document.Path = "/.well-known/oauth-authorization-server" + issuer.Path
	found, err := l.reach(document.String())
	if err != nil {
		l.say(NotChecked, "site", "the running site: nobody answers at "+l.issuer.URL+" from here: "+err.Error(), "", "", "")
		return false
	}
	switch err := json.Unmarshal(found.body, &l.metadata); {
	case found.StatusCode != http.StatusOK || err != nil:
		l.say(Fail, "metadata", fmt.Sprintf("%s answers with status %d and no metadata", &document, found.StatusCode),
			"Clients find the endpoints by it. Something else has answered: a rewrite, a proxy before this Caddy, or an older configuration.",
			issuer.Host+" {\n\toauth\n}", "docs/reference/oauth.md#directive-oauth")
		return false
	case l.metadata.Issuer != l.issuer.URL:
		l.say(Fail, "metadata", "the metadata names the issuer "+l.metadata.Issuer+", not "+l.issuer.URL,
			"Clients refuse metadata of another issuer (RFC 8414 section 3.3).", "", "docs/reference/oauth.md#global-option-oauth")
		return false
	}
	l.ok("metadata", document.String()+" has the metadata")
	l.clock(found)
	l.proxies(found)
	l.address()
	l.cors(document.String())
	l.unknownIssuer(issuer)
	l.keys()
	l.tokenEndpoint()
	l.audiences()
	l.openID()
	return true
}

// reach sends the first request, and looks at the certificate. One that only this machine trusts is no reason to stop.
func (l *live) reach(target string) (*answer, error) {
	found, err := l.ask(http.MethodGet, target, nil, "Origin", "https://client.example")
	var unknown x509.UnknownAuthorityError
	var other x509.HostnameError
	var invalid x509.CertificateInvalidError
	transport, ok := l.http.Transport.(*http.Transport)
	if !errors.As(err, &unknown) && !errors.As(err, &other) && !errors.As(err, &invalid) || !ok {
		if err == nil && strings.HasPrefix(target, "https:") {
			l.ok("certificate", "the certificate is valid for everybody")
		}
		return found, err
	}
	l.say(Fail, "certificate", "the certificate: "+certificateProblem(err),
		"Apps and browsers on other machines refuse the connection. Caddy gets public certificates by itself for a public host name; with tls "+
			"internal, or for localhost, it is its own authority.",
		"# remove tls internal, and use a host name with a public address", "docs/guides/existing-site.md")
	insecure := transport.Clone()
	insecure.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // G402: the report has the problem; no secret is sent
	l.http.Transport, l.untrusted = insecure, true
	return l.ask(http.MethodGet, target, nil, "Origin", "https://client.example")
}

func certificateProblem(err error) string {
	if inner, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return inner.Err.Error()
	}
	return err.Error()
}

// clockDifference is how far the clocks of two machines may be apart.
const clockDifference = 30 * time.Second

func (l *live) clock(found *answer) {
	date, err := http.ParseTime(found.Header.Get("Date"))
	if err != nil {
		l.say(NotChecked, "clock", "the clock: the site sends no Date", "", "", "")
		return
	}
	if d := time.Since(date).Abs(); d > clockDifference {
		l.say(Warning, "clock", fmt.Sprintf("the clock of the site and that of this machine differ by %s", d.Round(time.Second)),
			"Tokens seem expired, or not valid yet, to an API with another clock.", "", "")
		return
	}
	l.ok("clock", "the clocks of the site and of this machine agree")
}

func (l *live) cors(document string) {
	for what, target := range map[string]string{"metadata": document, "token endpoint": l.metadata.Token} {
		method := http.MethodOptions
		found, err := l.ask(method, target, nil, "Origin", "https://client.example", "Access-Control-Request-Method", "POST",
			"Access-Control-Request-Headers", "authorization")
		if err == nil && found.Header.Get("Access-Control-Allow-Origin") == "*" && found.StatusCode < 300 {
			continue
		}
		l.say(Fail, "cors", "scripts of other origins cannot call the "+what+": something before it answers preflights",
			"An app in a browser cannot get its tokens.", "# let OPTIONS requests for "+target+" reach oauth", "docs/reference/oauth.md#directive-oauth")
		return
	}
	l.ok("cors", "scripts of other origins can read the metadata and call the token endpoint")
}

// unknownIssuer looks for a site that answers with a page whatever it is asked: clients take that for metadata.
func (l *live) unknownIssuer(issuer *url.URL) {
	other := *issuer
	other.Path = "/.well-known/oauth-authorization-server/there-is-no-such-issuer"
	found, err := l.ask(http.MethodGet, other.String(), nil)
	switch {
	case err != nil:
		l.say(NotChecked, "404", "the answer for an issuer that is not there: "+err.Error(), "", "", "")
	case found.StatusCode == http.StatusOK:
		l.say(Warning, "404", other.String()+" answers with status 200, although there is no such issuer",
			"Clients try several addresses, and take this answer for metadata.", "", "docs/reference/oauth.md#directive-oauth")
	default:
		l.ok("404", "an issuer that is not there gets no metadata")
	}
}

func (l *live) keys() {
	if l.metadata.JWKS == "" {
		l.say(Warning, "keys", "the issuer publishes no keys, as a shared secret signs its tokens", "Other servers cannot check tokens by themselves.",
			"signing ES256", "docs/guides/existing-endpoint.md")
		return
	}
	var set struct {
		Keys []publicKey `json:"keys"`
	}
	found, err := l.ask(http.MethodGet, l.metadata.JWKS, nil)
	if err != nil || found.StatusCode != http.StatusOK || json.Unmarshal(found.body, &set) != nil || len(set.Keys) == 0 {
		l.say(Fail, "keys", "there are no keys at "+l.metadata.JWKS, "No API can check a token.", "", "docs/operate/storage.md")
		return
	}
	for _, key := range set.Keys {
		n, _ := base64.RawURLEncoding.DecodeString(key.Modulus)
		switch bits := 8 * len(bytes.TrimLeft(n, "\x00")); {
		case key.Private != "":
			l.say(Fail, "keys", "the key "+key.ID+" is published with its private part", "Everybody can make tokens.", "", "")
			return
		case key.Type == "RSA" && bits < 2048:
			l.say(Fail, "keys", fmt.Sprintf("the RSA key %s has %d bits", key.ID, bits), "It can be broken. 2048 bits are the least (RFC 7518 section 3.3).",
				"signing ES256", "docs/reference/oauth.md#global-option-oauth")
			return
		}
	}
	l.keySet = set.Keys
	l.ok("keys", fmt.Sprintf("%d public keys are published", len(set.Keys)))
}

// tokenEndpoint asks for a token as a client that does not exist.
func (l *live) tokenEndpoint() {
	found, err := l.ask(http.MethodPost, l.metadata.Token, url.Values{
		"grant_type": {"authorization_code"}, "code": {"made-up-by-caddy-oauth-check"}, "client_id": {"caddy-oauth-check"},
	})
	switch {
	case err != nil:
		l.say(Fail, "token endpoint", err.Error(), "No client gets a token.", "", "")
	case found.StatusCode == http.StatusTooManyRequests || found.StatusCode == http.StatusServiceUnavailable:
		l.say(Warning, "token endpoint", fmt.Sprintf("the token endpoint answers with status %d, try again later", found.StatusCode), "Clients have to wait.", "",
			"docs/operate/more-than-one-machine.md")
	case found.StatusCode == http.StatusOK:
		l.say(Fail, "token endpoint", "the token endpoint answers with status 200 to a client that does not exist", "Something else answers there.", "", "")
	default:
		l.ok("token endpoint", "the token endpoint refuses a client that does not exist")
	}
}

// audiences asks the running server which clients sign the token endpoint as the audience of their assertions, and not the issuer.
func (l *live) audiences() {
	if l.naming == nil || l.issuer.unknown || !slices.Contains(l.metadata.AuthMethods, "private_key_jwt") {
		return
	}
	clients, err := l.naming(l.issuer.Name)
	if err != nil {
		l.say(NotChecked, "audiences", "which clients sign for the token endpoint instead of the issuer: "+err.Error(), "", "", "")
		return
	}
	const here = ", at this node since it loaded its configuration"
	for _, id := range clients {
		l.report.add(Finding{
			Verdict: Warning, Check: "audiences", Issuer: l.issuer.Name, Client: id, Seen: "it has signed for the token endpoint, not for the issuer" + here,
			Why: "A server that names this token endpoint as its own can have the client sign one, and use it here. Tell whoever runs the client to sign for " +
				l.issuer.URL + " alone. When no client is left that does, refuse the others.",
			Paste: "client_assertion_audience issuer", Read: "docs/guides/keys-instead-of-secrets.md",
		})
	}
	if len(clients) == 0 {
		l.ok("audiences", "no client has signed for the token endpoint instead of the issuer"+here)
	}
}

// guards checks the guards of this issuer: without a token, and with one that nobody issued.
func (l *live) guards() {
	issuer, err := url.Parse(l.issuer.URL)
	if err != nil {
		return
	}
	for _, g := range l.config.Guards {
		if !l.config.means(g.Issuer, l.issuer) {
			continue
		}
		target, ok := g.example(issuer)
		if !ok {
			l.say(NotChecked, "guard", "the guard of "+g.name()+": its matcher is not only about paths and hosts", "", "", "")
			continue
		}
		l.guard(g, target)
		l.upstreams(g, target)
	}
}

// example returns a URL that a guard is for.
func (g *guard) example(issuer *url.URL) (string, bool) {
	for _, set := range g.Match {
		for kind := range maps.Keys(set) {
			if kind != "path" && kind != "host" {
				return "", false
			}
		}
	}
	path := "/"
	if paths := g.allPaths(); len(paths) > 0 {
		path = strings.ReplaceAll(paths[0], "*", "caddy-oauth-check")
	}
	u := url.URL{Scheme: issuer.Scheme, Host: issuer.Host, Path: path}
	if len(g.hosts) > 0 && !slices.Contains(g.hosts, issuer.Hostname()) {
		u.Host = g.hosts[0]
		if issuer.Port() != "" {
			u.Host += ":" + issuer.Port()
		}
	}
	return u.String(), strings.HasPrefix(path, "/") && !strings.ContainsAny(path+u.Host, "*{")
}

func (l *live) guard(g *guard, target string) {
	check := "guard " + g.name()
	without, err := l.ask(http.MethodGet, target, nil)
	if err != nil {
		l.say(NotChecked, check, target+": "+err.Error(), "", "", "")
		return
	}
	header, value := "Authorization", "Bearer made-up-by-caddy-oauth-check"
	if g.TokenHeader != "" {
		header, value = g.TokenHeader, "made-up-by-caddy-oauth-check"
	}
	with, err := l.ask(http.MethodGet, target, nil, header, value)
	const open = "Everybody can call the API. Another handler answers before the guard, or the site that runs has another configuration."
	paste := "oauth_guard " + g.name() + " {\n\tscopes …\n}"
	switch {
	case err != nil:
		l.say(NotChecked, check, target+": "+err.Error(), "", "", "")
	case without.StatusCode != http.StatusUnauthorized && !g.Optional:
		l.say(Fail, check, fmt.Sprintf("%s answers with status %d to a request without a token", target, without.StatusCode), open, paste, "docs/reference/oauth_guard.md")
	case with.StatusCode != http.StatusUnauthorized && with.StatusCode != http.StatusTooManyRequests:
		l.say(Fail, check, fmt.Sprintf("%s answers with status %d to a token that nobody issued", target, with.StatusCode), open, paste, "docs/reference/oauth_guard.md")
	case !g.Optional && !strings.Contains(without.Header.Get("WWW-Authenticate"), "resource_metadata="):
		l.say(Warning, check, target+" refuses without naming its metadata", "Clients that find out by themselves where to get a token cannot. Something "+
			"removes WWW-Authenticate, or answers instead of the guard.", "", "docs/reference/oauth_guard.md")
	default:
		l.ok(check, "it refuses requests without a token, and a token that nobody issued")
	}
}
