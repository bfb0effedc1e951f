package redis

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-oauth/caddy-oauth/internal/directive"
)

const (
	defaultPrefix  = "oauth"
	defaultTimeout = 2 * time.Second
	defaultCache   = 16

	portOfRedis    = 6379
	portOfSentinel = 26379
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

// resolve replaces placeholders and fills in what is not set.
func (r *Redis) resolve(repl *caddy.Replacer) error {
	fields := map[string]*string{"username": &r.Username, "password": &r.Password, "prefix": &r.Prefix}
	if s := r.Sentinel; s != nil {
		fields["sentinel"] = &s.Master
		fields["sentinel: username"] = &s.Username
		fields["sentinel: password"] = &s.Password
	}
	if t := r.TLS; t != nil {
		fields["tls: ca"] = &t.CA
		fields["tls: server_name"] = &t.ServerName
		fields["tls: client_cert"] = &t.ClientCert
		fields["tls: client_key"] = &t.ClientKey
	}
	for i := range r.Addresses {
		fields[fmt.Sprintf("address %d", i+1)] = &r.Addresses[i]
	}
	for name, field := range fields {
		value, err := directive.Resolve(repl, *field)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		*field = value
	}
	if r.Prefix == "" {
		r.Prefix = defaultPrefix
	}
	if r.PoolSize == 0 {
		r.PoolSize = 10 * runtime.GOMAXPROCS(0)
	}
	if r.Timeout == 0 {
		r.Timeout = caddy.Duration(defaultTimeout)
	}
	if r.DialTimeout == 0 {
		r.DialTimeout = r.Timeout / 2
	}
	if r.Cache == 0 {
		r.Cache = defaultCache
	}
	return nil
}

// check refuses settings that cannot work.
func (r *Redis) check() error {
	port := portOfRedis
	if r.Sentinel != nil {
		port = portOfSentinel
	}
	for i, address := range r.Addresses {
		full, err := fullAddress(address, port)
		if err != nil {
			return fmt.Errorf("address %d: %w", i+1, err)
		}
		r.Addresses[i] = full
	}
	switch {
	case len(r.Addresses) == 0:
		return errors.New("expected the address of a Redis, such as 127.0.0.1:6379")
	case !safePrefix.MatchString(r.Prefix):
		return fmt.Errorf("prefix: expected letters, digits and any of - _ . : /, not %q", r.Prefix)
	case r.Username != "" && r.Password == "":
		return errors.New("username: expected a password with it")
	case r.DB < 0:
		return errors.New("db: expected a number from 0")
	case r.DB > 0 && r.cluster():
		return errors.New("db: a Cluster has database 0 only")
	case r.PoolSize < 1:
		return errors.New("pool_size: expected a number from 1")
	case r.Cache < 0:
		return errors.New("cache: expected a number of MiB from 1")
	case time.Duration(r.Timeout) < time.Millisecond || time.Duration(r.DialTimeout) < time.Millisecond:
		return errors.New("timeout, dial_timeout: expected a duration of a millisecond or more")
	}
	if err := directive.CheckSecret(r.Password); err != nil {
		return fmt.Errorf("password: %w", err)
	}
	if err := r.Sentinel.check(r.Cluster); err != nil {
		return fmt.Errorf("sentinel: %w", err)
	}
	if t := r.TLS; t != nil && (t.ClientCert == "") != (t.ClientKey == "") {
		return errors.New("tls: client_cert: expected a file with the certificate and one with its key")
	}
	return nil
}

func (s *Sentinel) check(cluster bool) error {
	switch {
	case s == nil:
		return nil
	case s.Master == "":
		return errors.New("expected the name that the Sentinels know the Redis by")
	case cluster:
		return errors.New("a Cluster has no Sentinels, expected either of them")
	case s.Username != "" && s.Password == "":
		return errors.New("username: expected a password with it")
	}
	if err := directive.CheckSecret(s.Password); err != nil {
		return fmt.Errorf("password: %w", err)
	}
	return nil
}

func (r *Redis) cluster() bool {
	return r.Cluster || len(r.Addresses) > 1 && r.Sentinel == nil
}

// safePrefix excludes characters with a meaning in patterns of SCAN, and braces, which select the slot of a key in a Cluster.
var safePrefix = regexp.MustCompile(`^[0-9A-Za-z_.:/-]{1,64}$`)

// fullAddress returns an address as the client expects it: with a port, or the path of a socket.
func fullAddress(address string, port int) (string, error) {
	if path, ok := strings.CutPrefix(address, "unix/"); ok && strings.HasPrefix(path, "/") {
		return path, nil
	}
	if strings.HasPrefix(address, "/") {
		return address, nil
	}
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		host, text = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]"), strconv.Itoa(port)
	}
	n, notPort := strconv.ParseUint(text, 10, 16)
	if !isHost(host) || notPort != nil || n == 0 {
		// The address is not shown, because it may be a URL with a password in it.
		return "", fmt.Errorf("expected an address such as 127.0.0.1:%d or unix//run/redis.sock, and no URL", port)
	}
	return net.JoinHostPort(host, strconv.FormatUint(n, 10)), nil
}

// isHost reports whether a text is a host name or an IP address, which may have a zone.
func isHost(text string) bool {
	if ip, err := netip.ParseAddr(text); err == nil {
		return ip.Zone() == "" || hostName.MatchString(ip.Zone())
	}
	return hostName.MatchString(text)
}

var hostName = regexp.MustCompile(`^[0-9A-Za-z_.-]+$`)
