package routes

import (
	"crypto/tls"
	"net"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/certmagic"
)

// Site is a site of a server.
type Site struct {
	Server *caddyhttp.Server
	Hosts  []string // none: all
}

// HasHost reports whether a host is one of the site, or may be one, if the site has a placeholder.
func (s Site) HasHost(host string) bool {
	return len(s.Hosts) == 0 || slices.ContainsFunc(s.Hosts, func(name string) bool {
		return isPlaceholder(name) || certmagic.MatchWildcard(host, name)
	})
}

func isPlaceholder(host string) bool { return strings.Contains(host, "{") }

// ClientAuth returns the modes of client_auth in the connection policies for the hosts of the site. If a policy depends on more than the
// name of the host, it returns the modes of all policies.
func (s Site) ClientAuth() (modes []tls.ClientAuthType) {
	policies := s.Server.TLSConnPolicies
	choose := policies.TLSConfig(caddy.Context{}).GetConfigForClient
	conn, all := new(noConn), len(s.Hosts) == 0
	for _, host := range s.Hosts {
		config, err := choose(&tls.ClientHelloInfo{ServerName: host, Conn: conn})
		if err == nil && config != nil {
			modes = append(modes, config.ClientAuth)
		}
		all = all || conn.asked || isPlaceholder(host)
	}
	if !all {
		return modes
	}
	for _, policy := range policies {
		if policy.TLSConfig != nil {
			modes = append(modes, policy.TLSConfig.ClientAuth)
		}
	}
	return modes
}

// noConn is a fake connection. asked becomes true if a policy matches by address.
type noConn struct {
	net.Conn

	asked bool
}

func (c *noConn) RemoteAddr() net.Addr {
	c.asked = true
	return &net.TCPAddr{IP: net.IPv6loopback}
}

func (c *noConn) LocalAddr() net.Addr { return c.RemoteAddr() }
