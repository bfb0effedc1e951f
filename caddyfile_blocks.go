package caddyoauth

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/directive"
	"github.com/caddy-oauth/caddy-oauth/internal/siteblock"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// This file has the blocks of settings inside an issuer, and those about a site's login inside a directive. caddyfile.go has the issuer
// itself, its scopes, and who its clients are.

// parser parses the settings of this module. Each method returns the function that parses one setting. The grammar is
// above parseApp.
type parser struct{ *directive.Parser }

func (p parser) lifetime(value *Lifetime) directive.Setting {
	return p.Once("a duration", 1, 1, func(args []string) (_ directive.Settings, err error) {
		if *value, err = parseLifetime(args[0]); err != nil {
			return nil, fmt.Errorf("%w, not %s", err, args[0])
		}
		return nil, nil
	})
}

func (p parser) lifetimes(values *[]Lifetime) directive.Setting {
	return p.Once("one duration or more, or never", 1, -1, func(args []string) (directive.Settings, error) {
		for _, arg := range args {
			value, err := parseLifetime(arg)
			if err != nil {
				return nil, fmt.Errorf("%w, not %s", err, arg)
			}
			*values = append(*values, value)
		}
		return nil, nil
	})
}

func (p parser) openID(i *Issuer) directive.Setting {
	return p.Once("a block in braces or nothing", 0, 0, func([]string) (directive.Settings, error) {
		i.OpenID = new(OpenIDSettings)
		return directive.Settings{
			"id_token_signed_response_alg": p.Word("an algorithm, such as RS256", &i.OpenID.IDTokenAlgorithm),
			"claims_in":                    p.Word("userinfo or id_token", &i.OpenID.ClaimsIn),
			"subject_type":                 p.Word("public or pairwise", &i.OpenID.SubjectType),
			"dynamic":                      p.Flag(&i.OpenID.Dynamic),
			"pairwise_salt":                p.Word("a placeholder for at least 32 random characters", &i.OpenID.PairwiseSalt),
			"logout_ends":                  p.Word("app or all", &i.OpenID.LogoutEnds),
		}, nil
	})
}

func (p parser) dpop(i *Issuer) directive.Setting {
	return p.Nested(func() directive.Settings {
		i.DPoP = new(DPoPSettings)
		return directive.Settings{"nonce": p.Word("required or none", &i.DPoP.Nonce)}
	})
}

func (p parser) endpoint(i *Issuer) directive.Setting {
	return p.Each("the name of an endpoint and a path", 2, 2, func(args []string) (directive.Settings, error) {
		if i.Endpoints == nil {
			i.Endpoints = new(Endpoints)
		}
		endpoints := i.Endpoints.byName()
		path, ok := endpoints[args[0]]
		if !ok {
			names := slices.Sorted(maps.Keys(endpoints))
			return nil, fmt.Errorf("unknown endpoint%s, expected %s", directive.DidYouMean(args[0], names), directive.OneOf(names))
		}
		*path = args[1]
		return nil, nil
	})
}

func (p parser) code(i *Issuer) directive.Setting {
	return p.Nested(func() directive.Settings {
		i.Code = new(CodeSettings)
		return directive.Settings{
			"lifetime": p.lifetime(&i.Code.Lifetime),
			"prefix":   p.Word("a text", &i.Code.Prefix),
		}
	})
}

func (p parser) accessToken(i *Issuer) directive.Setting {
	return p.Nested(func() directive.Settings {
		a := new(AccessTokenSettings)
		i.AccessToken = a
		return directive.Settings{
			"lifetime": p.lifetime(&a.Lifetime),
			"format":   p.Word("jwt or opaque", &a.Format),
			"prefix":   p.Word("a text", &a.Prefix),
			"length":   p.Number(storage.MinTokenLength, &a.Length),
			"claims":   p.Word("rfc9068 or minimal", &a.Claims),
			"typ":      p.Word("at+jwt or JWT", &a.Type),
			"rename":   p.Pair("a claim and its other name", &a.Rename),
		}
	})
}

func (p parser) clientAccessToken(c *Client) directive.Setting {
	return p.Nested(func() directive.Settings {
		c.AccessToken = new(ClientAccessTokenSettings)
		return directive.Settings{"lifetime": p.lifetime(&c.AccessToken.Lifetime)}
	})
}

func (p parser) refreshToken(value **RefreshTokenSettings) directive.Setting {
	return p.Nested(func() directive.Settings {
		r := new(RefreshTokenSettings)
		*value = r
		return directive.Settings{
			"lifetime": p.lifetime(&r.Lifetime),
			"idle":     p.lifetime(&r.Idle),
			"rotate":   p.Word("always or never", &r.Rotate),
			"retry":    p.retry(r),
			"prefix":   p.Word("a text", &r.Prefix),
			"length":   p.Number(storage.MinTokenLength, &r.Length),
		}
	})
}

func (p parser) refreshCheck(i *Issuer) directive.Setting {
	return p.Once("a URL to post to", 1, 1, func(args []string) (directive.Settings, error) {
		c := &grants.RefreshCheck{URL: args[0]}
		i.RefreshCheck = c
		return directive.Settings{
			"every":   p.Duration(&c.Every),
			"claims":  p.Words("one name or more", &c.Claims),
			"timeout": p.Duration(&c.Timeout),
		}, nil
	})
}

func (p parser) retry(r *RefreshTokenSettings) directive.Setting {
	return p.Once("a duration, 0 or unused", 1, 1, func(args []string) (directive.Settings, error) {
		retry, err := parseRetry(args[0])
		if err != nil {
			return nil, fmt.Errorf("%w, not %s", err, args[0])
		}
		r.Retry = &retry
		return nil, nil
	})
}

func (p parser) throttle(i *Issuer) directive.Setting {
	return p.Once("off, or a block in braces", 0, 1, func(args []string) (directive.Settings, error) {
		t := new(ThrottleSettings)
		i.Throttle = t
		if len(args) == 1 {
			if args[0] != "off" {
				return nil, fmt.Errorf("expected off, or a block in braces, not %s", args[0])
			}
			t.Off = true
		}
		known := directive.Settings{
			"devices": p.limits("a number of device codes and a duration, such as 60 10m", 1, func(number int, per caddy.Duration) {
				t.Devices = &CodeLimit{Codes: number, Per: per}
			}),
			"pushed": p.limits("a number of requests and a duration, such as 300 10m", 1, func(number int, per caddy.Duration) {
				t.Pushed = &RequestLimit{Requests: number, Per: per}
			}),
			"codes": p.limits("a number of codes and a duration, once or twice, such as 20 1m 200 24h", maxCodeLimits, func(number int, per caddy.Duration) {
				t.Codes = append(t.Codes, CodeLimit{Codes: number, Per: per})
			}),
		}
		for name, limit := range t.byName() {
			known[name] = p.limits("a number of failures and a duration, such as 10 5m", 1, func(number int, per caddy.Duration) {
				*limit = &FailureLimit{Failures: number, Per: per}
			})
		}
		return known, nil
	})
}

// limits reads up to most numbers, each of which is for a time.
func (p parser) limits(expected string, most int, add func(number int, per caddy.Duration)) directive.Setting {
	return p.Once(expected, 2, 2*most, func(args []string) (directive.Settings, error) {
		for pair := range slices.Chunk(args, 2) {
			number, per, err := numberPer(pair, expected)
			if err != nil {
				return nil, err
			}
			add(number, per)
		}
		return nil, nil
	})
}

// numberPer reads a number and a duration.
func numberPer(args []string, expected string) (number int, per caddy.Duration, err error) {
	if len(args) != 2 {
		return 0, 0, fmt.Errorf("expected %s, not %s", expected, strings.Join(args, " "))
	}
	number, err1 := strconv.Atoi(args[0])
	d, err2 := caddy.ParseDuration(args[1])
	if err1 != nil || err2 != nil {
		return 0, 0, fmt.Errorf("expected %s, not %s %s", expected, args[0], args[1])
	}
	return number, caddy.Duration(d), nil
}

func (p parser) signing(i *Issuer) directive.Setting {
	return p.Once("an algorithm, a block, or both", 0, 1, func(args []string) (directive.Settings, error) {
		i.Signing = new(Signing)
		if len(args) == 1 {
			i.Signing.Algorithm = args[0]
		}
		return directive.Settings{
			"rotate":    p.lifetime(&i.Signing.Rotate),
			"jwks_file": p.Word("a file", &i.Signing.JWKSFile),
		}, nil
	})
}

func (p parser) encryptionKey(i *Issuer) directive.Setting {
	return p.Once("one key or more, or off and one key or more", 1, -1, func(keys []string) (directive.Settings, error) {
		i.Encryption = new(EncryptionSettings)
		if keys[0] == "off" {
			i.Encryption.Off, keys = true, keys[1:]
		}
		i.Encryption.Keys = keys
		return nil, nil
	})
}

func (p parser) store(i *Issuer) directive.Setting {
	return func(string) error {
		return p.Under("store", func() error {
			name, value, err := p.module("store", "oauth.stores.")
			if err == nil {
				i.StoreRaw = caddyconfig.JSONModuleObject(value, "store", name, nil)
			}
			return err
		})
	}
}

func (p parser) grant(i *Issuer) directive.Setting {
	return func(string) error {
		own := p.Token()
		name, value, err := p.module("grant", "oauth.grants.")
		if err != nil {
			return err
		}
		if i.GrantsRaw == nil {
			i.GrantsRaw = make(caddy.ModuleMap)
		}
		i.GrantsRaw[name] = caddyconfig.JSON(value, nil)
		return p.UnderAt("grant "+name, own, func() error { return nil })
	}
}

// module reads the name of a module and, if the module has any, its settings.
func (p parser) module(setting, namespace string) (name string, value any, err error) {
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
	if _, err := p.Args(setting+" "+name, "nothing more", 0, 0); err != nil {
		return "", nil, err
	}
	return name, json.RawMessage("{}"), p.Block(nil)
}

func (p parser) redirectURIRules(value **RedirectURIRules) directive.Setting {
	return p.Nested(func() directive.Settings {
		r := new(RedirectURIRules)
		*value = r
		return directive.Settings{
			"authorize": p.Word("optional or required", &r.Authorize),
			"code":      p.Word("as_sent, required or optional", (*string)(&r.Code)),
			"refresh":   p.Word("ignored, as_sent, required or optional", (*string)(&r.Refresh)),
		}
	})
}

func (p parser) tokenResponse(i *Issuer) directive.Setting {
	return p.Nested(func() directive.Settings {
		t := new(TokenResponseSettings)
		i.TokenResponse = t
		return directive.Settings{
			"token_type":   p.Word("a text", &t.TokenType),
			"members":      p.Words("one name or more", &t.Members),
			"expires_in":   p.Word("number or string", &t.ExpiresIn),
			"content_type": p.Word("a media type, in quotes if it has spaces", &t.ContentType),
		}
	})
}

func (p parser) errors(i *Issuer) directive.Setting {
	return p.Once("oauth or problem, a block, or both", 0, 1, func(args []string) (directive.Settings, error) {
		e := new(ErrorSettings)
		i.Errors = e
		if len(args) == 1 {
			e.Format = args[0]
		}
		known := directive.Settings{
			"documentation": p.documentation(e),
			"id":            p.Word("body or header", &e.ID),
		}
		for _, name := range errorNames {
			known[name] = p.errorText(e, name)
		}
		return known, nil
	})
}

func (p parser) documentation(e *ErrorSettings) directive.Setting {
	return p.Once("a URL and, optionally, a media type", 1, 2, func(args []string) (directive.Settings, error) {
		e.Documentation = &Documentation{URL: args[0]}
		if len(args) == 2 {
			e.Documentation.Type = args[1]
		}
		return nil, nil
	})
}

func (p parser) errorText(e *ErrorSettings, name string) directive.Setting {
	return p.Once("an error code, a text in quotes and, optionally, a status", 2, 3, func(args []string) (directive.Settings, error) {
		text := ErrorText{Code: args[0], Text: args[1]}
		if len(args) == 3 {
			var err error
			if text.Status, err = strconv.Atoi(args[2]); err != nil {
				return nil, fmt.Errorf("expected a status from 400 to 599, not %s", args[2])
			}
		}
		if e.Texts == nil {
			e.Texts = make(map[string]ErrorText)
		}
		e.Texts[name] = text
		return nil, nil
	})
}

// page reads the settings of the pages.
func (p parser) page(i *Issuer) directive.Setting {
	return p.Nested(func() directive.Settings {
		s := new(PageSettings)
		i.Page = s
		return directive.Settings{
			"name":     p.Word("a name, in quotes if it has spaces", &s.Name),
			"logo":     p.Word("a file", &s.Logo),
			"color":    p.Word("a color, in quotes if it has spaces or #", &s.Color),
			"support":  p.Word("a URL or a path", &s.Support),
			"privacy":  p.Word("a URL or a path", &s.Privacy),
			"language": p.Pair("a language, such as nl, and a file", &s.Languages),
			"template": p.Pair("the name of a page and a file", &s.Templates),
		}
	})
}

// login reads the directives of a login as Caddy reads those of handle.
func (p parser) login(helper httpcaddyfile.Helper, h *Handler) directive.Setting {
	return func(name string) error {
		return p.Under(name, func() error {
			segment := p.NextSegment()
			if err := checkLogin(directive.Lines(segment)); err != nil {
				return err
			}
			inner := directive.New(caddyfile.NewDispenser(segment))
			args, err := inner.Args(name, "the URL of a login page and, optionally, the name of its parameter, directives in braces, or both", 0, 2)
			if err != nil {
				return err
			}
			h.Login = new(Login)
			for i, value := range []*string{&h.Login.URL, &h.Login.Parameter}[:len(args)] {
				*value = args[i]
			}
			inner.DeleteN(len(args))
			inner.Reset()
			block, err := httpcaddyfile.ParseSegmentAsSubroute(helper.WithDispenser(inner.Dispenser))
			if err != nil {
				return p.Locate(directive.At("oauth", directive.At(name, err)))
			}
			h.Login.Routes = block.(*caddyhttp.Subroute).Routes
			return nil
		})
	}
}

// checkLogin finds an oauth directive in a login.
func checkLogin(login []directive.Line) (err error) {
	siteblock.Walk(login, func(l directive.Line, around []directive.Line) {
		if err == nil && l.Words[0] == "oauth" && len(around) > 0 {
			err = fmt.Errorf("oauth: login: expected directives that find out who a person is, such as basic_auth and forward_auth, and not oauth, which runs them, at %s:%d", l.File, l.Number)
		}
	})
	return err
}

func (p parser) claim(h *Handler) directive.Setting {
	const expected = "a name, a placeholder and, optionally, list, number, boolean or json; after list, what stands between the values"
	return p.Each(expected, 2, 4, func(args []string) (directive.Settings, error) {
		claim := Claim{Value: args[1]}
		for n, value := range []*string{&claim.Type, &claim.Separator}[:len(args)-2] {
			*value = args[n+2]
		}
		if h.Claims == nil {
			h.Claims = make(map[string]Claim)
		}
		h.Claims[args[0]] = claim
		return nil, nil
	})
}

func (p parser) session(h *Handler) directive.Setting {
	return p.Nested(func() directive.Settings {
		h.Session = new(Session)
		return directive.Settings{
			"auth_time": p.Word("a placeholder", &h.Session.AuthTime),
			"acr": p.Once("a placeholder and, optionally, the values that it can have, lowest first", 1, -1, func(args []string) (directive.Settings, error) {
				h.Session.ACR, h.Session.ACRValues = args[0], args[1:]
				return nil, nil
			}),
			"amr":            p.Word("a placeholder", &h.Session.AMR),
			"sid":            p.Word("a placeholder", &h.Session.SID),
			"reauthenticate": p.sitePage(&h.Session.Reauthenticate),
			"logout":         p.sitePage(&h.Session.Logout),
		}
	})
}

// sitePage reads the URL of a page and the name of its parameter.
func (p parser) sitePage(page **SitePage) directive.Setting {
	return p.Once("the URL or the path of a page and, optionally, the name of its parameter", 1, 2, func(args []string) (directive.Settings, error) {
		*page = &SitePage{URL: args[0]}
		if len(args) > 1 {
			(*page).Parameter = args[1]
		}
		return nil, nil
	})
}
