package redis

import (
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// UnmarshalCaddyfile reads the name of the store and its settings:
//
//	redis <address...> {
//		username <name>
//		password <password>
//		db       <number>
//		prefix   <text>
//		cluster
//		sentinel <master> {
//			username <name>
//			password <password>
//		}
//		tls {
//			ca          <file>
//			server_name <name>
//			client_cert <file> <key file>
//			insecure_skip_verify
//		}
//		pool_size    <number>
//		timeout      <duration>
//		dial_timeout <duration>
//		cache        <MiB>
//	}
func (r *Redis) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	p := parser{d}
	var err error
	if r.Addresses, err = p.args("redis", "one address or more, such as 127.0.0.1:6379", 1, -1); err != nil {
		return err
	}
	return p.block(settings{
		"username":     func() error { return p.word("username", "a name", &r.Username) },
		"password":     func() error { return p.word("password", "a password", &r.Password) },
		"db":           func() error { return p.number("db", 0, &r.DB) },
		"prefix":       func() error { return p.word("prefix", "a text", &r.Prefix) },
		"cluster":      func() error { return p.flag("cluster", &r.Cluster) },
		"sentinel":     func() error { return p.sentinel(r) },
		"tls":          func() error { return p.tls(r) },
		"pool_size":    func() error { return p.number("pool_size", 1, &r.PoolSize) },
		"timeout":      func() error { return p.duration("timeout", &r.Timeout) },
		"dial_timeout": func() error { return p.duration("dial_timeout", &r.DialTimeout) },
		"cache":        func() error { return p.number("cache", 1, &r.Cache) },
	})
}

func (p parser) sentinel(r *Redis) error {
	r.Sentinel = new(Sentinel)
	if err := p.word("sentinel", "the name that the Sentinels know the Redis by", &r.Sentinel.Master); err != nil {
		return err
	}
	return p.block(settings{
		"username": func() error { return p.word("username", "a name", &r.Sentinel.Username) },
		"password": func() error { return p.word("password", "a password", &r.Sentinel.Password) },
	})
}

func (p parser) tls(r *Redis) error {
	t := new(TLS)
	r.TLS = t
	if _, err := p.args("tls", "a block in braces or nothing", 0, 0); err != nil {
		return err
	}
	return p.block(settings{
		"ca":          func() error { return p.word("ca", "a file", &t.CA) },
		"server_name": func() error { return p.word("server_name", "a name", &t.ServerName) },
		"client_cert": func() error {
			files, err := p.args("client_cert", "a file with the certificate and one with its key", 2, 2)
			if err == nil {
				t.ClientCert, t.ClientKey = files[0], files[1]
			}
			return err
		},
		"insecure_skip_verify": func() error { return p.flag("insecure_skip_verify", &t.InsecureSkipVerify) },
	})
}

// parser reads the parts of a block.
type parser struct{ *caddyfile.Dispenser }

// settings are what may stand in a block, each of them once: parsers by the word that begins the line.
type settings map[string]func() error

func (p parser) block(known settings) error {
	read := make(map[string]caddyfile.Token)
	for nesting := p.Nesting(); p.NextBlock(nesting); {
		name := p.Val()
		if name == "{" {
			return p.Err("unexpected {, expected a setting; the one above takes no block")
		}
		parse, ok := known[name]
		if !ok {
			return p.Errf("unknown setting %q of the redis store, expected one of: %s", name, strings.Join(sorted(known), ", "))
		}
		if first, again := read[name]; again {
			return p.Errf("%s: duplicate setting, first at %s:%d", name, first.File, first.Line)
		}
		read[name] = p.Token()
		if err := parse(); err != nil {
			return err
		}
	}
	return nil
}

func sorted(known settings) (names []string) {
	for name := range known {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// args returns the rest of the line: from least to most arguments, none of them empty. A negative most is any number.
func (p parser) args(name, expected string, least, most int) ([]string, error) {
	args := p.RemainingArgs()
	if len(args) < least || most >= 0 && len(args) > most {
		return nil, p.Errf("%s: expected %s, got %s", name, expected, count(len(args)))
	}
	if slices.Contains(args, "") {
		return nil, p.Errf("%s: expected %s, got an empty argument", name, expected)
	}
	return args, nil
}

func count(args int) string {
	switch args {
	case 0:
		return "nothing"
	case 1:
		return "an argument"
	}
	return strconv.Itoa(args) + " arguments"
}

func (p parser) word(name, expected string, value *string) error {
	args, err := p.args(name, expected, 1, 1)
	if err == nil {
		*value = args[0]
	}
	return err
}

func (p parser) flag(name string, value *bool) error {
	_, err := p.args(name, "nothing more", 0, 0)
	*value = true
	return err
}

func (p parser) number(name string, least int, value *int) error {
	var text string
	if err := p.word(name, "a number", &text); err != nil {
		return err
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least {
		return p.Errf("%s: expected a number from %d, not %s", name, least, text)
	}
	*value = n
	return nil
}

func (p parser) duration(name string, value *caddy.Duration) error {
	var text string
	if err := p.word(name, "a duration", &text); err != nil {
		return err
	}
	d, err := caddy.ParseDuration(text)
	if err != nil || d <= 0 {
		return p.Errf("%s: expected a duration such as 2s, not %s", name, text)
	}
	*value = caddy.Duration(d)
	return nil
}

var _ caddyfile.Unmarshaler = (*Redis)(nil)
