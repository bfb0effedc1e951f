package authserver

import (
	"context"
	"crypto/rand"
	"maps"
	"slices"
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
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// accessTokens issues the access tokens of an issuer, and checks them, see access_token_check.go. Safe for concurrent use.
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

// ReservedClaims are the claims that no configuration may set: those that the server sets, and those that would make a
// resource take the token for something else (RFC 7519 §4.1, RFC 9068 §2.2).
var ReservedClaims = []string{
	"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "scope", "auth_time", "family", "family_iat",
	"cnf", "act", "may_act", "acr", "amr", "azp", "nonce", "at_hash", "c_hash", "s_hash", "sid", "events", "sub_jwk", sealedSubject,
	exchangedFrom,
}

// issuedToken is an access token that was just made.
type issuedToken struct {
	text string
	id   string // by which it can be revoked
	life time.Duration
}

// issue makes an access token: a JWT as in RFC 9068 §2.2, or the configured shape. It is bound to what bound names.
func (a *accessTokens) issue(
	ctx context.Context, signer keyring.Signer, client *storage.Client, auth *grants.Authorization, bound storage.Confirmation, now time.Time,
) (issuedToken, error) {
	subject := a.pairwise.subject(client, auth.Subject)
	extra := renameClaims(subject, a.claims.granted(auth.Claims, auth.Scopes, auth.Asked.UserInfo), a.shape.Rename)
	if a.shape.Opaque {
		return a.issueOpaque(ctx, client, auth, subject, bound, extra, now)
	}
	issued := issuedToken{id: rand.Text(), life: lifetime(client, auth, now)}
	ref := jwt.Reference{ID: issued.id, ClientID: client.ID, Family: auth.Family, Began: jwt.NumericDate(auth.Started)}
	if subject != auth.Subject {
		sealed, err := a.pairwise.seal(ctx, subject, auth.Subject, issued.life)
		if err != nil {
			return issuedToken{}, err
		}
		ref.SealedSubject = sealed
	}
	claims := wire.NewObject()
	defer claims.Release()
	if !a.shape.Minimal {
		claims.Text("iss", a.issuer)
	}
	claims.Text("sub", subject)
	claims.Number("exp", now.Add(issued.life).Unix())
	claims.Number("iat", now.Unix())
	if !a.shape.Minimal {
		claims.Audience(auth.Audience)
		claims.Text("scope", strings.Join(auth.Scopes, " "))
		claims.Time("auth_time", auth.AuthTime)
		claims.Text("acr", auth.Session.ACR)
		claims.Text("jti", ref.ID)
		claims.Text("client_id", ref.ClientID)
		claims.Text("family", ref.Family)
		claims.Text(sealedSubject, ref.SealedSubject)
		claims.Decimal("family_iat", ref.Began)
	}
	if !bound.IsZero() {
		claims.Value("cnf", bound)
	}
	if auth.Actor != nil {
		claims.Value("act", auth.Actor)
	}
	if len(auth.Sources) > 0 {
		claims.Value(exchangedFrom, sourceClaims(auth.Sources))
	}
	claims.Members(extra)
	payload, err := claims.Bytes()
	switch {
	case err != nil:
		return issuedToken{}, err
	case a.shape.Minimal:
		if slices.Contains(auth.Scopes, grants.OpenID) {
			ref.Scope = grants.OpenID
		}
		issued.text, err = signer.SignReferenced(ref, payload)
	default:
		issued.text, err = signer.Sign(payload)
	}
	return issued, err
}

// issueOpaque makes an access token that is a reference to a record with the claims.
func (a *accessTokens) issueOpaque(
	ctx context.Context, client *storage.Client, auth *grants.Authorization, subject string, bound storage.Confirmation, claims map[string]any,
	now time.Time,
) (issuedToken, error) {
	life := lifetime(client, auth, now)
	access := &storage.Access{
		Client:   client.ID,
		Subject:  auth.Subject,
		Scopes:   auth.Scopes,
		Audience: auth.Audience,
		Claims:   claims,
		AuthTime: auth.AuthTime,
		ACR:      auth.Session.ACR,
		IssuedAt: now,
		Expires:  now.Add(life),
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
		return issuedToken{}, err
	}
	if err := a.store.Put(ctx, key, record, access.Expires); err != nil {
		return issuedToken{}, err
	}
	return issuedToken{a.shape.Prefix + token, key.ID, life}, nil
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

// lifetime returns how long an access token lives that is issued now.
func lifetime(client *storage.Client, auth *grants.Authorization, now time.Time) time.Duration {
	if auth.Until.IsZero() {
		return client.AccessTokenLifetime
	}
	return min(client.AccessTokenLifetime, auth.Until.Sub(now))
}
