package caddyoauth_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// refused sends a token request that is refused, and returns the error ID.
func (s *server) refused(t *testing.T, form url.Values) string {
	t.Helper()
	answer := s.do(t, http.MethodPost, s.url("shop.localhost")+"/oauth/token", "application/x-www-form-urlencoded", form.Encode())
	var body struct {
		ID string `json:"error_id"`
	}
	if err := json.Unmarshal([]byte(answer.body), &body); err != nil || body.ID == "" {
		t.Fatalf("expected an error with an ID: %d %s", answer.status, answer.body)
	}
	return body.ID
}

// The admin API knows the last failures, also after a reload, and no secret of them.
func TestFailuresOverTheAdminAPI(t *testing.T) {
	s := runShop(t)
	id := s.refused(t, url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {"stolen-token"}, "client_id": {"app"}, "client_secret": {"wrong-secret"},
	})
	for _, after := range []string{"at once", "after a reload"} {
		one := s.askAdmin(t, http.MethodGet, "/oauth/@all/failures/"+id, "")
		for _, want := range []string{`"error_id":"` + id + `"`, `"client_id":"app"`, `"error":"invalid_client"`, `"setting":"client app: secret`} {
			if one.status != http.StatusOK || !strings.Contains(one.body, want) {
				t.Errorf("%s: %d %s, expected %s", after, one.status, one.body, want)
			}
		}
		all := s.askAdmin(t, http.MethodGet, "/oauth/@all/failures", "")
		if all.status != http.StatusOK || !strings.HasPrefix(all.body, `[{"error_id":"`+id) {
			t.Errorf("%s: the failures are %d %s", after, all.status, all.body)
		}
		for _, secret := range []string{"wrong-secret", "stolen-token"} {
			if strings.Contains(one.body+all.body, secret) {
				t.Errorf("%s: %s is in %s", after, secret, one.body)
			}
		}
		s.run(t, shop, shopSite)
	}
	if answer := s.askAdmin(t, http.MethodGet, "/oauth/@all/failures/nothing2", ""); answer.status != http.StatusNotFound {
		t.Errorf("an unknown ID: %d %s", answer.status, answer.body)
	}
	for _, path := range []string{"/oauth", "/oauth/@all/failures", "/oauth/default/keys"} {
		if answer := s.askAdmin(t, http.MethodGet, path, ""); !strings.HasSuffix(answer.body, "\n") {
			t.Errorf("%s does not end with a line break: %q", path, answer.body)
		}
	}
	if answer := s.askAdmin(t, http.MethodPost, "/oauth/@all/failures", ""); answer.status != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d %s", answer.status, answer.body)
	}
}

// expired brings a code until it has expired, with another redirect URI so that it is not used, and returns the error ID.
func (s *server) expired(t *testing.T, code string) string {
	t.Helper()
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {callback + "/"}, "client_id": {"app"}, "client_secret": {"app-secret"},
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		answer := s.do(t, http.MethodPost, s.url("shop.localhost")+"/oauth/token", "application/x-www-form-urlencoded", form.Encode())
		var body struct {
			ID   string `json:"error_id"`
			Says string `json:"error_description"`
		}
		if err := json.Unmarshal([]byte(answer.body), &body); err != nil || body.ID == "" {
			t.Fatalf("expected an error with an ID: %d %s", answer.status, answer.body)
		}
		if strings.HasPrefix(body.Says, "authorization code") {
			return body.ID
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("the code does not expire")
		}
	}
}

// What goes wrong most often is explained in words that need no RFC, with the line of the Caddyfile that decides.
func TestExplainWhatGoesWrongMost(t *testing.T) {
	s := newServer(t)
	site := strings.Replace(shopSite, "respond", "oauth_guard /api {\nscopes orders\n}\noauth_guard /admin {\nscopes orders admin\n}\nrespond", 1)
	shop := strings.Replace(shop, "scope orders", "scope orders\nscope admin\ncode {\nlifetime 1m\n}", 1)
	s.run(t, shop, site)
	issuer := s.url("shop.localhost")
	file := filepath.Join(s.dir, "Caddyfile")
	if err := os.WriteFile(file, []byte("{\n"+shop+"\n}\n"+site), 0o600); err != nil {
		t.Fatal(err)
	}
	authorize := func(params ...string) func() string {
		return func() string {
			asked := url.Values{"response_type": {"code"}, "client_id": {"app"}, "redirect_uri": {callback}}
			asked.Set(params[0], params[1])
			got := s.get(t, issuer+"/oauth/authorize?"+asked.Encode())
			if location, err := url.Parse(got.header.Get("Location")); err == nil && location.Query().Has("error_id") {
				return location.Query().Get("error_id")
			}
			id := regexp.MustCompile(`>([a-z2-7]{8})<`).FindStringSubmatch(got.body)
			if id == nil {
				t.Fatalf("no error ID on the page: %s", got.body)
			}
			return id[1]
		}
	}
	for _, tt := range []struct {
		name    string
		id      func() string
		decides string
		want    []string
	}{
		{
			"wrong redirect URI", authorize("redirect_uri", callback+"/"), "redirect_uris",
			[]string{"What came: +" + callback + "/$", "expected: +" + callback + "$", "letter by letter", "add it exactly as it came"},
		},
		{
			"unknown scope", authorize("scope", "invoices"), "scopes",
			[]string{"What came: +invoices$", "expected: +orders$", "scope is a name for what an app may do", `scope invoices "`},
		},
		{
			"wrong secret", func() string {
				wrong := url.Values{"grant_type": {"authorization_code"}, "client_id": {"app"}, "client_secret": {"wrong-secret"}}
				return s.refused(t, wrong)
			}, "secret",
			[]string{"a wrong secret", "The client ID is right, and the secret is not", "Compare the secret"},
		},
		{
			"guard: no token", func() string { return s.get(t, issuer+"/api").header.Get("Error-Id") }, "",
			[]string{"What came: +no access token", "The guard lets only requests with a token pass", `"Authorization: Bearer <access token>"`},
		},
		{
			"guard: scope", func() string {
				token := s.signIn(t, issuer).AccessToken
				return s.get(t, issuer+"/admin", "Authorization", "Bearer "+token).header.Get("Error-Id")
			}, "scopes",
			[]string{"What came: +scope orders$", "expected: +orders admin$", "User: +alice$", "API: +" + issuer + "$", "So the app asked for less", "client block: scopes orders admin"},
		},
		{
			"guard: a path of two meanings", func() string { return s.get(t, issuer+"/public/..%2fapi").header.Get("Error-Id") }, "",
			[]string{`What came: +/public/\.\.%2fapi$`, "can be read in two ways", "without dot segments"},
		},
		{
			"expired code", func() string {
				s.run(t, strings.Replace(shop, "lifetime 1m", "lifetime 1s", 1), site)
				location, err := url.Parse(s.authorize(t, issuer, callback).header.Get("Location"))
				if err != nil || location.Query().Get("code") == "" {
					t.Fatalf("no code: %v, %v", location, err)
				}
				return s.expired(t, location.Query().Get("code"))
			}, "",
			[]string{"The authorization code has expired", "Begin again", "code \\{ lifetime 5m \\}"},
		},
	} {
		id := tt.id()
		out := s.must(t, "", "explain", id, "--config", file)
		for _, want := range append(tt.want, "^Error "+id) {
			if !regexp.MustCompile("(?m)" + want).MatchString(strings.Join(strings.Fields(out), " ")) {
				expect(t, out, want)
			}
		}
		if tt.decides != "" {
			expect(t, out, `decides: .*`+tt.decides+`.* \(`+regexp.QuoteMeta(file)+`:\d+\)`)
		}
		for _, secret := range []string{"wrong-secret", "app-secret"} {
			if strings.Contains(out, secret) {
				t.Errorf("%s: the secret %s is in\n%s", tt.name, secret, out)
			}
		}
		logged, err := s.command(t, "", "explain", id, "--log", s.logFile())
		if err != nil {
			t.Errorf("%s: from the log: %v", tt.name, err)
		}
		if _, why, _ := strings.Cut(out, "\nWhy"); !strings.HasSuffix(logged, why) {
			t.Errorf("%s: the log says\n%s\nthe running Caddy\n%s", tt.name, logged, out)
		}
	}
	expect(t, s.must(t, "", "explain"), `^[a-z2-7]{8} +\d{4}-.* token +app +invalid_grant +authorization code`)
}

func TestExplainCodesAndSettings(t *testing.T) {
	s := new(server)
	for _, tt := range []struct{ args, want string }{
		{"code invalid_grant", "^invalid_grant: What the client brings"},
		{"code INVALID_SCOPE --json", `"code": "invalid_scope"`},
		{"setting redirect_uris", `^oauth > issuers > clients > redirect_uris$`},
		{"setting secret_hash", `Hashes of secrets`},
		{"setting client refresh_token lifetime", `^oauth > issuers > clients > refresh_token > lifetime$`},
		{"setting token_header --json", `"oauth_guard \(directive\)"`},
	} {
		out, err := s.command(t, "", append([]string{"explain"}, strings.Fields(tt.args)...)...)
		if err != nil {
			t.Errorf("%s: %v", tt.args, err)
		}
		expect(t, out, tt.want)
	}
	if out, err := s.command(t, "", "explain", "setting", "redirect_uris"); err != nil || strings.Count(out, "The URIs to which") != 1 {
		t.Errorf("%v: expected one text in\n%s", err, out)
	}
	for _, tt := range []struct{ args, want string }{
		{"code bogus", `sends no error bogus, expected one of: access_denied`},
		{"setting redirect_uri_rule_s", `did you mean redirect_uri_rules\?`},
		{"abcd2345 --log /nonexistent", `no such file`},
	} {
		out, err := s.command(t, "", append([]string{"explain"}, strings.Fields(tt.args)...)...)
		if err == nil {
			t.Errorf("%s works", tt.args)
		}
		expect(t, out, tt.want)
	}
}

// A configuration without an issuer of its own has refusals of its guards too.
func TestExplainAGuardOfARemoteIssuer(t *testing.T) {
	s := newServer(t)
	s.run(t, "", `http://remote.localhost:PORT {
		oauth_guard https://idp.example {
			audience https://api.example
		}
	}`)
	id := s.get(t, s.url("remote.localhost")).header.Get("Error-Id")
	out := s.must(t, "", "explain", id)
	expect(t, out, `^Error `+id)
	expect(t, out, `API: +https://api\.example$`)
	expect(t, out, `The request had no access token`)
}
