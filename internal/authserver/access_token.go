package authserver

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/bounded"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/keyring"
	"github.com/caddy-oauth/caddy-oauth/internal/revocation"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// accessTokens issues the access tokens of an issuer and checks them. Safe for concurrent use.
type accessTokens struct {
	issuer   string // its URL
	shape    AccessTokenShape
	claims   scopedClaims
	pairwise *pairwise
	keys     *keyring.Ring
	store    storage.Store
	clients  *clients.Directory
	cutoffs  *revocation.Cutoffs
	cache    bearer.Cache // of tokens whose signature or record was valid
	outages  *bounded.Outages
	log      *zap.Logger
	now      func() time.Time
}

// tokenClaims are the claims that the server sets in an access token (RFC 9068 §2.2), in this order.
type tokenClaims struct {
	Issuer   string                `json:"iss,omitempty"`
	Subject  string                `json:"sub"`
	Audience any                   `json:"aud,omitempty"` // see audience
	Expires  int64                 `json:"exp"`
	IssuedAt int64                 `json:"iat"`
	Scope    string                `json:"scope,omitempty"`
	AuthTime int64                 `json:"auth_time,omitempty"`
	ACR      string                `json:"acr,omitempty"`
	Bound    *storage.Confirmation `json:"cnf,omitempty"`
	Actor    *storage.Actor        `json:"act,omitempty"`
	Sources  []sourceClaim         `json:"exchanged_from,omitempty"`
	jwt.Reference
}

// ReservedClaims are the claims that no configuration may set: those that the server sets, and those that would make a
// resource take the token for something else (RFC 7519 §4.1, RFC 9068 §2.2).
var ReservedClaims = []string{
	"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "scope", "auth_time", "family", "family_iat",
	"cnf", "act", "may_act", "acr", "amr", "azp", "nonce", "at_hash", "c_hash", "s_hash", "sid", "events", "sub_jwk", sealedSubject,
	exchangedFrom,
}

// audience returns the value of an aud claim: one string for a single resource, else a list, or nil for none (RFC 7519
// §4.1.3).
func audience(resources []string) any {
	switch len(resources) {
	case 0:
		return nil
	case 1:
		return resources[0]
	}
	return resources
}

// issue makes an access token: a JWT as in RFC 9068, or the configured shape. It is bound to what bound names. issue also
// returns the ID by which the token can be revoked.
func (a *accessTokens) issue(
	ctx context.Context, signer keyring.Signer, client *storage.Client, auth *grants.Authorization, bound storage.Confirmation, now time.Time,
) (token, id string, err error) {
	subject := a.pairwise.subject(client, auth.Subject)
	more := renameClaims(subject, a.claims.granted(auth.Claims, auth.Scopes, auth.Asked.UserInfo), a.shape.Rename)
	if a.shape.Opaque {
		return a.issueOpaque(ctx, client, auth, subject, bound, more, now)
	}
	life := lifetime(client, auth, now)
	ref := jwt.Reference{ID: rand.Text(), ClientID: client.ID, Family: auth.Family, Began: jwt.NumericDate(auth.Started)}
	if subject != auth.Subject {
		if ref.SealedSubject, err = a.pairwise.seal(ctx, subject, auth.Subject, life); err != nil {
			return "", "", err
		}
	}
	own := tokenClaims{
		Subject:  subject,
		Expires:  now.Add(life).Unix(),
		IssuedAt: now.Unix(),
		Actor:    auth.Actor,
		Sources:  sourceClaims(auth.Sources),
	}
	if !bound.IsZero() {
		confirmation := bound // &bound would take memory for every token
		own.Bound = &confirmation
	}
	if a.shape.Minimal {
		if slices.Contains(auth.Scopes, grants.OpenID) {
			ref.Scope = grants.OpenID
		}
		payload, err := joinClaims(&own, more)
		if err != nil {
			return "", "", err
		}
		token, err = signer.SignReferenced(ref, payload)
		return token, ref.ID, err
	}
	own.Reference = ref
	own.Issuer = a.issuer
	own.Audience = audience(auth.Audience)
	own.Scope = strings.Join(auth.Scopes, " ")
	own.ACR = auth.Session.ACR
	if !auth.AuthTime.IsZero() {
		own.AuthTime = auth.AuthTime.Unix()
	}
	payload, err := joinClaims(&own, more)
	if err != nil {
		return "", "", err
	}
	token, err = signer.Sign(payload)
	return token, ref.ID, err
}

// lifetime returns how long an access token lives that is issued now.
func lifetime(client *storage.Client, auth *grants.Authorization, now time.Time) time.Duration {
	if auth.Ends.IsZero() {
		return client.AccessTokenLifetime
	}
	return min(client.AccessTokenLifetime, auth.Ends.Sub(now))
}

// joinClaims returns the server's own claims and more claims as one JSON object.
func joinClaims(own any, more map[string]any) ([]byte, error) {
	payload, err := json.Marshal(own)
	if err != nil || len(more) == 0 {
		return payload, err
	}
	members, err := json.Marshal(more)
	if err != nil {
		return nil, err
	}
	payload[len(payload)-1] = ','
	return append(payload, members[1:]...), nil
}

// renameClaims returns the granted claims about a subject under their configured names. None can replace a claim that the
// server sets.
func renameClaims(subject string, granted map[string]any, names map[string]string) map[string]any {
	if len(granted) == 0 && len(names) == 0 {
		return nil
	}
	claims := make(map[string]any, len(granted)+1)
	for name, value := range granted {
		if _, ok := names[name]; !ok && !slices.Contains(ReservedClaims, name) {
			claims[name] = value
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) { // a renamed claim replaces one that already has its new name
		if value, ok := granted[name]; ok && !slices.Contains(ReservedClaims, names[name]) {
			claims[names[name]] = value
		}
	}
	if name, ok := names["sub"]; ok {
		claims[name] = subject
	}
	return claims
}

// issueOpaque makes an access token that is a reference to a record with the claims.
func (a *accessTokens) issueOpaque(
	ctx context.Context, client *storage.Client, auth *grants.Authorization, subject string, bound storage.Confirmation, claims map[string]any,
	now time.Time,
) (token, id string, err error) {
	access := &storage.Access{
		Client:   client.ID,
		Subject:  auth.Subject,
		Scopes:   auth.Scopes,
		Audience: auth.Audience,
		Claims:   claims,
		AuthTime: auth.AuthTime,
		ACR:      auth.Session.ACR,
		IssuedAt: now,
		Expires:  now.Add(lifetime(client, auth, now)),
		Family:   auth.Family,
		Started:  auth.Started,
		Bound:    bound,
		Actor:    auth.Actor,
		Sources:  auth.Sources,
	}
	if subject != auth.Subject {
		access.Pairwise = subject
	}
	token, key := access.IssueToken(a.shape.Length)
	record, err := access.Encode()
	if err != nil {
		return "", "", err
	}
	if err := a.store.Put(ctx, key, record, access.Expires); err != nil {
		return "", "", err
	}
	return a.shape.Prefix + token, key.ID, nil
}

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
