package caddyoauth

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/mtls"
	"github.com/caddy-oauth/caddy-oauth/internal/warning"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("oauth", parseApp)
}

// parseApp reads the global option:
//
//	oauth {
//		issuer [<name>] <url> {
//			scope          <name> [<description>] {
//				private
//				claims     <name...>
//				<language> <description>
//			}
//			unknown_scopes refuse|drop
//			dynamic [open|off|token <token...>] {
//				token     <token> {
//					uses  <number>
//					until <date>
//				}
//				redirects any|known
//				max       <number>
//				unused    <duration>
//				consent   always|once
//			}
//			audience       <uri...>
//			consent        once|always|never
//			consent_lifetime <duration>|never...
//			client_assertion_audience issuer|any
//			require_pushed_authorization_requests
//			require_signed_request_object
//			endpoint       authorize|token|jwks|introspect|revoke|revoke_user|apps|register|userinfo|device_authorization|device|logout|sessions|par <path>
//			dpop {
//				nonce required|none
//			}
//			mtls_endpoint_aliases <url>
//			client_cert_header    verified|unverified
//			page {
//				name     <name>
//				logo     <file>
//				color    <color>
//				support  <url>
//				privacy  <url>
//				language <language> <file>
//				template apps|code|consent|device|error|form_post|logout <file>
//			}
//			code {
//				lifetime <duration>
//				prefix   <text>
//			}
//			access_token {
//				lifetime <duration>
//				format   jwt|opaque
//				prefix   <text>
//				length   <number>
//				claims   rfc9068|minimal
//				typ      at+jwt|JWT
//				rename   <claim> <name>
//			}
//			refresh_token {
//				lifetime <duration>|never
//				idle     <duration>|never
//				rotate   always|never
//				retry    <duration>|0|unused
//				prefix   <text>
//				length   <number>
//			}
//			refresh_check <url> {
//				every   <duration>
//				claims  <member...>
//				timeout <duration>
//			}
//			revocation_poll <duration>
//			throttle [off] {
//				clients   <failures> <duration>
//				passwords <failures> <duration>
//				addresses <failures> <duration>
//				tokens    <failures> <duration>
//				devices   <number> <duration>
//				pushed    <number> <duration>
//				codes     <number> <duration> [<number> <duration>]
//			}
//			signing [<algorithm>] {
//				rotate    <duration>|never
//				jwks_file <file>
//			}
//			store <module> ...
//			read_only
//			encryption_key [off] <key...>
//			grant <module> ...
//			openid {
//				id_token_signed_response_alg <algorithm>
//				claims_in                    userinfo|id_token
//				subject_type                 public|pairwise
//				pairwise_salt                <salt>
//				logout_ends                  app|all
//				dynamic
//			}
//			mcp
//			cimd [off] {
//				allow   <host...>
//				deny    <host...>
//				consent once|always
//			}
//			client <id> {
//				name          <name>
//				logo          <file>
//				secret        <secret...>
//				secret_hash   <hash...>
//				jwks          <file>
//				jwks_uri      <url>
//				redirect_uris <uri...>
//				profile       fapi2
//				grant_types   <grant type...>
//				scopes        <scope...>
//				audience      <uri...>
//				ends_sessions
//				revokes_users {
//					iss <url...>
//					email
//				}
//				introspects   <uri...>|*
//				exchange      from <uri> to <uri> [<scope...>]
//				consent       once|always|never
//				consent_lifetime <duration>|never...
//				pkce          required|optional
//				iss           on|off
//				dpop_bound_access_tokens
//				tls_client_auth subject_dn|san_dns|san_uri|san_ip|san_email <name>
//				self_signed_tls_client_auth [<file...>]
//				tls_client_certificate_bound_access_tokens
//				id_token_signed_response_alg <algorithm>
//				userinfo_signed_response_alg <algorithm>
//				claims_in     userinfo|id_token
//				subject_type  public|pairwise
//				sector_identifier_uri <url>
//				default_max_age <duration>
//				require_auth_time
//				post_logout_redirect_uris <uri...>
//				backchannel_logout_uri    <url>
//				backchannel_logout_session_required
//				allow_insecure_redirects
//				require_pushed_authorization_requests
//				require_signed_request_object
//				request_object_signing_alg <algorithm>
//				access_token {
//					lifetime <duration>
//				}
//				refresh_token      { ... }
//				redirect_uri_rules { ... }
//			}
//
//			request_body         form|json...
//			client_secret_header <name>
//			grant_alias          <alias> <grant type>
//			redirect_uri_rules {
//				authorize optional|required
//				code      as_sent|required|optional
//				refresh   ignored|as_sent|required|optional
//			}
//			token_response {
//				token_type   <text>
//				members      <name...>
//				expires_in   number|string
//				content_type <media type>
//			}
//			errors [oauth|problem] {
//				<situation or error code> <code> <text> [<status>]
//				documentation <url> [<media type>]
//				id            body|header
//			}
//		}
//	}
func parseApp(d *caddyfile.Dispenser, existing any) (any, error) {
	d.Next()
	segment := d.NextSegment()
	p := parser{directive.New(caddyfile.NewDispenser(segment))}
	if existing != nil {
		return nil, p.Err("oauth: expected all issuers in one block, and this is the second")
	}
	if _, err := p.Args("oauth", "a block in braces", 0, 0); err != nil {
		return nil, err
	}
	app := &App{Issuers: make(map[string]*Issuer)}
	if err := p.Block(directive.Settings{"issuer": p.issuer(app)}); err != nil {
		return nil, err
	}
	if len(app.Issuers) == 0 {
		return nil, p.Err("oauth: expected an issuer, such as: issuer https://example.com { ... }")
	}
	if err := app.check(); err != nil {
		return nil, p.Locate(err)
	}
	lines := directive.Lines(segment)
	app.configured = slices.Sorted(maps.Keys(app.Issuers))
	for _, name := range app.configured {
		warning.Adapted(p.Parser, app.Issuers[name].mistakes("issuer "+name))
		for _, line := range lines[0].Block {
			if len(line.Words) > 1 && line.Words[len(line.Words)-1] == app.Issuers[name].URL {
				warning.Adapted(p.Parser, inlineSecrets(app.Issuers[name].URL, line.Block))
			}
		}
	}
	warning.Adapted(p.Parser, missing(lines))
	warning.Adapted(p.Parser, unserved(app, lines))
	return httpcaddyfile.App{Name: "oauth", Value: caddyconfig.JSON(app, nil)}, nil
}

func (p parser) issuer(app *App) directive.Setting {
	return func(string) error {
		args, err := p.Args("issuer", "a URL, or a name and a URL", 1, 2)
		if err != nil {
			return err
		}
		name, issuer := DefaultIssuer, &Issuer{URL: args[len(args)-1]}
		if len(args) == 2 {
			name = args[0]
		}
		app.Issuers[name] = issuer
		return p.Under("issuer "+name, func() error { return p.Block(p.issuerSettings(issuer)) })
	}
}

func (p parser) issuerSettings(i *Issuer) directive.Settings {
	return directive.Settings{
		"scope":          p.scope(i),
		"unknown_scopes": p.Word("refuse or drop", &i.UnknownScopes),
		"dynamic":        p.dynamic(i),
		"audience":       p.Words("one URI or more", &i.Audience),
		"client":         p.client(i),
		"mcp":            p.Flag(&i.MCP),
		"cimd":           p.cimd(i),
		"openid":         p.openID(i),
		"consent":        p.Word("once, always or never", (*string)(&i.Consent)),

		"consent_lifetime": p.lifetimes(&i.ConsentLifetime),

		"client_assertion_audience": p.Word("issuer or any", &i.ClientAssertionAudience),

		"dpop":                                  p.dpop(i),
		"require_pushed_authorization_requests": p.Flag(&i.RequirePushed),
		"require_signed_request_object":         p.Flag(&i.RequireSigned),

		"mtls_endpoint_aliases": p.Word("a URL", &i.MTLSEndpointAliases),
		"client_cert_header":    p.Word("verified or unverified", &i.ClientCertHeader),

		"page":            p.page(i),
		"endpoint":        p.endpoint(i),
		"code":            p.code(i),
		"access_token":    p.accessToken(i),
		"refresh_token":   p.refreshToken(&i.RefreshToken),
		"refresh_check":   p.refreshCheck(i),
		"revocation_poll": p.lifetime((*Lifetime)(&i.RevocationPoll)),
		"throttle":        p.throttle(i),
		"signing":         p.signing(i),
		"grant":           p.grant(i),
		"store":           p.store(i),
		"read_only":       p.Flag(&i.ReadOnly),
		"encryption_key":  p.encryptionKey(i),

		"request_body":         p.Words("form, json or both", &i.RequestBody),
		"client_secret_header": p.Word("the name of a header", &i.ClientSecretHeader),
		"grant_alias":          p.Pair("another name, in quotes if it has spaces, and a grant type", &i.GrantAliases),
		"redirect_uri_rules":   p.redirectURIRules(&i.RedirectURIRules),
		"token_response":       p.tokenResponse(i),
		"errors":               p.errors(i),
	}
}

func (p parser) scope(i *Issuer) directive.Setting {
	return p.Each("a name and, in quotes, a description", 1, 2, func(args []string) (directive.Settings, error) {
		scope := Scope{Name: args[0]}
		if len(args) == 2 {
			scope.Description = args[1]
		}
		i.Scopes = append(i.Scopes, scope)
		return p.scopeSettings(&i.Scopes[len(i.Scopes)-1]), nil
	})
}

// scopeSettings reads whether a scope is private, its claims, and its descriptions in other languages.
func (p parser) scopeSettings(scope *Scope) directive.Settings {
	claims := p.Words("one claim or more", &scope.Claims)
	return directive.Settings{"private": p.Flag(&scope.Private), "claims": claims, directive.AnyName: func(tag string) error {
		var description string
		if err := p.Word("a description, in quotes", &description)(tag); err != nil {
			return err
		}
		if scope.Languages == nil {
			scope.Languages = make(map[string]string)
		}
		scope.Languages[tag] = description
		return nil
	}}
}

func (p parser) dynamic(i *Issuer) directive.Setting {
	return p.Once("open, off, token and one token or more, or a block", 0, -1, func(args []string) (directive.Settings, error) {
		d := new(DynamicSettings)
		i.Dynamic = d
		if len(args) > 0 {
			d.Mode = args[0]
			for _, token := range args[1:] {
				d.Tokens = append(d.Tokens, InitialToken{Token: token})
			}
		}
		return directive.Settings{
			"token": p.Each("an initial access token", 1, 1, func(args []string) (directive.Settings, error) {
				d.Tokens = append(d.Tokens, InitialToken{Token: args[0]})
				token := &d.Tokens[len(d.Tokens)-1]
				return directive.Settings{
					"uses": p.Number(1, &token.Uses),
					"until": p.Once("a date, such as 2027-01-01", 1, 1, func(args []string) (directive.Settings, error) {
						token.Until = args[0]
						_, err := token.end()
						return nil, err
					}),
				}, nil
			}),
			"redirects": p.Word("any or known", &d.Redirects),
			"max":       p.Number(1, &d.Max),
			"unused":    p.lifetime(&d.Unused),
			"consent":   p.Word("always or once", (*string)(&d.Consent)),
		}, nil
	})
}

func (p parser) client(i *Issuer) directive.Setting {
	return p.Each("a client ID", 1, 1, func(args []string) (directive.Settings, error) {
		c := new(Client)
		if i.Clients == nil {
			i.Clients = make(map[string]*Client)
		}
		i.Clients[args[0]] = c
		return directive.Settings{
			"name":          p.Word("a name, in quotes if it has spaces", &c.Name),
			"logo":          p.Word("a file", &c.Logo),
			"secret":        p.Words("one secret or more", &c.Secrets),
			"secret_hash":   p.Words("one hash or more", &c.SecretHashes),
			"jwks":          p.Word("a file", &c.JWKSFile),
			"jwks_uri":      p.Word("a URL", &c.JWKSURI),
			"redirect_uris": p.Words("one URI or more", &c.RedirectURIs),
			"profile":       p.Word("fapi2", &c.Profile),
			"grant_types":   p.Words("one grant type or more", &c.GrantTypes),
			"scopes":        p.Words("one scope or more", &c.Scopes),
			"audience":      p.Words("one URI or more", &c.Audience),
			"ends_sessions": p.Flag(&c.EndsSessions),
			"revokes_users": p.revokesUsers(c),
			"introspects":   p.Words("one URI or more, or *", &c.Introspects),
			"exchange":      p.exchange(c),
			"consent":       p.Word("once, always or never", (*string)(&c.Consent)),

			"consent_lifetime": p.lifetimes(&c.ConsentLifetime),

			"access_token":  p.clientAccessToken(c),
			"refresh_token": p.refreshToken(&c.RefreshToken),
			"pkce":          p.Word("required or optional", &c.PKCE),
			"iss":           p.Word("on or off", &c.Iss),

			"id_token_signed_response_alg": p.Word("an algorithm, such as RS256", &c.IDTokenAlgorithm),
			"userinfo_signed_response_alg": p.Word("an algorithm, such as RS256", &c.UserinfoAlgorithm),
			"claims_in":                    p.Word("userinfo or id_token", &c.ClaimsIn),
			"subject_type":                 p.Word("public or pairwise", &c.SubjectType),
			"sector_identifier_uri":        p.Word("a URL", &c.SectorIdentifierURI),
			"default_max_age":              p.defaultMaxAge(c),
			"require_auth_time":            p.Flag(&c.RequireAuthTime),
			"post_logout_redirect_uris":    p.Words("URIs", &c.PostLogoutRedirectURIs),
			"backchannel_logout_uri":       p.Word("a URL", &c.BackchannelLogoutURI),

			"backchannel_logout_session_required": p.Flag(&c.BackchannelLogoutSessionRequired),

			"allow_insecure_redirects": p.Flag(&c.AllowInsecureRedirects),
			"dpop_bound_access_tokens": p.Flag(&c.DPoPBoundAccessTokens),

			"tls_client_auth":             p.tlsClientAuth(c),
			"self_signed_tls_client_auth": p.selfSigned(c),

			"tls_client_certificate_bound_access_tokens": p.Flag(&c.TLSClientCertificateBoundAccessTokens),

			"require_pushed_authorization_requests": p.Flag(&c.RequirePushed),
			"require_signed_request_object":         p.Flag(&c.RequireSigned),
			"request_object_signing_alg":            p.Word("an algorithm, such as ES256", &c.RequestAlgorithm),

			"redirect_uri_rules": p.redirectURIRules(&c.RedirectURIRules),
		}, nil
	})
}

// exchange parses one exchange rule. Its two resources identify it in errors and warnings, which name its line.
func (p parser) exchange(c *Client) directive.Setting {
	const expected = "from, a URI, to, a URI and, optionally, scopes"
	return func(string) error {
		args, err := p.Args("exchange", expected, 4, -1)
		if err != nil {
			return err
		}
		if args[0] != "from" || args[2] != "to" {
			return p.Errf("exchange: expected %s, not %s", expected, strings.Join(args, " "))
		}
		e := Exchange{From: args[1], To: args[3], Scopes: args[4:]}
		return p.Under(e.name(), func() error {
			c.Exchanges = append(c.Exchanges, e)
			return nil
		})
	}
}

func (p parser) revokesUsers(c *Client) directive.Setting {
	return p.Once("a block in braces or nothing", 0, 0, func([]string) (directive.Settings, error) {
		c.RevokesUsers = new(RevokesUsers)
		return directive.Settings{
			"iss":   p.Words("one URL or more", &c.RevokesUsers.Issuers),
			"email": p.Flag(&c.RevokesUsers.Email),
		}, nil
	})
}

func (p parser) tlsClientAuth(c *Client) directive.Setting {
	return p.Once("the kind of a name and the name, in quotes if it has spaces, such as san_dns app.example.com", 2, 2, func(args []string) (directive.Settings, error) {
		name := c.ClientCertificates.names()[args[0]]
		if name == nil {
			return nil, fmt.Errorf("expected %s, not %s%s", directive.OneOf(mtls.Kinds), args[0], directive.DidYouMean(args[0], mtls.Kinds))
		}
		*name = args[1]
		return nil, nil
	})
}

func (p parser) selfSigned(c *Client) directive.Setting {
	return p.Once("files, or nothing", 0, -1, func(files []string) (directive.Settings, error) {
		c.SelfSignedTLSClientAuth = &SelfSignedCertificates{Files: files}
		return nil, nil
	})
}

func (p parser) defaultMaxAge(c *Client) directive.Setting {
	return p.Once("a duration", 1, 1, func(args []string) (directive.Settings, error) {
		age, err := caddy.ParseDuration(args[0])
		if err != nil {
			age = -1 // which the check refuses
		}
		c.DefaultMaxAge = (*caddy.Duration)(&age)
		return nil, nil
	})
}

func (p parser) cimd(i *Issuer) directive.Setting {
	return p.Once("nothing more than off", 0, 1, func(args []string) (directive.Settings, error) {
		i.CIMD = new(CIMDSettings)
		if len(args) > 0 {
			if args[0] != "off" {
				return nil, fmt.Errorf("expected off or a block in braces, not %s", args[0])
			}
			i.CIMD.Off = true
		}
		return directive.Settings{
			"allow":   p.Words("one host or more", &i.CIMD.Allow),
			"deny":    p.Words("one host or more", &i.CIMD.Deny),
			"consent": p.Word("once or always", (*string)(&i.CIMD.Consent)),
		}, nil
	})
}
