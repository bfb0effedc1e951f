package authserver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/bounded"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/revocation"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// check returns the claims of an access token of this issuer that is valid now: its signature or record, type,
// issuer and time, and that it is not revoked. If the token is wrong, the error is a jwt.InvalidToken; with any other
// error the store failed, and the token may be valid.
func (a *accessTokens) check(ctx context.Context, token string, leeway time.Duration) (*jwt.Claims, error) {
	if err := a.cutoffs.Load(ctx); err != nil {
		return nil, err
	}
	slot := a.cache.Find(token)
	claims := slot.Get(a.now())
	if claims == nil || !claims.Opaque && !a.keys.Has(token) {
		var err error
		if claims, err = a.read(ctx, token, leeway); err != nil {
			return nil, err
		}
		slot.Put(claims)
	}
	ended, err := a.clients.Ended(ctx, claims.ClientID)
	if err != nil {
		return nil, err
	}
	switch {
	case ended:
		return nil, jwt.ErrRevoked.Explain("a token of the client "+claims.ClientID+", which was removed", "", "client").Of(claims)
	case a.cutoffs.VoidsToken(revocable(claims)):
		return nil, jwt.ErrRevoked.Explain(a.cutoffs.Why(revocable(claims)), "", "").Of(claims)
	}
	if err := a.checkSources(ctx, claims); err != nil {
		return nil, err
	}
	return claims, nil
}

// revocable returns what a revocation can name of a token.
func revocable(c *jwt.Claims) revocation.Token {
	t := revocation.Token{ID: c.ID, Family: c.Family, Subject: c.Subject, Client: c.ClientID, Began: c.IssuedAt}
	if !c.Began.IsZero() {
		t.Began = c.Began
	}
	return t
}

// read returns the claims of a token that is not cached.
func (a *accessTokens) read(ctx context.Context, token string, leeway time.Duration) (*jwt.Claims, error) {
	if !strings.Contains(token, ".") {
		return a.readOpaque(ctx, token)
	}
	payload, err := a.keys.Verify(ctx, token)
	if err != nil {
		return nil, err
	}
	claims, err := jwt.ParseClaims(payload)
	if err != nil {
		return nil, err
	}
	// A minimal token has no iss. It is still ours, because these keys sign no tokens of other issuers.
	minimal := a.shape.Minimal && claims.Issuer == ""
	if !minimal && claims.ClientID == "" { // an ID token, where access tokens are of its type
		return nil, jwt.ErrClaims.Explain("no client_id", "an access token", "").Of(claims)
	}
	if claims.Issuer != a.issuer && !minimal {
		return nil, jwt.ErrIssuer.Explain("iss "+claims.Issuer, a.issuer, "issuer").Of(claims)
	}
	if minimal {
		parts, err := jwt.Split(token)
		if err != nil {
			return nil, err
		}
		ref, err := parts.Reference()
		if err != nil {
			return nil, err
		}
		if ref.ClientID == "" {
			return nil, jwt.ErrClaims.Explain("no client_id in the header", "an access token", "").Of(claims)
		}
		claims.Refer(ref)
	}
	if err := claims.CheckTime(a.now(), leeway); err != nil {
		return nil, err
	}
	if err := readSources(claims); err != nil {
		return nil, err
	}
	return claims, a.pairwise.reveal(ctx, claims)
}

// readOpaque returns the claims of an opaque token, from its record.
func (a *accessTokens) readOpaque(ctx context.Context, token string) (*jwt.Claims, error) {
	body, ok := strings.CutPrefix(token, a.shape.Prefix)
	key, valid := storage.AccessKey(body)
	if !ok || !valid {
		return nil, jwt.ErrMalformed.Explain("no JWT, and no opaque token of this issuer, or a damaged one", "", "")
	}
	record, err := a.store.Get(ctx, key)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, jwt.ErrExpired.Explain("an opaque token without a record: it has expired or was revoked", "", "access_token: lifetime")
	}
	var access *storage.Access
	if err == nil {
		access, err = storage.DecodeAccess(record)
	}
	if errors.Is(err, storage.ErrDamaged) { // It stays so: the client needs a new token.
		if first, fields := a.outages.Failed(bounded.Reading, bounded.NameRecord(key, err)); first {
			a.log.Error("damaged record of an opaque access token; the token is refused", append(fields, zap.Error(err))...)
		}
		return nil, jwt.ErrMalformed.Explain("an opaque token whose record is damaged", "", "store")
	}
	if err != nil {
		return nil, err
	}
	return a.opaqueClaims(access, key), nil
}

// opaqueClaims returns the claims that a JWT would have instead of the record.
func (a *accessTokens) opaqueClaims(access *storage.Access, key storage.Key) *jwt.Claims {
	claims := &jwt.Claims{
		Issuer: a.issuer, Subject: access.Subject, ClientID: access.Client, Scope: strings.Join(access.Scopes, " "),
		Audience: access.Audience, Expires: access.Expires, IssuedAt: access.IssuedAt, Family: access.Family, ID: key.ID,
		Began:  access.Started,
		Raw:    make(map[string]any, len(access.Claims)+8),
		Opaque: true,
	}
	maps.Copy(claims.Raw, access.Claims)
	maps.Copy(claims.Raw, map[string]any{
		"iss": claims.Issuer, "sub": cmp.Or(access.Pairwise, access.Subject), "client_id": access.Client, "scope": claims.Scope, "aud": access.Audience,
		"exp": numericDate(access.Expires), "iat": numericDate(access.IssuedAt), "jti": key.ID,
	})
	if !access.AuthTime.IsZero() {
		claims.Raw["auth_time"] = numericDate(access.AuthTime)
	}
	if access.ACR != "" {
		claims.Raw["acr"] = access.ACR
	}
	if !access.Bound.IsZero() {
		claims.Bound = jwt.Confirmation{Thumbprint: access.Bound.Thumbprint, Certificate: access.Bound.Certificate}
		claims.Raw["cnf"] = access.Bound
	}
	if access.Actor != nil {
		claims.Raw["act"] = actClaim(access.Actor)
	}
	for _, s := range access.Sources {
		claims.Sources = append(claims.Sources, jwt.Source{ClientID: s.Client, ID: s.Token, Began: s.Began, Subject: s.Subject, Family: s.Family})
	}
	return claims
}

// numericDate returns a time as in a JWT (RFC 7519 §2).
func numericDate(t time.Time) json.Number { return json.Number(strconv.FormatInt(t.Unix(), 10)) }

// readSources moves the sources of a token of this issuer from the raw claims to Sources: other readers of the claims must not see
// them.
func readSources(claims *jwt.Claims) error {
	value, ok := claims.Raw[exchangedFrom]
	if !ok {
		return nil
	}
	delete(claims.Raw, exchangedFrom)
	list, ok := value.([]any)
	for i := 0; ok && i < len(list); i++ {
		var source jwt.Source
		source, ok = readSource(list[i])
		claims.Sources = append(claims.Sources, source)
	}
	if !ok {
		return jwt.ErrClaims.Explain("a malformed "+exchangedFrom, "", "").Of(claims)
	}
	return nil
}

// readSource reads a sourceClaim. It returns false if that is malformed.
func readSource(claim any) (source jwt.Source, ok bool) {
	members, ok := claim.(map[string]any)
	for name, to := range map[string]*string{
		"client_id": &source.ClientID, "jti": &source.ID, "sub": &source.Subject, "family": &source.Family,
	} {
		if value, there := members[name]; there {
			text, is := value.(string)
			*to, ok = text, ok && is
		}
	}
	if value, there := members["family_iat"]; there {
		number, _ := value.(json.Number)
		seconds, err := number.Float64()
		source.Began, ok = jwt.FromNumericDate(seconds), ok && err == nil
	}
	return source, ok
}

// checkSources returns an error if one of the tokens that a token was exchanged for is void, see check. It is also an error if the user
// had removed a client before it exchanged one of them, on a node that did not know that yet.
func (a *accessTokens) checkSources(ctx context.Context, claims *jwt.Claims) error {
	for i, source := range claims.Sources {
		ended, err := a.clients.Ended(ctx, source.ClientID)
		if err != nil {
			return err
		}
		t := revocation.Token{ID: source.ID, Family: source.Family, Subject: source.Subject, Client: source.ClientID, Began: source.Began}
		if t.Subject == "" {
			t.Subject = claims.Subject
		}
		if t.Family == "" {
			t.Family = claims.Family
		}
		switch {
		case ended:
			return jwt.ErrRevoked.Explain("exchanged for a token of the client "+source.ClientID+", which was removed", "", "client").Of(claims)
		case a.cutoffs.VoidsToken(t):
			return jwt.ErrRevoked.Explain("exchanged for a token that is void: "+a.cutoffs.Why(t), "", "").Of(claims)
		}
		if client := a.removedAfter(claims, i); client != "" {
			return jwt.ErrRevoked.Explain("exchanged by the client "+client+", which the user had removed", "", "").Of(claims)
		}
	}
	return nil
}

// removedAfter returns a client that exchanged the source at i, or what came of it, although the user had removed the client before; ""
// if there is none. A source of an actor has nothing to do with the other clients.
func (a *accessTokens) removedAfter(claims *jwt.Claims, i int) string {
	first := claims.Sources[i]
	if first.Subject != "" {
		return ""
	}
	for _, by := range claims.Sources[i+1:] {
		if by.Subject == "" && a.cutoffs.Removed(claims.Subject, by.ClientID, first.Began) {
			return by.ClientID
		}
	}
	if a.cutoffs.Removed(claims.Subject, claims.ClientID, first.Began) {
		return claims.ClientID
	}
	return ""
}
