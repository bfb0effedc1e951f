package authserver

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/assertion"
	"github.com/caddy-oauth/caddy-oauth/internal/bounded"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/dpop"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
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
	assertions    *assertion.Checker // of the JWTs that clients sign
	proofs        *dpop.Checker
	cutoffs       *revocation.Cutoffs
	revoker       *Revoker
	consents      *consentRecords
	lastUses      *lastUses
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

// authenticate finds out which client a request comes from.
func (s *core) authenticate(c *call, form url.Values) (err error) {
	c.client, c.named, err = s.authenticator.Authenticate(c.ctx, c.r, form, c.peer)
	return err
}

// presented authenticates the client of a request about a token, as the token endpoint does, and returns the token.
func (s *core) presented(c *call) (string, error) {
	form, err := wire.ReadForm(c.w, c.r)
	if err != nil {
		return "", err
	}
	if err := s.authenticate(c, form); err != nil {
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
	record, err := s.store.Get(ctx, key)
	if errors.Is(err, storage.ErrNotFound) {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, err
	}
	f, err := storage.DecodeFamily(record)
	if err != nil {
		return "", nil, bounded.NameRecord(key, err)
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

// readPage returns the parameters of a request for a page, and who is signed in.
func (s *core) readPage(c *call) (url.Values, *User, error) {
	params, err := readAuthorizeParams(c.w, c.r)
	if err != nil {
		return nil, nil, err
	}
	c.setDeadline(s.config.StoreTimeout)
	user, err := s.user(c)
	return params, user, err
}

// familyAccount returns the account that the throttle counts families by: the hash of a user and a client, since both may be long.
func familyAccount(client, subject string) string {
	return storage.HashID(client + "\x00" + subject)
}

// longestLifetimes returns the longest lifetimes of all clients. With an error, it returns those of the configured clients only.
func (s *core) longestLifetimes(ctx context.Context) (storage.Lifetimes, error) {
	longest := storage.Lifetimes{AccessToken: s.config.Keys.Lifetime + jwt.MaxLeeway, Family: longestCode}
	for _, c := range s.config.Clients {
		longest = longest.Max(lifetimesOf(c))
	}
	all, _, err := s.clients.All(ctx) // the others may do nothing here
	for _, c := range all {
		longest = longest.Max(lifetimesOf(c))
	}
	return longest, err
}

// longestCode is how long an authorization code can live, and with it a family without refresh tokens.
const longestCode = 10 * time.Minute

// lifetimesOf returns how long the access tokens and the families of a client can live.
func lifetimesOf(c *storage.Client) storage.Lifetimes {
	l := storage.Lifetimes{AccessToken: c.AccessTokenLifetime + jwt.MaxLeeway, Family: longestCode}
	switch {
	case !c.MayUse("refresh_token"):
	case c.RefreshToken.Lifetime == 0:
		l.Family = storage.Forever
	default:
		l.Family = max(l.Family, c.RefreshToken.Lifetime)
	}
	return l
}
