package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Client is an application that may request tokens. Field names follow RFC 7591 §2 where it has one. Many requests share a Client,
// so nobody may change it.
type Client struct {
	ID   string
	Name string

	// SecretHashes are the hashes of the secrets, any of which authenticates the client.
	SecretHashes []string

	// JWKS has the client's public keys, a JWK set (RFC 7517 §5), and JWKSURI is the URL of such a set. The client
	// authenticates with a JWT that one of the private keys signed.
	JWKS    json.RawMessage
	JWKSURI string

	// Certificate is the TLS certificate that authenticates the client; nil: none does.
	Certificate *ClientCertificate

	// AuthMethods are the methods of client authentication that the client may use (RFC 7591 §2, see MethodNone).
	// client_secret_basic and client_secret_post stand for each other. Without any, the client may use what it has: its
	// secrets, its keys and its certificate, or else none.
	AuthMethods []string

	RedirectURIs []string
	GrantTypes   []string
	Scopes       []string

	// Audience has the resources the client may request (RFC 8707). If it requests none, its tokens are for all of them.
	Audience []string
	// OwnAudience restricts the client to its Audience. Otherwise it may request the other resources of the issuer too, by name.
	OwnAudience bool

	// Introspects are the resources whose access tokens the client may introspect, as their resource server; "*" is all.
	// It may always introspect its own tokens.
	Introspects []string

	// Exchanges say which tokens the client may exchange for which (RFC 8693).
	Exchanges []ExchangeRule

	// EndsSessions is for the site itself, which says when sessions of its own have ended.
	EndsSessions bool

	// RevokesUsers is for an identity provider, which may revoke all tokens of a user; nil: the client may not.
	RevokesUsers *UserIdentifiers

	Consent ConsentMode

	// ConsentLifetimes are how long a person can let the client have access, zero without end. The person chooses one, the first is chosen
	// beforehand. None: without end.
	ConsentLifetimes []time.Duration

	// RequirePKCE requires a code_challenge of a client with a secret. A public client always has to send one.
	RequirePKCE bool

	// RequireDPoP requires a DPoP proof in each token request, so that all tokens of the client are bound to its key (RFC 9449 §5.2).
	RequireDPoP bool

	// BindToCertificate requires a TLS certificate with each token request, and binds all access tokens of the client to it (RFC 8705 §3.4).
	BindToCertificate bool

	RedirectRules RedirectRules

	// RequirePushed requires that the client pushes its authorization requests (RFC 9126 §6).
	RequirePushed bool

	// RequireSigned requires that the client signs its authorization requests (RFC 9101 §10.5). RequestAlgorithm is the only alg of
	// such a request; "" is any that is asymmetric.
	RequireSigned    bool
	RequestAlgorithm string

	// FAPI holds the client to what FAPI 2.0 Security Profile §5.3.2.1 and §5.4 say of the JWTs that it signs: PS256, ES256 or EdDSA, and
	// the issuer as the only audience. What else that profile needs is in the other fields.
	FAPI bool

	// OmitIssuer leaves iss out of authorization responses (RFC 9207).
	OmitIssuer bool

	// DropUnknownScopes leaves out of a request the scopes that the client may not have. Otherwise they refuse the request.
	DropUnknownScopes bool

	// AccessTokenLifetime is how long an access token lives.
	AccessTokenLifetime time.Duration
	// CodeLifetime is how long an authorization code lives, at most ten minutes (RFC 6749 §4.1.2).
	CodeLifetime time.Duration
	// CodePrefix is put before authorization codes.
	CodePrefix string

	RefreshToken RefreshPolicy

	// OpenID is for a client that may sign people in (OpenID Connect Core); nil: it may not.
	OpenID *OpenIDPolicy

	// Origin says who described the client.
	Origin ClientOrigin

	// Created is when the client was added at run time, and zero for a configured client. Consents from before were for
	// another client with the same ID.
	Created time.Time
}

// ExchangeRule lets a client exchange a user's access token for one resource for a token for another.
type ExchangeRule struct {
	From, To string   // resources
	Scopes   []string // that the new token may have, of those of the first; none means all
}

// UserIdentifiers are the subject identifiers (RFC 9493) by which a client can name a user, beside the user ID itself (opaque) and the
// subject that this issuer gives (iss_sub).
type UserIdentifiers struct {
	Issuers []string // whose subjects are user IDs
	Email   bool     // whether an e-mail address is the user ID
}

// ClientOrigin says who described a client.
type ClientOrigin string

// The origins of clients. The zero value is the owner, in the configuration or at run time.
const (
	OriginRegistered ClientOrigin = "registered" // the client itself, by dynamic registration (RFC 7591)
	OriginDocument   ClientOrigin = "document"   // the website whose URL is the client ID (Client ID Metadata Document)
)

// The methods of client authentication (RFC 7591 §2).
const (
	MethodNone  = "none"
	MethodBasic = "client_secret_basic"
	MethodPost  = "client_secret_post"
	MethodKey   = "private_key_jwt"

	MethodTLS        = "tls_client_auth"             // RFC 8705 §2.1.1
	MethodSelfSigned = "self_signed_tls_client_auth" // RFC 8705 §2.2.1
)

// ClientCertificate says which TLS certificate authenticates a client (RFC 8705 §2). Either it is one of a CA that the server trusts, and
// has the one name that is set here (§2.1.2), or it is SelfSigned. Many requests share it, so nobody may change it.
type ClientCertificate struct {
	SubjectDN string // as RFC 4514 writes it
	SANDNS    string
	SANURI    string
	SANIP     string
	SANEmail  string

	// SelfSigned says that the certificate itself is registered (§2.2): it is one of Certificates, in DER, or in an x5c of the client's
	// JWK set.
	SelfSigned   bool
	Certificates [][]byte
}

// Name returns the kind of the name that a certificate must have, such as san_dns, and the name; "" for one that is SelfSigned.
func (c *ClientCertificate) Name() (kind, name string) {
	for _, set := range [...][2]string{
		{"subject_dn", c.SubjectDN}, {"san_dns", c.SANDNS}, {"san_uri", c.SANURI}, {"san_ip", c.SANIP}, {"san_email", c.SANEmail},
	} {
		if set[1] != "" {
			return set[0], set[1]
		}
	}
	return "", ""
}

// Method returns the method of client authentication.
func (c *ClientCertificate) Method() string {
	if c.SelfSigned {
		return MethodSelfSigned
	}
	return MethodTLS
}

// OpenIDPolicy is what a client gets that signs people in. Many requests share it, so nobody may change it.
type OpenIDPolicy struct {
	// IDTokenAlgorithm is the alg of the client's ID tokens.
	IDTokenAlgorithm string
	// Sector is the host that all clients share which know a person by the same subject (OpenID Connect Core §8.1). Without one, the
	// subject is the user ID.
	Sector string
	// DefaultMaxAge is the max_age of requests that have none; nil is any.
	DefaultMaxAge *time.Duration
	// RequireAuthTime requires an auth_time in the client's ID tokens.
	RequireAuthTime bool
	// UserinfoAlgorithm is the alg of the answers of the userinfo endpoint to the client; "" is plain JSON.
	UserinfoAlgorithm string
	// ClaimsInIDToken puts the claims of the granted scopes into the ID token too, for clients that do not ask the userinfo endpoint.
	ClaimsInIDToken bool
	// PostLogoutRedirectURIs are where people may go who have signed out (OpenID Connect RP-Initiated Logout §3.1).
	PostLogoutRedirectURIs []string
	// BackchannelLogoutURI is where the client learns that a person has signed out (OpenID Connect Back-Channel Logout §2.2), "" if it
	// does not. BackchannelLogoutSession says that it must learn which session has ended.
	BackchannelLogoutURI     string
	BackchannelLogoutSession bool
}

// RefreshPolicy says how long refresh tokens of a client live, and how they rotate.
type RefreshPolicy struct {
	// Lifetime is how long after the approval a family can be refreshed. Zero is for ever.
	Lifetime time.Duration
	// Idle is how long a family lives without a refresh. Zero is no limit.
	Idle time.Duration
	// Retry is how long after a rotation the previous token yields the current one again, if nobody has used that yet: for
	// a client that lost the response. Zero is strict single use, and RetryUntilUsed has no limit.
	Retry time.Duration
	// Keep leaves the refresh token as it is instead of rotating it.
	Keep bool
	// Length is the length of refresh tokens without the prefix. Zero is the default.
	Length int
	// Prefix is put before refresh tokens.
	Prefix string
}

// RetryUntilUsed is for clients that authenticate: somebody who stole only the token cannot present it.
const RetryUntilUsed time.Duration = -1

// RedirectRules say which requests must contain a redirect_uri. The zero value is RFC 6749's.
type RedirectRules struct {
	// Authorize requires it in the authorization request, even if only one URI is registered.
	Authorize bool
	// Code is for the exchange of a code.
	Code RedirectRule
	// Refresh is for a refresh.
	Refresh RedirectRule
}

// RedirectRule says when a token request must contain the redirect_uri that the code was sent to. If it contains one, that must be the
// same, unless the rule is RedirectIgnored.
type RedirectRule string

// The rules for redirect_uri in token requests.
const (
	// RedirectAsSent: if the request before contained one, which is the authorization request before the exchange of a code, and
	// that exchange before a refresh. It is the default for codes (RFC 6749 §4.1.3).
	RedirectAsSent RedirectRule = "as_sent"
	// RedirectRequired: always.
	RedirectRequired RedirectRule = "required"
	// RedirectOptional: never.
	RedirectOptional RedirectRule = "optional"
	// RedirectIgnored: the parameter is ignored. It is the default for refreshes (RFC 6749 §6).
	RedirectIgnored RedirectRule = "ignored"
)

// ConsentMode says when the user is asked for consent.
type ConsentMode string

// The consent modes. The zero value is ConsentOnce for clients whose identity is assured, and ConsentAlways for the others.
const (
	ConsentOnce   ConsentMode = "once"   // and again when the client requests more
	ConsentAlways ConsentMode = "always" // every time
	ConsentNever  ConsentMode = "never"  // for the owner's own clients
)

// Outlasts reports whether an approval until a time (zero: without end) would last longer than the longest of the current
// ConsentLifetimes.
func (c *Client) Outlasts(until, now time.Time) bool {
	if len(c.ConsentLifetimes) == 0 || slices.Contains(c.ConsentLifetimes, 0) {
		return false
	}
	return until.IsZero() || until.After(now.Add(slices.Max(c.ConsentLifetimes)))
}

// Public reports whether the client may do without authentication (RFC 6749 §2.1): it has no secret, no key and no certificate, or it
// says that it does not always use them.
func (c *Client) Public() bool {
	if len(c.AuthMethods) > 0 {
		return slices.Contains(c.AuthMethods, MethodNone)
	}
	return len(c.SecretHashes) == 0 && !c.HasKeys() && c.Certificate == nil
}

// Binding returns what the tokens of the client are bound to, of what it has proven to have: to its certificate only if it is set to be.
func (c *Client) Binding(proven Confirmation) Confirmation {
	if !c.BindToCertificate {
		proven.Certificate = ""
	}
	return proven
}

// HasKeys reports whether the client may authenticate with a key.
func (c *Client) HasKeys() bool {
	return (len(c.JWKS) > 0 || c.JWKSURI != "") && (len(c.AuthMethods) == 0 || slices.Contains(c.AuthMethods, MethodKey))
}

// SignsRequests reports whether the client has a key that it can sign its authorization requests with (RFC 9101). It need not
// authenticate with that.
func (c *Client) SignsRequests() bool { return len(c.JWKS) > 0 || c.JWKSURI != "" }

// HasSecrets reports whether the client may authenticate with a secret.
func (c *Client) HasSecrets() bool {
	return len(c.SecretHashes) > 0 &&
		(len(c.AuthMethods) == 0 || slices.Contains(c.AuthMethods, MethodBasic) || slices.Contains(c.AuthMethods, MethodPost))
}

// MayUse reports whether the client may use a grant type.
func (c *Client) MayUse(grantType string) bool { return slices.Contains(c.GrantTypes, grantType) }

// EndsCode returns when an Offline code that is issued now expires: at expires, or earlier if its refresh tokens could not live so
// long. The record must exist as long as the code is valid, so that a second use is detected, and it expires with the tokens.
func (p RefreshPolicy) EndsCode(expires, now time.Time) time.Time {
	for _, life := range []time.Duration{p.Lifetime, p.Idle} {
		if life > 0 {
			expires = earlier(expires, now.Add(life))
		}
	}
	return expires
}

// KeptUntil returns how long a family that is used now can live without another use, zero for ever.
func (p RefreshPolicy) KeptUntil(now time.Time) time.Time {
	switch {
	case p.Idle > 0:
		return now.Add(p.Idle)
	case p.Lifetime > 0:
		return now.Add(p.Lifetime)
	}
	return time.Time{}
}

// Ends returns when a family that started at that time ends, zero for never.
func (p RefreshPolicy) Ends(started time.Time) time.Time {
	if p.Lifetime == 0 {
		return time.Time{}
	}
	return started.Add(p.Lifetime)
}

// AddedClient is a client that was added at run time. Its record never expires, except after its deletion.
type AddedClient struct {
	ID string `json:"client_id"`

	// Settings are the client's settings without secrets, in the JSON of the configuration. What they leave out follows the
	// issuer's current settings.
	Settings json.RawMessage `json:"settings"`

	// Secrets are the hashes of secrets, any of which authenticates the client until it expires. A client that never had one is
	// public.
	Secrets []Secret `json:"secrets,omitempty"`

	Created  time.Time `json:"created"`
	Changed  time.Time `json:"changed"`
	Disabled time.Time `json:"disabled,omitzero"`

	// BlocksDescribed marks the record of a described client, which brought its own metadata, or of a redirect host of such clients. The
	// record only blocks it, while Disabled is set.
	BlocksDescribed bool `json:"described,omitempty"`

	// Deleted makes the record a tombstone, which tells every node that the client was deleted.
	Deleted time.Time `json:"deleted,omitzero"`
}

// Secret is the hash of a client's secret.
type Secret struct {
	Hash    string    `json:"hash"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // zero: never
}

// AddedClientKey returns the key of a client's record.
func AddedClientKey(id string) Key { return Key{Kind: KindClient, ID: EscapeID(id)} }

// DecodeAddedClient reads a record.
func DecodeAddedClient(record []byte) (*AddedClient, error) {
	if err := CheckReadable(record); err != nil {
		return nil, fmt.Errorf("client record: %w", err)
	}
	r := new(AddedClient)
	// A JSON error can quote from the record, which contains hashes.
	if json.Unmarshal(record, r) != nil || r.ID == "" {
		return nil, errors.New("client record: not the JSON of a client")
	}
	return r, nil
}

// Encode returns the record.
func (r *AddedClient) Encode() ([]byte, error) { return json.Marshal(r) }

// Hashes returns the hashes of the secrets that are valid now, and when the first of them expires, zero for never.
func (r *AddedClient) Hashes(now time.Time) (hashes []string, until time.Time) {
	for _, secret := range r.Secrets {
		if secret.Expires.IsZero() {
			hashes = append(hashes, secret.Hash)
			continue
		}
		if !now.Before(secret.Expires) {
			continue
		}
		hashes = append(hashes, secret.Hash)
		if until.IsZero() || secret.Expires.Before(until) {
			until = secret.Expires
		}
	}
	return hashes, until
}

// ReplaceSecret adds the hash of a new secret. Older ones stay valid for the grace time, unless they expire sooner.
func (r *AddedClient) ReplaceSecret(hash string, now time.Time, grace time.Duration) {
	kept := make([]Secret, 0, len(r.Secrets)+1)
	for _, secret := range r.Secrets {
		if end := now.Add(grace); secret.Expires.IsZero() || end.Before(secret.Expires) {
			secret.Expires = end
		}
		if now.Before(secret.Expires) {
			kept = append(kept, secret)
		}
	}
	r.Secrets = append(kept, Secret{Hash: hash, Created: now})
}
