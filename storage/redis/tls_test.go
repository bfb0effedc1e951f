package redis

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/internal/testport"
	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/storetest"
)

// authority writes certificates to a directory.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert, a.key = a.sign(t, "ca", &x509.Certificate{
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, Subject: pkix.Name{CommonName: "ca"},
	})
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// sign writes a certificate and its key to files with that name.
func (a *authority) sign(t *testing.T, name string, cert *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	noError(t, err)
	cert.SerialNumber = big.NewInt(time.Now().UnixNano())
	cert.NotBefore, cert.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = cert, key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, signer)
	noError(t, err)
	cert, err = x509.ParseCertificate(der)
	noError(t, err)
	private, err := x509.MarshalECPrivateKey(key)
	noError(t, err)
	for file, block := range map[string]*pem.Block{
		name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "EC PRIVATE KEY", Bytes: private},
	} {
		noError(t, os.WriteFile(a.file(file), pem.EncodeToMemory(block), 0o600))
	}
	return cert, key
}

// makeUser creates the user from the documentation, with further rules.
func (s *server) makeUser(t *testing.T, further ...string) {
	t.Helper()
	var command []any
	for _, word := range slices.Concat([]string{"ACL", "SETUSER", "caddy", "on"}, documentedACL(t), further) {
		command = append(command, word)
	}
	noError(t, s.admin(t).Do(t.Context(), command...).Err())
}

func TestUserOfACluster(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t)
	r := &Redis{Username: "caddy", Password: "the-password"}
	for _, node := range nodes {
		node.makeUser(t, "+cluster|slots")
		r.Addresses = append(r.Addresses, node.address)
	}
	for _, issuer := range []string{"one", "two", "three", "four"} { // they are on different nodes
		opened, err := open(r, issuer)
		noError(t, err)
		s := opened.(*store)
		allWork(t, s)
		testWatch(t, s, s)
		noError(t, s.Destruct())
	}
}

// documentedACL returns the rules of the user from the text of the documentation.
func documentedACL(t *testing.T) []string {
	t.Helper()
	source, err := os.ReadFile("redis.go")
	noError(t, err)
	found := regexp.MustCompile(`ACL SETUSER caddy on (>PASSWORD [^\n]+\n//[^\n]+)`).FindSubmatch(source)
	if found == nil {
		t.Fatal("the documentation has no ACL SETUSER")
	}
	return strings.Fields(strings.NewReplacer("//", "", ">PASSWORD", ">the-password").Replace(string(found[1])))
}

// The suite passes as the documented user, over TLS with a client certificate.
func TestUserOverTLS(t *testing.T) {
	ca := newAuthority(t)
	ca.sign(t, "server", &x509.Certificate{DNSNames: []string{"redis.internal"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	ca.sign(t, "client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	port := testport.New(t)
	server := startServer(t, "--tls-port", port, "--tls-ca-cert-file", ca.file("ca.pem"),
		"--tls-cert-file", ca.file("server.pem"), "--tls-key-file", ca.file("server.key"))
	server.makeUser(t)
	t.Setenv("CADDY_OAUTH_TEST_PASSWORD", "the-password")

	settings := func(edit func(*Redis)) *Redis {
		r := &Redis{
			Addresses: []string{"127.0.0.1:" + port}, Username: "caddy", Password: "{env.CADDY_OAUTH_TEST_PASSWORD}",
			TLS: &TLS{
				CA: ca.file("ca.pem"), ServerName: "redis.internal",
				ClientCert: ca.file("client.pem"), ClientKey: ca.file("client.key"),
			},
		}
		edit(r)
		return r
	}
	t.Run("suite", func(t *testing.T) {
		b := backend(asFew, "")
		b.Open = func(address string) (storage.Store, error) {
			return open(settings(func(*Redis) {}), strings.Fields(address)[1])
		}
		b.Processes = false // child processes would not know the settings
		storetest.Run(t, b)
	})
	t.Run("watch", func(t *testing.T) {
		s, err := open(settings(func(*Redis) {}), "watched")
		noError(t, err)
		testWatch(t, s.(*store), s.(*store))
	})

	for name, c := range map[string]struct {
		edit func(*Redis)
		want string
	}{
		"no skip of the check is needed": {func(r *Redis) { r.TLS.InsecureSkipVerify, r.TLS.CA, r.TLS.ServerName = true, "", "" }, ""},
		"another authority":              {func(r *Redis) { r.TLS.CA = newAuthority(t).file("ca.pem") }, "certificate"},
		"another name":                   {func(r *Redis) { r.TLS.ServerName = "other.internal" }, "certificate"},
		"no certificate of the client":   {func(r *Redis) { r.TLS.ClientCert, r.TLS.ClientKey = "", "" }, "certificate"},
		"no TLS":                         {func(r *Redis) { r.TLS = nil }, ""},
		"another password":               {func(r *Redis) { r.Password = "hunter2" }, "WRONGPASS"},
		"no user":                        {func(r *Redis) { r.Username, r.Password = "", "" }, ""},
		"another prefix":                 {func(r *Redis) { r.Prefix = "elsewhere" }, "NOPERM"},
	} {
		t.Run(name, func(t *testing.T) {
			opened, err := open(settings(c.edit), "i")
			noError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err = opened.Put(ctx, storage.Key{Kind: "few", ID: "id"}, []byte("value"), never)
			switch {
			case name == "no TLS" && err == nil:
				t.Error("it works without TLS")
			case name != "no TLS" && c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got error %v, want one with %q", err, c.want)
			case err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "the-password")):
				t.Errorf("the error has the password in it: %v", err)
			}
		})
	}
}
