package authserver

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/bounded"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/dpop"
	"github.com/caddy-oauth/caddy-oauth/internal/keyring"
	"github.com/caddy-oauth/caddy-oauth/internal/metrics"
	"github.com/caddy-oauth/caddy-oauth/internal/pages"
	"github.com/caddy-oauth/caddy-oauth/internal/registration"
	"github.com/caddy-oauth/caddy-oauth/internal/revocation"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// core is what the endpoints of a server have in common.
type core struct {
	config Config
	origin string // scheme and host of the issuer
	store  *bounded.Store
	sweeps bool // the store removes expired records only when told to

	keys          *keyring.Ring
	clients       *clients.Directory
	documents     Documents // nil: none
	authenticator *clients.Authenticator
	registrations *registration.Registrations // nil if clients cannot register themselves
	accessTokens  *accessTokens
	proofs        *dpop.Checker
	cutoffs       *revocation.Cutoffs
	revoker       *Revoker
	consents      *consentRecords
	uses          *uses
	sessions      *sessionRecords
	logouts       *logouts
	limiter       *throttle.Limiter
	sealer        sealer
	pairwise      *pairwise
	document      metadataDocument
	resources     resources

	pages   *pages.Pages
	events  *eventLog
	metrics *metrics.Issuer
	log     *zap.Logger
	now     func() time.Time
}

// presented authenticates the client of a request about a token, as the token endpoint does, and returns the token.
func (s *core) presented(c *call) (string, error) {
	form, err := wire.ReadForm(c.w, c.r)
	if err != nil {
		return "", err
	}
	if c.client, c.named, err = s.authenticator.Authenticate(c.ctx, c.r, form, c.address); err != nil {
		return "", err
	}
	c.setDeadline(s.config.StoreTimeout)
	if !form.Has("token") {
		return "", grants.Refuse(grants.InvalidRequest, "token is missing").Explain("", "token in the body", "")
	}
	return form.Get("token"), nil
}

// findFamily returns the family that a refresh token belongs to, used or not, and the ID of its record; nil for a text
// that is no refresh token of a family. The family may have been revoked.
func (s *core) findFamily(ctx context.Context, client *storage.Client, token string) (string, *storage.Family, error) {
	body, ok := strings.CutPrefix(token, client.RefreshToken.Prefix)
	key, valid := storage.RefreshKey(body)
	if !ok || !valid || strings.Contains(body, ".") {
		return "", nil, nil
	}
	record, err := s.config.Store.Get(ctx, key)
	if errors.Is(err, storage.ErrNotFound) {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	f, err := storage.DecodeFamily(record)
	if err != nil {
		return "", nil, naming(key, err)
	}
	if f.Revoked.IsZero() && f.TokenStatus(body, s.now(), client.RefreshToken.Retry) == storage.TokenUnknown {
		return "", nil, nil
	}
	return key.ID, f, nil
}

// user asks the site who is signed in, and checks that the user's ID can be the subject of a token. It returns nil if
// nobody is signed in.
func (s *core) user(c *call) (*User, error) {
	user, err := c.site.User(c.r)
	if user == nil || err != nil {
		return nil, err
	}
	c.subject = user.Subject
	return user, s.checkSubject(c.ctx, user.Subject)
}

// checkSubject checks that a user's ID can be the subject of a token.
func (s *core) checkSubject(ctx context.Context, subject string) error {
	forbid := func(cause string) error {
		return &grants.Error{
			Code: grants.AccessDenied, Description: "this account cannot be used with apps",
			Status: http.StatusForbidden, Cause: errors.New(cause),
		}
	}
	if len(subject) > 255 || !utf8.ValidString(subject) || strings.ContainsFunc(subject, unicode.IsControl) {
		return forbid("the user ID is over 255 bytes, not UTF-8 or has control characters")
	}
	// A resource server that identifies users by sub must not mistake a client for a user (RFC 9700 §4.15).
	other, err := s.clients.Find(ctx, subject)
	if err != nil {
		return err
	}
	if other != nil && other.MayUse("client_credentials") {
		return forbid("the user ID is also the ID of a client with client_credentials")
	}
	return nil
}

// naming returns the error of decoding a record with the name of the record, if it is damaged.
func naming(key storage.Key, err error) error {
	if errors.Is(err, storage.ErrDamaged) {
		return &storage.DamagedError{Key: key, Err: err}
	}
	return err
}
