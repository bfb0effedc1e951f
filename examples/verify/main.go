// Command verify shows how a resource server checks an access token. It takes the URL of an issuer
// and a token, fetches the issuer's public keys, and prints the claims if the signature, the issuer,
// the audience and the time are right.
//
//	go run ./examples/verify http://localhost:8080 "$TOKEN"
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/coreos/go-oidc/v3/oidc"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: verify <issuer> <token>")
		os.Exit(2)
	}
	claims, err := verify(context.Background(), os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "refused:", err)
		os.Exit(1)
	}
	fmt.Println(claims)
}

func verify(ctx context.Context, issuer, token string) (claims string, err error) {
	metadata, err := discover(ctx, issuer)
	if err != nil {
		return "", err
	}
	// If a client asks for no resource, the audience of its token is the issuer.
	verifier := oidc.NewVerifier(issuer, oidc.NewRemoteKeySet(ctx, metadata.JWKSURI), &oidc.Config{
		ClientID:             issuer,
		SupportedSigningAlgs: []string{oidc.ES256, oidc.ES384, oidc.EdDSA, oidc.RS256, oidc.PS256},
	})
	verified, err := verifier.Verify(ctx, token)
	if err != nil {
		return "", err
	}
	var all map[string]any
	if err := verified.Claims(&all); err != nil {
		return "", err
	}
	text, err := json.MarshalIndent(all, "", "  ")
	return string(text), err
}

// metadata has the members of RFC 8414 §2 that this command needs.
type metadata struct {
	Issuer  string `json:"issuer"`
	JWKSURI string `json:"jwks_uri"`
}

// discover fetches the metadata of an issuer whose URL has no path.
func discover(ctx context.Context, issuer string) (*metadata, error) {
	url := strings.TrimSuffix(issuer, "/") + "/.well-known/oauth-authorization-server"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var m metadata
	if err := json.NewDecoder(res.Body).Decode(&m); err != nil {
		return nil, err
	}
	if m.Issuer != issuer { // RFC 8414 §3.3
		return nil, fmt.Errorf("the metadata is of issuer %q", m.Issuer)
	}
	return &m, nil
}
