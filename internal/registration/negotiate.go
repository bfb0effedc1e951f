package registration

import (
	"fmt"
	"slices"
	"strings"
)

// The ways to authenticate at the token endpoint that a client can ask for.
const (
	authNone          = "none"
	authSecretBasic   = "client_secret_basic"
	authSecretPost    = "client_secret_post"
	authPrivateKeyJWT = "private_key_jwt"
)

// Supported is what an issuer offers to clients that describe themselves.
type Supported struct {
	// AuthMethods are the methods to authenticate at the token endpoint.
	AuthMethods []string
	// DefaultAuthMethod is the method of a client that names none: client_secret_basic for a registration (RFC 7591 §2).
	DefaultAuthMethod string
	// SigningAlgs are the algorithms for private_key_jwt.
	SigningAlgs []string
	// OpenID is for clients that sign people in; nil: such a client cannot.
	OpenID *OpenIDSupported
}

// Negotiated is what a client gets of what it asks for.
type Negotiated struct {
	// AuthMethod is how the client is expected to authenticate: its token_endpoint_auth_method.
	AuthMethod string
	// AuthMethods are all methods that the client may use, AuthMethod first. none is among them only if the client lists it.
	AuthMethods []string

	GrantTypes    []string
	ResponseTypes []string

	// RequestAlg is the alg of its signed authorization requests; "" is any.
	RequestAlg string

	SignsIn bool           // it can sign people in
	OpenID  OpenIDMetadata // with all defaults; empty if it cannot sign people in

	// OpenIDRefused says what of the metadata for OpenID Connect this issuer does not give, nil if nothing. A client that was there before
	// does without OpenID Connect then. One that registers now should learn of it.
	OpenIDRefused *Error
}

// grantTypes are what a client that describes itself can get. With client_credentials a stranger would be somebody here.
var grantTypes = []string{"authorization_code", "refresh_token"}

// Negotiate returns what the client gets. What an issuer does not offer is left out, as long as the client can do without
// (RFC 7591 §2 lets a server replace what is asked for); else the error is an *Error.
func (m *Metadata) Negotiate(supported Supported) (*Negotiated, error) {
	n := &Negotiated{ResponseTypes: []string{"code"}}
	var err error
	if n.AuthMethods, err = m.authMethods(supported); err != nil {
		return nil, err
	}
	if n.RequestAlg, err = m.requestAlg(supported); err != nil {
		return nil, err
	}
	n.AuthMethod = n.AuthMethods[0]
	n.negotiateOpenID(m, supported.OpenID)

	asked := m.GrantTypes
	if len(asked) == 0 {
		asked = grantTypes[:1] // RFC 7591 §2
	}
	for _, grantType := range grantTypes {
		if slices.Contains(asked, grantType) {
			n.GrantTypes = append(n.GrantTypes, grantType)
		}
	}
	if !slices.Contains(n.GrantTypes, grantTypes[0]) {
		return nil, invalid("grant_types", "expected authorization_code among them")
	}
	if len(m.ResponseTypes) > 0 && !slices.Contains(m.ResponseTypes, "code") {
		return nil, invalid("response_types", "expected code among them")
	}
	return n, nil
}

// authMethods returns the methods that the client may use: first its token_endpoint_auth_method, if it can be used here, and then
// those of the others it lists.
func (m *Metadata) authMethods(supported Supported) ([]string, error) {
	asked := m.TokenEndpointAuthMethods
	switch {
	case m.TokenEndpointAuthMethod != "":
		asked = append([]string{m.TokenEndpointAuthMethod}, asked...)
	case len(asked) == 0:
		asked = []string{supported.DefaultAuthMethod}
	}
	var methods []string
	var problem error
	for _, method := range asked {
		err := m.checkAuthMethod(method, supported)
		if err == nil && !slices.Contains(methods, method) {
			methods = append(methods, method)
		}
		if problem == nil {
			problem = err
		}
	}
	if methods == nil {
		return nil, problem
	}
	return methods, nil
}

// requestAlg returns the algorithm by which the client signs its authorization requests, "" if it names none that is good. The error is an
// *Error, for a client that always signs them and cannot.
func (m *Metadata) requestAlg(supported Supported) (string, error) {
	alg := m.RequestSigningAlg
	good := alg == "" || slices.Contains(supported.SigningAlgs, alg)
	switch {
	case m.RequireSigned && m.JWKS == nil && m.JWKSURI == "":
		return "", invalid("require_signed_request_object", "expected jwks or jwks_uri too")
	case m.RequireSigned && !good:
		return "", invalid("request_object_signing_alg",
			fmt.Sprintf("expected one of %s, not %s", strings.Join(supported.SigningAlgs, ", "), short(alg)))
	case !good:
		return "", nil
	}
	return alg, nil
}

// checkAuthMethod returns an *Error unless the client can use a method here.
func (m *Metadata) checkAuthMethod(method string, supported Supported) error {
	alg := m.TokenEndpointAuthSigningAlg
	switch {
	case !slices.Contains(supported.AuthMethods, method):
		return invalid("token_endpoint_auth_method",
			fmt.Sprintf("expected one of %s, not %s", strings.Join(supported.AuthMethods, ", "), short(method)))
	case method != authPrivateKeyJWT:
		return nil
	case m.JWKS == nil && m.JWKSURI == "":
		return invalid("jwks_uri", "expected jwks or jwks_uri with "+authPrivateKeyJWT)
	case alg != "" && !slices.Contains(supported.SigningAlgs, alg):
		return invalid("token_endpoint_auth_signing_alg",
			fmt.Sprintf("expected one of %s, not %s", strings.Join(supported.SigningAlgs, ", "), short(alg)))
	}
	return nil
}
