package caddyoauth_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// agents are the titles of the agents that caddy oauth check plays.
var agents = []string{"ChatGPT", "Claude", "Claude Code", "Codex", "Cursor", "MCP Inspector", "OpenCode", "VS Code", "mcp-remote"}

const agentsSite = `http://127.0.0.1:PORT {
	oauth {
		login {
			basic_auth {
				alice $2a$10$hZXuaFeiO.l1vqgnMGGKpuPhIxvCXsaCdzm6ECT1UgOJ9mL03gniC
			}
		}
	}
}`

func agentsIssuer(settings string) string {
	return "oauth {\n\tissuer http://127.0.0.1:PORT {\n\t\tscope orders \"your orders\"\n" + settings + "\n\t}\n}"
}

func TestCheckPlaysAgents(t *testing.T) {
	s := newServer(t)
	settings := agentsIssuer("mcp")
	file := s.writeCaddyfile(t, settings, agentsSite)
	s.run(t, settings, agentsSite)
	for range 2 { // the second time, they have registered before
		report, status := s.check(t, "--config", file)
		for _, title := range agents {
			if !report.has("ok", "as "+title+": it would connect") {
				t.Errorf("expected %s to connect", title)
			}
		}
		if status != 0 || report.has("fail", "") || report.has("not checked", "") || !report.has("ok", "agents: they find the metadata") {
			t.Errorf("status %d, %+v", status, report)
		}
	}
	report, status := s.check(t, "--url", "http://127.0.0.1:"+s.port, "--client", "cursor")
	if status != 0 || !report.has("ok", "as Cursor: it would connect, registers itself") || report.has("", "as Claude") {
		t.Errorf("one agent, by the URL: status %d, %+v", status, report)
	}
}

// All agents register themselves, unless the issuer does not let them.
func TestCheckSaysWhereAgentsStop(t *testing.T) {
	for _, tt := range []struct {
		settings, verdict, seen string
		paste                   map[string]string // by agent
	}{
		{"mcp\ncimd off", "ok", "it would connect, registers itself", nil},
		{"mcp\ndynamic off\ncimd off", "warning", "it stops at registration: there is n", map[string]string{"Cursor": "dynamic open", "Claude": "cimd"}},
		{"mcp\ncimd off\ndynamic token 0123456789abcdef0123456789abcdef", "warning", "it stops at registration: the issuer wants an initial access token", map[string]string{"Cursor": "dynamic open"}},
	} {
		s := newServer(t)
		settings := agentsIssuer(tt.settings)
		file := s.writeCaddyfile(t, settings, agentsSite)
		s.run(t, settings, agentsSite)
		report, status := s.check(t, "--config", file)
		for _, title := range agents {
			if !report.has(tt.verdict, "as "+title+": "+tt.seen) {
				t.Errorf("%s: %s: expected %s: %s", tt.settings, title, tt.verdict, tt.seen)
			}
		}
		for title, paste := range tt.paste {
			for _, f := range report.Findings {
				if f.Check == "as "+title && (f.Paste != paste || f.Why == "") {
					t.Errorf("%s: %+v", tt.settings, f)
				}
			}
		}
		if status != 0 || report.has("fail", "") {
			t.Errorf("%s: status %d, %+v", tt.settings, status, report)
		}
		if _, status := s.check(t, "--config", file, "--client", "cursor"); (status == 1) != (tt.paste != nil) {
			t.Errorf("%s: the owner asks about Cursor, and the status is %d", tt.settings, status)
		}
	}
}

// A login page of the site, and no login at all.
func TestCheckPlaysAgentsAsFarAsTheLoginPage(t *testing.T) {
	for login, want := range map[string]string{
		"user {http.auth.user.id}\nlogin /login": "gets to the login page",
		"user {http.auth.user.id}":               "nobody is signed in, and the site shows no login",
	} {
		s := newServer(t)
		settings, site := agentsIssuer("mcp"), "http://127.0.0.1:PORT {\n\toauth {\n"+login+"\n\t}\n\trespond ok\n}"
		file := s.writeCaddyfile(t, settings, site)
		s.run(t, settings, site)
		report, _ := s.check(t, "--config", file)
		for _, title := range []string{"Claude", "Cursor"} { // by a document, and by registration
			found := false
			for _, f := range report.Findings {
				found = found || f.Check == "as "+title && strings.Contains(f.Seen, want)
			}
			if !found {
				t.Errorf("%s: expected %s: %+v", filepath.Base(login), want, report)
			}
		}
	}
}
