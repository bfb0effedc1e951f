package authserver

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

// idTokenHint is what an ID token says that a client sends back (OpenID Connect Core §3.1.2.1, RP-Initiated Logout §2).
type idTokenHint struct {
	Issuer   string `json:"iss"`
	Subject  string `json:"sub"`
	Audience string `json:"aud"`
	Session  string `json:"sid"`
	ClientID string `json:"client_id"`
}

// errHint refuses a hint that is no ID token of this server.
var errHint = grants.Refuse(grants.InvalidRequest, "id_token_hint is not an ID token of this issuer").
	Explain("id_token_hint", "an ID token that this issuer has made", "")

// openHint reads an ID token of this server. It may have expired, and its session may have ended. If the signing key of the ID
// token was removed, the signature cannot be verified, and the hint is nil.
func (s *core) openHint(ctx context.Context, token string) (*idTokenHint, error) {
	payload, err := s.keys.VerifyAs(ctx, idTokenType, token)
	switch {
	case errors.Is(err, jwt.ErrKey):
		return nil, nil
	case isInvalid(err):
		return nil, errHint
	case err != nil:
		return nil, err
	}
	hint := new(idTokenHint)
	// An access token can have the same typ. It has a client_id.
	if json.Unmarshal(payload, hint) != nil || hint.Issuer != s.config.URL || hint.Subject == "" || hint.ClientID != "" {
		return nil, errHint
	}
	return hint, nil
}

func isInvalid(err error) bool {
	_, invalid := errors.AsType[jwt.InvalidToken](err)
	return invalid
}

// readHint reads the id_token_hint: the request is about its subject. A hint that nobody can check is ignored, unless a page could not
// ask the person.
func (e *authorizeEndpoint) readHint(ctx context.Context, req *authorizeRequest) error {
	token := req.params.Get("id_token_hint")
	if token == "" || !req.signsIn() {
		return nil
	}
	hint, err := e.openHint(ctx, token)
	switch {
	case err != nil:
		return err
	case hint != nil:
		req.subjects = append(req.subjects, []string{hint.Subject})
	case slices.Contains(req.prompt, "none"):
		return errOtherUser
	}
	return nil
}
