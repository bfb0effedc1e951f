package cluster_test

import (
	"context"
	"net/http"
	"testing"

	"golang.org/x/oauth2"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// A program that asks for access on another device talks to one node, and the person to another one, which is killed right after the
// approval. Whatever store the nodes share, nothing is lost, and golang.org/x/oauth2 gets its tokens from any node.
func TestDeviceAtBothNodes(t *testing.T) {
	t.Parallel()
	onBothStores(t, devices)
}

func devices(t *testing.T, b backend) {
	t.Helper()
	b.setting += "\nclient cli {\n grant_types device_code refresh_token\n scopes orders\n}\n"
	c := start(t, b)
	program, person := c.nodes[0], c.nodes[1]
	config := func(s *integration.Server) *oauth2.Config {
		return &oauth2.Config{ClientID: "cli", Scopes: []string{"orders"}, Endpoint: oauth2.Endpoint{
			DeviceAuthURL: s.URL + s.Path + "/oauth/device_authorization", TokenURL: s.TokenURL(), AuthStyle: oauth2.AuthStyleInParams,
		}}
	}
	ctx := context.WithValue(t.Context(), oauth2.HTTPClient, &http.Client{Timeout: integration.Patience})
	device, err := config(program).DeviceAuth(ctx)
	must(t, err)
	program.Secrets.Add(device.DeviceCode, device.UserCode)
	device.Interval = 1 // the library waits before it asks the first time

	alice := person.Customer(t)
	alice.Name = customer(0)
	alice.Connect(t, person.URL+person.Path+"/oauth/device", device.UserCode)
	person.Kill()
	token, err := config(program).DeviceAccessToken(ctx, device)
	must(t, err)
	person.Run()
	again, err := config(person).DeviceAccessToken(ctx, device) // as if the first answer was lost
	must(t, err)
	if token.RefreshToken == "" || token.RefreshToken != again.RefreshToken {
		t.Errorf("the refresh tokens of the two answers differ, or there is none")
	}
	program.Secrets.Add(token.AccessToken, token.RefreshToken, again.AccessToken)
}
