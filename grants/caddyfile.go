package grants

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
)

// UnmarshalCaddyfile reads who checks the passwords, which is one of:
//
//	password {
//		basic_auth [bcrypt|argon2id] {
//			<user> <hash>
//		}
//		verify <url> {
//			body    form|json
//			fields  <user name> <password>
//			subject <member>
//			claims  <member...>
//			timeout <duration>
//		}
//		provider <module> ...
//	}
func (p *Password) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	in := directive.New(d)
	if _, err := in.Args("password", "a block in braces", 0, 0); err != nil {
		return err
	}
	err := in.Block(directive.Settings{
		"basic_auth": func(name string) error { return p.one(in, name, p.parseAccounts) },
		"verify":     func(name string) error { return p.one(in, name, p.parseVerify) },
		"provider":   func(name string) error { return p.one(in, name, p.parseProvider) },
	})
	if err != nil {
		return err
	}
	if p.ProviderRaw == nil && p.Verify == nil {
		return in.Err("password: expected basic_auth, verify or provider")
	}
	return nil
}

// one reads a setting, unless the block has another already.
func (p *Password) one(in *directive.Parser, name string, parse func(*directive.Parser) error) error {
	if p.ProviderRaw != nil || p.Verify != nil {
		return in.Errf("%s: expected only one of basic_auth, verify and provider", name)
	}
	return in.Under(name, func() error { return parse(in) })
}

// parseAccounts reads accounts as the basic_auth directive does.
func (p *Password) parseAccounts(in *directive.Parser) error {
	args, err := in.Args("basic_auth", "bcrypt, argon2id or nothing", 0, 1)
	if err != nil {
		return err
	}
	hash := "bcrypt"
	if len(args) == 1 {
		hash = args[0]
	}
	if _, err := caddy.GetModule("http.authentication.hashes." + hash); err != nil {
		return in.Errf("basic_auth: expected bcrypt or argon2id, not %s", hash)
	}
	auth := caddyauth.HTTPBasicAuth{
		HashRaw:   caddyconfig.JSON(map[string]string{"algorithm": hash}, nil),
		HashCache: new(caddyauth.Cache),
	}
	for nesting := in.Nesting(); in.NextBlock(nesting); {
		account := caddyauth.Account{Username: in.Val()}
		args, err := in.Args("basic_auth", "a user name and a hash that caddy hash-password prints", 1, 1)
		if err != nil {
			return err
		}
		account.Password = args[0]
		auth.AccountList = append(auth.AccountList, account)
	}
	if len(auth.AccountList) == 0 {
		return in.Err("basic_auth: expected at least one account")
	}
	p.ProviderRaw = caddyconfig.JSONModuleObject(auth, "provider", "http_basic", nil)
	return nil
}

func (p *Password) parseProvider(in *directive.Parser) error {
	if !in.NextArg() {
		return in.Err("provider: expected the name of a module, got nothing")
	}
	name := in.Val()
	provider, err := caddyfile.UnmarshalModule(in.Dispenser, "http.authentication.providers."+name)
	if err != nil {
		return err
	}
	p.ProviderRaw = caddyconfig.JSONModuleObject(provider, "provider", name, nil)
	return nil
}

func (p *Password) parseVerify(in *directive.Parser) error {
	args, err := in.Args("verify", "a URL to post to", 1, 1)
	if err != nil {
		return err
	}
	s := &SiteLogin{URL: args[0]}
	p.Verify = s
	err = in.Block(directive.Settings{
		"body": in.Word("form or json", &s.Body),
		"fields": in.Once("the names of user name and password", 2, 2, func(args []string) (directive.Settings, error) {
			s.UsernameField, s.PasswordField = args[0], args[1]
			return nil, nil
		}),
		"subject": in.Word("the name of a member", &s.Subject),
		"claims":  in.Words("one name or more", &s.Claims),
		"timeout": in.Duration(&s.Timeout),
	})
	if err != nil {
		return err
	}
	return in.Locate(s.Check())
}

var _ caddyfile.Unmarshaler = (*Password)(nil)
