package registration

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"
)

// OpenIDMetadata is what a client says that signs people in (OpenID Connect Dynamic Client Registration §2). What is not here is left
// out of the answer to a registration: the server does not do it.
type OpenIDMetadata struct {
	IDTokenAlg          string `json:"id_token_signed_response_alg,omitempty"`
	UserinfoAlg         string `json:"userinfo_signed_response_alg,omitempty"`
	SubjectType         string `json:"subject_type,omitempty"`
	SectorIdentifierURI string `json:"sector_identifier_uri,omitempty"`
	DefaultMaxAge       *int64 `json:"default_max_age,omitempty"` // seconds
	RequireAuthTime     bool   `json:"require_auth_time,omitempty"`
}

// OpenIDSupported is what an issuer offers to clients that describe themselves and sign people in.
type OpenIDSupported struct {
	Algs           []string // of ID tokens, and of the answers of the userinfo endpoint
	DefaultAlg     string   // of ID tokens
	SubjectTypes   []string
	DefaultSubject string // a subject type
	Sectors        bool   // a sector_identifier_uri is fetched
}

func (m *OpenIDMetadata) fields() map[string]field {
	return map[string]field{
		"id_token_signed_response_alg": {&m.IDTokenAlg, "a string"},
		"userinfo_signed_response_alg": {&m.UserinfoAlg, "a string"},
		"subject_type":                 {&m.SubjectType, "a string"},
		"sector_identifier_uri":        {&m.SectorIdentifierURI, "a string"},
		"default_max_age":              {&m.DefaultMaxAge, "a number of seconds"},
		"require_auth_time":            {&m.RequireAuthTime, "true or false"},
	}
}

// negotiate returns what the client gets of it, with the defaults.
func (m OpenIDMetadata) negotiate(s *OpenIDSupported) (OpenIDMetadata, error) {
	if s == nil {
		return OpenIDMetadata{}, nil
	}
	if m.IDTokenAlg == "" {
		m.IDTokenAlg = s.DefaultAlg
	}
	if m.SubjectType == "" {
		m.SubjectType = s.DefaultSubject
	}
	if !s.Sectors {
		m.SectorIdentifierURI = ""
	}
	oneOf := func(member, value string, offered []string) error {
		if value == "" || slices.Contains(offered, value) {
			return nil
		}
		return invalid(member, fmt.Sprintf("expected one of %s, not %s", strings.Join(offered, ", "), short(value)))
	}
	err := errors.Join(
		oneOf("id_token_signed_response_alg", m.IDTokenAlg, s.Algs),
		oneOf("userinfo_signed_response_alg", m.UserinfoAlg, s.Algs),
		oneOf("subject_type", m.SubjectType, s.SubjectTypes),
	)
	if refusal, ok := errors.AsType[*Error](err); ok {
		return m, refusal // the first
	}
	if u, err := url.Parse(m.SectorIdentifierURI); m.SectorIdentifierURI != "" &&
		(err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.Contains(m.SectorIdentifierURI, "#")) {
		return m, invalid("sector_identifier_uri", "expected an https URL: "+short(m.SectorIdentifierURI))
	}
	if m.DefaultMaxAge != nil && (*m.DefaultMaxAge < 0 || *m.DefaultMaxAge > math.MaxInt32) {
		return m, invalid("default_max_age", "expected a number of seconds from 0")
	}
	return m, nil
}

// CheckSector returns an *Error unless the document at the client's sector_identifier_uri lists all its redirect URIs (§5): who runs that
// host says so that they belong together.
func (m *Metadata) CheckSector(document []byte) error {
	var listed []string
	if json.Unmarshal(document, &listed) != nil {
		return invalid("sector_identifier_uri", "expected a JSON array of redirect URIs there")
	}
	for _, uri := range m.RedirectURIs {
		if !slices.Contains(listed, uri) {
			return invalid("sector_identifier_uri", "expected all redirect_uris there, and among them "+short(uri))
		}
	}
	return nil
}
