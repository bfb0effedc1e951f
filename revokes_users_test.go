package caddyoauth_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
)

// The example runs as it is: the identity provider says that alice has left, and the guard refuses the token that it took a moment ago.
func TestRevokeUsersExample(t *testing.T) {
	const secret = "mV7tK2rQ9xB4wZ6nL1pC8sD3fG5hJ0yE"
	t.Setenv("IDP_SECRET", secret)
	t.Setenv("APP_SECRET", "app-secret")
	s := newServer(t)
	s.run(t, "", example(t, "revoke-users", "staff.example.com"))
	issuer := s.url("example.localhost")
	held := s.signIn(t, issuer)
	status := func() int { return s.get(t, issuer+"/api/orders", "Authorization", "Bearer "+held.AccessToken).status }
	if got := status(); got != http.StatusOK {
		t.Fatalf("the guard answers %d before", got)
	}
	metadata := s.get(t, issuer+"/.well-known/oauth-authorization-server").body
	if want := `"global_token_revocation_endpoint":"` + issuer + `/oauth/revoke_user"`; !strings.Contains(metadata, want) {
		t.Errorf("%s lacks %s", metadata, want)
	}
	revoke := func(iss, secret string) answer {
		return s.do(t, http.MethodPost, issuer+"/oauth/revoke_user", "application/json",
			`{"sub_id": {"format": "iss_sub", "iss": "`+iss+`", "sub": "alice"}}`, "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("idp:"+secret)))
	}
	for _, refused := range []struct {
		iss, secret string
		status      int
	}{{"https://idp.example.com", "wrong", http.StatusUnauthorized}, {"https://other.example.com", secret, http.StatusNotFound}} {
		if a := revoke(refused.iss, refused.secret); a.status != refused.status || status() != http.StatusOK {
			t.Errorf("%v: %d %s", refused, a.status, a.body)
		}
	}
	if a := revoke("https://idp.example.com", secret); a.status != http.StatusNoContent || a.body != "" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if got := status(); got != http.StatusUnauthorized {
		t.Errorf("the guard answers %d after", got)
	}
	s.run(t, "", example(t, "revoke-users", "staff.example.com")) // it lasts
	if got := status(); got != http.StatusUnauthorized {
		t.Errorf("the guard answers %d after a reload", got)
	}
}

// A client that is added at run time may do so too, within the same limits.
func TestRevokesUsersAtRunTime(t *testing.T) {
	s := runShop(t)
	issuer := s.url("shop.localhost")
	s.api(t, http.MethodPost, "/clients", `{"client_id": "idp", "public": true, "revokes_users": {}}`, http.StatusBadRequest)
	s.api(t, http.MethodPost, "/clients", `{"client_id": "idp", "revokes_users": {"iss": ["{env.IDP}"]}}`, http.StatusBadRequest)
	secret, _ := s.api(t, http.MethodPost, "/clients", `{"client_id": "idp", "revokes_users": {"email": true}}`, http.StatusCreated)["client_secret"].(string)
	held := s.signIn(t, issuer)
	if !s.passes(t, held.AccessToken) {
		t.Fatal("the token does not pass before")
	}
	a := s.do(t, http.MethodPost, issuer+"/oauth/revoke_user", "application/json", `{"sub_id": {"format": "email", "email": "alice"}}`,
		"Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("idp:"+secret)))
	if passes := s.passes(t, held.AccessToken); a.status != http.StatusNoContent || passes {
		t.Errorf("%d %s, and the token passes: %v", a.status, a.body, passes)
	}
}
