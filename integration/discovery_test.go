package integration_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// metadata has the members of the metadata document that clients use (RFC 8414 §2).
type metadata struct {
	Issuer           string   `json:"issuer"`
	Authorization    string   `json:"authorization_endpoint"`
	Token            string   `json:"token_endpoint"`
	JWKS             string   `json:"jwks_uri"`
	ResponseTypes    []string `json:"response_types_supported"`
	ChallengeMethods []string `json:"code_challenge_methods_supported"`
	IssParameter     bool     `json:"authorization_response_iss_parameter_supported"`
}

func TestDiscovery(t *testing.T) {
	for _, c := range []struct{ name, path, document string }{
		{"RFC 8414 §3 an issuer without path", "", "/.well-known/oauth-authorization-server"},
		{"RFC 8414 §3.1 the path of the issuer follows", "/tenants/one", "/.well-known/oauth-authorization-server/tenants/one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			shop := integration.Shop()
			shop.Path = c.path
			s := integration.Start(t, shop)
			client := s.Client(t)
			var got metadata
			getJSON(t, client, s.URL+c.document, &got)
			want := metadata{
				Issuer: s.Issuer, Authorization: s.AppClient().Endpoint.AuthURL, Token: s.TokenURL(), JWKS: s.JWKSURL(),
				IssParameter: true,
			}
			if got.Issuer != want.Issuer || got.Authorization != want.Authorization || got.Token != want.Token ||
				got.JWKS != want.JWKS || !got.IssParameter {
				t.Errorf("the document says %+v, want %+v", got, want)
			}
			if !slices.Equal(got.ResponseTypes, []string{"code"}) || !slices.Equal(got.ChallengeMethods, []string{"S256"}) {
				t.Errorf("the document says %+v", got)
			}
			var keys struct {
				Keys []map[string]any `json:"keys"`
			}
			getJSON(t, client, got.JWKS, &keys)
			if len(keys.Keys) == 0 {
				t.Fatal("there are no keys")
			}
			for _, key := range keys.Keys { // RFC 7517 §4, RFC 7518 §6.2.2
				if key["kid"] == "" || key["d"] != nil {
					t.Errorf("a published key has a private part or no kid: its members are %v", key)
				}
			}
		})
	}
}

func getJSON(t *testing.T, client *http.Client, url string, v any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	must(t, err)
	resp, err := client.Do(req)
	must(t, err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("GET %s: %s %s", url, resp.Status, resp.Header.Get("Content-Type"))
	}
	must(t, json.NewDecoder(resp.Body).Decode(v))
}
