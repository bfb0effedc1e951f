package check

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// agent is a widely used client that nobody has to configure, such as an AI agent, and how it connects. Each is a JSON file in
// profiles/agents.
type agent struct {
	Name   string `json:"name"`
	Title  string `json:"title"`
	Source string `json:"source"` // the URL of a page that says how it connects
	Date   string `json:"date"`   // the month in which it did

	// Which members of the file the source shows. The others are as the protocol has them for every client.
	Supports []string `json:"supports"`

	Order        []string        `json:"order"` // the ways by which it tries to get a client ID, see ways
	RedirectURI  string          `json:"redirect_uri"`
	Browser      bool            `json:"browser"` // it is a script in a browser
	Requires     requirements    `json:"requires"`
	Document     document        `json:"cimd"`
	Registration json.RawMessage `json:"dcr"` // the metadata with which it registers (RFC 7591)
}

// document is the Client ID Metadata Document of an agent.
type document struct {
	ClientID string       `json:"client_id"`
	Requires requirements `json:"requires"` // without it, the agent goes another way
}

// requirements are members of the issuer's metadata. Of the values of each, it must have one.
type requirements struct {
	PKCEMethods []string `json:"code_challenge_methods_supported"`
	AuthMethods []string `json:"token_endpoint_auth_methods_supported"`
}

// missing returns what the metadata does not have, "" if nothing is missing.
func (r requirements) missing(m *metadata) string {
	for _, member := range []struct {
		name      string
		any, have []string
	}{
		{"code_challenge_methods_supported", r.PKCEMethods, m.PKCEMethods},
		{"token_endpoint_auth_methods_supported", r.AuthMethods, m.AuthMethods},
	} {
		if len(member.any) > 0 && !slices.ContainsFunc(member.any, func(value string) bool { return slices.Contains(member.have, value) }) {
			return strings.Join(member.any, " or ") + " in " + member.name
		}
	}
	return ""
}

//go:embed profiles/agents/*.json
var agentFiles embed.FS

func readAgents() ([]*agent, error) {
	return readProfilesOf(agentFiles, "profiles/agents/*.json", func(a *agent) error {
		for _, way := range a.Order {
			if ways[way] == nil {
				return fmt.Errorf("there is no way %q", way)
			}
		}
		return nil
	})
}

// testAgent is an agent whose requests the check sends.
type testAgent struct {
	*testClient
	agent *agent
	named bool // the owner asks about this agent
}

// agents tests the agents. only is the name of one, "" is all if the issuer lets clients connect that nobody configured.
func (l *live) agents(all []*agent, only string) {
	open := l.issuer.open() || l.metadata.Documents || l.metadata.Register != ""
	switch {
	case only != "":
		all = slices.DeleteFunc(slices.Clone(all), func(a *agent) bool { return a.Name != only })
	case !open:
		l.ok("agents", "only clients that you configure can connect, as the issuer has neither mcp nor cimd nor dynamic; agents are not tested")
		return
	}
	if len(all) == 0 {
		return
	}
	l.wellKnown()
	for _, a := range all {
		c := &client{RedirectURIs: []string{a.RedirectURI}, GrantTypes: []string{"authorization_code", "refresh_token"}}
		v := &testAgent{&testClient{live: l, client: c, literal: true}, a, only != ""}
		f := v.connect()
		f.Check, f.Issuer = "as "+a.Title, l.issuer.Name
		l.report.add(*f)
	}
}

// wellKnown looks for the metadata at the other addresses where agents look.
func (l *live) wellKnown() {
	issuer, err := url.Parse(strings.TrimSuffix(l.issuer.URL, "/"))
	if err != nil {
		return
	}
	paths := []string{"/.well-known/openid-configuration" + issuer.Path}
	if issuer.Path != "" {
		paths = append(paths, issuer.Path+"/.well-known/openid-configuration")
	}
	for _, path := range paths {
		target := *issuer
		target.Path = path
		var m metadata
		found, err := l.ask(http.MethodGet, target.String(), nil)
		if err == nil && found.StatusCode == http.StatusOK && json.Unmarshal(found.body, &m) == nil && m.Issuer == l.issuer.URL {
			continue
		}
		l.say(Warning, "agents", target.String()+" does not have the metadata of the issuer", "Some agents look there, and take whatever answers. "+
			"Something else answers before oauth does.", issuer.Host+" {\n\toauth\n}", "docs/reference/oauth.md#directive-oauth")
		return
	}
	l.ok("agents", "they find the metadata at each address where they look")
}

// connect sends the requests of the agent up to the login page, and redeems a code that nobody issued.
func (v *testAgent) connect() *Finding {
	if missing := v.agent.Requires.missing(&v.metadata); missing != "" {
		_, problem := stops("discovery", "the metadata does not have "+missing, v.agent.Title+" does not connect without it. Something before Caddy changes the "+
			"metadata, or another server answers.", "", "docs/reference/oauth.md#directive-oauth")
		return problem
	}
	way, reached, problem := v.identify()
	done := []string{"it would connect", reached}
	rest := []func(*testClient) (string, *Finding){(*testClient).discover, (*testClient).authorize}
	if way == "dcr" {
		rest = append(rest, (*testClient).redeem)
	}
	for _, step := range rest {
		if problem != nil {
			return problem
		}
		reached, problem = step(v.testClient)
		done = append(done, reached)
	}
	seen := strings.Join(done, ", ")
	if v.named && problem == nil && len(v.asUser) > 0 { // a person does not approve agents that nobody asked about
		v.confidential = v.confidential || way == "cimd"
		reached, problem = v.asPerson()
		seen += "; " + reached
	} else if way == "cimd" {
		seen += "; not checked: the document at " + v.id + " is fetched when somebody signs in"
	}
	if problem == nil {
		problem = &Finding{Verdict: OK, Seen: seen}
	}
	return problem
}

// ways are how an agent gets a client ID. Each returns false if the agent goes another way.
var ways = map[string]func(v *testAgent) (reached string, problem *Finding, ok bool){
	"static": (*testAgent).static,
	"cimd":   (*testAgent).document,
	"dcr":    (*testAgent).register,
}

// identify gets a client ID by the first way that is open.
func (v *testAgent) identify() (way, reached string, problem *Finding) {
	for _, way := range v.agent.Order {
		if reached, problem, ok := ways[way](v); ok {
			return way, reached, problem
		}
	}
	missing, paste := "no registration_endpoint in the metadata", "dynamic open"
	if v.agent.Document.ClientID != "" {
		missing, paste = "neither client_id_metadata_document_supported nor a registration_endpoint in the metadata", "cimd"
	}
	if !v.issuer.open() {
		paste = "mcp"
	}
	return "", "", v.closed("registration", "there is "+missing, paste)
}

// closed is a stop that the settings of the issuer ask for. It is a failure only for the agent that the owner asks about.
func (v *testAgent) closed(at, seen, paste string) *Finding {
	_, problem := stops(at, seen, v.agent.Title+" cannot connect with these settings of the issuer.", paste, "docs/reference/oauth.md#global-option-oauth")
	if !v.named {
		problem.Verdict = Warning
	}
	return problem
}

// static takes the ID of a client of the configuration, which people enter in the agent.
func (v *testAgent) static() (string, *Finding, bool) {
	for _, id := range slices.Sorted(maps.Keys(v.issuer.Clients)) {
		if c := v.issuer.Clients[id]; c != nil && slices.Contains(c.RedirectURIs, v.agent.RedirectURI) {
			v.id, v.confidential = id, !c.public()
			own := *v.client
			own.Scopes, own.Audience = c.Scopes, c.Audience
			own.RequirePushed, own.RequireSigned, own.Profile = c.RequirePushed, c.RequireSigned, c.Profile
			v.client = &own
			return "with the client ID " + id + ", which people enter", nil, true
		}
	}
	return "", nil, false
}

// document takes the URL of the agent's document as the client ID.
func (v *testAgent) document() (string, *Finding, bool) {
	if !v.metadata.Documents || v.agent.Document.Requires.missing(&v.metadata) != "" {
		return "", nil, false
	}
	v.id = v.agent.Document.ClientID
	host := ""
	if u, err := url.Parse(v.id); err == nil {
		host = u.Hostname()
	}
	settings := v.issuer.CIMD
	switch {
	case settings == nil:
	case len(settings.Allow) > 0 && !matchesHost(settings.Allow, host):
		return "", v.closed("the authorize endpoint", "its client ID is at "+host+", which is none of the allowed hosts", "cimd {\n\tallow "+
			strings.Join(append(slices.Clone(settings.Allow), host), " ")+"\n}"), true
	case matchesHost(settings.Deny, host):
		return "", v.closed("the authorize endpoint", "its client ID is at "+host+", which is a denied host", "cimd {\n\t# remove "+host+" from deny\n}"), true
	}
	return "with the client ID " + v.id, nil, true
}

// matchesHost reports whether a host is one of these, of which *.example.com is for all below example.com.
func matchesHost(patterns []string, host string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		pattern = strings.ToLower(pattern)
		parent, all := strings.CutPrefix(pattern, "*.")
		return pattern == host || all && strings.HasSuffix(host, "."+parent)
	})
}

// register registers the agent. The issuer removes a registration that nobody uses after a day.
func (v *testAgent) register() (string, *Finding, bool) {
	if v.metadata.Register == "" {
		return "", nil, false
	}
	found, err := v.send(http.MethodPost, v.metadata.Register, "application/json", bytes.NewReader(v.agent.Registration), "Origin", "https://client.example")
	if err != nil {
		_, problem := unseen("the registration endpoint", err)
		return "", problem, true
	}
	problem := v.registered(found)
	return "registers itself", problem, true
}

// registered reads the answer of the registration endpoint.
func (v *testAgent) registered(found *answer) (problem *Finding) {
	var answer struct {
		ClientID     string   `json:"client_id"`
		RedirectURIs []string `json:"redirect_uris"`
		Error        string   `json:"error"`
		Description  string   `json:"error_description"`
	}
	_ = json.Unmarshal(found.body, &answer)
	switch {
	case found.StatusCode == http.StatusTooManyRequests || found.StatusCode == http.StatusServiceUnavailable:
		_, problem = unseen("the registration endpoint", fmt.Errorf("status %d", found.StatusCode))
	case found.StatusCode == http.StatusUnauthorized:
		problem = v.closed("registration", "the issuer wants an initial access token, which this client does not have", "dynamic open")
	case answer.Error == "invalid_redirect_uri" && v.issuer.Dynamic != nil && v.issuer.Dynamic.Redirects == "known":
		problem = v.closed("registration", answer.Error+": "+answer.Description, "dynamic {\n\tredirects any\n}")
	case found.StatusCode != http.StatusCreated || answer.ClientID == "" || len(answer.RedirectURIs) == 0:
		_, problem = stops("registration", strings.TrimSpace(fmt.Sprintf("status %d %s %s", found.StatusCode, answer.Error, answer.Description)),
			"This client cannot register itself. Look at it with: caddy oauth explain", "", "docs/troubleshooting.md")
	case v.agent.Browser && found.Header.Get("Access-Control-Allow-Origin") == "":
		_, problem = stops("registration", "a script cannot read the answer (CORS)", "A client in a browser cannot register itself.", "",
			"docs/reference/oauth.md#directive-oauth")
	default:
		v.id = answer.ClientID
	}
	return problem
}
