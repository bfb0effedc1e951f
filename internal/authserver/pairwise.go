package authserver

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// pairwise makes the subjects of clients whose OpenIDPolicy has a Sector: each sector knows a person by another subject, so that
// clients cannot find out together who somebody is (OpenID Connect Core §8.1). The user ID is what this server itself goes by: in
// records, revocations and guards. An access token of such a client has it sealed, so that nobody else can read it.
type pairwise struct {
	salt   string
	sealer sealer
}

// subject returns the subject of a user in the tokens of a client. A client that acts for itself is its own subject.
func (p *pairwise) subject(client *storage.Client, user string) string {
	if !isPairwise(client) || user == client.ID {
		return user
	}
	mac := hmac.New(sha256.New, []byte(p.salt))
	mac.Write([]byte(client.OpenID.Sector + "\x00" + user)) // a host has no NUL
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// session returns the ID of a session at the site in the tokens of a client. It would tell clients who somebody is as a subject would.
func (p *pairwise) session(client *storage.Client, sid string) string {
	if !isPairwise(client) || sid == "" {
		return sid
	}
	mac := hmac.New(sha256.New, []byte(p.salt))
	mac.Write([]byte(client.OpenID.Sector + "\x00sid\x00" + sid))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// isPairwise reports whether the client has subjects of its own for the users (OpenID Connect Core §8.1).
func isPairwise(client *storage.Client) bool {
	return client.OpenID != nil && client.OpenID.Sector != ""
}

const sealedSubject = "sub_sealed" // the claim

// seal returns the user ID for an access token that has another subject.
func (p *pairwise) seal(ctx context.Context, subject, user string, lifetime time.Duration) (string, error) {
	return p.sealer.seal(ctx, sealedSubject+"\x00"+subject, user, lifetime+jwt.MaxLeeway)
}

// reveal decrypts the user ID of an access token with a pairwise subject into the claims. It deletes the encrypted ID from Raw,
// which other parties can see.
func (p *pairwise) reveal(ctx context.Context, claims *jwt.Claims) error {
	sealed := claims.SealedSubject
	if sealed == "" {
		sealed, _ = claims.Raw[sealedSubject].(string)
		delete(claims.Raw, sealedSubject)
	}
	if sealed == "" {
		return nil
	}
	user, err := p.sealer.open(ctx, sealedSubject+"\x00"+claims.Subject, sealed)
	if errors.Is(err, errStale) { // the owner has retired a key, and with it the secret that sealed it
		return jwt.ErrKey.Explain("a subject that was sealed with another secret", "a token of after the last key was retired", "signing").Of(claims)
	}
	if err != nil {
		return err
	}
	claims.Subject = user
	return nil
}
