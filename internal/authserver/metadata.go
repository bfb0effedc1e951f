package authserver

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
	"github.com/caddy-oauth/caddy-oauth/internal/dpop"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/wire"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// wellKnownNames are the names of an issuer's metadata. Both have the same document (RFC 8414 §5): libraries for OpenID Connect look
// for the second one, to find the keys.
var wellKnownNames = []string{"/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"}

// metadataPaths returns the paths at which clients look for an issuer's metadata. The well-known name stands before the
// issuer's path (RFC 8414 §3, §3.1); many clients put it after the path.
func metadataPaths(issuer *url.URL) (paths []string) {
	path := strings.TrimSuffix(issuer.Path, "/")
	for _, name := range wellKnownNames {
		paths = append(paths, name+path)
		if path != "" {
			paths = append(paths, path+name)
		}
	}
	return paths
}

// metadataDocument is the authorization server metadata of a server. It is made again when the server learns of a site that serves it.
// Safe for concurrent use; the zero value is ready for use.
type metadataDocument struct {
	body atomic.Pointer[[]byte]

	mu    sync.Mutex
	sites SiteFacts // of all sites
}

// SiteFacts are what a site tells of the people who sign in there.
type SiteFacts struct {
	Claims    []string // the names of the claims
	ACRValues []string // how well people can be authenticated there, lowest first
	SignsOut  bool     // it has a page where people sign out, see [Logouter]
}

// publishMetadata makes the document.
func (s *core) publishMetadata() error {
	s.document.mu.Lock()
	defer s.document.mu.Unlock()
	return s.publishMetadataLocked()
}

func (s *core) publishMetadataLocked() error {
	body, err := s.metadata(&s.document.sites)
	if err == nil {
		s.document.body.Store(&body)
	}
	return err
}

// metadata returns the authorization server metadata (RFC 8414 §2). It names only what the server accepts, and leaves
// out empty arrays.
func (s *core) metadata(sites *SiteFacts) ([]byte, error) {
	authenticated := append([]string{storage.MethodBasic, storage.MethodPost, storage.MethodKey}, s.certificateMethods()...)
	algs := jwt.AssertionAlgorithms()
	doc := struct {
		Issuer                string   `json:"issuer"`
		AuthorizationEndpoint string   `json:"authorization_endpoint"`
		TokenEndpoint         string   `json:"token_endpoint"`
		JWKSURI               string   `json:"jwks_uri,omitempty"`
		Scopes                []string `json:"scopes_supported,omitempty"`
		ResponseTypes         []string `json:"response_types_supported"`
		ResponseModes         []string `json:"response_modes_supported"`
		GrantTypes            []string `json:"grant_types_supported"`
		GrantProfiles         []string `json:"authorization_grant_profiles_supported,omitempty"`
		AuthMethods           []string `json:"token_endpoint_auth_methods_supported"`
		AuthAlgs              []string `json:"token_endpoint_auth_signing_alg_values_supported"`
		RegistrationEndpoint  string   `json:"registration_endpoint,omitempty"`
		RevocationEndpoint    string   `json:"revocation_endpoint"`
		RevocationMethods     []string `json:"revocation_endpoint_auth_methods_supported"`
		RevocationAlgs        []string `json:"revocation_endpoint_auth_signing_alg_values_supported"`
		RevokeUserEndpoint    string   `json:"global_token_revocation_endpoint,omitempty"`
		RevokeUserMethods     []string `json:"global_token_revocation_endpoint_auth_methods_supported,omitempty"`
		IntrospectionEndpoint string   `json:"introspection_endpoint"`
		IntrospectionMethods  []string `json:"introspection_endpoint_auth_methods_supported"`
		IntrospectionAuthAlgs []string `json:"introspection_endpoint_auth_signing_alg_values_supported"`
		IntrospectionAlgs     []string `json:"introspection_signing_alg_values_supported,omitempty"` // RFC 9701 §7
		ChallengeMethods      []string `json:"code_challenge_methods_supported"`
		IssParameter          bool     `json:"authorization_response_iss_parameter_supported"` // RFC 9207 §3
		ClientDocuments       bool     `json:"client_id_metadata_document_supported,omitempty"`
		UILocales             []string `json:"ui_locales_supported"`
		DeviceAuthorization   string   `json:"device_authorization_endpoint,omitempty"`            // RFC 8628 §4
		DPoPAlgs              []string `json:"dpop_signing_alg_values_supported"`                  // RFC 9449 §5.1
		RefreshExpiration     []string `json:"refresh_token_expiration_types_supported,omitempty"` // draft-ietf-oauth-refresh-token-expiration
		PAR                   string   `json:"pushed_authorization_request_endpoint"`              // RFC 9126 §5
		RequirePushed         bool     `json:"require_pushed_authorization_requests,omitempty"`

		// RFC 9101 §10.5, OpenID Connect Discovery §3.
		RequestParameter bool     `json:"request_parameter_supported"`
		RequestAlgs      []string `json:"request_object_signing_alg_values_supported,omitempty"`
		RequireSigned    bool     `json:"require_signed_request_object,omitempty"`

		BindsToCertificates bool              `json:"tls_client_certificate_bound_access_tokens,omitempty"` // RFC 8705 §3.3
		Aliases             map[string]string `json:"mtls_endpoint_aliases,omitempty"`                      // RFC 8705 §5

		*openIDMetadata
	}{
		Issuer:                s.config.URL,
		AuthorizationEndpoint: s.origin + s.config.Paths.Authorize,
		TokenEndpoint:         s.origin + s.config.Paths.Token,
		ResponseTypes:         []string{"code"},
		ResponseModes:         []string{"query", "form_post"},
		AuthMethods:           append(authenticated, storage.MethodNone),
		AuthAlgs:              algs,
		RevocationEndpoint:    s.origin + s.config.Paths.Revoke,
		RevocationMethods:     append(authenticated, storage.MethodNone),
		RevocationAlgs:        algs,
		IntrospectionEndpoint: s.origin + s.config.Paths.Introspect,
		IntrospectionMethods:  authenticated,
		IntrospectionAuthAlgs: algs,
		ChallengeMethods:      []string{"S256"},
		IssParameter:          true,
		PAR:                   s.origin + s.config.Paths.PAR,
		RequirePushed:         s.config.RequirePushed,
		RequireSigned:         s.config.RequireSigned,
		ClientDocuments:       s.documents != nil,
		UILocales:             s.pages.Languages(),
		DPoPAlgs:              dpop.Algorithms(),
	}
	if doc.RequestParameter = s.anySignsRequests(); doc.RequestParameter {
		doc.RequestAlgs = algs
	}
	if s.config.OpenID {
		doc.openIDMetadata = s.openIDMetadata(sites)
	}
	if s.keys.Published() {
		doc.JWKSURI = s.origin + s.config.Paths.JWKS
		if jwt.Asymmetric(s.keys.Algorithm()) { // a client cannot verify with a secret of this server
			doc.IntrospectionAlgs = []string{s.keys.Algorithm()}
		}
	}
	if s.registrations != nil {
		doc.RegistrationEndpoint = s.origin + s.config.Paths.Register
	}
	for _, scope := range s.config.Scopes {
		doc.Scopes = append(doc.Scopes, scope.Name)
	}
	doc.BindsToCertificates = s.bindsToCertificates()
	if s.anyMayUse(grants.DeviceCodeType) {
		doc.DeviceAuthorization = s.origin + s.config.Paths.DeviceAuthorization
	}
	for _, grant := range s.config.Grants {
		if !slices.Contains(unusual, grant.Type()) || s.anyMayUse(grant.Type()) {
			doc.GrantTypes = append(doc.GrantTypes, grant.Type())
			if p, ok := grant.(grants.Profiler); ok {
				doc.GrantProfiles = append(doc.GrantProfiles, p.Profiles()...)
			}
		}
	}
	slices.Sort(doc.GrantTypes)
	if s.anyRevokesUsers() { // without client_secret_post: the request body is JSON
		doc.RevokeUserEndpoint = s.origin + s.config.Paths.RevokeUser
		doc.RevokeUserMethods = append([]string{storage.MethodBasic, storage.MethodKey}, s.certificateMethods()...)
	}
	if s.config.TellEnds || s.anyClient(s.tellsEnds) {
		doc.RefreshExpiration = []string{"authorization", "token_timeout"}
	}
	doc.Aliases = s.aliases(doc.RegistrationEndpoint != "", doc.DeviceAuthorization != "")
	return json.Marshal(doc)
}

// unusual are grant types that the metadata has only if a client of the configuration may use them.
var unusual = []string{grants.DeviceCodeType, grants.TokenExchangeType, grants.JWTBearerType}

// certificateMethods returns the methods by which clients authenticate with certificates. With an alias, clients that are added at run time
// can use any.
func (s *core) certificateMethods() (methods []string) {
	if s.config.MTLSAlias != "" {
		return []string{storage.MethodTLS, storage.MethodSelfSigned}
	}
	for _, client := range s.config.Clients {
		if client.Certificate != nil {
			methods = bearer.Union(methods, []string{client.Certificate.Method()})
		}
	}
	slices.Sort(methods)
	return methods
}

// bindsToCertificates reports whether a client can get tokens that are bound to its certificate.
func (s *core) bindsToCertificates() bool {
	for _, client := range s.config.Clients {
		if client.BindToCertificate {
			return true
		}
	}
	return s.config.MTLSAlias != ""
}

// aliases returns the URLs of the endpoints at which clients are asked for certificates (RFC 8705 §5), nil if these are the usual ones.
func (s *core) aliases(registration, device bool) map[string]string {
	alias, paths := s.config.MTLSAlias, s.config.Paths
	if alias == "" {
		return nil
	}
	aliases := map[string]string{
		"token_endpoint": alias + paths.Token, "revocation_endpoint": alias + paths.Revoke, "introspection_endpoint": alias + paths.Introspect,
		"pushed_authorization_request_endpoint": alias + paths.PAR,
	}
	if registration {
		aliases["registration_endpoint"] = alias + paths.Register
	}
	if s.anyRevokesUsers() {
		aliases["global_token_revocation_endpoint"] = alias + paths.RevokeUser
	}
	if device {
		aliases["device_authorization_endpoint"] = alias + paths.DeviceAuthorization
	}
	if s.config.OpenID {
		aliases["userinfo_endpoint"] = alias + paths.Userinfo
	}
	return aliases
}

// anyMayUse reports whether a client of the configuration may use a grant type.
func (s *core) anyMayUse(grantType string) bool {
	return s.anyClient(func(client *storage.Client) bool { return client.MayUse(grantType) })
}

// anyClient reports whether something is true of a client of the configuration.
func (s *core) anyClient(is func(*storage.Client) bool) bool {
	for _, client := range s.config.Clients {
		if is(client) {
			return true
		}
	}
	return false
}

// anySignsRequests reports whether a client of the configuration, or one that describes itself, can sign its requests.
func (s *core) anySignsRequests() bool {
	return s.anyClient((*storage.Client).SignsRequests) || s.documents != nil || s.registrations != nil
}

// openIDMetadata is what OpenID Connect Discovery §3 adds.
type openIDMetadata struct {
	UserinfoEndpoint string   `json:"userinfo_endpoint"`
	SubjectTypes     []string `json:"subject_types_supported"`
	IDTokenAlgs      []string `json:"id_token_signing_alg_values_supported"`
	UserinfoAlgs     []string `json:"userinfo_signing_alg_values_supported,omitempty"`
	ClaimTypes       []string `json:"claim_types_supported"`
	Claims           []string `json:"claims_supported"`
	ACRValues        []string `json:"acr_values_supported,omitempty"`
	Prompts          []string `json:"prompt_values_supported"` // Initiating User Registration §3.1
	ClaimsParameter  bool     `json:"claims_parameter_supported"`
	RequestURI       bool     `json:"request_uri_parameter_supported"` // which would be true if it were left out

	// RP-Initiated Logout §2.1, Back-Channel Logout §2.1.
	EndSessionEndpoint   string `json:"end_session_endpoint,omitempty"`
	BackchannelLogout    bool   `json:"backchannel_logout_supported"`
	BackchannelLogoutSID bool   `json:"backchannel_logout_session_supported"`
}

func (s *core) openIDMetadata(sites *SiteFacts) *openIDMetadata {
	subjectTypes := []string{"public"}
	if s.config.PairwiseSalt != "" {
		subjectTypes = append(subjectTypes, "pairwise")
	}
	m := &openIDMetadata{
		UserinfoEndpoint: s.origin + s.config.Paths.Userinfo,
		SubjectTypes:     subjectTypes,
		IDTokenAlgs:      s.config.IDTokenAlgorithms,
		UserinfoAlgs:     s.config.UserinfoAlgorithms,
		ClaimTypes:       []string{"normal"},
		Claims:           slices.Concat([]string{"sub"}, slices.Sorted(slices.Values(sites.Claims))),
		ACRValues:        sites.ACRValues,
		Prompts:          []string{"none", "login", "consent", "select_account"},
		ClaimsParameter:  true,

		BackchannelLogout: true, BackchannelLogoutSID: slices.Contains(sites.Claims, "sid"),
	}
	if sites.SignsOut { // otherwise applications would send people here who cannot sign out
		m.EndSessionEndpoint = s.origin + s.config.Paths.Logout
	}
	return m
}

func (s *core) serveMetadata(c *call) error {
	wire.ServeDocument(c.w, c.r, *s.document.body.Load(), time.Hour)
	return nil
}

// serveJWKS serves the public keys (RFC 7517 §5). A key is published before it signs, and caches may keep the keys for
// half of that time.
func (s *core) serveJWKS(c *call) error {
	c.setDeadline(s.config.StoreTimeout)
	body, err := s.keys.JWKS(c.ctx)
	if err != nil {
		return err
	}
	wire.ServeDocument(c.w, c.r, body, min(time.Hour, s.config.Keys.Publish/2))
	return nil
}
