package caddyoauth_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
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
