package integration_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// failing is an application that fails until it is told to work. It keeps the IDs of the logout tokens that it got, failed or not.
type failing struct {
	mu     sync.Mutex
	works  bool
	failed []string
	taken  []string
}

func (f *failing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token := r.PostFormValue("logout_token")
	f.mu.Lock()
	defer f.mu.Unlock()
	if id := claimOf(token, "jti"); f.works {
		f.taken = append(f.taken, id)
	} else {
		f.failed = append(f.failed, id)
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func (f *failing) work(works bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.works = works
}

func (f *failing) counts() (failed, taken int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.failed), len(f.taken)
}

func claimOf(token, name string) string {
	claims := make(map[string]any)
	if parts := strings.Split(token, "."); len(parts) == 3 {
		payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
		_ = json.Unmarshal(payload, &claims)
	}
	value, _ := claims[name].(string)
	return value
}

// A logout that could not be sent yet is sent after kill -9, and by another configuration after a reload, with the same jti.
func TestLogoutIsNotLost(t *testing.T) {
	t.Parallel()
	for _, backend := range []string{"files", "redis"} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			app := new(failing)
			told := httptest.NewServer(app)
			t.Cleanup(told.Close)
			store := ""
			if backend == "redis" {
				store = integration.StartRedis(t).Store()
			}
			secrets := new(integration.Secrets)
			secrets.Add(integration.PartnerSecret)
			s := integration.Start(t, integration.Config{
				Secrets: secrets, Ailing: true,
				Env: []string{"PARTNER_SECRET=" + integration.PartnerSecret, "TOLD=" + told.URL},
				Sites: `{$SITE} {
					vars {
						person alice
						sid s-1
					}
					oauth {$ISSUER} {
						user {vars.person}
						session {
							sid {vars.sid}
						}
						` + store + `
						openid {
							id_token_signed_response_alg ES256
						}
						client partner {
							secret {env.PARTNER_SECRET}
							redirect_uris https://partner.example.com/callback
							scopes openid
							consent never
							backchannel_logout_uri {$TOLD}
						}
					}
				}`,
			})
			client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
			signInAndOut := func() {
				t.Helper()
				_, to := get(t, client, s.URL+"/oauth/authorize?"+url.Values{
					"response_type": {"code"}, "client_id": {"partner"}, "redirect_uri": {"https://partner.example.com/callback"}, "scope": {"openid"},
				}.Encode())
				var tokens struct {
					IDToken string `json:"id_token"`
				}
				post(t, client, s.URL+"/oauth/token", url.Values{
					"grant_type": {"authorization_code"}, "code": {to.Query().Get("code")}, "redirect_uri": {"https://partner.example.com/callback"},
					"client_id": {"partner"}, "client_secret": {integration.PartnerSecret},
				}, &tokens)
				s.Secrets.Add(tokens.IDToken)
				if status, _ := get(t, client, s.URL+"/oauth/logout?id_token_hint="+tokens.IDToken); status != http.StatusOK {
					t.Fatalf("logout: %d", status)
				}
			}
			for n, interrupt := range []func(){
				func() {
					s.Kill()
					s.Run()
				},
				func() { must(t, s.Load(t.Context(), s.Adapted(t))) },
			} {
				app.work(false)
				before, _ := app.counts()
				signInAndOut()
				integration.Eventually(t, "the first attempt", func() bool {
					failed, _ := app.counts()
					return failed > before
				})
				interrupt()
				app.work(true)
				integration.Eventually(t, "the logout token", func() bool {
					_, taken := app.counts()
					return taken == n+1
				})
				app.mu.Lock()
				if last := len(app.failed) - 1; app.taken[n] == "" || app.taken[n] != app.failed[last] {
					t.Errorf("the jti is %q, and was %q", app.taken[n], app.failed[last])
				}
				app.mu.Unlock()
			}
		})
	}
}

// get returns the status of an answer, and where it leads.
func get(t *testing.T, client *http.Client, target string) (status int, to *url.URL) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	must(t, err)
	resp, err := client.Do(req)
	must(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	must(t, err)
	must(t, resp.Body.Close())
	to, err = url.Parse(resp.Header.Get("Location"))
	must(t, err)
	return resp.StatusCode, to
}

func post(t *testing.T, client *http.Client, target string, form url.Values, answer any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, target, strings.NewReader(form.Encode()))
	must(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := client.Do(req)
	must(t, err)
	must(t, json.NewDecoder(resp.Body).Decode(answer))
	must(t, resp.Body.Close())
}

// heard has the sessions whose end an application has learned of.
type heard struct{ sync.Map }

func (h *heard) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	h.Store(claimOf(r.PostFormValue("logout_token"), "sid"), true)
}

// Whoever has an ID token learns of the end of its session, also if the server was killed, or loaded its configuration again, as soon as the
// token was there or while it was made.
func TestIDTokenHasASession(t *testing.T) {
	t.Parallel()
	const sessions = 8
	app := new(heard)
	told := httptest.NewServer(app)
	t.Cleanup(told.Close)
	secrets := new(integration.Secrets)
	secrets.Add(integration.PartnerSecret)
	s := integration.Start(t, integration.Config{
		Secrets: secrets, Env: []string{"PARTNER_SECRET=" + integration.PartnerSecret, "TOLD=" + told.URL},
		Sites: `{$SITE} {
			vars person alice
			oauth {$ISSUER} {
				user {vars.person}
				session {
					sid {header.X-Session}
				}
				openid {
					id_token_signed_response_alg ES256
				}
				client partner {
					secret {env.PARTNER_SECRET}
					redirect_uris https://partner.example.com/callback
					scopes openid
					consent never
					backchannel_logout_uri {$TOLD}
				}
			}
		}`,
	})
	browser := &http.Client{
		Transport:     secrets.Record(&http.Transport{DisableKeepAlives: true}), // a killed server leaves no connections
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	// code signs alice in, in a session. A listener that closes in a reload breaks connections that it has not read from.
	code := func(session string) string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/oauth/authorize?"+url.Values{
			"response_type": {"code"}, "client_id": {"partner"}, "redirect_uri": {"https://partner.example.com/callback"}, "scope": {"openid"},
		}.Encode(), nil)
		must(t, err)
		req.Header.Set("X-Session", session)
		var resp *http.Response
		integration.Eventually(t, "an answer", func() bool {
			resp, err = browser.Do(req) //nolint:bodyclose // closed below
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
				t.Fatal(err)
			}
			return err == nil
		})
		must(t, resp.Body.Close())
		to, err := resp.Location()
		must(t, err)
		return to.Query().Get("code")
	}
	// exchange returns the status and the ID token for a code. The error says that the connection has broken.
	exchange := func(code string) (status int, idToken string, err error) {
		var tokens struct {
			IDToken string `json:"id_token"`
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/oauth/token", strings.NewReader(url.Values{
			"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {"https://partner.example.com/callback"},
			"client_id": {"partner"}, "client_secret": {integration.PartnerSecret},
		}.Encode()))
		must(t, err)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := browser.Do(req)
		if err != nil {
			return 0, "", err
		}
		defer resp.Body.Close()
		err = json.NewDecoder(resp.Body).Decode(&tokens)
		return resp.StatusCode, tokens.IDToken, err
	}
	kill := func() {
		s.Kill()
		s.Run()
	}
	got := make(map[string]bool)
	sid := func(token string) {
		t.Helper()
		if token != "" {
			got[claimOf(token, "sid")] = true
		}
	}
	for n := range sessions {
		request := code("after-" + strconv.Itoa(n))
		integration.Eventually(t, "an answer that nothing disturbs", func() bool { // but for a listener that closes, as above
			status, token, err := exchange(request)
			if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
				return false
			}
			if must(t, err); status != http.StatusOK || token == "" {
				t.Fatalf("a code is answered by %d", status)
			}
			sid(token)
			return true
		})
		if n%2 == 0 {
			kill()
		} else {
			must(t, s.Load(t.Context(), s.Adapted(t)))
		}

		request = code("while-" + strconv.Itoa(n))
		answered := make(chan string)
		go func() {
			_, token, _ := exchange(request) // the server may die before it has answered
			answered <- token
		}()
		if time.Sleep(time.Duration(n) * time.Millisecond / 2); n%2 == 0 { // another moment each time
			s.Kill()
			sid(<-answered)
			s.Run()
		} else {
			must(t, s.Load(t.Context(), s.Adapted(t)))
			sid(<-answered)
		}
	}
	if len(got) < sessions {
		t.Fatalf("the application has ID tokens of %d sessions only", len(got))
	}
	for session := range got {
		s.Do(t, "oauth", "sessions", "end", session, "--address", s.Admin)
	}
	for session := range got {
		integration.Eventually(t, "the application learns of the end of "+session, func() bool {
			_, ok := app.Load(session)
			return ok
		})
	}
}
