package caddyoauth

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("oauth", parseApp)
	httpcaddyfile.RegisterHandlerDirective("oauth", parseHandler)
	httpcaddyfile.RegisterDirectiveOrder("oauth", httpcaddyfile.After, "encode")
}

// parseApp reads the global option:
//
//	oauth {
//		issuer [<name>] <url> {
//			scope        <name> [<what it is, in words>]
//			audience     <uri...>
//			consent      once|always|never
//			consent_page <file>
//			endpoint     authorize|token|jwks|introspect|revoke|apps <path>
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
//			revocation_poll <duration>
//			throttle [off] {
//				clients   <failures> <duration>
//				passwords <failures> <duration>
//				addresses <failures> <duration>
//				tokens    <failures> <duration>
//			}
//			signing [<algorithm>] {
//				rotate    <duration>|never
//				jwks_file <file>
//			}
//			store <module> ...
//			read_only
//			encryption_key [off] <key...>
//			grant <module> ...
//			client <id> {
//				name          <name>
//				secret        <secret...>
//				secret_hash   <hash...>
//				redirect_uris <uri...>
//				grant_types   <grant type...>
//				scopes        <scope...>
//				audience      <uri...>
//				introspects   <uri...>|*
//				consent       once|always|never
//				pkce          required|optional
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
	p := newParser(d)
	p.Next()
	if existing != nil {
		return nil, p.Err("oauth: expected one block with all issuers, and there is one already")
	}
	app := &App{Issuers: make(map[string]*Issuer)}
	if _, err := p.args("oauth", "a block in braces", 0, 0); err != nil {
		return nil, err
	}
	if err := p.block(settings{"issuer": func() error { return p.issuer(app) }}); err != nil {
		return nil, err
	}
	if len(app.Issuers) == 0 {
		return nil, p.Err("oauth: expected an issuer, such as: issuer https://example.com { ... }")
	}
	if err := app.check(); err != nil {
		return nil, p.locate(err)
	}
	return httpcaddyfile.App{Name: "oauth", Value: caddyconfig.JSON(app, nil)}, nil
}

func (p *parser) issuer(app *App) error {
	args, err := p.args("issuer", "a URL, or a name and a URL", 1, 2)
	if err != nil {
		return err
	}
	name, issuer := DefaultIssuer, &Issuer{URL: args[len(args)-1]}
	if len(args) == 2 {
		name = args[0]
	}
	app.Issuers[name] = issuer
	return p.under("issuer "+name, func() error {
		return p.block(settings{
			"scope":         func() error { return p.scope(issuer) },
			"audience":      p.words("audience", "one URI or more", &issuer.Audience),
			"consent":       p.word("consent", "once, always or never", (*string)(&issuer.Consent)),
			"consent_page":  p.word("consent_page", "a file", &issuer.ConsentPage),
			"endpoint":      func() error { return p.endpoint(issuer) },
			"code":          func() error { return p.code(issuer) },
			"access_token":  func() error { return p.accessToken(issuer) },
			"refresh_token": func() error { return p.refreshToken(&issuer.RefreshToken) },
			"signing":       func() error { return p.signing(issuer) },
			"store":         func() error { return p.store(issuer) },
			"grant":         func() error { return p.grant(issuer) },
			"client":        func() error { return p.client(issuer) },

			"read_only":            p.flag("read_only", &issuer.ReadOnly),
			"encryption_key":       func() error { return p.encryptionKey(issuer) },
			"revocation_poll":      p.lifetime("revocation_poll", (*Lifetime)(&issuer.RevocationPoll)),
			"throttle":             func() error { return p.throttle(issuer) },
			"request_body":         p.words("request_body", "form, json or both", &issuer.RequestBody),
			"client_secret_header": p.word("client_secret_header", "the name of a header", &issuer.ClientSecretHeader),
			"grant_alias":          func() error { return p.grantAlias(issuer) },
			"redirect_uri_rules":   func() error { return p.redirectRules(&issuer.RedirectURIRules) },
			"token_response":       func() error { return p.tokenResponse(issuer) },
			"errors":               func() error { return p.errors(issuer) },
		})
	})
}

func (p *parser) scope(issuer *Issuer) error {
	args, err := p.args("scope", "a name and, in quotes, what it is in words", 1, 2)
	if err != nil {
		return err
	}
	scope := Scope{Name: args[0]}
	if len(args) == 2 {
		scope.Description = args[1]
	}
	issuer.Scopes = append(issuer.Scopes, scope)
	return p.under("scope "+scope.Name, func() error { return nil })
}

func (p *parser) endpoint(issuer *Issuer) error {
	args, err := p.args("endpoint", "the name of an endpoint and a path", 2, 2)
	if err != nil {
		return err
	}
	if issuer.Endpoints == nil {
		issuer.Endpoints = new(Endpoints)
	}
	endpoints := issuer.Endpoints.byName()
	path, ok := endpoints[args[0]]
	if !ok {
		return p.Errf("unknown endpoint %q, expected %s", args[0], oneOf(slices.Sorted(maps.Keys(endpoints))))
	}
	*path = args[1]
	return p.under("endpoint "+args[0], func() error { return nil })
}

func (p *parser) signing(issuer *Issuer) error {
	s := new(Signing)
	issuer.Signing = s
	return p.under("signing", func() error {
		args, err := p.args("signing", "an algorithm, a block, or both", 0, 1)
		if err != nil {
			return err
		}
		if len(args) == 1 {
			s.Algorithm = args[0]
		}
		return p.block(settings{
			"rotate":    p.lifetime("rotate", &s.Rotate),
			"jwks_file": p.word("jwks_file", "a file", &s.JWKSFile),
		})
	})
}

func (p *parser) store(issuer *Issuer) error {
	return p.under("store", func() error {
		name, value, err := p.module("store", "oauth.stores.")
		if err == nil {
			issuer.StoreRaw = caddyconfig.JSONModuleObject(value, "store", name, nil)
		}
		return err
	})
}

func (p *parser) encryptionKey(issuer *Issuer) error {
	return p.under("encryption_key", func() error {
		keys, err := p.args("encryption_key", "one key or more, or off and one key or more", 1, -1)
		if err != nil {
			return err
		}
		issuer.Encryption = new(EncryptionSettings)
		if keys[0] == "off" {
			issuer.Encryption.Off, keys = true, keys[1:]
		}
		issuer.Encryption.Keys = keys
		return nil
	})
}

func (p *parser) grant(issuer *Issuer) error {
	name, value, err := p.module("grant", "oauth.grants.")
	if err != nil {
		return err
	}
	if issuer.GrantsRaw == nil {
		issuer.GrantsRaw = make(caddy.ModuleMap)
	}
	issuer.GrantsRaw[name] = caddyconfig.JSON(value, nil)
	return p.under("grant "+name, func() error { return nil })
}

// module reads the name of a module and, if it takes some, its settings.
func (p *parser) module(setting, namespace string) (name string, value any, err error) {
	if !p.NextArg() {
		return "", nil, p.Errf("%s: expected the name of a module, got nothing", setting)
	}
	name = p.Val()
	info, err := caddy.GetModule(namespace + name)
	if err != nil {
		return "", nil, p.Errf("%s: expected a module that caddy list-modules shows, and %s%s is none", setting, namespace, name)
	}
	module := info.New()
	if unmarshaler, ok := module.(caddyfile.Unmarshaler); ok {
		return name, module, unmarshaler.UnmarshalCaddyfile(p.NewFromNextSegment())
	}
	if _, err := p.args(setting+" "+name, "nothing more", 0, 0); err != nil {
		return "", nil, err
	}
	return name, json.RawMessage("{}"), p.block(nil)
}

func (p *parser) client(issuer *Issuer) error {
	args, err := p.args("client", "a client ID", 1, 1)
	if err != nil {
		return err
	}
	id, c := args[0], new(Client)
	return p.under("client "+id, func() error {
		if issuer.Clients == nil {
			issuer.Clients = make(map[string]*Client)
		}
		issuer.Clients[id] = c
		return p.block(settings{
			"name":          p.word("name", "a name, in quotes if it has spaces", &c.Name),
			"secret":        p.words("secret", "one secret or more", &c.Secrets),
			"secret_hash":   p.words("secret_hash", "one hash or more", &c.SecretHashes),
			"redirect_uris": p.words("redirect_uris", "one URI or more", &c.RedirectURIs),
			"grant_types":   p.words("grant_types", "one grant type or more", &c.GrantTypes),
			"scopes":        p.words("scopes", "one scope or more", &c.Scopes),
			"audience":      p.words("audience", "one URI or more", &c.Audience),
			"introspects":   p.words("introspects", "one URI or more, or *", &c.Introspects),
			"consent":       p.word("consent", "once, always or never", (*string)(&c.Consent)),
			"access_token":  func() error { return p.clientAccessToken(c) },
			"refresh_token": func() error { return p.refreshToken(&c.RefreshToken) },
			"pkce":          p.word("pkce", "required or optional", &c.PKCE),

			"redirect_uri_rules": func() error { return p.redirectRules(&c.RedirectURIRules) },
		})
	})
}

// parseHandler reads the directive:
//
//	oauth [<matcher>] [<issuer>] {
//		user  <placeholder>
//		claim <name> <placeholder>
//		login <url> [<parameter>]
//	}
func parseHandler(helper httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	p := newParser(helper.Dispenser)
	p.Next()
	args, err := p.args("oauth", "the name of an issuer or nothing", 0, 1)
	if err != nil {
		return nil, err
	}
	h := new(Handler)
	if len(args) == 1 {
		h.Issuer = args[0]
	}
	err = p.block(settings{
		"user":  p.word("user", "a placeholder", &h.User),
		"claim": p.pair("claim", "a name and a placeholder", &h.Claims),
		"login": func() error { return p.login(h) },
	})
	if err != nil {
		return nil, err
	}
	return h, p.locate(h.check())
}

func (p *parser) login(h *Handler) error {
	return p.under("login", func() error {
		args, err := p.args("login", "the URL of a login page and, optionally, the name of its parameter", 1, 2)
		if err != nil {
			return err
		}
		h.Login = &Login{URL: args[0]}
		if len(args) == 2 {
			h.Login.Parameter = args[1]
		}
		return nil
	})
}
