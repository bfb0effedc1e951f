package authserver

import (
	"context"
	"slices"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
)

// RemoteIssuer says what access tokens of an issuer elsewhere are worth: JWTs that its published keys verify (RFC 9068
// §4). It does not know what that issuer has revoked.
type RemoteIssuer struct {
	URL   string      // the issuer, exactly as in its metadata and tokens
	Keys  *RemoteKeys // of that issuer
	Types []string    // of tokens that are taken beside at+jwt
	Log   *zap.Logger
}

var _ TokenSource = (*RemoteIssuer)(nil)

// AccessToken returns the claims of a token that the issuer signed and that is good now. What is wrong with it is an
// jwt.InvalidToken; with any other error, the issuer's keys are not known.
func (i *RemoteIssuer) AccessToken(ctx context.Context, token string) (*jwt.Claims, error) {
	t, err := jwt.Split(token)
	if err != nil {
		return nil, err
	}
	h, err := t.ParseHeader()
	if err != nil {
		return nil, err
	}
	// Nothing is fetched for what cannot be a token of that issuer.
	if !h.IsType(jwt.AccessTokenType) && !slices.ContainsFunc(i.Types, h.IsType) {
		return nil, jwt.ErrType
	}
	if !jwt.Asymmetric(h.Algorithm) {
		return nil, jwt.ErrAlgorithm
	}
	set, keys, err := i.Keys.find(ctx, h, i.Log)
	if err != nil {
		return nil, err
	}
	cached := cacheKeyOf(token)
	if claims := set.cache.get(cached, i.Keys.now()); claims != nil {
		return claims, nil
	}
	claims, err := i.read(t, keys)
	if err != nil {
		return nil, err
	}
	set.cache.put(cached, claims)
	return claims, nil
}

// read returns the claims of a token that one of the keys signed.
func (i *RemoteIssuer) read(t jwt.Token, keys []*jwt.Key) (*jwt.Claims, error) {
	for _, key := range keys {
		payload, err := t.Verify(key)
		if err == jwt.ErrSignature { //nolint:errorlint // never wrapped
			continue
		}
		if err != nil {
			return nil, err
		}
		claims, err := jwt.ParseClaims(payload)
		if err != nil {
			return nil, err
		}
		if claims.Issuer != i.URL {
			return nil, jwt.ErrIssuer
		}
		if err := claims.CheckTime(i.Keys.now()); err != nil {
			return nil, err
		}
		return claims, nil
	}
	return nil, jwt.ErrSignature
}
