package caddyoauth_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const app = "https://app.example.com"

// preflight asks as a browser does before a script of the origin sends a request with a token.
func (s *server) preflight(t *testing.T, path, origin string) answer {
	t.Helper()
	return s.do(t, http.MethodOptions, s.url("shop.localhost")+path, "", "", "Origin", origin,
		"Access-Control-Request-Method", "PATCH", "Access-Control-Request-Headers", "authorization, x-requested-with")
}

func TestGuardAnswersPreflights(t *testing.T) {
	for _, tt := range []struct {
		name, cors, origin string
		allowed            string // the origin in the answer, "" if refused
	}{
		{"any origin", "cors", app, "*"},
		{"an origin of the list", "cors http://localhost:3000 " + app, app, app},
		{"another origin", "cors http://localhost:3000", app, ""},
		{"an origin in another case", "cors " + app, strings.ToUpper(app), ""},
		{"an origin that begins alike", "cors " + app, app + ".evil.example", ""},
		{"none", "cors " + app, "null", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, token := guarded(t, "oauth_guard /api/* {\nscopes orders\n"+tt.cors+"\n}", "")
			asked := s.preflight(t, "/api/orders", tt.origin)
			status, methods, headers := http.StatusNoContent, "PATCH", "authorization, x-requested-with"
			if tt.allowed == "" {
				status, methods, headers = http.StatusForbidden, "", ""
			}
			got := asked.header
			if asked.status != status || got.Get("Access-Control-Allow-Origin") != tt.allowed ||
				got.Get("Access-Control-Allow-Methods") != methods || got.Get("Access-Control-Allow-Headers") != headers {
				t.Errorf("the preflight: %d %v", asked.status, got)
			}
			if got.Get("Access-Control-Allow-Credentials") != "" || tt.allowed != "*" && !strings.Contains(strings.Join(got.Values("Vary"), ","), "Origin") {
				t.Errorf("the preflight: %v", got)
			}
			for _, request := range []struct {
				authorization, target string
				status                int
				exposed               string
			}{
				{"", "", 401, "WWW-Authenticate"},
				{"Bearer nonsense", "", 401, "WWW-Authenticate"},
				{"", "?access_token=x", 400, "WWW-Authenticate"},
				{"Bearer " + token, "", 200, "*"},
			} {
				answer := s.get(t, s.url("shop.localhost")+"/api/orders"+request.target, "Origin", tt.origin, "Authorization", request.authorization)
				exposed := answer.header.Get("Access-Control-Expose-Headers")
				if answer.status != request.status || answer.header.Get("Access-Control-Allow-Origin") != tt.allowed ||
					(tt.allowed != "") != (exposed != "" && strings.Contains(exposed, request.exposed)) {
					t.Errorf("%q: %d %v", request.authorization, answer.status, answer.header)
				}
			}
			if answer := s.do(t, http.MethodOptions, s.url("shop.localhost")+"/api/orders", "", "", "Origin", tt.origin); answer.status != 401 {
				t.Errorf("OPTIONS that is no preflight: %d %v", answer.status, answer.header)
			}
			if answer := s.preflight(t, "/public", tt.origin); answer.status != 200 {
				t.Errorf("a preflight for another path: %d %v", answer.status, answer.header)
			}
		})
	}
}

// Where two guards match, scripts may read what either refuses if one of them has cors.
func TestPreflightAtTwoGuards(t *testing.T) {
	s := newServer(t)
	s.run(t, shop, "http://shop.localhost:PORT {\noauth_guard /api/admin/*\noauth_guard /api/* {\ncors\n}\n}")
	if answer := s.preflight(t, "/api/admin/orders", app); answer.status != 204 || answer.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("the preflight: %d %v", answer.status, answer.header)
	}
	answer := s.get(t, s.url("shop.localhost")+"/api/admin/orders", "Origin", app)
	if answer.status != 401 || answer.header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("the refusal: %d %v", answer.status, answer.header)
	}
}

// A site that has rules of its own keeps them.
func TestSiteWithRulesForOtherOrigins(t *testing.T) {
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", app)
		w.Header().Set("Access-Control-Expose-Headers", "X-Total")
	}))
	t.Cleanup(api.Close)
	s := newServer(t)
	s.run(t, shop, `http://shop.localhost:PORT {
		vars person alice
		oauth {
			user {vars.person}
		}
		oauth_guard /api/* {
			cors
		}
		reverse_proxy `+strings.TrimPrefix(api.URL, "http://")+`
	}`)
	token := s.signIn(t, s.url("shop.localhost")).AccessToken
	got := s.get(t, s.url("shop.localhost")+"/api/orders", "Origin", app, "Authorization", "Bearer "+token).header
	if origins, exposed := got.Values("Access-Control-Allow-Origin"), got.Get("Access-Control-Expose-Headers"); strings.Join(origins, "|") != app || exposed != "X-Total" {
		t.Errorf("%v", got)
	}
}

// Without cors, a preflight gets through only to a route in which the site answers preflights and nothing else.
func TestPreflightWithoutCORS(t *testing.T) {
	reached := 0
	api := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached++ }))
	t.Cleanup(api.Close)
	for _, tt := range []struct {
		name, site string
		status     int
	}{
		{"nothing", "", 401},
		{"handle", "@preflight {\nmethod OPTIONS\npath /api/*\n}\nhandle @preflight {\nheader X-Site yes\nrespond 204\n}", 204},
		{"respond", "@preflight method OPTIONS\nrespond @preflight 204", 204},
		{"another path", "@preflight {\nmethod OPTIONS\npath /other/*\n}\nrespond @preflight 204", 401},
		{"another method too", "@some method GET OPTIONS\nrespond @some 204", 401},
		{"every method", "respond 204", 401},
		{"a header alone", "@preflight method OPTIONS\nheader @preflight X-Site yes", 401},
		{"no answer", "@preflight method OPTIONS\nhandle @preflight {\nvars a b\n}", 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t)
			s.run(t, shop, "http://shop.localhost:PORT {\noauth_guard /api/*\n"+tt.site+"\nreverse_proxy "+strings.TrimPrefix(api.URL, "http://")+"\n}")
			for range 3 {
				if answer := s.preflight(t, "/api/orders", app); answer.status != tt.status {
					t.Errorf("%d %v", answer.status, answer.header)
				}
			}
			want := 0
			if tt.status == 401 {
				want = 1
			}
			const message = "a script of another origin may not call a guarded route; if it should, add cors to the guard"
			if entries := s.logged(t, message); len(entries) != want || want == 1 && entries[0]["origin"] != app {
				t.Errorf("the log has %v", entries)
			}
			if answer := s.get(t, s.url("shop.localhost")+"/api/orders"); answer.status != 401 || reached != 0 {
				t.Errorf("GET: %d, and the site was reached %d times", answer.status, reached)
			}
		})
	}
}
