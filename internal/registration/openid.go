package registration

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"

	"github.com/caddy-oauth/caddy-oauth/internal/uris"
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

// pairwise is the subject type of clients whose subjects belong to one host (OpenID Connect Core §8.1).
const pairwise = "pairwise"

// negotiateOpenID sets what the client gets of what it says about OpenID Connect, with the defaults. A client whose redirect URIs do not
// fit the default subject type signs nobody in, and is not wrong: it has not asked for that.
func (n *Negotiated) negotiateOpenID(asked *Metadata, s *OpenIDSupported) {
	if s == nil {
		return
	}
	m := asked.OpenIDMetadata
	if !s.Sectors {
		m.SectorIdentifierURI = ""
	}
	if n.OpenIDRefused = m.check(s); n.OpenIDRefused != nil {
		return
	}
	m.IDTokenAlg, m.SubjectType = cmp.Or(m.IDTokenAlg, s.DefaultAlg), cmp.Or(m.SubjectType, s.DefaultSubject)
	if m.SubjectType == pairwise && m.SectorIdentifierURI == "" && uris.CommonHost(asked.RedirectURIs) == "" {
		if asked.SubjectType == pairwise {
			n.OpenIDRefused = invalid("subject_type", "expected redirect_uris on one host with pairwise, or a sector_identifier_uri")
		}
		return
	}
	n.OpenID, n.SignsIn = m, true
}

// check returns what is wrong with what the client names, nil if nothing is.
func (m *OpenIDMetadata) check(s *OpenIDSupported) *Error {
	for _, choice := range []struct {
		member, value string
		offered       []string
	}{
		{"id_token_signed_response_alg", m.IDTokenAlg, s.Algs},
		{"userinfo_signed_response_alg", m.UserinfoAlg, s.Algs},
		{"subject_type", m.SubjectType, s.SubjectTypes},
	} {
		if choice.value != "" && !slices.Contains(choice.offered, choice.value) {
			return invalid(choice.member, fmt.Sprintf("expected one of %s, not %s", strings.Join(choice.offered, ", "), short(choice.value)))
		}
	}
	for member, value := range map[string]string{"sector_identifier_uri": m.SectorIdentifierURI, "backchannel_logout_uri": m.BackchannelURI} {
		if value != "" && !isSecureURL(value) {
			return invalid(member, "expected an https URL: "+short(value))
		}
	}
	if err := m.checkLogout(); err != nil {
		return err
	}
	if m.DefaultMaxAge != nil && (*m.DefaultMaxAge < 0 || *m.DefaultMaxAge > math.MaxInt32) {
		return invalid("default_max_age", "expected a number of seconds from 0")
	}
	return nil
}

// checkLogout checks what is about signing out. People are sent on to a post_logout_redirect_uri, so that it is one that they could be sent
// to when they sign in.
func (m *OpenIDMetadata) checkLogout() *Error {
	if n := len(m.PostLogoutRedirectURIs); n > maxRedirects {
		return invalid("post_logout_redirect_uris", fmt.Sprintf("expected at most %d, not %d", maxRedirects, n))
	}
	for _, uri := range m.PostLogoutRedirectURIs {
		if err := checkRedirect(uri); err != nil {
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

// isSecureURL reports whether a text is an https URL without a user name and a fragment. Braces are for placeholders of the owner.
func isSecureURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "https" && u.Hostname() != "" && u.User == nil && !strings.ContainsAny(text, "#{}")
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
