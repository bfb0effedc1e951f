package integration_test

import (
	"errors"
	"net/http"
	"testing"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

func TestClientCredentials(t *testing.T) {
	s := integration.Start(t, integration.Shop())
	keys := publishedKeys(t, s)
	for name, style := range map[string]oauth2.AuthStyle{
		"RFC 6749 §2.3.1 client_secret_basic": oauth2.AuthStyleInHeader,
		"RFC 6749 §2.3.1 client_secret_post":  oauth2.AuthStyleInParams,
		"detected by the client":              oauth2.AuthStyleAutoDetect,
	} {
		t.Run(name, func(t *testing.T) {
			config := clientcredentials.Config{
				ClientID: "script", ClientSecret: integration.ScriptSecret, TokenURL: s.TokenURL(), AuthStyle: style,
				Scopes: []string{"orders"},
			}
			token, err := config.Token(withClient(t, s))
			must(t, err)
			if token.RefreshToken != "" { // RFC 6749 §4.4.3
				t.Error("client_credentials returned a refresh token")
			}
			got := verified(t, keys, token.AccessToken)
			if got.Subject != "script" || got.ClientID != "script" || got.Scope != "orders" { // RFC 9068 §2.2
				t.Errorf("claims are %+v", got)
			}

			config.ClientSecret += "x"
			_, err = config.Token(withClient(t, s))
			var refusal *oauth2.RetrieveError
			if !errors.As(err, &refusal) || refusal.ErrorCode != "invalid_client" || refusal.Response.StatusCode != http.StatusUnauthorized {
				t.Errorf("with a wrong secret: %v, want 401 invalid_client", err) // RFC 6749 §5.2
			}
		})
	}
}
