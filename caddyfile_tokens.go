package caddyoauth

// The parsers of the blocks about codes and tokens; the grammar stands at parseApp.

func (p *parser) code(issuer *Issuer) error {
	issuer.Code = new(CodeSettings)
	return p.nested("code", settings{
		"lifetime": p.lifetime("lifetime", &issuer.Code.Lifetime),
		"prefix":   p.word("prefix", "a text", &issuer.Code.Prefix),
	})()
}

func (p *parser) accessToken(issuer *Issuer) error {
	s := new(AccessTokenSettings)
	issuer.AccessToken = s
	return p.nested("access_token", settings{
		"lifetime": p.lifetime("lifetime", &s.Lifetime),
		"format":   p.word("format", "jwt or opaque", &s.Format),
		"prefix":   p.word("prefix", "a text", &s.Prefix),
		"length":   p.number("length", &s.Length),
		"claims":   p.word("claims", "rfc9068 or minimal", &s.Claims),
		"rename":   p.pair("rename", "a claim and its other name", &s.Rename),
	})()
}

func (p *parser) clientAccessToken(c *Client) error {
	c.AccessToken = new(ClientAccessTokenSettings)
	return p.nested("access_token", settings{"lifetime": p.lifetime("lifetime", &c.AccessToken.Lifetime)})()
}

func (p *parser) refreshToken(value **RefreshTokenSettings) error {
	s := new(RefreshTokenSettings)
	*value = s
	return p.nested("refresh_token", settings{
		"lifetime": p.lifetime("lifetime", &s.Lifetime),
		"idle":     p.lifetime("idle", &s.Idle),
		"rotate":   p.word("rotate", "always or never", &s.Rotate),
		"retry":    func() error { return p.retry(s) },
		"prefix":   p.word("prefix", "a text", &s.Prefix),
		"length":   p.number("length", &s.Length),
	})()
}

func (p *parser) retry(s *RefreshTokenSettings) error {
	return p.under("retry", func() error {
		args, err := p.args("retry", "a duration, 0 or unused", 1, 1)
		if err != nil {
			return err
		}
		retry, err := parseRetry(args[0])
		if err != nil {
			return p.Errf("retry: %v, not %s", err, args[0])
		}
		s.Retry = &retry
		return nil
	})
}
