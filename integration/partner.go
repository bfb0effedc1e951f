package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Partner is a site where alice is signed in, in the session that the header X-Session names. It has an issuer with the application
// partner, which signs people in, and learns of logouts at the URL told with the address of the node that tells it. settings are more of
// the issuer's.
func Partner(told, settings string) Config {
	secrets := new(Secrets)
	secrets.Add(PartnerSecret)
	return Config{
		Secrets: secrets,
		Env:     []string{"PARTNER_SECRET=" + PartnerSecret, "TOLD=" + told},
		Sites: `{$SITE} {
			vars person alice
			oauth {$ISSUER} {
				user {vars.person}
				session {
					sid {header.X-Session}
				}
				` + settings + `
				openid {
					id_token_signed_response_alg ES256
				}
				client partner {
					secret {env.PARTNER_SECRET}
					redirect_uris ` + partnerCallback + `
					scopes openid
					consent never
					backchannel_logout_uri {$TOLD}?node={$ADMIN}
				}
			}
		}`,
	}
}

const partnerCallback = "https://partner.example.com/callback"

// PartnerSession is alice in a session at the site of Partner. Its methods return errors of connections as they are.
type PartnerSession struct {
	Browser *http.Client // follows no redirects
	URL     string       // of the site
	ID      string       // of the session
}

// PartnerTokens are what the application gets.
type PartnerTokens struct {
	IDToken      string `json:"id_token"`
	RefreshToken string `json:"refresh_token"`
}

// get requests a page of the issuer, and returns the status, and the parameters of the URL to which the answer leads.
func (s *PartnerSession) get(ctx context.Context, path string, query url.Values) (status int, to url.Values, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path+"?"+query.Encode(), nil)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("X-Session", s.ID)
	resp, err := s.Browser.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	location, err := url.Parse(resp.Header.Get("Location"))
	if err != nil {
		return 0, nil, err
	}
	return resp.StatusCode, location.Query(), nil
}

// Code signs alice in at the application, and returns its code.
func (s *PartnerSession) Code(ctx context.Context) (string, error) {
	status, to, err := s.get(ctx, "/oauth/authorize", url.Values{
		"response_type": {"code"}, "client_id": {"partner"}, "redirect_uri": {partnerCallback}, "scope": {"openid"},
	})
	if err == nil && !to.Has("code") {
		err = fmt.Errorf("no code: %d", status)
	}
	return to.Get("code"), err
}

// Tokens exchanges a code.
func (s *PartnerSession) Tokens(ctx context.Context, code string) (tokens PartnerTokens, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/oauth/token", strings.NewReader(url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {partnerCallback},
		"client_id": {"partner"}, "client_secret": {PartnerSecret},
	}.Encode()))
	if err != nil {
		return tokens, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := s.Browser.Do(req)
	if err != nil {
		return tokens, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&tokens); err != nil {
		return tokens, err
	}
	if tokens.IDToken == "" {
		return tokens, fmt.Errorf("no ID token: %s", resp.Status)
	}
	return tokens, nil
}

// SignIn is Code and Tokens.
func (s *PartnerSession) SignIn(ctx context.Context) (PartnerTokens, error) {
	code, err := s.Code(ctx)
	if err != nil {
		return PartnerTokens{}, err
	}
	return s.Tokens(ctx, code)
}

// SignOut signs alice out by the application.
func (s *PartnerSession) SignOut(ctx context.Context, tokens PartnerTokens) error {
	status, _, err := s.get(ctx, "/oauth/logout", url.Values{"id_token_hint": {tokens.IDToken}})
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("signing out: %d", status)
	}
	return err
}
