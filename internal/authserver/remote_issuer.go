package authserver

import (
	"context"
	"slices"
	"strings"

	"go.uber.org/zap"
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
// InvalidToken; with any other error, the issuer's keys are not known.
func (i *RemoteIssuer) AccessToken(ctx context.Context, token string) (*Claims, error) {
	t, err := splitToken(token)
	if err != nil {
		return nil, err
	}
	h, err := readHeader(t.header)
	if err != nil {
		return nil, err
	}
	// Nothing is fetched for what cannot be a token of that issuer.
	if !h.isType(tokenType) && !slices.ContainsFunc(i.Types, h.isType) {
		return nil, ErrTokenType
	}
	if kind, ok := keyKinds[h.Algorithm]; !ok || kind.kty == "oct" {
		return nil, ErrTokenAlgorithm
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
func (i *RemoteIssuer) read(t splitJWT, keys []*signingKey) (*Claims, error) {
	for _, key := range keys {
		payload, err := t.verify(key)
		if err == ErrTokenSignature { //nolint:errorlint // never wrapped
			continue
		}
		if err != nil {
			return nil, err
		}
		check := Verifier{Issuer: i.URL, Now: i.Keys.now}
		return check.Check(payload)
	}
	return nil, ErrTokenSignature
}

// isType reports whether the token is of that type; a media type has no case and may come without "application/" (RFC
// 7515 §4.1.9).
func (h tokenHeader) isType(typ string) bool {
	const prefix = "application/"
	bare := func(s string) string {
		if s = strings.ToLower(s); strings.HasPrefix(s, prefix) {
			return s[len(prefix):]
		}
		return s
	}
	return bare(h.Type) == bare(typ)
}
