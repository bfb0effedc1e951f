package grants_test

import (
	"fmt"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

func ExampleChooseScopes() {
	client := &storage.Client{ID: "notes", Scopes: []string{"read", "write"}}

	fmt.Println(grants.ChooseScopes(client, "", client.Scopes))
	fmt.Println(grants.ChooseScopes(client, "read", client.Scopes))
	_, err := grants.ChooseScopes(client, "read admin", client.Scopes)
	fmt.Println(err)
	// Output:
	// [read write] <nil>
	// [read] <nil>
	// invalid_scope: the client may not ask for the scope admin
}

func ExampleChooseAudience() {
	allowed := []string{"https://api.example.com/v1", "https://files.example.com"}

	fmt.Println(grants.ChooseAudience(nil, allowed))
	fmt.Println(grants.ChooseAudience([]string{"https://files.example.com:443/"}, allowed)) // another spelling
	_, err := grants.ChooseAudience([]string{"https://api.example.com/v2"}, allowed)
	fmt.Println(err)
	// Output:
	// [https://api.example.com/v1 https://files.example.com] <nil>
	// [https://files.example.com] <nil>
	// invalid_target: resource is not one this client may ask for
}
