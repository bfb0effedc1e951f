package caddyoauth_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
)

// postForm sends a form to the token endpoint of an issuer.
func (s *server) postForm(t *testing.T, issuer string, form url.Values) answer {
	t.Helper()
	return s.do(t, http.MethodPost, issuer+"/oauth/token", "application/x-www-form-urlencoded", form.Encode())
}

// example returns the text of an example for this server: its host is example.localhost, alice is always signed in and not asked, and
// the upstream shows what it gets.
func example(t *testing.T, name, host string) string {
	t.Helper()
	text, err := os.ReadFile("examples/" + name + ".Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	login := "\t\tlogin {\n\t\t\tforward_auth app:8080 {\n\t\t\t\turi /whoami\n\t\t\t}\n\t\t}\n\t\tuser {rp.header.Remote-User}\n"
	if strings.Count(string(text), login) != 1 {
		t.Fatalf("the login of %s is another one", name)
	}
	return strings.NewReplacer(
		login, "\t\tuser {vars.person}\n", host+" {\n", "http://example.localhost:PORT {\n\tvars person alice\n", "https://"+host, "http://example.localhost:PORT",
		"app:8080", upstream(t), "redirect_uris "+callback, "redirect_uris "+callback+"\n\t\t\tconsent never",
	).Replace(string(text))
}

// The example runs as it is: the API gets a token for the ledger, where the guard says who the user is and who acts.
func TestTokenExchangeExample(t *testing.T) {
	const secret = "kX2rN8vQ5tB7wZ1mL4pC9sD6fG3hJ0yA"
	t.Setenv("APP_SECRET", "app-secret")
	t.Setenv("API_SECRET", secret)
	s := newServer(t)
	s.run(t, "", example(t, "token-exchange", "exchange.example.com"))
	issuer := s.url("example.localhost")
	token := s.signIn(t, issuer).AccessToken
	as := func(path, token string) (int, http.Header) {
		answer := s.get(t, issuer+path, "Authorization", "Bearer "+token, "Remote-Actor", "forged")
		var got http.Header
		_ = json.Unmarshal([]byte(answer.body), &got) // a refusal has no JSON
		return answer.status, got
	}
	if status, got := as("/api/orders", token); status != 200 || got.Get("Authorization") != "Bearer "+token {
		t.Fatalf("the API gets %d %v", status, got)
	}
	if status, _ := as("/ledger/entries", token); status != 401 {
		t.Errorf("the ledger takes the token of the API: %d", status)
	}
	form := url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "client_id": {"api"}, "client_secret": {secret},
		"subject_token": {token}, "subject_token_type": {"urn:ietf:params:oauth:token-type:access_token"}, "resource": {issuer + "/ledger"},
	}
	answer := s.postForm(t, issuer, form)
	var second tokens
	if err := json.Unmarshal([]byte(answer.body), &second); err != nil || second.AccessToken == "" {
		t.Fatalf("the exchange: %d %s", answer.status, answer.body)
	}
	if status, got := as("/ledger/entries", second.AccessToken); status != 200 || got.Get("Remote-User") != "alice" || got.Get("Remote-Actor") != "api" {
		t.Errorf("the ledger gets %d %v", status, got)
	}
	if status, _ := as("/api/orders", second.AccessToken); status != 401 {
		t.Errorf("the API takes the token of the ledger: %d", status)
	}
}

// The example runs as it is: a partner brings an assertion, and an agent an ID-JAG, whose keys the server fetches. What was used before a
// reload is used after it.
func TestAssertionsExample(t *testing.T) {
	key := jwttest.NewKey(t, "RS256")
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"keys":[` + string(key.Public) + `]}`))
	}))
	t.Cleanup(keys.Close)
	const secret = "kX2rN8vQ5tB7wZ1mL4pC9sD6fG3hJ0yA"
	t.Setenv("PARTNER_SECRET", secret)
	t.Setenv("AGENT_SECRET", secret)
	s := newServer(t)
	sites := strings.NewReplacer("jwks_uri https://partner.example/keys.json", "jwks_uri "+keys.URL, "jwks_uri https://idp.company.example/oauth2/v1/keys", "jwks_uri "+keys.URL).
		Replace(example(t, "assertions", "assertions.example.com"))
	s.run(t, "", sites)
	issuer := s.url("example.localhost")
	n := 0
	assertion := func(typ string, more map[string]any) string {
		n++
		claims := map[string]any{"aud": issuer, "iat": time.Now().Unix(), "exp": time.Now().Unix() + 300, "jti": fmt.Sprint(n)}
		maps.Copy(claims, more)
		payload, err := json.Marshal(claims)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := key.SignAs(typ, payload)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	post := func(client, assertion string) answer {
		return s.postForm(t, issuer, url.Values{
			"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "client_id": {client}, "client_secret": {secret}, "assertion": {assertion},
		})
	}
	user := func(a answer) string {
		var got tokens
		if err := json.Unmarshal([]byte(a.body), &got); err != nil || got.AccessToken == "" {
			t.Fatalf("no token: %d %s", a.status, a.body)
		}
		a = s.get(t, issuer+"/api/orders", "Authorization", "Bearer "+got.AccessToken)
		var seen http.Header
		if err := json.Unmarshal([]byte(a.body), &seen); err != nil {
			t.Fatalf("the API: %d %s", a.status, a.body)
		}
		return seen.Get("Remote-User")
	}
	first := assertion("JWT", map[string]any{"iss": "https://partner.example", "sub": "partner-7"})
	if got := user(post("partner", first)); got != "partner-7" {
		t.Errorf("the user of the partner is %q", got)
	}
	s.run(t, "", sites+"\n# changed\n")
	if a := post("partner", first); a.status != 400 || !strings.Contains(a.body, "invalid_grant") {
		t.Errorf("the same assertion after a reload: %d %s", a.status, a.body)
	}
	jag := map[string]any{
		"iss": "https://idp.company.example", "sub": "00u1", "email": "ann@company.example", "client_id": "agent", "resource": issuer + "/api",
	}
	if got := user(post("agent", assertion("oauth-id-jag+jwt", jag))); got != "ann@company.example" {
		t.Errorf("the user of the company is %q", got)
	}
	if a := post("partner", assertion("oauth-id-jag+jwt", jag)); a.status != 400 || !strings.Contains(a.body, "invalid_grant") {
		t.Errorf("an ID-JAG for another client: %d %s", a.status, a.body)
	}
}
