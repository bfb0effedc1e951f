package caddyoauth

import (
	"strconv"

	"github.com/caddyserver/caddy/v2"
)

// throttle reads the setting; the grammar stands at parseApp.
func (p *parser) throttle(issuer *Issuer) error {
	s := new(ThrottleSettings)
	issuer.Throttle = s
	return p.under("throttle", func() error {
		args, err := p.args("throttle", "off, or a block in braces", 0, 1)
		if err != nil {
			return err
		}
		if len(args) == 1 {
			if args[0] != "off" {
				return p.Errf("throttle: expected off, or a block in braces, not %s", args[0])
			}
			s.Off = true
		}
		known := make(settings)
		for name, limit := range s.byName() {
			known[name] = p.failures(name, limit)
		}
		return p.block(known)
	})
}

// failures returns a parser of a number of failures and the time they are counted in.
func (p *parser) failures(name string, value **FailureLimit) func() error {
	const expected = "a number of failures and a duration, such as 10 5m"
	return func() error {
		return p.under(name, func() error {
			args, err := p.args(name, expected, 2, 2)
			if err != nil {
				return err
			}
			failures, err1 := strconv.Atoi(args[0])
			per, err2 := caddy.ParseDuration(args[1])
			if err1 != nil || err2 != nil {
				return p.Errf("%s: expected %s, not %s %s", name, expected, args[0], args[1])
			}
			*value = &FailureLimit{Failures: failures, Per: caddy.Duration(per)}
			return nil
		})
	}
}
