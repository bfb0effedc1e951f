package check

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// personSite is a site at which a cookie signs somebody in, who has approved the app before.
type personSite struct {
	openSite
	payload    string // of the access token; "" is an opaque one
	noRevoking bool
	refuses    bool // the guard refuses every token

	called int // how often a token came to the guard
}

func (s *personSite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*")
	_ = r.ParseForm()
	token := "opaque-token"
	if s.payload != "" {
		token = "e30." + base64.RawURLEncoding.EncodeToString([]byte(s.payload)) + ".c2ln"
	}
	switch {
	case r.URL.Path == "/authorize" && r.Header.Get("Cookie") != "":
		answer := url.Values{"code": {"issued"}, "state": {r.Form.Get("state")}}
		http.Redirect(w, r, r.Form.Get("redirect_uri")+"?"+answer.Encode(), http.StatusSeeOther)
	case r.URL.Path == "/token" && r.Form.Get("code") == "issued" && r.Form.Get("client_id") == "ours":
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":"invalid_client"}`) // it has a secret
	case r.URL.Path == "/token" && r.Form.Get("code") == "issued":
		_ = json.NewEncoder(w).Encode(map[string]string{"access_token": token, "refresh_token": "r", "scope": "orders"})
	case r.URL.Path == "/revoke" && s.noRevoking:
		w.WriteHeader(http.StatusServiceUnavailable)
	case r.URL.Path == "/revoke":
	case strings.HasPrefix(r.URL.Path, "/api/") && r.Header.Get("Authorization") == "Bearer "+token:
		s.called++
		if s.refuses {
			w.Header().Set("WWW-Authenticate", "Bearer")
			w.WriteHeader(http.StatusUnauthorized)
		}
	default:
		s.openSite.ServeHTTP(w, r)
	}
}

// asPerson returns what the check of a client finds with the headers of a person. Its settings are members of JSON.
func (s *personSite) asPerson(t *testing.T, only, client, issuer, guard string) (*Report, Finding) {
	t.Helper()
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url, s.payload = server.URL, strings.ReplaceAll(s.payload, "URL", server.URL)
	if s.metadata == nil {
		s.metadata = make(map[string]any)
	}
	s.metadata["revocation_endpoint"] = server.URL + "/revoke"
	config := `{"apps": {"oauth": {"issuers": {"shop": {"url": "URL", "scopes": [{"name": "orders", "description": "x"}], ` + issuer + ` "clients": {` + client + `}}}},
		"http": {"servers": {"s": {"routes": [{"handle": [{"handler": "oauth"}]},
			{"match": [{"path": ["/api/*"]}], "handle": [{"handler": "oauth_guard", ` + guard + ` "scopes": ["orders"]}]}]}}}}}`
	checker := &Checker{Config: []byte(strings.ReplaceAll(config, "URL", server.URL)), Client: only, AsUser: []string{"Cookie", "session=s"}}
	report, err := checker.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		if strings.HasPrefix(f.Check, "as ") {
			return report, f
		}
	}
	t.Fatalf("nobody was tested: %+v", report)
	return nil, Finding{}
}

const plainApp = `"app": {"redirect_uris": ["https://app.example/cb"], "scopes": ["orders"]}`

// A guard for another audience refuses the token of a client that is right.
func TestGuardsOfAnotherAudienceAreNotCalled(t *testing.T) {
	for _, tt := range []struct {
		name, payload, client, issuer, guard string
		called                               bool
	}{
		{"by default", `{"aud":"URL"}`, plainApp, "", "", true},
		{"in a list", `{"aud":["https://other.example","https://api.example"]}`, plainApp, "", `"audience": ["https://api.example"],`, true},
		{"another", `{"aud":"https://shop.example"}`, plainApp, "", `"audience": ["https://api.example"],`, false},
		{"another resource", `{"aud":"https://shop.example"}`, plainApp, "", `"resource": "https://api.example",`, false},
		{"minimal claims", `{"sub":"alice"}`, plainApp, "", `"audience": ["https://api.example"],`, true},
		{"opaque, the issuer's", "", plainApp, `"audience": ["https://shop.example"],`, `"audience": ["https://shop.example"],`, true},
		{"opaque, another", "", plainApp, `"audience": ["https://shop.example"],`, `"audience": ["https://api.example"],`, false},
		{"opaque, the client's", "", strings.Replace(plainApp, `"scopes"`, `"audience": ["https://api.example"], "scopes"`, 1), "", `"audience": ["https://api.example"],`, true},
		{"MCP takes the default", `{"aud":"URL"}`, plainApp, "", `"mcp": {}, "resource": "URL/api/mcp",`, true},
		{"MCP of other clients", `{"aud":"URL"}`, plainApp + `, "other": {"audience": ["URL/api/mcp"], "secrets": ["x"]}`, "", `"mcp": {}, "resource": "URL/api/mcp",`, false},
		{"MCP with audiences", `{"aud":"URL"}`, plainApp, "", `"mcp": {}, "audience": ["https://api.example"], "resource": "URL/api/mcp",`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			site := &personSite{payload: tt.payload, refuses: !tt.called}
			_, f := site.asPerson(t, "app", tt.client, tt.issuer, tt.guard)
			if f.Verdict != OK || (site.called == 1) != tt.called || strings.Contains(f.Seen, "for which the token is not") == tt.called {
				t.Errorf("%d calls, %+v", site.called, f)
			}
		})
	}
}

// That tokens live on is not lost behind what was found before.
func TestRevocationThatFailsIsFound(t *testing.T) {
	for _, refuses := range []bool{false, true} {
		_, f := (&personSite{noRevoking: true, refuses: refuses}).asPerson(t, "app", plainApp, "", "")
		want := Warning
		if refuses {
			want = Fail
		}
		if f.Verdict != want || strings.Contains(f.Seen, "it stops at the guard") != refuses || !strings.Contains(f.Seen, "cannot revoke them: status 503") ||
			!strings.Contains(f.Why, "live on") {
			t.Errorf("%+v", f)
		}
	}
}

// People enter the ID of a client with a secret, which is not tried.
func TestAgentWithASecretAsAPerson(t *testing.T) {
	const ours = `"ours": {"secrets": ["x"], "redirect_uris": ["https://claude.ai/api/mcp/auth_callback"], "scopes": ["orders"]}`
	report, f := new(personSite).asPerson(t, "claude", ours, `"mcp": true,`, "")
	if f.Verdict != OK || !strings.Contains(f.Seen, "with the client ID ours") || !strings.Contains(f.Seen, "needs its secret or key for the tokens, which was not tried") {
		t.Errorf("%+v", report)
	}
}

// nobody is a network in which nobody answers.
type nobody struct{}

func (nobody) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("nobody answers")
}

// The headers of a person are not for everybody on the way.
func TestHeadersOfAPersonAreNotSentInClear(t *testing.T) {
	person := []string{"Cookie", "session=s"}
	for _, tt := range []struct {
		url     string
		outside *url.URL
		header  []string
		refused bool
	}{
		{"http://shop.example", nil, person, true},
		{"HTTP://192.0.2.1:8080", nil, person, true},
		{"http://shop.example", nil, nil, false},
		{"https://shop.example", nil, person, false},
		{"http://localhost:8080", nil, person, false},
		{"http://[::1]", nil, person, false},
		{"http://localhost", new(url.URL), person, true}, // of the machine with the proxy
	} {
		checker := &Checker{URLs: []string{tt.url}, AsUser: tt.header, Outside: tt.outside, Transport: nobody{}}
		if _, err := checker.Run(t.Context()); (err != nil) != tt.refused || tt.refused && !strings.Contains(err.Error(), "in clear to "+tt.url) {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}

// A client that has to push or sign its requests is right, although the check cannot continue after the login.
func TestClientsThatPushOrSignAreNotChecked(t *testing.T) {
	const pushes, signs = "require_pushed_authorization_requests", "require_signed_request_object"
	for _, tt := range []struct{ setting, member string }{
		{`"` + pushes + `": true,`, ""}, {`"` + signs + `": true,`, ""}, {`"profile": "fapi2",`, ""}, {"", pushes}, {"", signs},
	} {
		site := &personSite{openSite: openSite{metadata: map[string]any{tt.member: true}}}
		client := strings.Replace(plainApp, `"scopes"`, tt.setting+` "scopes"`, 1)
		if _, f := site.asPerson(t, "app", client, "", ""); f.Verdict != NotChecked || !strings.Contains(f.Seen, "pushes or signs its requests") {
			t.Errorf("%+v: %+v", tt, f)
		}
	}
}
