package caddyoauth_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/caddy-oauth/caddy-oauth/internal/mtls/mtlstest"
)

// withProxy returns global options with a partner who has a certificate, and a proxy at that address.
func withProxy(proxy, setting string) string {
	return "servers {\ntrusted_proxies static " + proxy + "\n}\n" + strings.Replace(shop, "scope orders", setting+`
		scope orders
		client partner {
			tls_client_auth san_dns partner.example.net
			tls_client_certificate_bound_access_tokens
			scopes orders
		}`, 1)
}

// Behind a TLS terminator, the header Client-Cert counts if a trusted proxy has sent it, and from nobody else (RFC 9440).
func TestClientCertHeader(t *testing.T) {
	cert, other := mtlstest.SelfSigned(t, mtlstest.DNS("partner.example.net")), mtlstest.SelfSigned(t)
	header := ":" + base64.StdEncoding.EncodeToString(cert.Leaf.Raw) + ":"
	another := ":" + base64.StdEncoding.EncodeToString(other.Leaf.Raw) + ":"
	sites := func() string {
		return `http://shop.localhost:PORT {
			oauth
			oauth_guard /api/* {
				scopes orders
			}
			reverse_proxy ` + upstream(t) + `
		}`
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"partner"}}.Encode()
	for _, tt := range []struct {
		name, proxy, setting string
		certs                []string // values of the header
		status               int
		logged               string
	}{
		{"verified", "127.0.0.1", "client_cert_header verified", []string{header}, 200, ""},
		{"verified, another client", "127.0.0.1", "client_cert_header verified", []string{another}, 401, "san_dns partner.example.net"},
		{"verified, none", "127.0.0.1", "client_cert_header verified", nil, 401, "no TLS client certificate"},
		{"verified, no certificate", "127.0.0.1", "client_cert_header verified", []string{"x"}, 401, "no byte sequence"},
		{"unverified", "127.0.0.1", "client_cert_header unverified", []string{header}, 401, "not verified by a trusted CA"},
		{"no setting", "127.0.0.1", "", []string{header}, 401, "comes through a proxy"},
		{"not from the proxy", "192.0.2.1", "client_cert_header verified", []string{header}, 401, "not from a proxy of trusted_proxies"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t)
			s.run(t, withProxy(tt.proxy, tt.setting), sites())
			sent := []string{"X-Forwarded-For", "198.51.100.1"}
			for _, value := range tt.certs {
				sent = append(sent, "Client-Cert", value)
			}
			endpoint := s.url("shop.localhost") + "/oauth/token"
			answer := s.do(t, http.MethodPost, endpoint, "application/x-www-form-urlencoded", form, sent...)
			if answer.status != tt.status {
				t.Fatalf("%d %s", answer.status, answer.body)
			}
			if tt.logged != "" && len(s.logEntries(t, func(entry map[string]any) bool {
				sent, _ := entry["sent"].(string)
				expected, _ := entry["expected"].(string)
				return entry["msg"] == "request refused" && strings.Contains(sent+" "+expected, tt.logged)
			})) != 1 {
				t.Errorf("the log does not say %s", tt.logged)
			}
			// The site gets the header if the proxy has sent it, and never from anybody else. Its look-alikes it never gets.
			seen := s.get(t, s.url("shop.localhost")+"/page", "Client-Cert", header, "Client-Cert-Chain", header, "Client_cert", header).body
			believed := tt.proxy == "127.0.0.1"
			if tt.setting != "" && (strings.Contains(seen, `"Client-Cert":`) != believed || strings.Contains(seen, `"Client-Cert-Chain":`) != believed || strings.Contains(seen, "Client_cert")) {
				t.Errorf("the site gets %s", seen)
			}
			if tt.status != 200 {
				return
			}
			var got tokens
			if err := json.Unmarshal([]byte(answer.body), &got); err != nil {
				t.Fatal(err)
			}
			for _, use := range []struct {
				cert   string
				status int
			}{{header, 200}, {another, 401}, {"", 401}, {"garbage", 401}} {
				sent := []string{"Authorization", "Bearer " + got.AccessToken, "X-Forwarded-For", "198.51.100.1"}
				if use.cert != "" {
					sent = append(sent, "Client-Cert", use.cert)
				}
				answer := s.get(t, s.url("shop.localhost")+"/api/orders", sent...)
				if answer.status != use.status || use.status == 401 && !strings.Contains(answer.header.Get("WWW-Authenticate"), `error="invalid_token"`) {
					t.Errorf("the API with %.20s: %d %q", use.cert, answer.status, answer.header.Values("WWW-Authenticate"))
				}
			}
		})
	}
}

// Metadata names what clients can do with certificates, and nothing without such clients.
func TestMetadataOfMutualTLS(t *testing.T) {
	s := newServer(t)
	s.run(t, withProxy("127.0.0.1", "mtls_endpoint_aliases https://mtls.localhost"), shopSite)
	document := func() (d struct {
		Methods []string          `json:"token_endpoint_auth_methods_supported"`
		Bound   bool              `json:"tls_client_certificate_bound_access_tokens"`
		Aliases map[string]string `json:"mtls_endpoint_aliases"`
	},
	) {
		if err := json.Unmarshal([]byte(s.get(t, s.url("shop.localhost")+"/.well-known/oauth-authorization-server").body), &d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := document()
	if list := strings.Join(d.Methods, " "); !strings.Contains(list, " tls_client_auth self_signed_tls_client_auth") || !d.Bound {
		t.Errorf("got %+v", d)
	}
	if d.Aliases["token_endpoint"] != "https://mtls.localhost/oauth/token" || d.Aliases["revocation_endpoint"] == "" ||
		d.Aliases["introspection_endpoint"] == "" || d.Aliases["pushed_authorization_request_endpoint"] == "" || d.Aliases["device_authorization_endpoint"] != "" {
		t.Errorf("the aliases are %v", d.Aliases)
	}
	s.run(t, withProxy("127.0.0.1", ""), shopSite)
	if d := document(); strings.Contains(strings.Join(d.Methods, " "), "self_signed") || !strings.Contains(strings.Join(d.Methods, " "), "tls_client_auth") || !d.Bound || d.Aliases != nil {
		t.Errorf("without an alias: %+v", d)
	}
	s.run(t, shop, shopSite)
	if d := document(); strings.Contains(strings.Join(d.Methods, " "), "tls") || d.Bound || d.Aliases != nil {
		t.Errorf("without such a client: %+v", d)
	}
}

// What no site of the issuer can give a client is a warning when Caddy starts.
func TestMutualTLSMistakes(t *testing.T) {
	dir := t.TempDir()
	ca := write(t, dir, "ca.pem", string(mtlstest.PEM(mtlstest.NewCA(t).Cert)))
	app := write(t, dir, "app.pem", string(mtlstest.PEM(mtlstest.SelfSigned(t).Leaf)))
	certFile, keyFile := mtlstest.Write(t, mtlstest.SelfSigned(t, mtlstest.DNS("example.com", "mtls.example.com", "other.example.com")))
	tls := func(auth string) string {
		if auth != "" {
			auth = "client_auth {\n" + auth + "\n}\n"
		}
		return "tls " + certFile + " " + keyFile + " {\n" + auth + "}\n"
	}
	site := func(settings, client, auth string) string {
		return "https://example.com:PORT {\n" + tls(auth) + "oauth shop https://example.com:PORT {\n" + settings + "scope orders \"your orders\"\nclient app {\n" + client + "\nscopes orders\n}\n}\nrespond ok\n}\n"
	}
	name, self := "tls_client_auth san_dns app.example.net", "self_signed_tls_client_auth "+app
	bound := "secret_hash sha256:" + strings.Repeat("0", 64) + "\ntls_client_certificate_bound_access_tokens"
	alias := "mtls_endpoint_aliases https://mtls.example.com:PORT\n"
	for _, tt := range []struct{ name, sites, seen string }{
		{"a name, checked", site("", name, "mode verify_if_given\ntrust_pool file "+ca), ""},
		{"a name, checked by default", site("", name, "trust_pool file "+ca), ""},
		{"a name, not checked", site("", name, "mode request"), "no site of the issuer checks TLS certificates, by which the client app authenticates"},
		{"a name, not asked", site("", name, ""), "no site of the issuer checks TLS certificates"},
		{"a name, behind a proxy", site("client_cert_header verified\n", name, ""), ""},
		{"a name, behind a proxy that does not check", site("client_cert_header unverified\n", name, ""), "no site of the issuer checks TLS certificates"},
		{"its own, not checked", site("", self, "mode request"), ""},
		{"its own, checked", site("", self, "mode require_and_verify\ntrust_pool file "+ca), "no site of the issuer takes TLS certificates that are of no CA"},
		{"its own, checked by default", site("", self, "trust_pool file "+ca), "no site of the issuer takes TLS certificates that are of no CA"},
		{
			"a name, checked at another site", site("", name, "") + "https://other.example.com:PORT {\n" + tls("trust_pool file "+ca) + "respond ok\n}\n",
			"no site of the issuer checks TLS certificates",
		},
		{"its own, behind a proxy", site("client_cert_header unverified\n", self, ""), ""},
		{"bound, not asked", site("", bound, ""), "no site of the issuer asks for TLS certificates, which the client app must have"},
		{"bound, asked", site("", bound, "mode request"), ""},
		{"an alias without a site", site(alias, name, "trust_pool file "+ca), "no site of the issuer https://example.com"},
		{"an alias with a site", site(alias, name, "") + "https://mtls.example.com:PORT {\n" + tls("trust_pool file "+ca) + "oauth shop\n}\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t)
			s.run(t, "auto_https off\nservers {\nprotocols h1 h2\n}", tt.sites)
			found := s.logged(t, mistakeMessage)
			if tt.seen == "" && len(found) > 0 {
				t.Errorf("got %v", found)
			}
			if tt.seen != "" && (len(found) != 1 || !strings.HasPrefix(found[0]["seen"].(string), tt.seen)) {
				t.Errorf("expected %q, got %v", tt.seen, found)
			}
		})
	}
}

// The files of a client are read when the configuration is loaded, and say what is wrong with them.
func TestCertificateFiles(t *testing.T) {
	cert := mtlstest.SelfSigned(t).Leaf
	for _, tt := range []struct{ name, content, want string }{
		{"PEM", string(mtlstest.PEM(cert)), ""},
		{"two", string(mtlstest.PEM(cert)) + string(mtlstest.PEM(cert)), ""},
		{"DER", string(cert.Raw), ""},
		{"a key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "expected a CERTIFICATE in PEM, and nothing else, not a PRIVATE KEY"},
		{"garbage", "garbage", "expected a certificate in PEM or DER"},
		{"no certificate within PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "the CERTIFICATE in PEM is not readable"},
		{"nothing", "", "expected a certificate in PEM or DER"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			file := write(t, dir, "app.pem", tt.content)
			text := "example.com {\ntls {\nclient_auth {\nmode request\n}\n}\noauth https://example.com {\nclient app {\nself_signed_tls_client_auth " + file + "\n}\n}\n}\n"
			output, ok := caddyCommand(t, dir, "validate", "--adapter", "caddyfile", "--config", write(t, dir, "Caddyfile", text))
			if ok != (tt.want == "") || !strings.Contains(output, tt.want) {
				t.Errorf("expected %q, got %v %s", tt.want, ok, output)
			}
		})
	}
}

// The example is valid, and warns of nothing.
func TestMutualTLSExample(t *testing.T) {
	text, err := os.ReadFile("examples/mutual-tls.Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	output, ok := caddyCommand(t, dir, "validate", "--adapter", "caddyfile", "--config", write(t, dir, "Caddyfile", string(text)))
	if warnings := warningsIn(output); !ok || len(warnings) > 0 {
		t.Errorf("%v %+v %s", ok, warnings, output)
	}
}
