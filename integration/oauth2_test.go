package integration_test

import (
	"net/url"
	"slices"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/caddy-oauth/caddy-oauth/integration"
)

// The code flow with PKCE works with golang.org/x/oauth2, for issuers with and without a path.
func TestOAuth2CodeFlow(t *testing.T) {
	for _, path := range []string{"", "/tenants/one"} {
		t.Run("issuer path "+path, func(t *testing.T) {
			shop := integration.Shop()
			shop.Path = path
			s := integration.Start(t, shop)
			ctx, config, keys := withClient(t, s), s.AppClient(), publishedKeys(t, s)

			verifier := oauth2.GenerateVerifier()
			s.Secrets.Add(verifier)
			answer := s.Customer(t).Allow(t, config.AuthCodeURL("a state & more", oauth2.S256ChallengeOption(verifier)))
			if answer.Get("state") != "a state & more" { // RFC 6749 §4.1.2
				t.Errorf("state is %q", answer.Get("state"))
			}
			if answer.Get("iss") != s.Issuer { // RFC 9207 §2
				t.Errorf("iss is %q, want %q", answer.Get("iss"), s.Issuer)
			}
			token, err := config.Exchange(ctx, answer.Get("code"), oauth2.VerifierOption(verifier))
			must(t, err)
			if !token.Valid() || token.Type() != "Bearer" || token.RefreshToken == "" {
				t.Fatalf("got a token of type %q, valid %v", token.Type(), token.Valid())
			}
			got := verified(t, keys, token.AccessToken)
			want := claims{
				Issuer: s.Issuer, Subject: integration.Customer, Audience: s.Issuer, ClientID: "app",
				Scope: "profile orders", Name: integration.Customer,
				Expires: got.IssuedAt + 600, IssuedAt: got.IssuedAt, ID: got.ID,
			}
			if got != want || got.ID == "" || time.Since(time.Unix(got.IssuedAt, 0)).Abs() > integration.Patience {
				t.Errorf("claims are %+v, want %+v", got, want)
			}

			// The library refreshes an expired token.
			old := *token
			old.Expiry = time.Now().Add(-time.Minute)
			source := config.TokenSource(ctx, &old)
			renewed, err := source.Token()
			must(t, err)
			if renewed.AccessToken == token.AccessToken || renewed.RefreshToken == token.RefreshToken {
				t.Error("the refresh returned an old token")
			}
			again := verified(t, keys, renewed.AccessToken)
			if again.Subject != got.Subject || again.Scope != got.Scope || again.ID == got.ID {
				t.Errorf("claims after the refresh are %+v, before they were %+v", again, got)
			}
		})
	}
}

func TestOAuth2ConfidentialClient(t *testing.T) {
	s := integration.Start(t, integration.Shop())
	for name, style := range map[string]oauth2.AuthStyle{
		"RFC 6749 §2.3.1 client_secret_basic": oauth2.AuthStyleInHeader,
		"RFC 6749 §2.3.1 client_secret_post":  oauth2.AuthStyleInParams,
		"detected by the client":              oauth2.AuthStyleAutoDetect,
	} {
		t.Run(name, func(t *testing.T) {
			config := s.AppClient()
			config.ClientID, config.ClientSecret = "partner", integration.PartnerSecret
			config.RedirectURL, config.Endpoint.AuthStyle = "https://partner.example.com/callback", style

			verifier := oauth2.GenerateVerifier()
			s.Secrets.Add(verifier)
			request := config.AuthCodeURL("a-state", oauth2.S256ChallengeOption(verifier), oauth2.SetAuthURLParam("prompt", "consent"))
			code := s.Customer(t).Allow(t, request).Get("code")
			token, err := config.Exchange(withClient(t, s), code, oauth2.VerifierOption(verifier))
			must(t, err)
			_, err = config.TokenSource(withClient(t, s), &oauth2.Token{RefreshToken: token.RefreshToken}).Token()
			must(t, err)
		})
	}
}

func TestPersonDenies(t *testing.T) {
	s := integration.Start(t, integration.Shop())
	request := s.AppClient().AuthCodeURL("a-state", oauth2.S256ChallengeOption(oauth2.GenerateVerifier()))
	answer := s.Customer(t).Deny(t, request)
	want := url.Values{"error": {"access_denied"}, "state": {"a-state"}, "iss": {s.Issuer}} // RFC 6749 §4.1.2.1, RFC 9207 §2
	for name := range want {
		if !slices.Equal(answer[name], want[name]) {
			t.Errorf("%s is %q, want %q", name, answer[name], want[name])
		}
	}
	if answer.Has("code") {
		t.Error("the client got a code")
	}
}
