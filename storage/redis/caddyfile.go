package redis

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
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
	p := directive.New(d)
	var err error
	if r.Addresses, err = p.Args("redis", "one address or more, such as 127.0.0.1:6379", 1, -1); err != nil {
		return err
	}
	return p.Block(directive.Settings{
		"username":     p.Word("a name", &r.Username),
		"password":     p.Word("a password", &r.Password),
		"db":           p.Number(0, &r.DB),
		"prefix":       p.Word("a text", &r.Prefix),
		"cluster":      p.Flag(&r.Cluster),
		"sentinel":     r.parseSentinel(p),
		"tls":          r.parseTLS(p),
		"pool_size":    p.Number(1, &r.PoolSize),
		"timeout":      p.Duration(&r.Timeout),
		"dial_timeout": p.Duration(&r.DialTimeout),
		"cache":        p.Number(1, &r.Cache),
	})
}

func (r *Redis) parseSentinel(p *directive.Parser) directive.Setting {
	return p.Once("the name by which the Sentinels know the Redis", 1, 1, func(args []string) (directive.Settings, error) {
		s := &Sentinel{Master: args[0]}
		r.Sentinel = s
		return directive.Settings{
			"username": p.Word("a name", &s.Username),
			"password": p.Word("a password", &s.Password),
		}, nil
	})
}

func (r *Redis) parseTLS(p *directive.Parser) directive.Setting {
	return p.Once("a block in braces or nothing", 0, 0, func([]string) (directive.Settings, error) {
		t := new(TLS)
		r.TLS = t
		return directive.Settings{
			"ca":                   p.Word("a file", &t.CA),
			"server_name":          p.Word("a name", &t.ServerName),
			"client_cert":          t.parseClientCert(p),
			"insecure_skip_verify": p.Flag(&t.InsecureSkipVerify),
		}, nil
	})
}

func (t *TLS) parseClientCert(p *directive.Parser) directive.Setting {
	return p.Once("a file with the certificate and one with its key", 2, 2, func(files []string) (directive.Settings, error) {
		t.ClientCert, t.ClientKey = files[0], files[1]
		return nil, nil
	})
}

var _ caddyfile.Unmarshaler = (*Redis)(nil)
