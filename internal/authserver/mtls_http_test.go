package authserver

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt/jwttest"
	"github.com/caddy-oauth/caddy-oauth/internal/mtls"
	"github.com/caddy-oauth/caddy-oauth/internal/mtls/mtlstest"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

// over returns an edit that sends a request over a connection with a certificate of the client.
func over(cert tls.Certificate, verified bool) func(*http.Request) {
	return func(r *http.Request) { r.TLS = mtlstest.State(cert, verified) }
}

func thumbprint(cert tls.Certificate) string {
	return (&mtls.Certificate{Certificate: cert.Leaf}).Thumbprint()
}

// withCertificate returns an edit that makes billing a client with a certificate.
func withCertificate(c *storage.ClientCertificate) func(*Config) {
	return client("billing", func(billing *storage.Client) { billing.SecretHashes, billing.Certificate = nil, c })
}

var forItself = url.Values{"grant_type": {"client_credentials"}, "client_id": {"billing"}}

func TestCertificateAuthenticatesClient(t *testing.T) {
	app := mtlstest.SelfSigned(t, mtlstest.DNS("app.example.com"))
	renewed, other := mtlstest.SelfSigned(t, mtlstest.DNS("app.example.com")), mtlstest.SelfSigned(t, mtlstest.DNS("other.example.com"))
	expired := mtlstest.SelfSigned(t, func(c *x509.Certificate) { c.NotAfter = epoch.AddDate(0, 0, -1) })
	selfSigned := &storage.ClientCertificate{SelfSigned: true, Certificates: [][]byte{other.Leaf.Raw, app.Leaf.Raw, expired.Leaf.Raw}}
	byName := &storage.ClientCertificate{SANDNS: "app.example.com"}
	bySubject := &storage.ClientCertificate{SubjectDN: "CN=app,O=Example,C=DE"}
	for _, tt := range []struct {
		name       string
		registered *storage.ClientCertificate
		edits      []func(*http.Request)
		status     int
		sent       string
		expected   string
	}{
		{"its name", byName, []func(*http.Request){over(app, true)}, 200, "", ""},
		{"its subject", bySubject, []func(*http.Request){over(app, true)}, 200, "", ""},
		{"a renewed certificate with the same name", byName, []func(*http.Request){over(renewed, true)}, 200, "", ""},
		{"another name", byName, []func(*http.Request){over(other, true)}, 401, "san_dns other.example.com", "san_dns app.example.com"},
		{"its name, on a connection from before it expired", bySubject, []func(*http.Request){over(expired, true)}, 401, thumbprint(expired), "valid now"},
		{"its name, but of no CA", byName, []func(*http.Request){over(app, false)}, 401, "not verified", "trust_pool"},
		{"no certificate", byName, nil, 401, "no TLS client certificate", "san_dns app.example.com"},
		{"one of its certificates", selfSigned, []func(*http.Request){over(app, false)}, 200, "", ""},
		{"one of its certificates, which a CA has signed", selfSigned, []func(*http.Request){over(app, true)}, 200, "", ""},
		{"another one with the same name", selfSigned, []func(*http.Request){over(renewed, true)}, 401, thumbprint(renewed), "registered"},
		{"one that has expired", selfSigned, []func(*http.Request){over(expired, false)}, 401, thumbprint(expired), "valid now"},
		{"no certificate of its own", selfSigned, nil, 401, "no TLS client certificate", "registered"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t, withCertificate(tt.registered))
			a := s.token(t, forItself, tt.edits...)
			if tt.status == 200 {
				a.check(t, 200, "")
				return
			}
			a.check(t, tt.status, grants.InvalidClient)
			s.explained(t, tt.sent, tt.expected, "client billing: "+tt.registered.Method())
		})
	}
}

// explained checks that the last refusal in the log says these.
func (s *testServer) explained(t *testing.T, sent, expected, setting string) {
	t.Helper()
	refusals := s.logs.FilterMessage("request refused").All()
	if len(refusals) == 0 {
		t.Fatal("nothing in the log")
	}
	got := refusals[len(refusals)-1].ContextMap()
	for name, want := range map[string]string{"sent": sent, "expected": expected, "setting": setting} {
		if text, _ := got[name].(string); !strings.Contains(text, want) {
			t.Errorf("the log says of %s: %q, want %q", name, text, want)
		}
	}
}

// A certificate is no second method beside a secret: programs send it on each connection. What the client is registered for decides.
func TestCertificateBesideOtherMethods(t *testing.T) {
	app := mtlstest.SelfSigned(t, mtlstest.DNS("app.example.com"))
	both := client("billing", func(c *storage.Client) { c.Certificate = &storage.ClientCertificate{SANDNS: "app.example.com"} })
	secret := url.Values{"grant_type": {"client_credentials"}, "client_id": {"billing"}, "client_secret": {webSecret}}
	newTestServer(t).token(t, secret, over(app, true)).check(t, 200, "")
	newTestServer(t, both).token(t, secret).check(t, 200, "")
	newTestServer(t, both).token(t, secret, over(app, true)).check(t, 200, "")
	newTestServer(t, both).token(t, forItself, over(app, true)).check(t, 200, "")
	newTestServer(t, both).token(t, merge(secret, "client_secret", "wrong"), over(app, true)).check(t, 401, grants.InvalidClient)
	only := newTestServer(t, withCertificate(&storage.ClientCertificate{SANDNS: "app.example.com"}))
	only.token(t, secret, over(app, true)).check(t, 401, grants.InvalidClient)
	only.explained(t, "client_secret_post: a secret", "nothing else", "client billing: tls_client_auth")
	inHeader := func(r *http.Request) { r.SetBasicAuth("billing", "") } // RFC 8705 §2: client_id is in the body
	only.token(t, forItself, over(app, true), inHeader).check(t, 401, grants.InvalidClient)
	newTestServer(t).token(t, forItself, over(app, true)).check(t, 401, grants.InvalidClient) // it has a secret
}

// Wrong certificates are throttled like wrong signatures.
func TestWrongCertificatesAreThrottled(t *testing.T) {
	s := newTestServer(t, withCertificate(&storage.ClientCertificate{SANDNS: "app.example.com"}))
	cert := mtlstest.SelfSigned(t)
	for range 100 {
		if a := s.token(t, forItself, over(cert, true)); a.Code != http.StatusUnauthorized {
			a.check(t, http.StatusTooManyRequests, grants.TemporarilyUnavailable)
			return
		}
	}
	t.Error("100 wrong certificates, and no end")
}

func bindToCertificate(id string) func(*Config) {
	return client(id, func(c *storage.Client) { c.BindToCertificate = true })
}

// RFC 8705 §3: access tokens are bound to the certificate, as JWTs and as records, and introspection says so.
func TestTokensAreBoundToCertificates(t *testing.T) {
	for name, edit := range map[string]func(*Config){
		"JWT": func(*Config) {}, "opaque": opaque("acc_", 0), "minimal": func(c *Config) { c.AccessToken.Minimal = true },
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, edit, bindToCertificate("webapp"))
			cert, next := mtlstest.SelfSigned(t), mtlstest.SelfSigned(t)
			code := s.code(t, asks("webapp"))
			s.token(t, redeems(code)).check(t, http.StatusBadRequest, grants.InvalidRequest)
			s.explained(t, "no certificate", "a certificate", "client webapp: tls_client_certificate_bound_access_tokens")
			a := s.token(t, redeems(code), over(cert, false)) // the code is still good
			a.check(t, http.StatusOK, "")
			got := a.json(t)
			claims, err := s.AccessToken(t.Context(), got["access_token"].(string), 0)
			if err != nil || claims.Bound.Certificate != thumbprint(cert) || got["token_type"] != "Bearer" {
				t.Errorf("%v, bound to %+v, want %s: %v", got, claims.Bound, thumbprint(cert), err)
			}
			seen := s.introspect(t, got["access_token"].(string)).json(t)
			if cnf, _ := seen["cnf"].(map[string]any); len(cnf) != 1 || cnf["x5t#S256"] != thumbprint(cert) || seen["token_type"] != "Bearer" {
				t.Errorf("introspection says %v", seen)
			}
			// §4: this client authenticates, so that it may refresh with its next certificate.
			a = s.token(t, refreshes(got["refresh_token"].(string)), over(next, false))
			a.check(t, http.StatusOK, "")
			if claims, err = s.AccessToken(t.Context(), a.json(t)["access_token"].(string), 0); err != nil || claims.Bound.Certificate != thumbprint(next) {
				t.Errorf("the next token is bound to %+v: %v", claims.Bound, err)
			}
			s.token(t, refreshes(a.json(t)["refresh_token"].(string))).check(t, http.StatusBadRequest, grants.InvalidRequest)
		})
	}
}

// RFC 8705 §4: the refresh tokens of a public client are bound to its certificate, whatever becomes of its settings.
func TestRefreshTokensOfPublicClientsAreBoundToCertificates(t *testing.T) {
	s := newTestServer(t, bindToCertificate("spa"))
	cert, thief := mtlstest.SelfSigned(t), mtlstest.SelfSigned(t)
	a := s.token(t, spaRedeems(s.code(t, asks("spa"))), over(cert, false))
	a.check(t, http.StatusOK, "")
	token := a.json(t)["refresh_token"].(string)
	s.token(t, refreshes(token, "client_id", "spa"), over(thief, true)).check(t, http.StatusBadRequest, grants.InvalidGrant)
	s.explained(t, "the certificate "+thumbprint(thief), "the certificate "+thumbprint(cert), "")
	a = s.token(t, refreshes(token, "client_id", "spa"), over(cert, false))
	a.check(t, http.StatusOK, "")
	token = a.json(t)["refresh_token"].(string)

	config := s.config
	config.Clients = testClients() // not bound any more
	s.restart(t, config)
	s.token(t, refreshes(token, "client_id", "spa")).check(t, http.StatusBadRequest, grants.InvalidGrant)
	s.token(t, refreshes(token, "client_id", "spa"), over(thief, true)).check(t, http.StatusBadRequest, grants.InvalidGrant)
	a = s.token(t, refreshes(token, "client_id", "spa"), over(cert, false))
	a.check(t, http.StatusOK, "")
	if claims, err := s.AccessToken(t.Context(), a.json(t)["access_token"].(string), 0); err != nil || !claims.Bound.IsZero() {
		t.Errorf("the access token is bound to %+v: %v", claims.Bound, err)
	}
}

// A certificate that is on the connection anyway binds nothing.
func TestCertificateAloneBindsNothing(t *testing.T) {
	s := newTestServer(t)
	cert := mtlstest.SelfSigned(t)
	got := s.token(t, spaRedeems(s.code(t, asks("spa"))), over(cert, true)).json(t)
	if claims, err := s.AccessToken(t.Context(), got["access_token"].(string), 0); err != nil || !claims.Bound.IsZero() {
		t.Errorf("bound to %+v: %v", claims.Bound, err)
	}
	s.token(t, refreshes(got["refresh_token"].(string), "client_id", "spa")).check(t, http.StatusOK, "")
}

// A token can be bound to a key and to a certificate. Then its use needs both.
func TestTokensBoundToKeyAndCertificate(t *testing.T) {
	s := newTestServer(t, openID(), bindToCertificate("webapp"), bindToCertificate("spa"))
	p, cert := jwttest.NewProver(t, "ES256", s.clock.Now), mtlstest.SelfSigned(t)
	got := s.token(t, redeems(s.code(t, asks("webapp", "scope", "openid"))), proof(t, p), over(cert, false)).json(t)
	token, _ := got["access_token"].(string)
	claims, err := s.AccessToken(t.Context(), token, 0)
	if err != nil || claims.Bound.Thumbprint != p.Thumbprint || claims.Bound.Certificate != thumbprint(cert) || got["token_type"] != "DPoP" {
		t.Fatalf("%v, bound to %+v: %v", got["token_type"], claims.Bound, err)
	}
	fresh := func() func(*http.Request) {
		return header("DPoP", p.Prove(t, http.MethodGet, testIssuer+"/oauth/userinfo", token))
	}
	for _, tt := range []struct {
		name   string
		edits  []func(*http.Request)
		status int
	}{
		{"both", []func(*http.Request){fresh(), over(cert, false)}, 200},
		{"the key alone", []func(*http.Request){fresh()}, 401},
		{"the certificate alone", []func(*http.Request){over(cert, false)}, 401},
		{"another certificate", []func(*http.Request){fresh(), over(mtlstest.SelfSigned(t), true)}, 401},
	} {
		r := httptest.NewRequest(http.MethodGet, "/oauth/userinfo", nil)
		r.Header.Set("Authorization", "DPoP "+token)
		for _, edit := range tt.edits {
			edit(r)
		}
		if a := s.do(t, r); a.Code != tt.status {
			t.Errorf("%s: %d %s", tt.name, a.Code, a.Body)
		}
	}
	got = s.token(t, spaRedeems(s.code(t, asks("spa"))), proof(t, p), over(cert, false)).json(t)
	s.token(t, refreshes(got["refresh_token"].(string), "client_id", "spa"), over(cert, false)).check(t, http.StatusBadRequest, grants.InvalidGrant)
	s.token(t, refreshes(got["refresh_token"].(string), "client_id", "spa"), over(cert, false), proof(t, p)).check(t, http.StatusOK, "")
}

// RFC 8705 §3: a token that is bound to a certificate is worth nothing with another one, or with none.
func TestUserinfoWithBoundToken(t *testing.T) {
	s := newTestServer(t, openID(), bindToCertificate("webapp"))
	cert := mtlstest.SelfSigned(t)
	got := s.token(t, redeems(s.code(t, asks("webapp", "scope", "openid"))), over(cert, false)).json(t)
	ask := func(edits ...func(*http.Request)) answer {
		r := httptest.NewRequest(http.MethodGet, "/oauth/userinfo", nil)
		r.Header.Set("Authorization", "Bearer "+got["access_token"].(string))
		for _, edit := range edits {
			edit(r)
		}
		return s.do(t, r)
	}
	ask(over(cert, false)).check(t, http.StatusOK, "")
	for _, edits := range [][]func(*http.Request){nil, {over(mtlstest.SelfSigned(t), true)}} {
		a := ask(edits...)
		a.check(t, http.StatusUnauthorized, "invalid_token")
		if !strings.Contains(a.Header().Get("WWW-Authenticate"), `error="invalid_token"`) {
			t.Errorf("the challenge is %q", a.Header().Get("WWW-Authenticate"))
		}
		s.explained(t, "certificate", "x5t#S256 "+thumbprint(cert), "")
	}
}

// Clients authenticate with a certificate wherever they do with a secret.
func TestCertificateAtAllEndpoints(t *testing.T) {
	app := mtlstest.SelfSigned(t, mtlstest.DNS("app.example.com"))
	s := newTestServer(t, withCertificate(&storage.ClientCertificate{SANDNS: "app.example.com"}))
	token := s.token(t, forItself, over(app, true)).json(t)["access_token"].(string)
	for _, path := range []string{"/oauth/introspect", "/oauth/revoke"} {
		r := postRequest(path, url.Values{"token": {token}, "client_id": {"billing"}}.Encode())
		s.do(t, r).check(t, http.StatusUnauthorized, grants.InvalidClient)
		r = postRequest(path, url.Values{"token": {token}, "client_id": {"billing"}}.Encode())
		over(app, true)(r)
		s.do(t, r).check(t, http.StatusOK, "")
	}
	if _, err := s.AccessToken(t.Context(), token, 0); err == nil {
		t.Error("the token was not revoked")
	}
	pushed := newTestServer(t, client("webapp", func(c *storage.Client) {
		c.SecretHashes, c.Certificate = nil, &storage.ClientCertificate{SANDNS: "app.example.com"}
	}))
	for cert, want := range map[bool]int{false: 401, true: 201} {
		r := postRequest("/oauth/par", asks("webapp").Encode())
		if cert {
			over(app, true)(r)
		}
		if a := pushed.do(t, r); a.Code != want {
			t.Errorf("par: %d %s", a.Code, a.Body)
		}
	}
}

// jwks returns a JWK set with a key that has certificates in x5c.
func jwks(t *testing.T, certs ...tls.Certificate) json.RawMessage {
	t.Helper()
	var keys []map[string]any
	for _, cert := range certs {
		point, err := cert.Leaf.PublicKey.(*ecdsa.PublicKey).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, map[string]any{
			"kty": "EC", "crv": "P-256", "x": base64.RawURLEncoding.EncodeToString(point[1:33]), "y": base64.RawURLEncoding.EncodeToString(point[33:]),
			"x5c": []string{base64.StdEncoding.EncodeToString(cert.Leaf.Raw)},
		})
	}
	set, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// RFC 8705 §2.2: the certificate is the first in an x5c of the client's JWK set. A new one at jwks_uri is found within a minute.
func TestSelfSignedCertificateInJWKS(t *testing.T) {
	cert, next, other := mtlstest.SelfSigned(t), mtlstest.SelfSigned(t), mtlstest.SelfSigned(t)
	inline := newTestServer(t, client("billing", func(c *storage.Client) {
		c.SecretHashes, c.Certificate, c.AuthMethods = nil, &storage.ClientCertificate{SelfSigned: true}, []string{storage.MethodSelfSigned}
		c.JWKS = jwks(t, other, cert)
	}))
	inline.token(t, forItself, over(cert, false)).check(t, http.StatusOK, "")
	inline.token(t, forItself, over(next, true)).check(t, http.StatusUnauthorized, grants.InvalidClient)
	assertion := merge(forItself, "client_assertion", "a.b.c", "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	inline.token(t, assertion, over(cert, false)).check(t, http.StatusUnauthorized, grants.InvalidClient) // the keys are those of certificates

	var set atomic.Pointer[json.RawMessage]
	published := jwks(t, cert)
	set.Store(&published)
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/jwk-set+json")
		w.Header().Set("Cache-Control", "max-age=3600")
		_, _ = w.Write(*set.Load())
	}))
	t.Cleanup(site.Close)
	s := newTestServer(t, func(c *Config) { c.URL = "http://127.0.0.1" }, client("billing", func(c *storage.Client) {
		c.SecretHashes, c.Certificate, c.AuthMethods = nil, &storage.ClientCertificate{SelfSigned: true}, []string{storage.MethodSelfSigned}
		c.JWKSURI = site.URL
	}))
	s.token(t, forItself, over(cert, false)).check(t, http.StatusOK, "")
	s.token(t, forItself, over(next, false)).check(t, http.StatusUnauthorized, grants.InvalidClient)
	both := jwks(t, cert, next)
	set.Store(&both)
	s.clock.Advance(time.Minute)
	s.token(t, forItself, over(next, false)).check(t, http.StatusOK, "")
	s.token(t, forItself, over(cert, false)).check(t, http.StatusOK, "")
	site.Close()
	s.clock.Advance(2 * time.Hour) // the set is no longer fresh, and nobody is there
	s.token(t, forItself, over(cert, false)).check(t, http.StatusOK, "")
	s.token(t, forItself, over(other, false)).check(t, http.StatusUnauthorized, grants.InvalidClient)
}

// RFC 8705 §5: a DPoP proof names either URL of an endpoint, and never that of another host.
func TestProofForAlias(t *testing.T) {
	s := newTestServer(t, func(c *Config) { c.MTLSAlias = "https://mtls.example.com:8443" })
	p := jwttest.NewProver(t, "ES256", s.clock.Now)
	for target, status := range map[string]int{
		testToken: 200, "https://mtls.example.com:8443/oauth/token": 200, "https://mtls.example.com/oauth/token": 400,
		"https://evil.example/oauth/token": 400, "https://mtls.example.com:8443/oauth/par": 400,
	} {
		edit := func(r *http.Request) { r.Host = "evil.example" }
		a := s.token(t, redeems(s.code(t, asks("webapp"))), header("DPoP", p.Prove(t, http.MethodPost, target, "")), edit)
		if a.Code != status {
			t.Errorf("%s: %d %s", target, a.Code, a.Body)
		}
	}
}
