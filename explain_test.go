package caddyoauth_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
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
	if answer := s.askAdmin(t, http.MethodPost, "/oauth/@all/failures", ""); answer.status != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d %s", answer.status, answer.body)
	}
}
