// Package check checks an issuer: its configuration, the site that runs, and what clients of several kinds would meet there, up to the
// login page. It reads only what everybody can read, and sends no secret. It writes nothing, except that agents register themselves
// where everybody can: the issuer removes their records after a day. With the headers of a signed-in user, it continues after the login.
//
// Start reading at [Checker.Run]. static.go has the checks of the configuration, and live.go those of the running site. profiles.go sends
// the requests of configured clients, and agents.go those of clients that need no configuration; JSON files describe both. person.go
// continues as the signed-in user.
package check

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// Verdict is the result of a check.
type Verdict string

// The verdicts. NotChecked is for what cannot be seen from here: the finding says why.
const (
	OK         Verdict = "ok"
	Warning    Verdict = "warning"
	Fail       Verdict = "fail"
	NotChecked Verdict = "not checked"
)

// Finding is what one check found.
type Finding struct {
	Verdict Verdict `json:"verdict"`
	Check   string  `json:"check"`            // a short name, the same in every run
	Issuer  string  `json:"issuer,omitempty"` // its name
	Client  string  `json:"client,omitempty"`
	Seen    string  `json:"seen"`            // what was seen, or why it was not checked
	Why     string  `json:"why,omitempty"`   // why it matters
	Paste   string  `json:"paste,omitempty"` // lines for the Caddyfile
	Read    string  `json:"read,omitempty"`  // the page of the documentation
}

// Report is what all checks found.
type Report struct {
	Findings []Finding `json:"findings"`
}

func (r *Report) add(f Finding) { r.Findings = append(r.Findings, f) }

// Worst returns the worst verdict. What was not checked is not bad.
func (r *Report) Worst() Verdict {
	worst := OK
	for _, f := range r.Findings {
		if f.Verdict == Fail || f.Verdict == Warning && worst == OK {
			worst = f.Verdict
		}
	}
	return worst
}

// Checker checks issuers.
type Checker struct {
	Config  json.RawMessage // Caddy's JSON; nil if only the running site is known
	URLs    []string        // of issuers to check that are not in Config
	Issuer  string          // the name of the only issuer to check; "" is all of them
	Client  string          // the ID of the only client to test, or the name of a profile or of an agent; "" is all of them
	Offline bool            // leaves the running site alone

	// Outside is the URL of a proxy on another machine, by which the running site is asked as others see it. It may be nil.
	Outside *url.URL

	// Noted returns the address from which a request came that the running site has refused with this error ID. It may be nil.
	Noted func(errorID string) (address string, err error)

	// AsUser are headers of somebody who is signed in at the issuer, names and values. With them, the check continues after the login: see asPerson.
	// They go over https only, or to this machine.
	AsUser []string

	// NameEndpoint returns the clients that the running server has seen sign for its token endpoint instead of the issuer. It may be nil.
	NameEndpoint func(issuer string) (clients []string, err error)

	// OwnAddresses is for tests; nil are those of this machine.
	OwnAddresses func() []string

	// Transport is for tests; nil is the usual one.
	Transport http.RoundTripper
}

// Run checks everything that can be checked.
func (c *Checker) Run(ctx context.Context) (*Report, error) {
	r := new(Report)
	config, err := readConfig(c.Config)
	if err != nil {
		return nil, err
	}
	for _, issuerURL := range c.URLs {
		config.Issuers = append(config.Issuers, &issuer{Name: issuerURL, URL: issuerURL, unknown: true})
	}
	if c.Issuer != "" {
		config.Issuers = slices.DeleteFunc(config.Issuers, func(i *issuer) bool { return i.Name != c.Issuer })
	}
	if len(config.Issuers) == 0 && (c.Issuer != "" || len(config.Guards) == 0) {
		return nil, fmt.Errorf("there is no issuer %sto check", cmp.Or(c.Issuer+" ", ""))
	}
	if c.Config != nil {
		checkStatic(r, config)
	}
	profiles, err := readProfiles()
	if err != nil {
		return nil, err
	}
	agents, err := readAgents()
	if err != nil {
		return nil, err
	}
	for _, i := range config.Issuers {
		if c.Offline {
			r.add(Finding{Verdict: NotChecked, Check: "site", Issuer: i.Name, Seen: "the running site, as you asked for (--offline)"})
			continue
		}
		if at, err := url.Parse(i.URL); err == nil && len(c.AsUser) > 0 && at.Scheme == "http" && (!loopback(at) || c.Outside != nil) {
			return nil, fmt.Errorf("--as-user: the headers would go in clear to %s; expected an issuer with https, or one on this machine", i.URL)
		}
		l := &live{
			ctx: ctx, report: r, config: config, issuer: i, http: c.client(), outside: c.Outside != nil, noted: c.Noted, own: c.ownAddresses(),
			asUser: c.AsUser, naming: c.NameEndpoint,
		}
		if l.site() {
			l.guards()
			for _, p := range profiles {
				l.testClients(p, c.Client)
			}
			l.agents(agents, c.Client)
		}
	}
	return r, nil
}

// requestTime is how long the site may take for an answer.
const requestTime = 10 * time.Second

// client returns an HTTP client that follows no redirect.
func (c *Checker) client() *http.Client {
	transport := c.Transport
	if transport == nil {
		proxy := http.ProxyFromEnvironment
		if c.Outside != nil {
			proxy = http.ProxyURL(c.Outside)
		}
		transport = &http.Transport{Proxy: proxy, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	}
	return &http.Client{
		Transport: transport, Timeout: requestTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
