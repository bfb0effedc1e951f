package caddyoauth

import (
	"cmp"
	"errors"
	"maps"
	"slices"

	"github.com/caddy-oauth/caddy-oauth/internal/authserver"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// adminGrant is the access that a client has to a user's account.
type adminGrant struct {
	ClientID string `json:"client_id"`
	storage.Consent
}

func userGrants(r *adminRequest) (any, error) {
	consents, err := r.server.UserConsents(r.Context(), r.PathValue("sub"))
	if err != nil {
		return nil, err
	}
	list := make([]adminGrant, 0, len(consents.Clients))
	for _, id := range slices.Sorted(maps.Keys(consents.Clients)) {
		list = append(list, adminGrant{id, consents.Clients[id]})
	}
	return list, nil
}

// revoke ends tokens: one, those of a family, or those of a user, of a client, or of a user at a client.
func revoke(r *adminRequest) (any, error) {
	var body struct {
		Subject string `json:"sub"`
		Client  string `json:"client_id"`
		Family  string `json:"family"`
		Token   string `json:"token"`
		Reason  string `json:"reason"`
	}
	if err := r.body(&body); err != nil {
		return nil, err
	}
	type revoked struct {
		What string `json:"revoked"`
	}
	ctx, reason := r.Context(), cmp.Or(body.Reason, "revoked by the owner of the site")
	pair := body.Subject != "" || body.Client != ""
	switch {
	case body.Token != "" && body.Family == "" && !pair:
		what, err := r.server.RevokeAny(ctx, body.Token, reason)
		return revoked{what}, err
	case body.Family != "" && body.Token == "" && !pair:
		key := storage.Key{Kind: storage.KindFamily, ID: body.Family}
		if key.Check() != nil || key.Bucket() == "" {
			return nil, badRequest{errors.New("family: expected what access tokens have as their claim family")}
		}
		return revoked{authserver.RevokedFamily}, r.server.RevokeFamily(ctx, body.Family, reason, "")
	case pair && body.Token == "" && body.Family == "":
		return revoked{"all"}, r.server.Revoke(ctx, body.Subject, body.Client, reason, "")
	}
	return nil, badRequest{errors.New("expected sub, client_id or both, or family, or token")}
}

// inspect tells what an access token is worth.
func inspect(r *adminRequest) (any, error) {
	var body struct {
		Token string `json:"token"`
	}
	if err := r.body(&body); err != nil {
		return nil, err
	}
	if body.Token == "" {
		return nil, badRequest{errors.New("expected a token")}
	}
	claims, err := r.server.AccessToken(r.Context(), body.Token)
	var invalid jwt.InvalidToken
	switch {
	case errors.As(err, &invalid):
		return inspected{Problem: string(invalid)}, nil
	case err != nil:
		return nil, err
	}
	return inspected{Active: true, Claims: claims.Raw}, nil
}

type inspected struct {
	Active  bool           `json:"active"`
	Problem string         `json:"problem,omitempty"`
	Claims  map[string]any `json:"claims,omitempty"`
}

func listKeys(r *adminRequest) (any, error) { return r.server.Keys().List(r.Context()) }

// rotateKeys makes a key, which signs when all verifiers know it, or at once.
func rotateKeys(r *adminRequest) (any, error) {
	var body struct {
		Now bool `json:"now"`
	}
	if err := r.body(&body); err != nil {
		return nil, err
	}
	if _, err := r.server.RotateKey(r.Context(), body.Now); err != nil {
		return nil, err
	}
	return listKeys(r)
}

// retireKey removes a key at once, and with it all tokens that it signed.
func retireKey(r *adminRequest) (any, error) {
	if err := r.server.RetireKey(r.Context(), r.PathValue("kid")); err != nil {
		return nil, err
	}
	return listKeys(r)
}

func stats(r *adminRequest) (any, error) { return r.server.Stats(r.Context()) }
