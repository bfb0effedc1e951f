package check

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// This file checks what stands around Caddy: proxies before it, and the upstreams behind it.

// server is an HTTP server of the configuration.
type server struct {
	TrustedProxies *struct {
		Source string   `json:"source"`
		Ranges []string `json:"ranges"`
	} `json:"trusted_proxies"`
	Policies []tlsPolicy `json:"tls_connection_policies"`
}

// site is a part of a server: the routes for some hosts.
type site struct {
	server string
	hosts  string
}

// proxied is a reverse_proxy of the configuration.
type proxied struct {
	site  site
	dials []string
}

// proxy notes a reverse_proxy, unless it is a forward_auth.
func (c *config) proxy(text json.RawMessage, in site) error {
	var p struct {
		Upstreams []struct {
			Dial string `json:"dial"`
		} `json:"upstreams"`
		Rewrite *struct {
			Method string `json:"method"`
		} `json:"rewrite"`
	}
	if err := json.Unmarshal(text, &p); err != nil || p.Rewrite != nil && p.Rewrite.Method == http.MethodGet {
		return err
	}
	to := proxied{site: in}
	for _, upstream := range p.Upstreams {
		to.dials = append(to.dials, upstream.Dial)
	}
	c.Proxied = append(c.Proxied, to)
	return nil
}

// behind returns the upstreams of the site of a guard.
func (c *config) behind(g *guard) (dials []string) {
	for _, p := range c.Proxied {
		if p.site == g.site {
			dials = append(dials, p.dials...)
		}
	}
	slices.Sort(dials)
	return slices.Compact(dials)
}

// checkAround finds proxies that everybody can be, and sites that pass requests to a guarded upstream without a guard.
func checkAround(r *Report, c *config) {
	for _, s := range c.Servers {
		if s.TrustedProxies != nil && slices.ContainsFunc(s.TrustedProxies.Ranges, func(r string) bool { return strings.HasSuffix(r, "/0") }) {
			r.add(Finding{
				Verdict: Fail, Check: "trusted_proxies", Seen: "everybody is a trusted proxy (" + strings.Join(s.TrustedProxies.Ranges, " ") + ")",
				Why:   "Anybody can send any client address in X-Forwarded-For. The limits on failed attempts then have no effect.",
				Paste: "{\n\tservers {\n\t\ttrusted_proxies static private_ranges\n\t}\n}", Read: "docs/reference/check.md",
			})
		}
	}
	for _, p := range c.Proxied {
		if slices.ContainsFunc(c.Guards, func(g *guard) bool { return g.site == p.site }) {
			continue
		}
		for _, g := range c.Guards {
			both := slices.IndexFunc(p.dials, func(dial string) bool { return slices.Contains(c.behind(g), dial) })
			if both < 0 || g.Optional {
				continue
			}
			r.add(Finding{
				Verdict: Warning, Check: "guard upstream",
				Seen: fmt.Sprintf("the site %s passes requests to %s without a guard, and the guard of %s protects the same upstream",
					cmp.Or(p.site.hosts, p.site.server), p.dials[both], g.name()),
				Why:   "Everybody can call the API by that site.",
				Paste: cmp.Or(p.site.hosts, "…") + " {\n\toauth_guard " + g.name() + " { … }\n}", Read: "docs/reference/oauth_guard.md",
			})
			break
		}
	}
}

// proxyHeaders are headers by which proxies and content delivery networks tell of themselves.
var proxyHeaders = []string{"Via", "Cf-Ray", "X-Amz-Cf-Id", "X-Azure-Ref", "Fly-Request-Id", "X-Vercel-Id"}

// proxies looks for a proxy before Caddy that Caddy does not know of.
func (l *live) proxies(found *answer) {
	i := slices.IndexFunc(proxyHeaders, func(name string) bool { return found.Header.Get(name) != "" })
	if i < 0 || len(l.config.Servers) == 0 {
		return
	}
	if slices.ContainsFunc(l.config.Servers, func(s server) bool { return s.TrustedProxies != nil }) {
		l.ok("trusted_proxies", "a proxy is before Caddy ("+proxyHeaders[i]+"), and trusted_proxies is set")
		return
	}
	l.say(Warning, "trusted_proxies", "a proxy is before Caddy ("+proxyHeaders[i]+": "+found.Header.Get(proxyHeaders[i])+"), and no server has trusted_proxies",
		"Caddy takes the address of the proxy for that of everybody. One who guesses passwords locks out all others.",
		"{\n\tservers {\n\t\ttrusted_proxies static <addresses of the proxy>\n\t}\n}", "docs/reference/check.md")
}

// strangerAddress is one that nobody has (RFC 5737).
const strangerAddress = "203.0.113.77"

// address finds out whether Caddy believes whatever address a request says that it comes from.
func (l *live) address() {
	if l.noted == nil {
		return
	}
	const what = "whether Caddy sees the addresses of clients: "
	own, err := l.notedAddress()
	var forged string
	if err == nil {
		forged, err = l.notedAddress("X-Forwarded-For", strangerAddress)
	}
	ip, invalid := netip.ParseAddr(own)
	switch {
	case err != nil:
		l.say(NotChecked, "addresses", what+err.Error(), "", "", "")
	case forged != strangerAddress:
		l.ok("addresses", "Caddy sees this machine as "+own+", and does not believe another address that a request says")
	case invalid == nil && (ip.IsLoopback() || ip.IsPrivate()):
		l.say(NotChecked, "addresses", what+"it takes this machine, "+own+", for a trusted proxy. Run this from another machine", "", "", "")
	default:
		l.say(Fail, "addresses", "Caddy believes whatever X-Forwarded-For says, although "+own+" is no proxy of yours",
			"Anybody can send any client address in X-Forwarded-For. The limits on failed attempts then have no effect.",
			"{\n\tservers {\n\t\ttrusted_proxies static <addresses of the proxy>\n\t}\n}", "docs/reference/check.md")
	}
}

// notedAddress sends a request that is refused, and returns the address that the running Caddy remembers of it.
func (l *live) notedAddress(header ...string) (string, error) {
	refused, err := l.ask(http.MethodGet, l.metadata.Token, nil, header...)
	if err != nil {
		return "", err
	}
	var body struct {
		ID string `json:"error_id"`
	}
	_ = json.Unmarshal(refused.body, &body)
	id := cmp.Or(body.ID, refused.Header.Get("Error-Id"))
	if id == "" {
		return "", fmt.Errorf("%s answers with status %d and no error ID", l.metadata.Token, refused.StatusCode)
	}
	return l.noted(id)
}

// upstreams looks whether the upstreams of a guarded site answer without Caddy.
func (l *live) upstreams(g *guard, target string) {
	for _, dial := range l.config.behind(g) {
		host, port, err := net.SplitHostPort(dial)
		if err != nil || strings.ContainsAny(dial, "{/") {
			continue // a Unix socket, or a placeholder
		}
		check := "upstream " + dial
		ip, _ := netip.ParseAddr(host)
		switch local := host == "localhost" || ip.IsLoopback(); {
		case local && l.outside:
			continue // that is another machine there
		case !local && !l.outside:
			l.say(NotChecked, check, "whether others than Caddy reach the upstream "+dial+", which needs no token: Caddy must reach it from here. See --from-outside", "", "", "")
			continue
		case !local:
			l.past(check, dial, []string{dial}, target)
			continue
		}
		own := l.own()
		others := make([]string, 0, len(own))
		for _, other := range own {
			others = append(others, net.JoinHostPort(other, port))
		}
		l.past(check, dial, others, target)
	}
}

// past asks for a guarded URL at addresses of an upstream.
func (l *live) past(check, dial string, addresses []string, target string) {
	u, err := url.Parse(target)
	if err != nil {
		return
	}
	for _, address := range addresses {
		direct := url.URL{Scheme: "http", Host: address, Path: u.Path}
		found, err := l.ask(http.MethodGet, direct.String(), nil)
		if err == nil && found.StatusCode < http.StatusBadRequest {
			l.say(Warning, check, fmt.Sprintf("%s answers with status %d, past Caddy and its guard", &direct, found.StatusCode),
				"Whoever reaches that address can call the API without a token.", "# let the upstream listen on 127.0.0.1 only, or on a network of Caddy's", "docs/reference/check.md")
			return
		}
	}
	l.ok(check, "the upstream "+dial+" does not answer past Caddy")
}

func (c *Checker) ownAddresses() func() []string {
	if c.OwnAddresses != nil {
		return c.OwnAddresses
	}
	return ownAddresses
}

// ownAddresses returns the addresses of this machine that others may reach.
func ownAddresses() (addresses []string) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, address := range all {
		if network, ok := address.(*net.IPNet); ok && network.IP.IsGlobalUnicast() {
			addresses = append(addresses, network.IP.String())
		}
	}
	return addresses
}
