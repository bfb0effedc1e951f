package check

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestAgentFiles(t *testing.T) {
	all, err := readAgents()
	if err != nil {
		t.Fatal(err)
	}
	month := regexp.MustCompile(`^20\d\d-(0[1-9]|1[0-2])$`)
	var names []string
	for _, a := range all {
		names = append(names, a.Name)
		source, err := url.Parse(a.Source)
		if a.Title == "" || err != nil || source.Scheme != "https" || !month.MatchString(a.Date) || a.RedirectURI == "" || len(a.Order) == 0 {
			t.Errorf("%s: something is missing: %+v", a.Name, a)
		}
		for _, member := range a.Supports {
			if !slices.Contains([]string{"order", "redirect_uri", "browser", "requires", "cimd", "dcr"}, member) {
				t.Errorf("%s: it supports %q, which is no member", a.Name, member)
			}
		}
		if !slices.Contains(a.Supports, "redirect_uri") {
			t.Errorf("%s: the source does not show the redirect URI", a.Name)
		}
		if slices.Contains(a.Order, "cimd") != strings.HasPrefix(a.Document.ClientID, "https://") {
			t.Errorf("%s: a client ID that is a URL, and no way cimd, or the other way round", a.Name)
		}
		var body struct {
			RedirectURIs []string `json:"redirect_uris"`
			Method       string   `json:"token_endpoint_auth_method"`
		}
		if err := json.Unmarshal(a.Registration, &body); err != nil || !slices.Contains(body.RedirectURIs, a.RedirectURI) || body.Method != "none" {
			t.Errorf("%s: %v, %+v", a.Name, err, body)
		}
	}
	want := []string{"chatgpt", "claude", "claude-code", "codex", "cursor", "inspector", "mcp-remote", "opencode", "vscode"}
	if slices.Sort(names); !slices.Equal(names, want) {
		t.Errorf("%v", names)
	}
}

// openSite is a site that clients can connect to which nobody configured. Its fields are answers.
type openSite struct {
	fakeSite
	metadata map[string]any // members that are other than usual; nil is none
	register int            // the status of the registration endpoint
	refusal  string         // its error
	token    string         // the error of the token endpoint
	oidc     int            // the status of the metadata for OpenID Connect

	registered []string // names
}

func (s *openSite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration":
		w.Header().Set("Access-Control-Allow-Origin", "*")
		if strings.HasSuffix(r.URL.Path, "openid-configuration") && s.oidc != 0 {
			w.WriteHeader(s.oidc)
			return
		}
		m := map[string]any{
			"issuer": s.url, "authorization_endpoint": s.url + "/authorize", "token_endpoint": s.url + "/token", "jwks_uri": s.url + "/jwks",
			"scopes_supported": []string{"orders"}, "grant_types_supported": []string{"authorization_code", "refresh_token", "client_credentials"},
			"code_challenge_methods_supported": []string{"S256"}, "token_endpoint_auth_methods_supported": []string{"none", "private_key_jwt"},
			"client_id_metadata_document_supported": true, "registration_endpoint": s.url + "/register",
		}
		maps.Copy(m, s.metadata)
		maps.DeleteFunc(m, func(_ string, value any) bool { return value == nil })
		_ = json.NewEncoder(w).Encode(m)
	case "/register":
		w.Header().Set("Access-Control-Allow-Origin", "*")
		body := make(map[string]any)
		_ = json.NewDecoder(r.Body).Decode(&body)
		if s.register != http.StatusCreated {
			w.WriteHeader(s.register)
			fmt.Fprintf(w, `{"error":%q,"error_description":"for the test"}`, s.refusal)
			return
		}
		name, _ := body["client_name"].(string)
		s.registered = append(s.registered, name)
		body["client_id"] = "registered"
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(body)
	case "/token":
		if r.Method == http.MethodPost && s.token != "" {
			w.Header().Set("Access-Control-Allow-Origin", "*")
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"error":%q}`, s.token)
			return
		}
		s.fakeSite.ServeHTTP(w, r)
	default:
		s.fakeSite.ServeHTTP(w, r)
	}
}

func TestAgents(t *testing.T) {
	off := func(members ...string) map[string]any {
		m := make(map[string]any)
		for _, member := range members {
			m[member] = nil
		}
		return m
	}
	const flag, endpoint, methods = "client_id_metadata_document_supported", "registration_endpoint", "token_endpoint_auth_methods_supported"
	for _, tt := range []struct {
		name     string
		site     openSite
		settings string // of the issuer
		only     string
		verdict  Verdict
		seen     string // of the finding, after its check
		paste    string
	}{
		{"a document", openSite{}, `"mcp": true`, "", OK, "as Claude: it would connect, with the client ID https://claude.ai/oauth/mcp-oauth-client-metadata, finds the endpoints, gets to the login page", ""},
		{"what is not known", openSite{}, `"mcp": true`, "", OK, "not checked: the document at https://opencode.ai/oauth/opencode/client.json is fetched when somebody signs in", ""},
		{"registration", openSite{}, `"mcp": true`, "", OK, "as Cursor: it would connect, registers itself, finds the endpoints, gets to the login page", ""},
		{"without documents", openSite{metadata: off(flag)}, `"mcp": true, "cimd": {"off": true}`, "", OK, "as Claude: it would connect, registers itself", ""},
		{"documents but for keys only", openSite{metadata: map[string]any{methods: []string{"private_key_jwt"}}}, `"mcp": true`, "", OK, "as Codex: it would connect, registers itself", ""},
		{"a client for it", openSite{}, `"mcp": true, "clients": {"ours": {"redirect_uris": ["https://claude.ai/api/mcp/auth_callback"]}}`, "", OK, "as Claude: it would connect, with the client ID ours, which people enter", ""},
		{"only its URL is known", openSite{}, `"mcp": false`, "", OK, "as Cursor: it would connect", ""},

		{"neither", openSite{metadata: off(flag, endpoint)}, `"mcp": false`, "", OK, "agents: only clients that you configure can connect", ""},
		{"neither, and it is named", openSite{metadata: off(flag, endpoint)}, `"mcp": false`, "cursor", Fail, "as Cursor: it stops at registration: there is no registration_endpoint", "mcp"},
		{"no registration", openSite{metadata: off(endpoint)}, `"mcp": true, "dynamic": {"mode": "off"}`, "", Warning, "as Cursor: it stops at registration: there is no registration_endpoint", "dynamic open"},
		{"nothing", openSite{metadata: off(flag, endpoint)}, `"mcp": true`, "", Warning, "as Claude: it stops at registration: there is neither", "cimd"},
		{"other hosts", openSite{}, `"mcp": true, "cimd": {"allow": ["claude.ai"]}`, "", Warning, "as VS Code: it stops at the authorize endpoint: its client ID is at vscode.dev, which is none of the allowed hosts", "cimd {\n\tallow claude.ai vscode.dev\n}"},
		{"an allowed host", openSite{}, `"mcp": true, "cimd": {"allow": ["*.ai"]}`, "", OK, "as Claude: it would connect", ""},
		{"a denied host", openSite{}, `"mcp": true, "cimd": {"deny": ["vscode.dev"]}`, "vscode", Fail, "which is a denied host", "cimd {\n\t# remove vscode.dev from deny\n}"},
		{"a token", openSite{register: 401, refusal: "invalid_token"}, `"dynamic": {"mode": "token"}`, "", Warning, "as Cursor: it stops at registration: the issuer wants an initial access token", "dynamic open"},
		{"known redirects", openSite{register: 400, refusal: "invalid_redirect_uri"}, `"dynamic": {"redirects": "known"}`, "", Warning, "as Cursor: it stops at registration: invalid_redirect_uri: for the test", "dynamic {\n\tredirects any\n}"},
		{"refused", openSite{register: 400, refusal: "invalid_client_metadata"}, `"mcp": true`, "", Fail, "as Cursor: it stops at registration: status 400 invalid_client_metadata for the test", ""},
		{"too many", openSite{register: 429}, `"mcp": true`, "", NotChecked, "as Cursor: the registration endpoint: status 429", ""},
		{"no PKCE", openSite{metadata: off("code_challenge_methods_supported")}, `"mcp": true`, "", Fail, "as Claude: it stops at discovery: the metadata does not have S256", ""},
		{"another error", openSite{token: "invalid_request"}, `"mcp": true`, "", Fail, "as Cursor: it stops at the token endpoint: a code that nobody issued is refused with status 400 invalid_request", ""},
		{"no login", openSite{fakeSite: fakeSite{noLogin: true}}, `"mcp": true`, "", Fail, "as Claude: it stops at the login", ""},
		{"metadata elsewhere", openSite{oidc: 404}, `"mcp": true`, "", Warning, "agents: URL/.well-known/openid-configuration does not have", "127.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			site := &tt.site
			if site.register == 0 {
				site.register = http.StatusCreated
			}
			server := httptest.NewServer(site)
			defer server.Close()
			site.url = server.URL
			config := `{"apps": {"oauth": {"issuers": {"shop": {"url": "URL", "scopes": [{"name": "orders", "description": "x"}], ` + tt.settings + `}}},
				"http": {"servers": {"s": {"routes": [{"handle": [{"handler": "oauth"}]}]}}}}}`
			checker := &Checker{Config: []byte(strings.ReplaceAll(config, "URL", server.URL)), Client: tt.only}
			report, err := checker.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			found, tested := false, 0
			for _, f := range report.Findings {
				text := f.Check + ": " + strings.ReplaceAll(f.Seen, server.URL, "URL")
				found = found || f.Verdict == tt.verdict && strings.Contains(text, tt.seen) && strings.HasPrefix(f.Paste, tt.paste)
				if strings.HasPrefix(text, "as C") || strings.HasPrefix(text, "as V") {
					tested++
				}
				if (f.Verdict == Fail || f.Verdict == Warning) && f.Why == "" {
					t.Errorf("%s: nothing says why it matters", text)
				}
			}
			if !found {
				t.Errorf("expected %s: %s\n%+v", tt.verdict, tt.seen, report.Findings)
			}
			if tt.only != "" && tested != 1 {
				t.Errorf("%d agents were tested, and one is named", tested)
			}
		})
	}
}

// A name that is a client's or a kind's tests no agent, and nothing is registered then.
func TestNoAgents(t *testing.T) {
	for _, only := range []string{"browser", "claude"} {
		site := &openSite{register: http.StatusCreated}
		server := httptest.NewServer(site)
		defer server.Close()
		site.url = server.URL
		report, err := (&Checker{URLs: []string{server.URL}, Client: only}).Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if tested := report.find("with the client ID https://claude.ai") != nil; tested != (only == "claude") || len(site.registered) > 0 {
			t.Errorf("%s: %v, %+v", only, site.registered, report.Findings)
		}
	}
}

// X2: the running server knows which clients sign for the token endpoint instead of the issuer.
func TestAudiences(t *testing.T) {
	for _, tt := range []struct {
		name    string
		clients []string
		err     error
		verdict Verdict
		seen    string
	}{
		{"two", []string{"billing", "chatgpt"}, nil, Warning, "it has signed for the token endpoint, not for the issuer, at this node since it loaded its configuration"},
		{"none", nil, nil, OK, "no client has signed for the token endpoint instead of the issuer, at this node since it loaded its configuration"},
		{"nobody knows", nil, errors.New("the admin API does not say"), NotChecked, "which clients sign for the token endpoint instead of the issuer: the admin API does not say"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			site := new(openSite)
			server := httptest.NewServer(site)
			defer server.Close()
			site.url = server.URL
			config := `{"apps":{"oauth":{"issuers":{"shop":{"url":"` + site.url + `"}}}}}`
			checker := &Checker{Config: []byte(config), NameEndpoint: func(issuer string) ([]string, error) {
				if issuer != "shop" {
					t.Errorf("asked about %s", issuer)
				}
				return tt.clients, tt.err
			}}
			report, err := checker.Run(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var clients []string
			for _, f := range report.Findings {
				if f.Check == "audiences" && f.Verdict == tt.verdict && strings.HasPrefix(f.Seen, tt.seen) {
					clients = append(clients, f.Client)
				}
			}
			if want := tt.clients; len(clients) != max(1, len(want)) || want != nil && !slices.Equal(clients, want) {
				t.Errorf("got %+v", report.Findings)
			}
		})
	}
}
