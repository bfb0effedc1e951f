package authserver

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// basic returns an edit that sets an Authorization header of these very bytes.
func basic(userPass string) func(*http.Request) {
	return header("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(userPass)))
}

func TestClientAuthentication(t *testing.T) {
	const secret = webSecret
	bare := url.Values{"grant_type": {"client_credentials"}}
	inBody := func(pairs ...string) url.Values { return merge(bare, pairs...) }
	good := "billing:" + url.QueryEscape(secret)

	tests := []struct {
		name   string
		form   url.Values
		edit   func(*http.Request)
		status int
		error  string
	}{
		{"RFC 6749 §2.3.1 client_secret_basic", bare, basic(good), 200, ""},
		{"RFC 6749 §2.3.1 client_secret_post", asBilling(), nil, 200, ""},
		{"RFC 7617 §2 scheme in another case", bare, header("Authorization", "bAsIc "+base64.StdEncoding.EncodeToString([]byte(good))), 200, ""},
		{"RFC 6749 §2.3.1 secret not form-encoded", bare, basic("billing:" + secret), 200, ""},
		{"RFC 6749 §2.3.1 space as %20", bare, basic("billing:" + strings.ReplaceAll(url.QueryEscape(secret), "+", "%20")), 200, ""},
		{"RFC 6749 §2.3.1 ID form-encoded", bare, basic("%62illing:" + url.QueryEscape(secret)), 200, ""},
		{"RFC 6749 §3.2.1 client_id in the body is the same", inBody("client_id", "billing"), basic(good), 200, ""},
		{"RFC 6749 §5.2 client_id in the body is another", inBody("client_id", "webapp"), basic(good), 400, "invalid_request"},
		{"RFC 6749 §5.2 wrong secret in the header", bare, basic("billing:wrong"), 401, "invalid_client"},
		{"RFC 6749 §5.2 wrong secret in the body", asBilling("client_secret", "wrong"), header("Authorization", ""), 401, "invalid_client"},
		{"RFC 6749 §5.2 unknown client in the header", bare, basic("nobody:wrong"), 401, "invalid_client"},
		{"RFC 6749 §5.2 unknown client in the body", asBilling("client_id", "nobody"), nil, 401, "invalid_client"},
		{"RFC 6749 §5.2 the decoy has no secret either", asBilling("client_id", "nobody", "client_secret", strings.Repeat("-", 64)), nil, 401, "invalid_client"},
		{"RFC 6749 §5.2 no client authentication", bare, header("Authorization", ""), 401, "invalid_client"},
		{"RFC 6749 §5.2 no secret in the body", asBilling("client_secret", ""), nil, 401, "invalid_client"},
		{"RFC 6749 §5.2 no secret in the header", bare, basic("billing:"), 401, "invalid_client"},
		{"RFC 6749 §5.2 the hash instead of the secret", asBilling("client_secret", clients.HashSecret(secret)), nil, 401, "invalid_client"},
		{"RFC 6749 §5.2 secret without an ID", inBody("client_secret", secret), header("Authorization", ""), 401, "invalid_client"},
		{"RFC 6749 §2.3 secret in header and body", asBilling(), basic(good), 400, "invalid_request"},
		{"RFC 6749 §3.2 empty secret in the body is absent", withValues(inBody(), "client_secret", ""), basic(good), 200, ""},
		{"RFC 6749 §2.3 two Authorization headers", bare, func(r *http.Request) { basic(good)(r); r.Header.Add("Authorization", "Basic eDp5") }, 400, "invalid_request"},
		{"RFC 6749 §2.3 the same Authorization header twice", bare, func(r *http.Request) { basic(good)(r); r.Header.Add("Authorization", r.Header.Get("Authorization")) }, 400, "invalid_request"},
		{"RFC 6749 §5.2 scheme Bearer", bare, header("Authorization", "Bearer abc"), 401, "invalid_client"},
		{"RFC 6749 §5.2 Basic without credentials", bare, header("Authorization", "Basic"), 401, "invalid_client"},
		{"RFC 6749 §5.2 Basic that is no base64", bare, header("Authorization", "Basic §§"), 401, "invalid_client"},
		{"RFC 6749 §5.2 Basic without a colon", bare, basic("billing"), 401, "invalid_client"},
		{"RFC 6749 §5.2 Basic with nothing but a colon", bare, basic(":"), 401, "invalid_client"},
		{"RFC 6749 §5.2 Basic with NUL", bare, basic("billing\x00:" + secret), 401, "invalid_client"},
		{"RFC 6749 §5.2 ID in another case", asBilling("client_id", "Billing"), nil, 401, "invalid_client"},
		{"RFC 7523 §2.2 assertion that is none", merge(asBilling("client_secret", ""), "client_assertion", "e30.e30."), nil, 401, "invalid_client"},
		{"RFC 6749 §2.3 secret and assertion", merge(asBilling(), "client_assertion", "e30.e30."), nil, 400, "invalid_request"},
		{"RFC 6749 §2.3 Basic and assertion", inBody("client_assertion_type", "x"), basic(good), 400, "invalid_request"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			edit := tt.edit
			if edit == nil {
				edit = header("Authorization", "")
			}
			a := newTestServer(t).token(t, tt.form, edit)
			a.check(t, tt.status, tt.error)
			// RFC 6749 §5.2: a challenge for Basic is for those who tried it. Browsers would open a dialog for a password.
			want := `OAuth-Client realm="https://example.com"`
			r := postRequest("/", "")
			if edit(r); strings.HasPrefix(strings.ToLower(r.Header.Get("Authorization")), "basic") {
				want = `Basic realm="https://example.com", charset="UTF-8"`
			}
			if tt.status != http.StatusUnauthorized {
				want = ""
			}
			if challenge := a.Header().Get("WWW-Authenticate"); challenge != want {
				t.Errorf("RFC 6749 §5.2: WWW-Authenticate %q, want %q", challenge, want)
			}
		})
	}
}

// Secrets in the URL end up in logs and histories (RFC 6749 §2.3.1).
func TestSecretInTheURL(t *testing.T) {
	for name, query := range map[string]string{
		"all of it":               asBilling().Encode(),
		"the secret":              "client_secret=" + url.QueryEscape(webSecret),
		"the secret, escaped":     "client%5Fsecret=" + url.QueryEscape(webSecret),
		"after a broken escape":   "x=%zz&client_id=billing&client_secret=" + url.QueryEscape(webSecret),
		"after a semicolon":       "x;client_id=billing;client_secret=" + url.QueryEscape(webSecret),
		"with the ID in the body": "client_secret=" + url.QueryEscape(webSecret) + "&x=1",
	} {
		t.Run("RFC 6749 §2.3.1 "+name, func(t *testing.T) {
			form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"billing"}}
			a := newTestServer(t).do(t, postRequest("/oauth/token?"+query, form.Encode()))
			if a.Code != http.StatusBadRequest && a.Code != http.StatusUnauthorized {
				t.Errorf("status %d: %s", a.Code, a.Body)
			}
		})
	}
	t.Run("RFC 6749 §2.3.1 even with valid credentials", func(t *testing.T) {
		newTestServer(t).do(t, postRequest("/oauth/token?client_secret=x", asBilling().Encode())).check(t, http.StatusBadRequest, "invalid_request")
	})
}

// Some clients form-encode the credentials in HTTP Basic and some do not, so the server tries both.
func TestSecretsWithSpecialCharacters(t *testing.T) {
	for _, secret := range []string{
		"a+b", "a b", "a%b", "a%2Bb", "100%", "%zz", "a:b:c", ":", "ü€🔑", "\u00fc", "a&b=c", `"\`, "a%20b+c%", "\x01", strings.Repeat("s", 4096),
	} {
		for how, userPass := range map[string]string{
			"form-encoded":      "billing:" + url.QueryEscape(secret),
			"as it stands":      "billing:" + secret,
			"with space as %20": "billing:" + strings.ReplaceAll(url.QueryEscape(secret), "+", "%20"),
		} {
			t.Run("RFC 6749 §2.3.1 "+secret[:min(len(secret), 8)]+" "+how, func(t *testing.T) {
				s := newTestServer(t, client("billing", func(c *storage.Client) { c.SecretHashes = []string{clients.HashSecret(secret)} }))
				s.token(t, url.Values{"grant_type": {"client_credentials"}}, basic(userPass)).check(t, http.StatusOK, "")
				s.token(t, url.Values{"grant_type": {"client_credentials"}}, basic(userPass+"x")).check(t, http.StatusUnauthorized, "invalid_client")
			})
		}
		t.Run("RFC 6749 §2.3.1 "+secret[:min(len(secret), 8)]+" in the body", func(t *testing.T) {
			s := newTestServer(t, client("billing", func(c *storage.Client) { c.SecretHashes = []string{clients.HashSecret(secret)} }))
			s.token(t, asBilling("client_secret", secret)).check(t, http.StatusOK, "")
		})
	}
}

func TestPublicClientAuthentication(t *testing.T) {
	request := func(pairs ...string) url.Values {
		return merge(url.Values{"grant_type": {"authorization_code"}, "code": {"x"}}, pairs...)
	}
	for _, tt := range []struct {
		name   string
		form   url.Values
		edit   func(*http.Request)
		status int
		error  string
	}{
		{"RFC 6749 §3.2.1 client_id alone", request("client_id", "spa"), header("Authorization", ""), 400, "invalid_grant"},
		{"RFC 6749 §2.3.1 empty secret in the header", request(), basic("spa:"), 400, "invalid_grant"},
		{"RFC 6749 §5.2 a secret it does not have", request("client_id", "spa", "client_secret", "x"), header("Authorization", ""), 401, "invalid_client"},
		{"RFC 6749 §5.2 a secret it does not have in the header", request(), basic("spa:x"), 401, "invalid_client"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			newTestServer(t).token(t, tt.form, tt.edit).check(t, tt.status, tt.error)
		})
	}
}

// An unknown client ID and a wrong secret get the same answer, except for the error ID.
func TestUnknownClientIsAnsweredAsWrongSecret(t *testing.T) {
	s := newTestServer(t)
	bodies := map[string]string{}
	for _, id := range []string{"billing", "nobody"} {
		a := s.token(t, asBilling("client_id", id, "client_secret", "wrong"))
		a.check(t, http.StatusUnauthorized, "invalid_client")
		bodies[id] = strings.ReplaceAll(a.Body.String(), a.json(t)["error_id"].(string), "ID") + a.Header().Get("WWW-Authenticate")
	}
	if bodies["billing"] != bodies["nobody"] {
		t.Errorf("the answers differ: %v", bodies)
	}
}
