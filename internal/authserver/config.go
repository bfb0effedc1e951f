package authserver

import (
	"cmp"
	"context"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/assertion"
	"github.com/caddy-oauth/caddy-oauth/internal/bounded"
	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/dpop"
	"github.com/caddy-oauth/caddy-oauth/internal/fetch"
	"github.com/caddy-oauth/caddy-oauth/internal/keyring"
	"github.com/caddy-oauth/caddy-oauth/internal/metrics"
	"github.com/caddy-oauth/caddy-oauth/internal/pages"
	"github.com/caddy-oauth/caddy-oauth/internal/registration"
	"github.com/caddy-oauth/caddy-oauth/internal/revocation"
	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
	"github.com/caddy-oauth/caddy-oauth/internal/trail"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Config is what a Server is made of. It is not changed once a Server has it.
type Config struct {
	Identity
	ClientConfig
	Persistence
	ProcessState
	Observers

	Keys   keyring.Policy
	Limits throttle.Limits
	Now    func() time.Time // nil is time.Now
}

// Identity is what clients and people see of an issuer.
type Identity struct {
	Name   string // the issuer's short name, for logs and metrics
	URL    string // the issuer, exactly as clients know it
	Paths  Paths
	Scopes []Scope

	// MTLSAlias is another origin of the endpoints, at which clients are asked for certificates (RFC 8705 §5); "" is none.
	MTLSAlias string

	// OpenID says that clients can sign people in (OpenID Connect Core).
	OpenID bool
	// PairwiseSalt is the secret that subjects are made with for clients of a sector; "" if there are none.
	PairwiseSalt string
	// IDTokenAlgorithms are the algs that ID tokens can have, and UserinfoAlgorithms those of signed answers of the userinfo endpoint.
	IDTokenAlgorithms, UserinfoAlgorithms []string
	// LogoutEndsAll ends all sign-ins of a person who signs out where the site does not tell which session that is. Otherwise it ends
	// those at the client that the person comes from.
	LogoutEndsAll bool

	AccessToken AccessTokenShape
	Wire        wire.Shape

	Pages pages.Config // Host and Scopes are those of the issuer
}

// ClientConfig has the clients of an issuer, and how they get tokens.
type ClientConfig struct {
	Clients map[string]*storage.Client // by client ID
	Resolve clients.Resolver           // of clients that are added at run time

	// Documents returns the clients that their websites describe, with their records in the store; nil if there are none.
	Documents func(store storage.Store) Documents

	// Registration says how clients can register themselves; nil if they cannot.
	Registration *Registration

	// DescribedRefreshPrefix begins the refresh tokens of clients that describe themselves.
	DescribedRefreshPrefix string

	Secrets clients.Secrets
	Grants  []grants.Grant

	// TellEnds makes token responses say when refresh tokens and approvals end (draft-ietf-oauth-refresh-token-expiration). They also do
	// for clients with ConsentLifetimes.
	TellEnds bool

	// RequirePushed requires that all clients push their authorization requests (RFC 9126 §5).
	RequirePushed bool

	// RequireSigned requires that all clients sign their authorization requests (RFC 9101 §10.5).
	RequireSigned bool

	// AssertionForIssuer requires the issuer as the only audience of a client's assertion. Otherwise it may be the token endpoint.
	AssertionForIssuer bool

	// DPoPNonce requires nonces of this server in DPoP proofs.
	DPoPNonce bool

	// Accounts asks the site about the users of refresh tokens; nil if it is not to be asked.
	Accounts grants.Accounts
}

// Documents has the clients whose ID is the URL of a document about them (Client ID Metadata Documents). It describes as much of them as
// it has fetched before.
type Documents interface {
	clients.Source

	// Owns reports whether the ID is that of such a client.
	Owns(id string) bool
	// Fetch returns the client after it has fetched the document, if that is necessary. An error that is a *grants.Error says why
	// there is no such client.
	Fetch(ctx context.Context, id string) (*storage.Client, error)
}

// Persistence is where an issuer keeps its records.
type Persistence struct {
	Store storage.Store

	// ReadOnly refuses every write to the store, so that it can be copied.
	ReadOnly bool

	// StoreTimeout is how long a request may wait for the store in all; 0 is what is right for the store.
	StoreTimeout time.Duration

	// RevocationPoll is how often to poll for what other nodes have revoked; 0 is every five seconds.
	RevocationPoll time.Duration
}

// ProcessState is what the servers of this process have in common, so that a reload forgets nothing. Each that is nil is new.
type ProcessState struct {
	Throttle    *throttle.Throttle       // remembers failures, which Limits bounds
	Revocations *revocation.LocalServers // passes revocations on between the servers of one issuer in this process
	Servers     *RunningServers          // of all configurations: the old ones may still write
	Codes       *Codes                   // remembers codes until they have ended
	Trail       *trail.Trail             // remembers the last failures
	ClientKeys  *assertion.Keys          // finds the keys of clients
	Fetcher     *fetch.Fetcher           // reaches clients
	Proofs      *dpop.Memory             // remembers DPoP proofs
}

// NewProcessState returns what the servers of a process that starts have in common.
func NewProcessState() ProcessState { return ProcessState{}.withDefaults(time.Now) }

// withDefaults returns s with something new in place of each nil.
func (s ProcessState) withDefaults(now func() time.Time) ProcessState {
	if s.Revocations == nil {
		s.Revocations = revocation.NewLocalServers()
	}
	if s.Throttle == nil {
		s.Throttle = throttle.New()
	}
	if s.Servers == nil {
		s.Servers = newRunningServers()
	}
	if s.Codes == nil {
		s.Codes = newCodes()
	}
	if s.Trail == nil {
		s.Trail = trail.New()
	}
	if s.Fetcher == nil {
		s.Fetcher = fetch.New(fetch.Config{Now: now})
	}
	if s.ClientKeys == nil {
		s.ClientKeys = assertion.NewKeys(s.Fetcher, now)
	}
	if s.Proofs == nil {
		s.Proofs = dpop.NewMemory()
	}
	return s
}

// Observers learn what a server does.
type Observers struct {
	Logger   *zap.Logger
	Audit    *zap.Logger // gets a line for each Event; nil is none
	Registry metrics.Registry
	Observe  func(e *Event) // is called with each Event before the answer is written, and must not take long; nil is nobody
}

// withDefaults returns the config with nothing left open but what depends on the store.
func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Audit == nil {
		c.Audit = zap.NewNop()
	}
	c.ProcessState = c.ProcessState.withDefaults(c.Now)
	if c.OpenID {
		c.Scopes = withOpenIDScopes(c.Scopes)
	}
	c.RevocationPoll = cmp.Or(c.RevocationPoll, 5*time.Second)
	c.StoreTimeout = cmp.Or(c.StoreTimeout, bounded.Timeout(c.Store))
	return c
}

// Paths are the paths of the endpoints on the issuer's host.
type Paths struct {
	Authorize  string
	Token      string
	JWKS       string
	Introspect string
	Revoke     string
	RevokeUser string
	Apps       string
	Register   string
	Userinfo   string

	DeviceAuthorization string
	Device              string
	Logout              string
	Sessions            string
	PAR                 string
}

// DefaultPaths returns the paths below the path of the issuer.
func DefaultPaths(issuer *url.URL) Paths {
	prefix := strings.TrimSuffix(issuer.Path, "/") + "/oauth"
	return Paths{
		Authorize:  prefix + "/authorize",
		Token:      prefix + "/token",
		JWKS:       prefix + "/jwks",
		Introspect: prefix + "/introspect",
		Revoke:     prefix + "/revoke",
		RevokeUser: prefix + "/revoke_user",
		Apps:       prefix + "/apps",
		Register:   prefix + "/register",
		Userinfo:   prefix + "/userinfo",

		DeviceAuthorization: prefix + "/device_authorization",
		Device:              prefix + "/device",
		Logout:              prefix + "/logout",
		Sessions:            prefix + "/sessions",
		PAR:                 prefix + "/par",
	}
}

// AccessTokenShape is where access tokens differ from RFC 9068.
type AccessTokenShape struct {
	Opaque bool   // a reference to a record instead of a JWT
	Prefix string // of an opaque token
	Length int    // of an opaque token, without the prefix; 0 means the default

	Minimal bool              // a JWT has only exp, iat, sub and the configured claims
	Rename  map[string]string // other names for claims; sub stays, and is repeated under its other name
}

// Registration says how clients can register themselves (RFC 7591).
type Registration struct {
	// Clients has the limits of registrations, and what becomes of them. The server sets the rest: Issuer, Store, Logger and Now.
	Clients registration.Config

	// Tokens are the initial access tokens, one of which a client needs to register; without any, everybody can.
	Tokens []registration.InitialToken

	// Sector returns the document at a sector_identifier_uri; nil: clients cannot have one.
	Sector func(ctx context.Context, url string) ([]byte, error)
}
