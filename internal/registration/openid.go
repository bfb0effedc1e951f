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

	// RP-Initiated Logout §3.1, Back-Channel Logout §2.2.
	PostLogoutRedirectURIs []string `json:"post_logout_redirect_uris,omitempty"`
	BackchannelURI         string   `json:"backchannel_logout_uri,omitempty"`
	BackchannelSession     bool     `json:"backchannel_logout_session_required,omitempty"`
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
		"post_logout_redirect_uris":    {&m.PostLogoutRedirectURIs, "an array of strings"},
		"backchannel_logout_uri":       {&m.BackchannelURI, "a string"},

		"backchannel_logout_session_required": {&m.BackchannelSession, "true or false"},
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
	for member, value := range map[string]string{"sector_identifier_uri": m.SectorIdentifierURI, "backchannel_logout_uri": m.BackchannelURI} {
		if value != "" && !isSecureURL(value) {
			return m, invalid(member, "expected an https URL: "+short(value))
		}
	}
	if err := m.checkLogout(); err != nil {
		return m, err
	}
	if m.DefaultMaxAge != nil && (*m.DefaultMaxAge < 0 || *m.DefaultMaxAge > math.MaxInt32) {
		return m, invalid("default_max_age", "expected a number of seconds from 0")
	}
	return m, nil
}

// checkLogout checks what is about signing out. People are sent on to a post_logout_redirect_uri, so that it is one that they could be sent
// to when they sign in.
func (m *OpenIDMetadata) checkLogout() error {
	if n := len(m.PostLogoutRedirectURIs); n > maxRedirects {
		return invalid("post_logout_redirect_uris", fmt.Sprintf("expected at most %d, not %d", maxRedirects, n))
	}
	for _, uri := range m.PostLogoutRedirectURIs {
		if err := CheckRedirect(uri); err != nil {
			return invalid("post_logout_redirect_uris", err.Error()+": "+short(uri))
		}
	}
	switch {
	case len(m.BackchannelURI) > maxRedirectLength:
		return invalid("backchannel_logout_uri", fmt.Sprintf("expected at most %d bytes", maxRedirectLength))
	case m.BackchannelSession && m.BackchannelURI == "":
		return invalid("backchannel_logout_session_required", "expected backchannel_logout_uri too")
	}
	return nil
}

// isSecureURL reports whether a text is an https URL without a user name and a fragment.
func isSecureURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "https" && u.Hostname() != "" && u.User == nil && !strings.Contains(text, "#")
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
