package caddyoauth

import "strconv"

// The parsers of the settings about the shape of requests and answers; the grammar stands at parseApp.

func (p *parser) grantAlias(issuer *Issuer) error {
	return p.pair("grant_alias", "another name, in quotes if it has spaces, and a grant type", &issuer.GrantAliases)()
}

func (p *parser) redirectRules(value **RedirectURIRules) error {
	r := new(RedirectURIRules)
	*value = r
	return p.nested("redirect_uri_rules", settings{
		"authorize": p.word("authorize", "optional or required", &r.Authorize),
		"code":      p.word("code", "as_sent, required or optional", (*string)(&r.Code)),
		"refresh":   p.word("refresh", "ignored, as_sent, required or optional", (*string)(&r.Refresh)),
	})()
}

func (p *parser) tokenResponse(issuer *Issuer) error {
	t := new(TokenResponseSettings)
	issuer.TokenResponse = t
	return p.nested("token_response", settings{
		"token_type":   p.word("token_type", "a text", &t.TokenType),
		"members":      p.words("members", "one name or more", &t.Members),
		"expires_in":   p.word("expires_in", "number or string", &t.ExpiresIn),
		"content_type": p.word("content_type", "a media type, in quotes if it has spaces", &t.ContentType),
	})()
}

func (p *parser) errors(issuer *Issuer) error {
	e := new(ErrorSettings)
	issuer.Errors = e
	return p.under("errors", func() error {
		args, err := p.args("errors", "oauth or problem, a block, or both", 0, 1)
		if err != nil {
			return err
		}
		if len(args) == 1 {
			e.Format = args[0]
		}
		known := settings{
			"documentation": func() error { return p.documentation(e) },
			"id":            p.word("id", "body or header", &e.ID),
		}
		for _, name := range errorNames {
			known[name] = func() error { return p.errorText(e, name) }
		}
		return p.block(known)
	})
}

func (p *parser) documentation(e *ErrorSettings) error {
	return p.under("documentation", func() error {
		args, err := p.args("documentation", "a URL and, optionally, a media type", 1, 2)
		if err != nil {
			return err
		}
		e.Documentation = &Documentation{URL: args[0]}
		if len(args) == 2 {
			e.Documentation.Type = args[1]
		}
		return nil
	})
}

func (p *parser) errorText(e *ErrorSettings, name string) error {
	return p.under(name, func() error {
		args, err := p.args(name, "an error code, a text in quotes and, optionally, a status", 2, 3)
		if err != nil {
			return err
		}
		text := ErrorText{Code: args[0], Text: args[1]}
		if len(args) == 3 {
			if text.Status, err = strconv.Atoi(args[2]); err != nil {
				return p.Errf("%s: expected a status from 400 to 599, not %s", name, args[2])
			}
		}
		if e.Texts == nil {
			e.Texts = make(map[string]ErrorText)
		}
		e.Texts[name] = text
		return nil
	})
}
