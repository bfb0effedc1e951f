package grants

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"

	"github.com/caddy-oauth/caddy-oauth/internal/secretcache"
)

func init() {
	caddy.RegisterModule(new(Password))
}

// Password exchanges a person's user name and password for tokens (RFC 6749 §4.3).
//
// **Danger:** people give their passwords to the client. OAuth 2.1 has no such grant. Use it only for clients that already
// work this way, and move them to the authorization code flow. The number of wrong passwords is limited (see `throttle`).
//
// Either provider or verify checks the passwords.
type Password struct {
	// A Caddy authentication provider that checks HTTP Basic credentials, such as `http_basic`, which the directive
	// `basic_auth` uses.
	ProviderRaw json.RawMessage `json:"provider,omitempty" caddy:"namespace=http.authentication.providers inline_key=provider"`

	// An endpoint of the site that checks them.
	Verify *SiteLogin `json:"verify,omitempty"`

	verifier Verifier
}

// CaddyModule returns the Caddy module information.
func (*Password) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "oauth.grants.password",
		New: func() caddy.Module { return new(Password) },
	}
}

// Provision prepares the verifier of the passwords.
func (p *Password) Provision(ctx caddy.Context) error {
	ctx.Logger().Warn("the password grant is on: clients handle people's passwords (RFC 9700 section 2.4 forbids it); " +
		"use it only for clients that cannot use the code flow yet")
	switch {
	case (p.ProviderRaw == nil) == (p.Verify == nil):
		return errors.New("password: expected either a provider or verify")
	case p.Verify != nil:
		p.verifier = p.Verify
		return p.Verify.provision()
	}
	module, err := ctx.LoadModule(p, "ProviderRaw")
	if err != nil {
		return err
	}
	asked := provider{module.(caddyauth.Authenticator)}
	p.verifier = asked
	if _, ok := module.(*caddyauth.HTTPBasicAuth); ok {
		p.verifier = accounts{asked, secretcache.New(maxRecalled)}
	}
	return nil
}

// Type implements Grant.
func (*Password) Type() string { return "password" }

// ProvideVerifier implements VerifierProvider.
func (p *Password) ProvideVerifier() Verifier { return p.verifier }

// ErrBadUser is a wrong user name or a wrong password. It does not say which.
var ErrBadUser = &Error{Code: InvalidGrant, Description: "user name or password is wrong", Situation: BadUser}

// Exchange implements Grant.
func (*Password) Exchange(ctx context.Context, req *Request) (*Authorization, error) {
	for _, parameter := range []string{"username", "password"} {
		if !req.Form.Has(parameter) {
			return nil, Refuse(InvalidRequest, parameter+" is missing")
		}
	}
	scope := req.Form.Get("scope")
	scopes, audience, err := req.choose(scope, AllowedScopes(req.Client, scope), req.Client.Audience, req.otherResources()...)
	if err != nil {
		return nil, err
	}
	person, err := req.Verifier.Verify(ctx, req.Form.Get("username"), req.Form.Get("password"))
	if err != nil {
		return nil, err
	}
	return &Authorization{
		Subject:  person.Subject,
		Scopes:   scopes,
		Audience: audience,
		Claims:   person.Claims,
		AuthTime: req.Now,
		Offline:  req.Client.MayUse("refresh_token"),
	}, nil
}

var (
	_ Grant             = (*Password)(nil)
	_ VerifierProvider  = (*Password)(nil)
	_ caddy.Provisioner = (*Password)(nil)
)

// provider asks a Caddy authentication provider, with a request that holds nothing but the credentials.
type provider struct{ caddyauth.Authenticator }

// Verify implements Verifier.
func (p provider) Verify(ctx context.Context, username, password string) (*Person, error) {
	if strings.Contains(username, ":") { // within Basic, the password would begin there (RFC 7617 §2)
		return nil, ErrBadUser
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	if err != nil {
		return nil, err
	}
	req.SetBasicAuth(username, password)
	user, ok, err := p.Authenticate(discardResponse{}, req)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, ErrBadUser
	case user.ID == "":
		return nil, errors.New("asking the authentication provider about a password: it accepted the password but returned no user ID")
	}
	person := &Person{Subject: user.ID}
	for name, value := range user.Metadata {
		if person.Claims == nil {
			person.Claims = make(map[string]any, len(user.Metadata))
		}
		person.Claims[name] = value
	}
	return person, nil
}

// maxRecalled is how many correct passwords a provider with slow hashes remembers.
const maxRecalled = 10_000

// accounts is a provider with a fixed list of names and slow hashes. The list never changes, so a password that was right once is
// remembered, and its hash is not computed again.
type accounts struct {
	provider
	right *secretcache.Cache
}

// Verify implements Verifier.
func (a accounts) Verify(ctx context.Context, username, password string) (*Person, error) {
	if a.right.Has(username, password) {
		return &Person{Subject: username}, nil
	}
	person, err := a.provider.Verify(ctx, username, password)
	if err == nil {
		a.right.Add(username, password)
	}
	return person, err
}

// discardResponse is a ResponseWriter that discards the challenge of a provider that rejects a password.
type discardResponse struct{}

func (discardResponse) Header() http.Header         { return make(http.Header) }
func (discardResponse) Write(b []byte) (int, error) { return len(b), nil }
func (discardResponse) WriteHeader(int)             {}
