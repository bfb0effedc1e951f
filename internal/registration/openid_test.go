package registration

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// OpenID Connect Dynamic Client Registration §2.
func TestNegotiateOpenID(t *testing.T) {
	supported := Supported{AuthMethods: []string{authNone}, DefaultAuthMethod: authNone, OpenID: &OpenIDSupported{
		Algs: []string{"ES256", "RS256"}, DefaultAlg: "RS256", SubjectTypes: []string{"public", "pairwise"}, DefaultSubject: "public", Sectors: true,
	}}
	for _, tt := range []struct{ metadata, want, wrong string }{
		{`{}`, `{"id_token_signed_response_alg":"RS256","subject_type":"public"}`, ""},
		{
			`{"redirect_uris":["https://a.example"],"id_token_signed_response_alg":"ES256","userinfo_signed_response_alg":"RS256","subject_type":"pairwise",
				"default_max_age":0,"require_auth_time":true}`,
			`{"id_token_signed_response_alg":"ES256","userinfo_signed_response_alg":"RS256","subject_type":"pairwise","default_max_age":0,"require_auth_time":true}`, "",
		},
		{`{"id_token_encrypted_response_alg":"RSA-OAEP","request_uris":["https://a.example"]}`, `{"id_token_signed_response_alg":"RS256","subject_type":"public"}`, ""},
		{`{"id_token_signed_response_alg":"none"}`, "", "id_token_signed_response_alg"},
		{`{"id_token_signed_response_alg":"HS256"}`, "", "id_token_signed_response_alg"},
		{`{"userinfo_signed_response_alg":"none"}`, "", "userinfo_signed_response_alg"},
		{`{"subject_type":"private"}`, "", "subject_type"},
		{`{"sector_identifier_uri":"http://a.example"}`, "", "sector_identifier_uri"},
		{`{"sector_identifier_uri":"https://u:p@a.example"}`, "", "sector_identifier_uri"},
		{`{"sector_identifier_uri":"https://a.example/{x}"}`, "", "sector_identifier_uri"}, // no placeholder of the owner's
		{`{"default_max_age":-1}`, "", "default_max_age"},
		{`{"default_max_age":1e18}`, "", "default_max_age"},
		{`{"default_max_age":1.5}`, "", "default_max_age"},
		{`{"default_max_age":"1"}`, "", "default_max_age"},
		{`{"require_auth_time":"true"}`, "", "require_auth_time"},
		{
			`{"post_logout_redirect_uris":["https://a.example/bye"],"backchannel_logout_uri":"https://a.example/out","backchannel_logout_session_required":true}`,
			`{"id_token_signed_response_alg":"RS256","subject_type":"public","post_logout_redirect_uris":["https://a.example/bye"],"backchannel_logout_uri":"https://a.example/out","backchannel_logout_session_required":true}`, "",
		},
		{`{"post_logout_redirect_uris":["http://a.example/bye"]}`, "", "post_logout_redirect_uris"},
		{`{"post_logout_redirect_uris":["javascript:alert(1)"]}`, "", "post_logout_redirect_uris"},
		{`{"post_logout_redirect_uris":"https://a.example/bye"}`, "", "post_logout_redirect_uris"},
		{`{"post_logout_redirect_uris":[` + strings.Repeat(`"https://a.example",`, 10) + `"https://a.example"]}`, "", "post_logout_redirect_uris"},
		{`{"backchannel_logout_uri":"http://127.0.0.1/out"}`, "", "backchannel_logout_uri"},
		{`{"backchannel_logout_uri":"https://a.example/` + strings.Repeat("x", 512) + `"}`, "", "backchannel_logout_uri"},
		{`{"backchannel_logout_session_required":true}`, "", "backchannel_logout_session_required"},
	} {
		var n *Negotiated
		m, err := Parse([]byte(tt.metadata))
		if err == nil {
			if n, err = m.Negotiate(supported); err == nil && n.OpenIDRefused != nil {
				err = n.OpenIDRefused
			}
		}
		if tt.wrong != "" {
			if refusal, ok := errors.AsType[*Error](err); !ok || refusal.Member != tt.wrong || refusal.Code != InvalidClientMetadata {
				t.Errorf("%s: %v, want an error of %s", tt.metadata, err, tt.wrong)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.metadata, err)
			continue
		}
		if got, _ := json.Marshal(n.OpenID); string(got) != tt.want || !n.SignsIn {
			t.Errorf("%s: %s, want %s", tt.metadata, got, tt.want)
		}
		supported := supported
		supported.OpenID = nil
		if n, err := m.Negotiate(supported); err != nil || !reflect.DeepEqual(n.OpenID, OpenIDMetadata{}) || n.SignsIn || n.OpenIDRefused != nil {
			t.Errorf("%s where clients cannot sign people in: %+v, %v", tt.metadata, n, err)
		}
	}
}

// A client is refused for what it names. A default that does not fit it only means that it signs nobody in.
func TestPairwiseByDefault(t *testing.T) {
	supported := Supported{AuthMethods: []string{authNone}, DefaultAuthMethod: authNone, OpenID: &OpenIDSupported{
		Algs: []string{"RS256"}, DefaultAlg: "RS256", SubjectTypes: []string{"public", "pairwise"}, DefaultSubject: "pairwise", Sectors: true,
	}}
	const twoHosts, ownScheme = `{"redirect_uris":["https://a.example","https://b.example"]`, `{"redirect_uris":["cursor:callback"]`
	for _, tt := range []struct {
		metadata         string
		signsIn, refused bool
	}{
		{`{"redirect_uris":["https://a.example/1","https://A.example:444/2"]}`, true, false},
		{twoHosts + `}`, false, false},
		{ownScheme + `}`, false, false},
		{twoHosts + `,"subject_type":"public"}`, true, false},
		{twoHosts + `,"subject_type":"pairwise"}`, false, true},
		{ownScheme + `,"subject_type":"pairwise"}`, false, true},
		{twoHosts + `,"sector_identifier_uri":"https://a.example/uris"}`, true, false},
	} {
		m, err := Parse([]byte(tt.metadata))
		if err != nil {
			t.Fatal(err)
		}
		n, err := m.Negotiate(supported)
		if err != nil || n.SignsIn != tt.signsIn || (n.OpenIDRefused != nil) != tt.refused {
			t.Errorf("%s: %+v, %v", tt.metadata, n, err)
		}
	}
}

func TestCheckSector(t *testing.T) {
	m := &Metadata{RedirectURIs: []string{"https://a.example/1", "https://b.example/2"}}
	for document, good := range map[string]bool{
		`["https://b.example/2","https://c.example/3","https://a.example/1"]`: true,
		`["https://a.example/1"]`: false, `[]`: false, `null`: false, `{}`: false, `["https://a.example/1",2]`: false, ``: false,
	} {
		if err := m.CheckSector([]byte(document)); (err == nil) != good {
			t.Errorf("%s: %v", document, err)
		}
	}
}

// RFC 9101 §10.5. An alg that is not offered is left out, unless the client always signs.
func TestSignedRequests(t *testing.T) {
	supported := Supported{AuthMethods: []string{authNone}, DefaultAuthMethod: authNone, SigningAlgs: []string{"ES256"}}
	const keys = `,"jwks":{"keys":[]}`
	for text, want := range map[string]string{
		`"request_object_signing_alg":"ES256"` + keys:                                     "ES256",
		`"request_object_signing_alg":"none"`:                                             "",
		`"require_signed_request_object":true` + keys:                                     "",
		`"require_signed_request_object":true`:                                            "require_signed_request_object",
		`"require_signed_request_object":true,"request_object_signing_alg":"none"` + keys: "request_object_signing_alg",
	} {
		m, err := Parse([]byte(`{"redirect_uris":["https://a.example/cb"],` + text + `}`))
		if err != nil {
			t.Fatal(err)
		}
		n, err := m.Negotiate(supported)
		got := ""
		if refusal, ok := errors.AsType[*Error](err); ok {
			got = refusal.Member
		} else if err == nil {
			got = n.RequestAlg
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
