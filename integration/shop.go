package integration

import (
	"io"
	"net/http"
	"testing"

	"golang.org/x/oauth2"
)

// The account of the shop's customer.
const (
	Customer = "alice"
	Password = "correct horse battery"
)

// ScriptSecret is a secret that changes unless both sides form-encode it in HTTP Basic (RFC 6749 §2.3.1).
const ScriptSecret = `s:p ace+plus%41/&=?é"`

// PartnerSecret is a usual secret.
const PartnerSecret = "hK3Jx0Zq8VYb7cWm5tRfP2nLs9DgEa4u"

// Shop returns a site with its own login and three kinds of clients.
func Shop() Config { return ShopWith("") }

// ShopWith returns the shop with further settings of its issuer.
func ShopWith(settings string) Config {
	secrets := new(Secrets)
	secrets.Add(Password, ScriptSecret, PartnerSecret)
	return Config{
		Env:     []string{"SCRIPT_SECRET=" + ScriptSecret, "PARTNER_SECRET=" + PartnerSecret},
		Secrets: secrets,
		Global: `
	oauth {
		issuer {$ISSUER} {
			throttle {
				# Alice logs in as often as a test likes.
				codes 100000 1m
			}
			` + settings + `
			scope profile "your name"
			scope orders "your orders"
			client app {
				name "Example app"
				redirect_uris http://127.0.0.1/callback http://127.0.0.1/start
				grant_types authorization_code refresh_token
				scopes profile orders
			}
			client partner {
				secret {env.PARTNER_SECRET}
				redirect_uris https://partner.example.com/callback
				grant_types authorization_code refresh_token
				scopes profile orders
			}
			client script {
				secret {env.SCRIPT_SECRET}
				grant_types client_credentials
				scopes orders
			}
		}
	}
`,
		Sites: `
{$SITE} {
	log
	oauth {
		login {
			basic_auth {
				alice $2a$04$Ovvb.klduF7j48.8.1aOWenXbAhKt1SsPk.h5b5dtHwU7BS82YThy
			}
		}
		user {http.auth.user.id}
		claim name {http.auth.user.id}
	}
	respond "the shop"
}
`,
	}
}

// TokenURL returns the URL of the token endpoint.
func (s *Server) TokenURL() string { return s.URL + s.Path + "/oauth/token" }

// JWKSURL returns the URL of the public keys.
func (s *Server) JWKSURL() string { return s.URL + s.Path + "/oauth/jwks" }

// CallAPI calls the guarded page of the shop with an access token, and returns the status and the text of the answer.
func (s *Server) CallAPI(t *testing.T, token string) (status int, text string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/api/orders", nil)
	Must(t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := s.Client(t).Do(req)
	Must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	Must(t, err)
	return resp.StatusCode, string(body)
}

// AppClient returns the configuration of the shop's public client.
func (s *Server) AppClient() *oauth2.Config {
	return &oauth2.Config{
		ClientID:    "app",
		RedirectURL: "http://127.0.0.1:49152/callback",
		Scopes:      []string{"profile", "orders"},
		Endpoint: oauth2.Endpoint{
			AuthURL: s.URL + s.Path + "/oauth/authorize", TokenURL: s.TokenURL(), AuthStyle: oauth2.AuthStyleInParams,
		},
	}
}

// Customer returns the shop's customer with a new browser.
func (s *Server) Customer(t *testing.T) *Person {
	t.Helper()
	return &Person{Name: Customer, Password: Password, Browser: s.Client(t)}
}

// NewCode returns a code for the shop's public client, which the customer approves.
func (s *Server) NewCode(t *testing.T) (code, verifier string) {
	t.Helper()
	verifier = oauth2.GenerateVerifier()
	s.Secrets.Add(verifier)
	answer := s.Customer(t).Allow(t, s.AppClient().AuthCodeURL("a-state", oauth2.S256ChallengeOption(verifier)))
	if answer.Get("code") == "" {
		t.Fatalf("the authorization response is %v, want a code", answer)
	}
	return answer.Get("code"), verifier
}

// NewTokens returns the first tokens of the shop's public client, which the customer approves.
func (s *Server) NewTokens(t *testing.T) *Answer {
	t.Helper()
	code, verifier := s.NewCode(t)
	answer, err := Post(t.Context(), s.Client(t), s.TokenURL(), CodeRequest(s.AppClient(), code, verifier))
	Must(t, err)
	if answer.AccessToken == "" || answer.RefreshToken == "" {
		t.Fatalf("the token response is %+v, want an access token and a refresh token", answer)
	}
	return answer
}
