package check

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// signedInUser is the browser of somebody who is signed in. The headers that say so go to the issuer alone.
type signedInUser struct {
	*testClient
	browser http.Client
	header  []string
}

// maxHops is how many redirects of the site a browser follows on the way to the app.
const maxHops = 10

// asPerson continues after the login as somebody who is signed in: it approves what the client asks for, redeems the code, calls the APIs
// that the scopes are for, and revokes the tokens.
func (p *testClient) asPerson() (reached string, problem *Finding) {
	if p.untrusted {
		return unseen("as a person", errors.New("the certificate is not valid, so that the headers of --as-user were not sent"))
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return unseen("as a person", err)
	}
	as := &signedInUser{testClient: p, browser: *p.http, header: p.asUser}
	as.browser.Jar = jar

	redirect := p.redirectURI()
	request := url.Values{
		"response_type": {"code"}, "client_id": {p.id}, "redirect_uri": {redirect}, "state": {rand.Text()},
		"code_challenge_method": {"S256"},
	}
	secret := rand.Text() + rand.Text()
	challenge := sha256.Sum256([]byte(secret))
	request.Set("code_challenge", base64.RawURLEncoding.EncodeToString(challenge[:]))
	code, reached, problem := as.approve(p.metadata.Authorize+"?"+request.Encode(), redirect, request.Get("state"))
	switch {
	case problem != nil:
		return "", problem
	case !p.client.public() || p.confidential:
		return reached + ", and needs its secret or key for the tokens, which was not tried", nil
	}
	granted, problem := p.exchange(code, redirect, secret)
	if problem != nil {
		return "", problem
	}
	reached += ", gets its tokens"
	called, problem := p.call(granted)
	switch kept := p.revoke(granted); {
	case kept == nil:
	case problem == nil:
		problem = kept
	default:
		problem.Seen += "; " + kept.Seen
		problem.Why = strings.TrimSpace(problem.Why + " " + kept.Why)
		if problem.Verdict == NotChecked {
			problem.Verdict = kept.Verdict
		}
	}
	return reached + called + "; the tokens are revoked again", problem
}

// approve goes from an authorization request to the app, and returns the code that the app gets.
func (p *signedInUser) approve(target, redirect, state string) (code, reached string, problem *Finding) {
	method, form, pages := http.MethodGet, url.Values(nil), ""
	for range maxHops {
		found, err := p.open(method, target, form)
		if err != nil {
			_, problem = unseen("as a person", err)
			return "", "", problem
		}
		to, err := found.Request.URL.Parse(found.Header.Get("Location"))
		if err != nil || found.Header.Get("Location") == "" {
			action, fields := decision(found)
			if action == nil {
				_, problem = stops("the login", fmt.Sprintf("the headers of --as-user do not sign anybody in: %s answers with status %d %s",
					found.Request.URL.Path, found.StatusCode, found.oauthError()),
					"The session may have ended, or the login wants another header. Look at it with: caddy oauth explain", "", "docs/reference/check.md")
				return "", "", problem
			}
			pages = "the consent page, and with it "
			fields.Set("decision", "allow")
			method, target, form = http.MethodPost, action.String(), fields
			continue
		}
		if strings.HasPrefix(found.Header.Get("Location"), redirect) {
			code, problem = authorized(to.Query(), state, p.metadata.Issuer)
			return code, "as a person, gets to " + pages + "a code", problem
		}
		method, target, form = http.MethodGet, to.String(), nil
	}
	_, problem = stops("the login", "the site redirects more than ten times", "People do not come back to the app.", "", "docs/guides/login-page.md")
	return "", "", problem
}

// open sends a request with the headers of the person, if it is for the issuer. A login elsewhere is not for a check.
func (p *signedInUser) open(method, target string, form url.Values) (*answer, error) {
	to, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	issuer, err := url.Parse(p.issuer.URL)
	if err != nil {
		return nil, err
	}
	if to.Scheme != issuer.Scheme || to.Host != issuer.Host {
		return nil, fmt.Errorf("the headers of --as-user do not sign anybody in: the site redirects to %s://%s%s", to.Scheme, to.Host, to.Path)
	}
	asked := *p.live
	asked.http = &p.browser
	return asked.ask(method, target, form, append(slices.Clone(p.header), "Origin", issuer.Scheme+"://"+issuer.Host)...)
}

// decision returns where the form of a consent page goes, and its fields; nil if the answer is none.
func decision(found *answer) (action *url.URL, fields url.Values) {
	if found.StatusCode != http.StatusOK {
		return nil, nil
	}
	decides := false
	for t := html.NewTokenizer(strings.NewReader(string(found.body))); ; {
		if t.Next() == html.ErrorToken {
			break
		}
		token := t.Token()
		attributes := make(map[string]string)
		for _, a := range token.Attr {
			attributes[a.Key] = a.Val
		}
		switch {
		case token.Type == html.EndTagToken && token.Data == "form" && decides:
			return action, fields
		case token.Type == html.EndTagToken:
		case token.Data == "form":
			action, _ = found.Request.URL.Parse(attributes["action"])
			fields, decides = make(url.Values), false
		case fields != nil && token.Data == "input" && attributes["type"] == "hidden":
			fields.Set(attributes["name"], attributes["value"])
		case fields != nil && attributes["name"] == "decision":
			decides = true
		}
	}
	return nil, nil
}

// authorized returns the code in the parameters of an authorization response.
func authorized(params url.Values, state, issuer string) (string, *Finding) {
	switch {
	case params.Has("error"):
		_, problem := stops("the authorize endpoint", params.Get("error")+": "+params.Get("error_description"),
			"The app gets an error. Look at it with: caddy oauth explain "+params.Get("error_id"), "", "docs/troubleshooting.md")
		return "", problem
	case params.Get("code") == "" || params.Get("state") != state || params.Has("iss") && params.Get("iss") != issuer:
		_, problem := stops("the authorize endpoint", "the answer lacks the code, or has another state or issuer", "The app refuses it.", "", "")
		return "", problem
	}
	return params.Get("code"), nil
}

// grantedTokens is a token response.
type grantedTokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Scope   string `json:"scope"`
}

// exchange redeems the code of a client without a secret.
func (p *testClient) exchange(code, redirect, verifier string) (*grantedTokens, *Finding) {
	found, err := p.ask(http.MethodPost, p.metadata.Token, url.Values{
		"grant_type": {"authorization_code"}, "client_id": {p.id}, "code": {code}, "code_verifier": {verifier}, "redirect_uri": {redirect},
	})
	if err != nil {
		_, problem := unseen("the token endpoint", err)
		return nil, problem
	}
	granted := new(grantedTokens)
	switch err := json.Unmarshal(found.body, granted); {
	case found.oauthError() == "invalid_dpop_proof":
		_, problem := unseen("the token endpoint", errors.New("this client must prove that it has a key (DPoP), which the check does not"))
		return nil, problem
	case found.StatusCode != http.StatusOK || err != nil || granted.Access == "":
		_, problem := stops("the token endpoint", fmt.Sprintf("the code is refused with status %d %s", found.StatusCode, found.oauthError()),
			"The app gets no tokens. Look at it with: caddy oauth explain", "", "docs/troubleshooting.md")
		return nil, problem
	}
	return granted, nil
}

// call calls an API behind each guard of the issuer that asks for no other scopes and no other audience than those of the token.
func (p *testClient) call(granted *grantedTokens) (called string, problem *Finding) {
	issuer, err := url.Parse(p.issuer.URL)
	if err != nil {
		return "", nil
	}
	scopes := strings.Fields(granted.Scope)
	if len(scopes) == 0 {
		scopes = p.client.Scopes // a response without scope has what was asked for (RFC 6749 §5.1)
	}
	for _, g := range p.config.Guards {
		target, ok := g.example(issuer)
		if !ok || !p.config.means(g.Issuer, p.issuer) || slices.ContainsFunc(g.Scopes, func(s string) bool { return !slices.Contains(scopes, s) }) {
			continue
		}
		if !p.meantFor(g, granted) {
			called += ", does not call what the guard " + g.name() + " protects, for which the token is not"
			continue
		}
		header, value := "Authorization", "Bearer "+granted.Access
		if g.TokenHeader != "" {
			header, value = g.TokenHeader, granted.Access
		}
		found, err := p.ask(http.MethodGet, target, nil, header, value)
		if err != nil {
			_, problem := unseen("guard "+g.name(), err)
			return called, problem
		}
		if found.Header.Get("WWW-Authenticate") != "" && (found.StatusCode == http.StatusUnauthorized || found.StatusCode == http.StatusForbidden) {
			_, problem := stops("the guard "+g.name(), fmt.Sprintf("%s answers with status %d to its token", target, found.StatusCode),
				"The app cannot use the API. Look at it with: caddy oauth explain", "", "docs/reference/oauth_guard.md")
			return called, problem
		}
		called += fmt.Sprintf(", gets past the guard %s (status %d)", g.name(), found.StatusCode)
	}
	return called, nil
}

// meantFor reports whether a token has an audience of a guard.
func (p *testClient) meantFor(g *guard, granted *grantedTokens) bool {
	byDefault := p.issuer.Audience
	if len(byDefault) == 0 {
		byDefault = []string{p.issuer.URL}
	}
	accepted := g.Audience
	switch {
	case g.MCP != nil && !p.issuer.gives(g.Resource): // clients can ask for it, although it is the audience of none
		accepted = append([]string{g.Resource}, accepted...)
		if len(g.Audience) == 0 && len(byDefault) == 1 {
			accepted = append(accepted, byDefault...)
		}
	case len(accepted) > 0:
	case g.Resource != "":
		accepted = []string{g.Resource}
	default:
		accepted = byDefault
	}
	has, readable := audience(granted.Access)
	switch {
	case readable && len(has) == 0:
		return true // with claims minimal, tokens are for every guard
	case !readable && len(p.client.Audience) > 0:
		has = p.client.Audience
	case !readable:
		has = byDefault
	}
	return slices.ContainsFunc(has, func(one string) bool { return slices.Contains(accepted, one) })
}

// gives reports whether tokens for a resource are those that the issuer or one of its clients has anyway.
func (i *issuer) gives(resource string) bool {
	if resource == i.URL && len(i.Audience) == 0 || slices.Contains(i.Audience, resource) {
		return true
	}
	for _, c := range i.Clients {
		if c != nil && slices.Contains(c.Audience, resource) {
			return true
		}
	}
	return false
}

// audience returns the audience of an access token, and whether it is one that can be read (RFC 9068), and not opaque.
func audience(token string) (values []string, readable bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, false
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct {
		Audience json.RawMessage `json:"aud"`
	}
	if err != nil || json.Unmarshal(text, &claims) != nil {
		return nil, false
	}
	var one string
	if json.Unmarshal(claims.Audience, &one) == nil {
		return []string{one}, true
	}
	_ = json.Unmarshal(claims.Audience, &values) // without the claim, there is none
	return values, true
}

// revoke revokes the tokens, and returns a warning if that fails.
func (p *testClient) revoke(granted *grantedTokens) *Finding {
	for _, token := range []string{granted.Refresh, granted.Access} {
		if token == "" {
			continue
		}
		found, err := p.ask(http.MethodPost, p.metadata.Revoke, url.Values{"client_id": {p.id}, "token": {token}})
		if err == nil && found.StatusCode != http.StatusOK {
			err = fmt.Errorf("status %d %s", found.StatusCode, found.oauthError())
		}
		if err != nil {
			return &Finding{
				Verdict: Warning, Seen: "it gets its tokens, and cannot revoke them: " + err.Error(),
				Why: "The tokens of this check live on until they end. A person who signs out of the app would meet the same.", Read: "docs/troubleshooting.md",
			}
		}
	}
	return nil
}
