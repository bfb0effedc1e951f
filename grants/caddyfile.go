package grants

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/caddyauth"
)

// UnmarshalCaddyfile reads who knows the passwords, which is one of:
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
	d.Next()
	if d.NextArg() {
		return d.Errf("password: expected a block in braces, not %s", d.Val())
	}
	for d.NextBlock(0) {
		if p.ProviderRaw != nil || p.Verify != nil {
			return d.Errf("password: expected one of basic_auth, verify and provider, and here is %s too", d.Val())
		}
		var err error
		switch d.Val() {
		case "basic_auth":
			err = p.parseAccounts(d)
		case "verify":
			err = p.parseVerify(d)
		case "provider":
			err = p.parseProvider(d)
		default:
			err = d.Errf("unknown setting %q, expected one of: basic_auth, provider, verify", d.Val())
		}
		if err != nil {
			return err
		}
	}
	if p.ProviderRaw == nil && p.Verify == nil {
		return d.Err("password: expected basic_auth, verify or provider, which say who knows the passwords")
	}
	return nil
}

// parseAccounts reads accounts as the basic_auth directive does.
func (p *Password) parseAccounts(d *caddyfile.Dispenser) error {
	hash := "bcrypt"
	switch args := d.RemainingArgs(); len(args) {
	case 0:
	case 1:
		hash = args[0]
	default:
		return d.Errf("basic_auth: expected bcrypt, argon2id or nothing, got %d arguments", len(args))
	}
	if _, err := caddy.GetModule("http.authentication.hashes." + hash); err != nil {
		return d.Errf("basic_auth: expected bcrypt or argon2id, not %s", hash)
	}
	auth := caddyauth.HTTPBasicAuth{
		HashRaw:   caddyconfig.JSON(map[string]string{"algorithm": hash}, nil),
		HashCache: new(caddyauth.Cache),
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		account := caddyauth.Account{Username: d.Val()}
		args := d.RemainingArgs()
		if len(args) != 1 || args[0] == "" {
			return d.Errf("basic_auth: expected a user name and a hash that caddy hash-password prints")
		}
		account.Password = args[0]
		auth.AccountList = append(auth.AccountList, account)
	}
	if len(auth.AccountList) == 0 {
		return d.Err("basic_auth: expected an account at least")
	}
	p.ProviderRaw = caddyconfig.JSONModuleObject(auth, "provider", "http_basic", nil)
	return nil
}

func (p *Password) parseProvider(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.Err("provider: expected the name of a module, got nothing")
	}
	name := d.Val()
	provider, err := caddyfile.UnmarshalModule(d, "http.authentication.providers."+name)
	if err != nil {
		return err
	}
	p.ProviderRaw = caddyconfig.JSONModuleObject(provider, "provider", name, nil)
	return nil
}

func (p *Password) parseVerify(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 1 {
		return d.Errf("verify: expected a URL to post to, got %d arguments", len(args))
	}
	s := &SiteLogin{URL: args[0]}
	p.Verify = s
	if err := s.Check(); err != nil {
		return d.WrapErr(err)
	}
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		setting := d.Val()
		if seen[setting] {
			return d.Errf("%s: duplicate setting", setting)
		}
		seen[setting] = true
		if err := s.parse(d, setting, d.RemainingArgs()); err != nil {
			return err
		}
		if err := s.Check(); err != nil {
			return d.WrapErr(err)
		}
	}
	return nil
}

// parse reads a setting of verify.
func (s *SiteLogin) parse(d *caddyfile.Dispenser, setting string, args []string) error {
	expected := map[string]string{
		"body": "form or json", "fields": "the names of user name and password", "subject": "the name of a member",
		"claims": "one name or more", "timeout": "a duration",
	}[setting]
	switch {
	case setting == "fields" && len(args) == 2:
		s.UsernameField, s.PasswordField = args[0], args[1]
	case setting == "claims" && len(args) > 0:
		s.Claims = args
	case setting == "body" && len(args) == 1:
		s.Body = args[0]
	case setting == "subject" && len(args) == 1:
		s.Subject = args[0]
	case setting == "timeout" && len(args) == 1:
		timeout, err := caddy.ParseDuration(args[0])
		if err != nil || timeout <= 0 {
			return d.Errf("timeout: expected a duration, not %s", args[0])
		}
		s.Timeout = caddy.Duration(timeout)
	case expected == "":
		return d.Errf("unknown setting %q, expected one of: body, claims, fields, subject, timeout", setting)
	default:
		return d.Errf("%s: expected %s, got %d arguments", setting, expected, len(args))
	}
	return nil
}

var _ caddyfile.Unmarshaler = (*Password)(nil)
