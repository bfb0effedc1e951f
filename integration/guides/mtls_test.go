package guides

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/internal/mtls/mtlstest"
)

// mutual is the site of the guide about certificates, and the CAs of its server and of its clients.
type mutual struct {
	*integration.Server

	server, clients *mtlstest.CA
	caFile          string // of the server
	second          string // the URL of the second site
	beside          string // the host of a site beside it, which asks for no certificate
}

// startMutual runs a Caddyfile, changed by pairs of old and new.
func startMutual(t *testing.T, text string, pairs ...string) *mutual {
	t.Helper()
	m := &mutual{server: mtlstest.NewCA(t), clients: mtlstest.NewCA(t)}
	certFile, keyFile := mtlstest.Write(t, m.server.Issue(t, func(c *x509.Certificate) {
		c.DNSNames, c.IPAddresses = []string{"localhost", "beside.localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}))
	dir := t.TempDir()
	m.caFile = filepath.Join(dir, "server-ca.pem")
	clientsFile := filepath.Join(dir, "clients-ca.pem")
	must(t, os.WriteFile(m.caFile, mtlstest.PEM(m.server.Cert), 0o600))
	must(t, os.WriteFile(clientsFile, mtlstest.PEM(m.clients.Cert), 0o600))
	_, port, err := net.SplitHostPort(integration.NewAddress(t))
	must(t, err)
	m.second, m.beside = "https://localhost:"+port, "beside.localhost:"+port
	text = strings.NewReplacer(pairs...).Replace(text) + "\nhttps://" + m.beside + " {\n\trespond beside\n}\n"
	text = strings.NewReplacer(
		"https://mtls.suppliers.example.com", m.second, "mtls.suppliers.example.com {\n\ttls {", m.second+" {\n\ttls "+certFile+" "+keyFile+" {",
		"https://suppliers.example.com", "{$ISSUER}", "suppliers.example.com {", "{$SITE} {",
		"/etc/caddy/partner-ca.pem", clientsFile, "reverse_proxy app:8080", "respond {http.request.header.Client-Cert}",
	).Replace(text)
	m.Server = integration.Start(t, integration.Config{
		Global: "servers {\n protocols h1 h2\n }\n", Sites: text, Secrets: new(integration.Secrets),
	})
	return m
}

// program writes a program for Node with the certificate of its client, and returns what it prints.
func (m *mutual) program(t *testing.T, node, dir, text string, cert tls.Certificate) (string, error) {
	t.Helper()
	certFile, keyFile := mtlstest.Write(t, cert)
	for from, to := range map[string]string{certFile: "cert.pem", keyFile: "key.pem"} {
		content, err := os.ReadFile(from)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, to), content, 0o600))
	}
	must(t, os.WriteFile(filepath.Join(dir, "main.mjs"), []byte(text), 0o600))
	return integration.Output(t.Context(), dir, []string{"ISSUER=" + m.URL, "API=" + m.second, "NODE_EXTRA_CA_CERTS=" + m.caFile}, node, "main.mjs")
}

const partner = "orders.partner.example.net"

// TestMutualTLS gets a bound token, and uses it, with the program of the guide for Node.
func TestMutualTLS(t *testing.T) {
	node, dir := nodeProject(t)
	m := startMutual(t, snippet(t, "mutual-tls.md", "caddyfile"))
	text := strings.Replace(snippet(t, "mutual-tls.md", "js"), // the issuer of the test has no https
		"{ algorithm: 'oauth2', ", "{ algorithm: 'oauth2', execute: [client.allowInsecureRequests], ", 1)
	output, err := m.program(t, node, dir, text, m.clients.Issue(t, mtlstest.DNS(partner)))
	if err != nil || strings.TrimSpace(output) != "true 200" {
		t.Errorf("got %v\n%s", err, output)
	}
	output, err = m.program(t, node, dir, text, m.clients.Issue(t, mtlstest.DNS("other.example.net")))
	if err == nil || !strings.Contains(output, "status: 401") {
		t.Errorf("with the certificate of somebody else: got %v\n%s", err, output)
	}
}

// TestMutualTLSFirstSite asks for the API of the guide and of the example at the site for browsers, which is never asked for a certificate.
func TestMutualTLSFirstSite(t *testing.T) {
	example, err := os.ReadFile("../../examples/mutual-tls.Caddyfile")
	must(t, err)
	for name, text := range map[string]string{"guide": snippet(t, "mutual-tls.md", "caddyfile"), "example": string(example)} {
		m := startMutual(t, text)
		for _, site := range []string{m.URL, m.second} {
			if status, body := m.request(t, nil, http.MethodGet, site+"/api/orders", nil); status != http.StatusUnauthorized {
				t.Errorf("%s: GET %s/api/orders without a token: %d %s", name, site, status, body)
			}
		}
		config := filepath.Join(t.TempDir(), "caddy.json")
		must(t, os.WriteFile(config, m.Adapted(t), 0o600))
		var report struct {
			Findings []struct{ Verdict, Check, Seen string } `json:"findings"`
		}
		must(t, json.Unmarshal([]byte(m.Do(t, "oauth", "check", "--offline", "--json", "--config", config)), &report))
		if len(report.Findings) == 0 {
			t.Errorf("%s: caddy oauth check has checked nothing", name)
		}
		for _, finding := range report.Findings {
			local := finding.Check == "url" // of this test
			if (finding.Verdict == "fail" || finding.Verdict == "warning") && !local {
				t.Errorf("%s: caddy oauth check finds %+v", name, finding)
			}
		}
	}
}

// TestMutualTLSWithOAuth4WebAPI does the same at the example, with a certificate that the client has signed itself, and publishes, and with the library
// below openid-client.
func TestMutualTLSWithOAuth4WebAPI(t *testing.T) {
	node, dir := nodeProject(t)
	cert := mtlstest.SelfSigned(t)
	published := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"keys":[`+jwkOf(t, cert)+`]}`)
	}))
	t.Cleanup(published.Close)
	example, err := os.ReadFile("../../examples/mutual-tls.Caddyfile")
	must(t, err)
	m := startMutual(t, string(example), "https://partner.example.net/jwks.json", published.URL)
	const text = `
import { readFileSync } from 'node:fs'
import * as oauth from 'oauth4webapi'
import { Agent, fetch } from 'undici'

const dispatcher = new Agent({ connect: { cert: readFileSync('cert.pem'), key: readFileSync('key.pem') } })
const options = { [oauth.customFetch]: (url, init) => fetch(url, { ...init, dispatcher }), [oauth.allowInsecureRequests]: true }
const issuer = new URL(process.env.ISSUER)
const as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { ...options, algorithm: 'oauth2' }))
const client = { client_id: 'partner', use_mtls_endpoint_aliases: true }
const answer = await oauth.clientCredentialsGrantRequest(as, client, oauth.TlsClientAuth(), { scope: 'orders' }, options)
const tokens = await oauth.processClientCredentialsResponse(as, client, answer)
const api = await oauth.protectedResourceRequest(tokens.access_token, 'GET', new URL('/api/orders', process.env.API), undefined, undefined, options)
const seen = await oauth.introspectionRequest(as, client, oauth.TlsClientAuth(), tokens.access_token, options)
const described = await oauth.processIntrospectionResponse(as, client, seen)
console.log(api.status, Object.keys(described.cnf).join())
`
	output, err := m.program(t, node, dir, text, cert)
	if err != nil || strings.TrimSpace(output) != "200 x5t#S256" {
		t.Errorf("got %v\n%s", err, output)
	}
	output, err = m.program(t, node, dir, text, mtlstest.SelfSigned(t))
	if err == nil || !strings.Contains(output, "status: 401") {
		t.Errorf("with another certificate: got %v\n%s", err, output)
	}
}

// jwkOf returns the key of a certificate as a JWK with x5c.
func jwkOf(t *testing.T, cert tls.Certificate) string {
	t.Helper()
	key, err := cert.Leaf.PublicKey.(interface{ Bytes() ([]byte, error) }).Bytes()
	must(t, err)
	x, y := key[1:33], key[33:]
	jwk, err := json.Marshal(map[string]any{
		"kty": "EC", "crv": "P-256", "x": base64.RawURLEncoding.EncodeToString(x), "y": base64.RawURLEncoding.EncodeToString(y),
		"x5c": []string{base64.StdEncoding.EncodeToString(cert.Leaf.Raw)},
	})
	must(t, err)
	return string(jwk)
}

// client returns an HTTP client with a certificate, nil for none, and how it connects.
func (m *mutual) client(t *testing.T, cert *tls.Certificate) (*http.Client, *tls.Config) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(m.server.Cert)
	config := &tls.Config{RootCAs: roots}
	if cert != nil { // whatever CAs the server names
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: m.Secrets.Record(transport), Timeout: integration.Patience}, config
}

// request sends a request, and returns the status and the body. The status is 0 if there is no connection.
func (m *mutual) request(t *testing.T, cert *tls.Certificate, method, target string, form url.Values, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(form.Encode()))
	must(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for pair := range slices.Chunk(header, 2) {
		req.Header.Set(pair[0], pair[1])
	}
	client, _ := m.client(t, cert)
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, string(body)
}

var asPartner = url.Values{"grant_type": {"client_credentials"}, "client_id": {"partner"}}

// get returns an access token.
func (m *mutual) get(t *testing.T, cert tls.Certificate) string {
	t.Helper()
	status, body := m.request(t, &cert, http.MethodPost, m.second+"/oauth/token", asPartner)
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != http.StatusOK {
		t.Fatalf("token: %d %s", status, body)
	}
	return answer.Token
}

// TestMutualTLSConnections plays the connections of a client, of its next certificate, of a thief and of others against the guide.
func TestMutualTLSConnections(t *testing.T) {
	m := startMutual(t, snippet(t, "mutual-tls.md", "caddyfile"))
	cert, renewed := m.clients.Issue(t, mtlstest.DNS(partner)), m.clients.Issue(t, mtlstest.DNS(partner))
	other, forged := m.clients.Issue(t, mtlstest.DNS("other.example.net")), mtlstest.SelfSigned(t, mtlstest.DNS(partner))
	bearer := m.get(t, cert)
	api := func(cert *tls.Certificate, token string) (int, string) {
		return m.request(t, cert, http.MethodGet, m.second+"/api/orders", nil, "Authorization", "Bearer "+token)
	}
	if status, body := api(&cert, bearer); status != http.StatusOK {
		t.Errorf("the API: %d %s", status, body)
	}
	for name, thief := range map[string]*tls.Certificate{"none": nil, "another client": &other, "the next one of the client": &renewed} {
		if status, body := api(thief, bearer); status != http.StatusUnauthorized {
			t.Errorf("a token with another certificate, %s: %d %s", name, status, body)
		}
	}
	if status, body := api(&renewed, m.get(t, renewed)); status != http.StatusOK { // the name is the same
		t.Errorf("after the certificate was renewed: %d %s", status, body)
	}
	token := m.second + "/oauth/token"
	for _, tt := range []struct {
		name   string
		cert   *tls.Certificate
		target string
		status int
	}{
		{"another client", &other, token, 401},
		{"no certificate", nil, token, 401},
		{"of another CA", &forged, token, 0}, // Caddy refuses the connection
		{"the first site", nil, m.URL + "/oauth/token", 401},
	} {
		if status, body := m.request(t, tt.cert, http.MethodPost, tt.target, asPartner); status != tt.status {
			t.Errorf("%s: %d %s", tt.name, status, body)
		}
	}
	if !bytes.Contains(m.Log(), []byte("san_dns other.example.net")) || !bytes.Contains(m.Log(), []byte("no TLS client certificate")) {
		t.Error("the log does not say which certificates came")
	}
	if status, body := m.request(t, &cert, http.MethodGet, m.second+"/api/orders", nil, "Authorization", "Bearer "+bearer, "Client-Cert", ":AAAA:"); status != http.StatusOK {
		t.Errorf("with a header that nobody reads: %d %s", status, body)
	}
	must(t, m.revoke(t, cert, bearer))
	if status, body := api(&cert, bearer); status != http.StatusUnauthorized {
		t.Errorf("after it was revoked: %d %s", status, body)
	}
}

// Whoever is on a connection for one host does not get to another one past its question for a certificate.
func TestMutualTLSOfAnotherHost(t *testing.T) {
	m := startMutual(t, snippet(t, "mutual-tls.md", "caddyfile"))
	cert := m.clients.Issue(t, mtlstest.DNS(partner))
	host := strings.TrimPrefix(m.second, "https://")
	for _, tt := range []struct {
		sni, host string
		status    int
	}{
		{host, host, http.StatusOK},
		{m.beside, m.beside, http.StatusOK},
		{m.beside, host, http.StatusMisdirectedRequest},
		{host, m.beside, http.StatusMisdirectedRequest},
	} {
		client, config := m.client(t, &cert)
		config.ServerName, _, _ = strings.Cut(tt.sni, ":")
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, m.second+"/", http.NoBody)
		must(t, err)
		req.Host = tt.host
		resp, err := client.Do(req)
		must(t, err)
		must(t, resp.Body.Close())
		if resp.StatusCode != tt.status {
			t.Errorf("a request for %s, on a connection for %s: %d, want %d", tt.host, tt.sni, resp.StatusCode, tt.status)
		}
	}
}

func (m *mutual) revoke(t *testing.T, cert tls.Certificate, token string) error {
	t.Helper()
	status, body := m.request(t, &cert, http.MethodPost, m.second+"/oauth/revoke", url.Values{"client_id": {"partner"}, "token": {token}})
	if status != http.StatusOK {
		return &integration.Refusal{Path: "/oauth/revoke", Status: status, Answer: []byte(body)}
	}
	return nil
}
