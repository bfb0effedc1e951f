package authserver

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/assertion"
	"github.com/caddy-oauth/caddy-oauth/internal/fetch"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
)

// dynamic is a relying party of the suite that registers itself, and authenticates with a key, as oidcc-dynamic-certification-test-plan has
// it.
type dynamic struct {
	*conformance

	key      jwttest.Key
	document map[string]any // the registration that the server answered with
	n        int            // assertions so far
}

const (
	rpRedirect = "https://rp.example/callback"
	rpSector   = "https://rp.example/sector.json"
)

// badSectors are documents at sector_identifier_uris that do not list the redirect URI of the relying party.
var badSectors = map[string]string{
	"https://rp.example/other.json":    `["https://other.example/callback"]`,
	"https://rp.example/empty.json":    `[]`,
	"https://rp.example/object.json":   `{"redirect_uris":["` + rpRedirect + `"]}`,
	"https://rp.example/text.json":     rpRedirect,
	"https://rp.example/slash.json":    `["` + rpRedirect + `/"]`,
	"https://rp.example/fragment.json": `["` + rpRedirect + `#x"]`,
}

// newDynamic returns a relying party before it registers. signing are the keys of the server.
func newDynamic(t *testing.T, signing []byte, key jwttest.Key, edits ...func(*Config)) *dynamic {
	t.Helper()
	documents := maps.Clone(badSectors)
	documents[rpSector] = `["` + rpRedirect + `"]`
	s := newTestServer(t, append([]func(*Config){registersOpenID(documents), func(c *Config) {
		c.Keys.Algorithm, c.Keys.File = "ES256", signing
	}}, edits...)...)
	d := &dynamic{conformance: playing(s, ""), key: key}
	d.redirectURI = rpRedirect
	d.authenticate = func(t *testing.T) []string {
		t.Helper()
		return d.assertion(t, testToken)
	}
	return d
}

// metadata returns a registration, changed by pairs of a name and a value; nil removes a member.
func (d *dynamic) metadata(t *testing.T, pairs ...any) string {
	t.Helper()
	members := map[string]any{
		"client_name": "The suite", "redirect_uris": []string{rpRedirect}, "token_endpoint_auth_method": "private_key_jwt", "jwks": setOf(d.key),
		"response_types": []string{"code"}, "grant_types": []string{"authorization_code"}, "contacts": []string{"certification@oidf.org"},
	}
	for pair := range slices.Chunk(pairs, 2) {
		name := pair[0].(string)
		if members[name] = pair[1]; pair[1] == nil {
			delete(members, name)
		}
	}
	text, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// registered registers the relying party, which must succeed.
func (d *dynamic) registered(t *testing.T, pairs ...any) *dynamic {
	t.Helper()
	a := d.register(t, d.metadata(t, pairs...))
	a.check(t, http.StatusCreated, "")
	d.document = a.json(t)
	d.id = d.document["client_id"].(string)
	return d
}

// refused checks that a registration is refused.
func (d *dynamic) refused(t *testing.T, code string, pairs ...any) {
	t.Helper()
	d.register(t, d.metadata(t, pairs...)).check(t, http.StatusBadRequest, code)
}

// assertion returns the parameters that authenticate the relying party for an audience.
func (d *dynamic) assertion(t *testing.T, audience string) []string {
	t.Helper()
	d.n++
	now := d.clock.Now().Unix()
	payload, err := json.Marshal(map[string]any{
		"iss": d.id, "sub": d.id, "aud": strings.Replace(audience, testIssuer, d.config.URL, 1), "iat": now, "exp": now + 60, "jti": fmt.Sprint("jti", d.n),
	})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := d.key.SignAs("", payload)
	if err != nil {
		t.Fatal(err)
	}
	d.seen = append(d.seen, signed)
	return []string{"client_id", d.id, "client_assertion_type", assertion.Type, "client_assertion", signed}
}

// page sends an authorization request, which must end on an error page.
func (d *dynamic) page(t *testing.T, pairs ...string) {
	t.Helper()
	a := d.get(t, d.request(pairs...))
	a.check(t, http.StatusBadRequest, "invalid_request")
	checkErrorPage(t, a)
}

// kids returns the IDs of the keys that the server publishes.
func (d *dynamic) kids(t *testing.T) (kids []string) {
	t.Helper()
	var set struct{ Keys []struct{ Kid, Alg string } }
	if err := json.Unmarshal(d.fetch(t, "/oauth/jwks").Body.Bytes(), &set); err != nil {
		t.Fatal(err)
	}
	for _, key := range set.Keys {
		if key.Alg == "RS256" {
			kids = append(kids, key.Kid)
		}
	}
	return kids
}

// keysAt serves the keys of the relying party at a jwks_uri, and lets an issuer on this machine fetch them.
func keysAt(t *testing.T) (jwksURI string, publish func(jwttest.Key), edit func(*Config)) {
	t.Helper()
	var set []byte // the requests come one after another
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(set) // the test sees what the server makes of it
	}))
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server.URL + "/jwks", func(key jwttest.Key) { set = setOf(key) }, func(c *Config) {
		c.URL = "http://localhost"
		c.Fetcher = fetch.New(fetch.Config{Now: c.Now, RootCAs: roots})
	}
}

// TestOIDCCDynamic plays the modules of oidcc-dynamic-certification-test-plan, and with oidcc-discovery-endpoint-verification those of
// oidcc-config-certification-test-plan. Two things that the plan asks for are not here on purpose, and the test says what is instead: the
// implicit grant, and request_uri with an address that the server fetches.
func TestOIDCCDynamic(t *testing.T) {
	metadata := func(t *testing.T, d *dynamic) map[string]any {
		t.Helper()
		return d.fetch(t, "/.well-known/openid-configuration").json(t)
	}
	// shown registers with an address, which the person gets neither as a link nor as a picture: nobody has checked what is there.
	shown := func(member string) func(*testing.T, *dynamic) {
		return func(t *testing.T, d *dynamic) {
			t.Helper()
			d.registered(t, member, "https://rp.example/of-the-suite")
			if d.document[member] != "https://rp.example/of-the-suite" {
				t.Errorf("registered %v", d.document)
			}
			d.site.user = d.person()
			a := d.get(t, d.request())
			if a.sealed(t); strings.Contains(a.Body.String(), "of-the-suite") || !strings.Contains(a.Body.String(), "The suite") {
				t.Errorf("the consent page is %s", a.Body)
			}
		}
	}
	notSupported := func(t *testing.T, d *dynamic, alg string, registered any) {
		t.Helper()
		d.registered(t, "request_uris", []string{"https://rp.example/request.jwt"}, "request_object_signing_alg", alg)
		if d.document["request_uris"] != nil || d.document["request_object_signing_alg"] != registered || metadata(t, d)["request_uri_parameter_supported"] != false {
			t.Errorf("registered %v", d.document)
		}
		got := d.authorize(t, "request_uri", "https://rp.example/request.jwt")
		if got.Get("error") != "request_uri_not_supported" || got.Get("state") != "xyz" || got.Has("code") {
			t.Errorf("the response is %v", got)
		}
	}
	const withQuery = rpRedirect + "?dummy1=lorem&dummy2=ipsum"
	set, rsaKey := signingKeys(t), jwttest.NewKey(t, "RS256")
	other := jwttest.NewKey(t, "RS256")

	for name, module := range map[string]func(*testing.T, *dynamic){
		"oidcc-discovery-endpoint-verification": func(t *testing.T, d *dynamic) {
			t.Helper()
			a := d.fetch(t, "/.well-known/openid-configuration")
			got := a.json(t)
			for _, name := range []string{
				"authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri", "registration_endpoint",
			} {
				if address, _ := got[name].(string); !strings.HasPrefix(address, "https://example.com/") {
					t.Errorf("%s is %v", name, got[name])
				}
			}
			has := func(name string, values ...string) {
				for _, value := range values {
					if list, _ := got[name].([]any); !slices.Contains(list, any(value)) {
						t.Errorf("%s is %v, want %s among them", name, got[name], value)
					}
				}
			}
			has("scopes_supported", "openid")
			has("subject_types_supported", "public", "pairwise")
			has("id_token_signing_alg_values_supported", "RS256")
			has("userinfo_signing_alg_values_supported", "RS256")
			has("claims_supported", "sub")
			has("code_challenge_methods_supported", "S256")
			has("grant_types_supported", "authorization_code")
			if got["issuer"] != testIssuer || a.Header().Get("Content-Type") != "application/json" || got["claims_parameter_supported"] != true {
				t.Errorf("%v: %v", a.Header(), got)
			}
			// The module wants id_token and "token id_token" too if clients register: the implicit grant, which RFC 9700 §2.1.2 advises against.
			if fmt.Sprint(got["response_types_supported"]) != "[code]" {
				t.Errorf("response_types_supported is %v", got["response_types_supported"])
			}
		},
		"oidcc-server": func(t *testing.T, d *dynamic) {
			t.Helper()
			d.registered(t, "default_max_age", 3600, "require_auth_time", true, "id_token_encrypted_response_alg", "RSA-OAEP")
			for name, want := range map[string]any{
				"id_token_signed_response_alg": "RS256", "subject_type": "public", "default_max_age": 3600.0, "require_auth_time": true,
				"id_token_encrypted_response_alg": nil, "client_secret": nil, "token_endpoint_auth_method": "private_key_jwt",
			} {
				if d.document[name] != want {
					t.Errorf("%s is %v, want %v", name, d.document[name], want)
				}
			}
			if _, id := d.exchange(t, d.authorize(t)); id["auth_time"] == nil {
				t.Errorf("ID token %v", id)
			}
		},
		"oidcc-idtoken-rs256": func(t *testing.T, d *dynamic) {
			t.Helper()
			d.registered(t, "id_token_signed_response_alg", "RS256")
			d.exchange(t, d.authorize(t)) // which checks alg and kid
		},
		// The suite skips this module, here and in the basic plan, where the metadata has no alg none.
		"oidcc-idtoken-unsigned": func(t *testing.T, d *dynamic) {
			t.Helper()
			for _, name := range []string{"id_token_signing_alg_values_supported", "userinfo_signing_alg_values_supported"} {
				if algs, _ := metadata(t, d)[name].([]any); len(algs) == 0 || slices.Contains(algs, any("none")) {
					t.Errorf("%s is %v", name, algs)
				}
			}
			d.refused(t, "invalid_client_metadata", "id_token_signed_response_alg", "none")
			d.refused(t, "invalid_client_metadata", "userinfo_signed_response_alg", "none")
		},
		"oidcc-userinfo-rs256": func(t *testing.T, d *dynamic) {
			t.Helper()
			d.registered(t, "userinfo_signed_response_alg", "RS256")
			tokens, _ := d.exchange(t, d.authorize(t))
			a := d.userinfo(t, tokens["access_token"])
			claims := d.idToken(t, "RS256", a.Body.String())
			if claims["iss"] != testIssuer || claims["aud"] != d.id || claims["sub"] != "alice" || a.Header().Get("Content-Type") != "application/jwt" {
				t.Errorf("%v: claims %v", a.Header(), claims)
			}
		},
		"oidcc-ensure-redirect-uri-in-authorization-request": func(t *testing.T, d *dynamic) {
			t.Helper()
			d.registered(t, "redirect_uris", []string{rpRedirect, rpRedirect + "2"})
			d.page(t, "redirect_uri", "")
		},
		"oidcc-redirect-uri-query-OK": func(t *testing.T, d *dynamic) {
			t.Helper()
			d.registered(t, "redirect_uris", []string{withQuery})
			d.redirectURI = withQuery
			response := d.authorize(t)
			if d.exchange(t, response); response.Get("dummy1") != "lorem" || response.Get("dummy2") != "ipsum" {
				t.Errorf("the response is %v", response)
			}
		},
		"oidcc-redirect-uri-query-mismatch": func(t *testing.T, d *dynamic) {
			t.Helper()
			d.registered(t, "redirect_uris", []string{withQuery})
			for _, uri := range []string{rpRedirect, withQuery + "x", rpRedirect + "?dummy2=ipsum&dummy1=lorem", withQuery + "&more=1"} {
				d.page(t, "redirect_uri", uri)
			}
		},
		"oidcc-redirect-uri-query-added": func(t *testing.T, d *dynamic) {
			t.Helper()
			d.registered(t)
			d.page(t, "redirect_uri", withQuery)
		},
		"oidcc-redirect-uri-regfrag": func(t *testing.T, d *dynamic) {
			t.Helper()
			d.refused(t, "invalid_redirect_uri", "redirect_uris", []string{rpRedirect + "#foobar"})
		},
		"oidcc-registration-logo-uri":   shown("logo_uri"),
		"oidcc-registration-policy-uri": shown("policy_uri"),
		"oidcc-registration-tos-uri":    shown("tos_uri"),
		"oidcc-registration-sector-uri": func(t *testing.T, d *dynamic) {
			t.Helper()
			d.registered(t, "subject_type", "pairwise", "sector_identifier_uri", rpSector)
			response := d.authorize(t)
			tokens := d.ask(t, redeems(response.Get("code"), "redirect_uri", rpRedirect, "code_verifier", ""))
			subject := d.idToken(t, "RS256", tokens["id_token"])["sub"]
			if got := d.userinfo(t, tokens["access_token"]).json(t)["sub"]; got != subject || got == "alice" {
				t.Errorf("subjects %v and %v", subject, got)
			}
		},
		"oidcc-registration-sector-bad": func(t *testing.T, d *dynamic) {
			t.Helper()
			addresses := append(slices.Collect(maps.Keys(badSectors)), "https://rp.example/missing.json", "http://rp.example/sector.json", rpSector+"#x")
			for _, address := range addresses {
				d.clock.Advance(time.Minute) // registrations that make the server fetch are throttled
				d.refused(t, "invalid_client_metadata", "subject_type", "pairwise", "sector_identifier_uri", address)
			}
			d.refused(t, "invalid_client_metadata", "sector_identifier_uri", rpSector, "redirect_uris", []string{rpRedirect, rpRedirect + "2"})
		},
		// Without a file of keys, the owner has the keys rotated.
		"oidcc-server-rotate-keys": func(t *testing.T, _ *dynamic) {
			t.Helper()
			d := newDynamic(t, nil, rsaKey).registered(t)
			_, first := d.exchange(t, d.authorize(t))
			before := d.kids(t)
			if _, err := d.keys.RotateNow(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			after := d.kids(t)
			if len(before) != 1 || len(after) != 2 || !slices.Contains(after, before[0]) {
				t.Errorf("keys %v, then %v", before, after)
			}
			if _, second := d.exchange(t, d.authorize(t)); second["sub"] != first["sub"] {
				t.Errorf("%v, then %v", first, second)
			}
		},
		"oidcc-registration-jwks-uri": func(t *testing.T, _ *dynamic) {
			t.Helper()
			jwksURI, publish, edit := keysAt(t)
			publish(rsaKey)
			d := newDynamic(t, set, rsaKey, edit).registered(t, "jwks", nil, "jwks_uri", jwksURI)
			d.exchange(t, d.authorize(t))
		},
		"oidcc-refresh-token-rp-key-rotation": func(t *testing.T, _ *dynamic) {
			t.Helper()
			jwksURI, publish, edit := keysAt(t)
			publish(rsaKey)
			d := newDynamic(t, set, rsaKey, edit)
			d.registered(t, "jwks", nil, "jwks_uri", jwksURI, "grant_types", []string{"authorization_code", "refresh_token"})
			d.refresh(t, func() { // a minute later
				publish(other)
				d.key = other
			})
		},
		"oidcc-request-uri-unsigned": func(t *testing.T, d *dynamic) {
			t.Helper()
			notSupported(t, d, "none", nil)
		},
		"oidcc-request-uri-signed-rs256": func(t *testing.T, d *dynamic) {
			t.Helper()
			notSupported(t, d, "RS256", "RS256")
		},
		"oidcc-ensure-request-object-with-redirect-uri": func(t *testing.T, d *dynamic) {
			t.Helper()
			d.registered(t)
			checkErrorPage(t, d.get(t, d.request("request", unsigned, "redirect_uri", "https://evil.example/")))
		},
		"oidcc-refresh-token": func(t *testing.T, d *dynamic) {
			t.Helper()
			d.registered(t, "grant_types", []string{"authorization_code", "refresh_token"})
			d.refresh(t, nil)
		},
		"oidcc-ensure-client-assertion-with-iss-aud-succeeds": func(t *testing.T, d *dynamic) {
			t.Helper()
			d.registered(t)
			d.authenticate = func(t *testing.T) []string {
				t.Helper()
				return d.assertion(t, testIssuer)
			}
			d.exchange(t, d.authorize(t))
		},
	} {
		t.Run(name, func(t *testing.T) { module(t, newDynamic(t, set, rsaKey)) })
	}
}

// signingKeys returns the keys of a server of these tests, as an RSA key takes long to make.
func signingKeys(t *testing.T) []byte {
	t.Helper()
	keys := append(append([]byte(`{"keys": [`), jwttest.NewKey(t, "ES256").JWK...), ',')
	return append(append(keys, jwttest.NewKey(t, "RS256").JWK...), "]}"...)
}
