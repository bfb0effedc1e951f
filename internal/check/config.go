package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/internal/uris"
)

// config is what the checks need of Caddy's JSON.
type config struct {
	Issuers []*issuer
	Guards  []*guard
	Served  []*served
	Servers []server
	Proxied []proxied
	Admin   string // the address of the admin API, "" is the default
}

// issuer is an issuer of the configuration.
type issuer struct {
	Name    string             `json:"-"`
	URL     string             `json:"url"`
	Scopes  []scope            `json:"scopes"`
	Clients map[string]*client `json:"clients"`

	AccessToken  map[string]any             `json:"access_token"`
	RefreshToken map[string]any             `json:"refresh_token"`
	Throttle     map[string]any             `json:"throttle"`
	Signing      map[string]any             `json:"signing"`
	Store        map[string]any             `json:"store"`
	Grants       map[string]json.RawMessage `json:"grants"`
	ReadOnly     bool                       `json:"read_only"`
	Consent      string                     `json:"consent"`
	Audience     []string                   `json:"audience"`

	OpenID json.RawMessage `json:"openid"`

	ClientCertHeader string `json:"client_cert_header"`

	MCP  bool `json:"mcp"`
	CIMD *struct {
		Off   bool     `json:"off"`
		Allow []string `json:"allow"`
		Deny  []string `json:"deny"`
	} `json:"cimd"`
	Dynamic *struct {
		Mode      string `json:"mode"`
		Redirects string `json:"redirects"`
	} `json:"dynamic"`

	unknown bool // it is not in the configuration: only its URL is known
}

// open reports whether the issuer has settings for clients that nobody configured.
func (i *issuer) open() bool {
	return i.MCP || i.CIMD != nil && !i.CIMD.Off || i.Dynamic != nil && i.Dynamic.Mode != "off"
}

type scope struct {
	Name        string `json:"name"`
	Description string `json:"description"`

	Claims []string `json:"claims"`
}

type client struct {
	Secrets      []string       `json:"secrets"`
	SecretHashes []string       `json:"secret_hashes"`
	RedirectURIs []string       `json:"redirect_uris"`
	GrantTypes   []string       `json:"grant_types"`
	Scopes       []string       `json:"scopes"`
	Introspects  []string       `json:"introspects"`
	RevokesUsers *struct{}      `json:"revokes_users"`
	EndsSessions bool           `json:"ends_sessions"`
	RefreshToken map[string]any `json:"refresh_token"`
	Insecure     bool           `json:"allow_insecure_redirects"`
	PKCE         string         `json:"pkce"`
	Consent      string         `json:"consent"`
	Iss          string         `json:"iss"`
	Audience     []string       `json:"audience"`

	RequirePushed bool   `json:"require_pushed_authorization_requests"`
	RequireSigned bool   `json:"require_signed_request_object"`
	Profile       string `json:"profile"`

	JWKS     json.RawMessage `json:"jwks"`
	JWKSFile string          `json:"jwks_file"`
	JWKSURI  string          `json:"jwks_uri"`

	clientCertificates
}

func (c *client) public() bool {
	keys := c.JWKS != nil || c.JWKSFile+c.JWKSURI != "" || c.byName() || c.SelfSigned != nil
	return len(c.Secrets)+len(c.SecretHashes) == 0 && !keys
}

// asks reports whether the client is the site, an API or an identity provider, which asks this issuer something and gets no tokens.
func (c *client) asks() bool {
	return len(c.Introspects) > 0 || c.EndsSessions || c.RevokesUsers != nil
}

// grantTypes returns the grant types of the client, with the defaults of the configuration.
func (c *client) grantTypes() []string {
	switch {
	case len(c.GrantTypes) > 0:
		return c.GrantTypes
	case len(c.RedirectURIs) > 0:
		return []string{"authorization_code", "refresh_token"}
	case !c.public() && !c.asks():
		return []string{"client_credentials"}
	}
	return nil
}

// guard is a handler oauth_guard.
type guard struct {
	Issuer        string                       `json:"issuer"`
	Scopes        []string                     `json:"scopes"`
	Authorization string                       `json:"authorization"`
	Machines      string                       `json:"machines"`
	TokenHeader   string                       `json:"token_header"`
	Types         []string                     `json:"types"`
	Optional      bool                         `json:"optional"`
	Audience      []string                     `json:"audience"`
	Resource      string                       `json:"resource"`
	MCP           *struct{}                    `json:"mcp"`
	Match         []map[string]json.RawMessage `json:"match"`

	paths []string // of its matcher and of those around it
	hosts []string
	site  site
}

// served is a handler oauth.
type served struct {
	Issuer   string          `json:"issuer"`
	User     string          `json:"user"`
	Settings json.RawMessage `json:"settings"` // of the issuer that it brings
	Login    *struct {
		URL    string            `json:"url"`
		Routes []json.RawMessage `json:"routes"`
	} `json:"login"`

	hosts []string
	paths []string // of the matchers around it
}

func readConfig(text json.RawMessage) (*config, error) {
	c := new(config)
	if text == nil {
		return c, nil
	}
	var caddy struct {
		Admin struct {
			Listen string `json:"listen"`
		} `json:"admin"`
		Apps struct {
			OAuth struct {
				Issuers map[string]*issuer `json:"issuers"`
			} `json:"oauth"`
			HTTP struct {
				Servers map[string]json.RawMessage `json:"servers"`
			} `json:"http"`
		} `json:"apps"`
	}
	if err := json.Unmarshal(text, &caddy); err != nil {
		return nil, fmt.Errorf("expected Caddy's JSON: %w", err)
	}
	c.Admin = caddy.Admin.Listen
	for _, name := range slices.Sorted(maps.Keys(caddy.Apps.OAuth.Issuers)) {
		if i := caddy.Apps.OAuth.Issuers[name]; i != nil {
			i.Name = name
			c.Issuers = append(c.Issuers, i)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(caddy.Apps.HTTP.Servers)) {
		var s server
		text := caddy.Apps.HTTP.Servers[name]
		if err := errors.Join(json.Unmarshal(text, &s), c.walk(text, name, nil, nil)); err != nil {
			return nil, err
		}
		c.Servers = append(c.Servers, s)
	}
	return c, nil
}

// walk looks for our handlers and for proxies wherever they stand in the JSON of a server, and notes the hosts and the paths of the
// routes around them.
func (c *config) walk(text json.RawMessage, server string, hosts, paths []string) error {
	var list []json.RawMessage
	if json.Unmarshal(text, &list) == nil {
		for _, element := range list {
			if err := c.walk(element, server, hosts, paths); err != nil {
				return err
			}
		}
		return nil
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(text, &object) != nil {
		return nil //nolint:nilerr // a text or a number
	}
	var sets []map[string]json.RawMessage
	if json.Unmarshal(object["match"], &sets) == nil {
		hosts, paths = matched(sets, "host", hosts), matched(sets, "path", paths)
	}
	in := site{server, strings.Join(hosts, ", ")}
	switch string(object["handler"]) {
	case `"reverse_proxy"`:
		return c.proxy(text, in)
	case `"oauth"`:
		s := &served{hosts: hosts, paths: paths}
		c.Served = append(c.Served, s)
		return errors.Join(json.Unmarshal(text, s), c.bring(s))
	case `"oauth_guard"`:
		g := &guard{hosts: hosts, paths: paths, site: in}
		if err := json.Unmarshal(text, g); err != nil {
			return err
		}
		// A guard with a matcher is in the JSON twice.
		if !slices.ContainsFunc(c.Guards, func(other *guard) bool {
			return other.name() == g.name() && slices.Equal(other.hosts, g.hosts) && slices.Equal(other.Scopes, g.Scopes)
		}) {
			c.Guards = append(c.Guards, g)
		}
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if err := c.walk(object[name], server, hosts, paths); err != nil {
			return err
		}
	}
	return nil
}

// bring adds the issuer that a handler brings.
func (c *config) bring(s *served) error {
	if s.Settings == nil {
		return nil
	}
	i := new(issuer)
	if err := json.Unmarshal(s.Settings, i); err != nil {
		return err
	}
	i.Name = s.Issuer
	if i.Name == "" {
		i.Name = uris.IssuerName(i.URL)
		s.Issuer = i.Name
	}
	if slices.ContainsFunc(c.Issuers, func(other *issuer) bool { return other.Name == i.Name }) {
		return nil
	}
	c.Issuers = append(c.Issuers, i)
	return nil
}

// matched returns what a matcher of a kind matches, or what matchers around it did.
func matched(sets []map[string]json.RawMessage, kind string, around []string) []string {
	var all []string
	for _, set := range sets {
		var values []string
		if json.Unmarshal(set[kind], &values) == nil {
			all = append(all, values...)
		}
	}
	if len(all) == 0 {
		return around
	}
	return all
}

// means reports whether reference, the name or URL of an issuer in a handler or guard, refers to i. An empty reference refers to
// the only issuer or to the default one.
func (c *config) means(reference string, i *issuer) bool {
	return reference == i.Name || reference == i.URL || reference == "" && (len(c.Issuers) == 1 || i.Name == "default")
}

func loopback(u *url.URL) bool {
	host := u.Hostname()
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}
