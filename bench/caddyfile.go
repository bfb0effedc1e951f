package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/bench/internal/load"
	"github.com/caddy-oauth/caddy-oauth/bench/internal/site"
)

// shape is how the Caddyfile of a row differs from the others. All other settings have their defaults, except the log: in every
// row, it has errors only.
type shape struct {
	settings string // of the issuer
	store    string // and its store; "" is the default
	issuers  int    // 0 is 1
	clients  int    // 0 is 1
	guarded  bool   // whether the route requires a token
	mcp      bool   // whether the guard has cors and mcp
	idToken  string // the algorithm of ID tokens; "" is no OpenID Connect
}

const (
	person = "alice"
	scope  = "read write"
	page   = "/page"

	// pages matches the page. It is as mcp has it, so that routes with it are alike in all rows.
	pages = page + "*"
)

// limits let one person get any number of codes.
const limits = "\t\t\tthrottle {\n\t\t\t\tcodes 100000 1s\n\t\t\t}\n"

// answerBody is as long as an answer with a token and a refresh token.
var answerBody = `{"access_token":"` + strings.Repeat("e", 617) + `","token_type":"Bearer","expires_in":3600,"scope":"read write"}`

// plainCaddyfile returns the Caddyfile of a site without an issuer.
func plainCaddyfile(s *site.Server) string { return global(s, "") + host(s, pageRoute) }

func (c shape) caddyfile(s *site.Server) string {
	var issuers, directives strings.Builder
	for n := range max(c.issuers, 1) {
		name, path := c.issuer(n)
		fmt.Fprintf(&issuers, "\t\tissuer %s http://%s%s {\n\t\t\tscope read \"your data\"\n\t\t\tscope write \"to change your data\"\n%s", name, s.Address, path, limits)
		for _, line := range []string{c.settings, c.store, c.openID()} {
			if line != "" {
				fmt.Fprintf(&issuers, "\t\t\t%s\n", line)
			}
		}
		for _, client := range c.allClients() {
			fmt.Fprintf(&issuers, "\t\t\tclient %s {\n\t\t\t\tsecret %s\n\t\t\t\tredirect_uris %s\n"+
				"\t\t\t\tgrant_types authorization_code refresh_token client_credentials\n\t\t\t\tscopes %s\n\t\t\t}\n",
				client.ID, client.Secret, load.RedirectURI, c.scope())
		}
		issuers.WriteString("\t\t}\n")
		fmt.Fprintf(&directives, "\toauth %s {\n\t\tuser {vars.user}\n\t}\n", name)
	}
	if c.guarded {
		fmt.Fprintf(&directives, "\toauth_guard %s {\n\t\tscopes read\n%s\t}\n", pages, c.guardOf())
	}
	return global(s, "\toauth {\n"+issuers.String()+"\t}\n") + host(s, "\tvars user "+person+"\n"+directives.String()+pageRoute)
}

func global(s *site.Server, apps string) string {
	return "{\n\tadmin " + s.Admin + "\n\tpersist_config off\n\tauto_https off\n\tstorage file_system " + storageOf(s) +
		"\n\tlog {\n\t\tlevel ERROR\n\t}\n" + apps + "}\n"
}

// storageOf returns the directory of Caddy's storage.
func storageOf(s *site.Server) string { return filepath.ToSlash(filepath.Join(s.Dir, "storage")) }

func host(s *site.Server, directives string) string {
	return "http://" + s.Address + " {\n\tbind 127.0.0.1\n" + directives + "}\n"
}

var pageRoute = "\theader " + pages + " {\n\t\tContent-Type application/json\n\t\tCache-Control no-store\n\t}\n" +
	"\trespond " + pages + " `" + answerBody + "` 200\n"

func (c shape) openID() string {
	if c.idToken == "" {
		return ""
	}
	return "openid {\n\t\t\t\tid_token_signed_response_alg " + c.idToken + "\n\t\t\t}"
}

// guardOf returns further settings of the guard.
func (c shape) guardOf() string {
	if !c.mcp {
		return ""
	}
	return "\t\tcors\n\t\tmcp\n"
}

// scope returns the scopes of each client and of its requests.
func (c shape) scope() string {
	if c.idToken == "" {
		return scope
	}
	return "openid " + scope
}

// issuer returns the name of an issuer, and the path of its URL, "" if it is the only one.
func (c shape) issuer(n int) (name, path string) {
	if c.issuers < 2 {
		return "default", ""
	}
	return fmt.Sprintf("i%d", n), fmt.Sprintf("/i%d", n)
}

func (c shape) allIssuers() (issuers []load.Issuer) {
	for n := range max(c.issuers, 1) {
		_, path := c.issuer(n)
		issuers = append(issuers, load.Issuer{
			Authorize: path + "/oauth/authorize", Token: path + "/oauth/token", Introspect: path + "/oauth/introspect",
		})
	}
	return issuers
}

func (c shape) allClients() (clients []load.Client) {
	for n := range max(c.clients, 1) {
		clients = append(clients, load.Client{ID: fmt.Sprintf("client-%d", n), Secret: fmt.Sprintf("the-secret-of-%d", n)})
	}
	return clients
}
