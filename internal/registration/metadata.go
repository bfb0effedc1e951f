package registration

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
)

// The error codes of RFC 7591 §3.2.2.
const (
	InvalidRedirectURI    = "invalid_redirect_uri"
	InvalidClientMetadata = "invalid_client_metadata"
)

// Error says what is wrong with metadata, in words for whoever wrote the client.
type Error struct {
	Code    string // InvalidRedirectURI or InvalidClientMetadata
	Member  string // the member of the metadata, "" if it is about all of it
	Problem string // what was expected
}

func (e *Error) Error() string {
	if e.Member == "" {
		return e.Problem
	}
	return e.Member + ": " + e.Problem
}

// invalid returns an Error for any member but redirect_uris.
func invalid(member, problem string) *Error { return &Error{InvalidClientMetadata, member, problem} }

// Metadata is client metadata (RFC 7591 §2). Members that are not here are ignored.
type Metadata struct {
	// ClientID is only in documents: it is the URL of the document.
	ClientID string `json:"client_id,omitempty"`

	RedirectURIs            []string `json:"redirect_uris,omitempty"`
	TokenEndpointAuthMethod string   `json:"token_endpoint_auth_method,omitempty"`

	// TokenEndpointAuthMethods are all methods that the client can use (OpenID Connect Relying Party Metadata Choices 1.0).
	TokenEndpointAuthMethods    []string `json:"token_endpoint_auth_methods_supported,omitempty"`
	TokenEndpointAuthSigningAlg string   `json:"token_endpoint_auth_signing_alg,omitempty"`

	// DPoPBound says that each of its token requests has a DPoP proof (RFC 9449 §5.2).
	DPoPBound bool `json:"dpop_bound_access_tokens,omitempty"`

	// How the client signs its authorization requests (RFC 9101 §10.5).
	RequestSigningAlg string `json:"request_object_signing_alg,omitempty"`
	RequireSigned     bool   `json:"require_signed_request_object,omitempty"`

	GrantTypes    []string `json:"grant_types,omitempty"`
	ResponseTypes []string `json:"response_types,omitempty"`

	// ClientName is a claim that nobody has verified. Parse cleans it, see cleanName.
	ClientName string   `json:"client_name,omitempty"`
	ClientURI  string   `json:"client_uri,omitempty"`
	LogoURI    string   `json:"logo_uri,omitempty"`
	Scope      string   `json:"scope,omitempty"`
	Contacts   []string `json:"contacts,omitempty"`
	TOSURI     string   `json:"tos_uri,omitempty"`
	PolicyURI  string   `json:"policy_uri,omitempty"`

	JWKSURI string          `json:"jwks_uri,omitempty"`
	JWKS    json.RawMessage `json:"jwks,omitempty"` // an object; whether its keys are any good is not checked here

	SoftwareID      string `json:"software_id,omitempty"`
	SoftwareVersion string `json:"software_version,omitempty"`
	ApplicationType string `json:"application_type,omitempty"`

	OpenIDMetadata

	// HasSecret says that there was a client_secret or a client_secret_expires_at. A document must have neither.
	HasSecret bool `json:"-"`
	// ClientSecret is what was there, if it was text. A client may repeat it when it changes its registration (RFC 7592 §2.2).
	ClientSecret string `json:"-"`
}

// Parse reads metadata. The caller limits the size. The error is an *Error: for text that is not a JSON object, an object that has a
// member twice, and a member of the wrong type. A member that is null is as good as absent.
func Parse(text []byte) (*Metadata, error) {
	members, err := readObject(text)
	if err != nil {
		return nil, invalid("", err.Error())
	}
	m := new(Metadata)
	for name, field := range m.fields() {
		value, ok := members[name]
		if !ok || string(value) == "null" {
			continue
		}
		if json.Unmarshal(value, field.into) != nil {
			return nil, invalid(name, "expected "+field.kind)
		}
	}
	if m.JWKS != nil && m.JWKS[0] != '{' {
		return nil, invalid("jwks", "expected an object")
	}
	_ = json.Unmarshal(members["client_secret"], &m.ClientSecret) // anything else is no secret of ours
	m.HasSecret = members["client_secret"] != nil || members["client_secret_expires_at"] != nil
	m.ClientName = cleanName(m.ClientName)
	return m, nil
}

// field is where a member is kept, and what its value must be.
type field struct {
	into any
	kind string
}

// fields returns the members by name. Reading a struct would not do: encoding/json takes a member whose name differs in case for
// the same.
func (m *Metadata) fields() map[string]field {
	text := func(s *string) field { return field{s, "a string"} }
	list := func(s *[]string) field { return field{s, "an array of strings"} }
	fields := map[string]field{
		"client_id":                             text(&m.ClientID),
		"redirect_uris":                         list(&m.RedirectURIs),
		"token_endpoint_auth_method":            text(&m.TokenEndpointAuthMethod),
		"token_endpoint_auth_methods_supported": list(&m.TokenEndpointAuthMethods),
		"token_endpoint_auth_signing_alg":       text(&m.TokenEndpointAuthSigningAlg),
		"dpop_bound_access_tokens":              {&m.DPoPBound, "true or false"},
		"request_object_signing_alg":            text(&m.RequestSigningAlg),
		"require_signed_request_object":         {&m.RequireSigned, "true or false"},
		"grant_types":                           list(&m.GrantTypes),
		"response_types":                        list(&m.ResponseTypes),
		"client_name":                           text(&m.ClientName),
		"client_uri":                            text(&m.ClientURI),
		"logo_uri":                              text(&m.LogoURI),
		"scope":                                 text(&m.Scope),
		"contacts":                              list(&m.Contacts),
		"tos_uri":                               text(&m.TOSURI),
		"policy_uri":                            text(&m.PolicyURI),
		"jwks_uri":                              text(&m.JWKSURI),
		"jwks":                                  {&m.JWKS, "an object"},
		"software_id":                           text(&m.SoftwareID),
		"software_version":                      text(&m.SoftwareVersion),
		"application_type":                      text(&m.ApplicationType),
	}
	maps.Copy(fields, m.OpenIDMetadata.fields())
	return fields
}

// readObject reads the members of a JSON object. json.Unmarshal would accept one that has a member twice.
func readObject(text []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errNoObject
	}
	members := make(map[string]json.RawMessage)
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, errNoObject
		}
		if members[name] != nil {
			return nil, errors.New("expected every member once")
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return nil, errNoObject
		}
		members[name] = value
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return nil, errNoObject
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errNoObject
	}
	return members, nil
}

var errNoObject = errors.New("expected a JSON object")
