package redis

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// link is what stores with the same settings share: the connections, and what was last seen of families.
type link struct {
	client  goredis.UniversalClient
	timeout time.Duration // of an operation
	cache   *cache

	eviction sync.Once // is looked at
}

// links shares them between the issuers and the config generations of this process.
var links = caddy.NewUsagePool()

// link returns the link with these settings, which are checked. It connects when it is first used.
func (r *Redis) link() (*link, error) {
	if r.shared != nil {
		return r.shared, nil
	}
	secured, files, err := r.TLS.config()
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	key, err := r.poolKey(files)
	if err != nil {
		return nil, err
	}
	pooled, _, err := links.LoadOrNew(key, func() (caddy.Destructor, error) { return r.newLink(secured), nil })
	if err != nil {
		return nil, err
	}
	r.pooled, r.shared = key, pooled.(*link)
	return r.shared, nil
}

// poolKey is of all the settings and of the files that they name. It is a hash, since there are passwords among them.
func (r *Redis) poolKey(files [][]byte) (string, error) {
	settings, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	for _, part := range append(files, settings) {
		fmt.Fprintf(sum, "%d:", len(part))
		sum.Write(part)
	}
	return string(sum.Sum(nil)), nil
}

func (r *Redis) newLink(secured *tls.Config) *link {
	return &link{
		client:  r.client(secured),
		timeout: time.Duration(r.Timeout),
		cache:   newCache(r.Cache << 20),
	}
}

func (r *Redis) client(secured *tls.Config) goredis.UniversalClient {
	timeout, dial := time.Duration(r.Timeout), time.Duration(r.DialTimeout)
	options := &goredis.UniversalOptions{
		Addrs: r.Addresses, DB: r.DB, Username: r.Username, Password: r.Password,
		ClientName: "caddy-oauth", DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},

		// An operation has its own deadline, and its own way to try again.
		ContextTimeoutEnabled: true,
		MaxRetries:            -1, DialerRetries: 1,
		DialTimeout: dial, ReadTimeout: timeout / 2, WriteTimeout: timeout / 2, PoolTimeout: timeout,
		PoolSize: r.PoolSize, PipelinePoolSize: -1, // none of its own

		TLSConfig: secured, Dialer: dialer(dial, secured),
	}
	if s := r.Sentinel; s != nil {
		options.MasterName, options.SentinelUsername, options.SentinelPassword = s.Master, s.Username, s.Password
	}
	if r.cluster() {
		cluster := options.Cluster()
		cluster.DisableRoutingPolicies = true // each of our commands is about one key
		return goredis.NewClusterClient(cluster)
	}
	return goredis.NewUniversalClient(options)
}

// dialer returns what connects. The one of the client does not give up with its context when it has TLS to do.
func dialer(timeout time.Duration, secured *tls.Config) func(context.Context, string, string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: timeout}
	if secured == nil {
		return plain.DialContext
	}
	return (&tls.Dialer{NetDialer: plain, Config: secured}).DialContext
}

// config returns the settings for TLS, nil for none, and what the files say.
func (t *TLS) config() (config *tls.Config, files [][]byte, err error) {
	if t == nil {
		return nil, nil, nil
	}
	config = &tls.Config{
		MinVersion: tls.VersionTLS12,
		ServerName: t.ServerName,

		InsecureSkipVerify: t.InsecureSkipVerify, //nolint:gosec // G402: the owner of the site asked for it by that name
	}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, nil, fmt.Errorf("ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, nil, errors.New("ca: expected a PEM file with certificates, and there is none in " + t.CA)
		}
		files = append(files, pem)
	}
	if t.ClientCert == "" {
		return config, files, nil
	}
	cert, err := os.ReadFile(t.ClientCert)
	if err != nil {
		return nil, nil, fmt.Errorf("client_cert: %w", err)
	}
	key, err := os.ReadFile(t.ClientKey)
	if err != nil {
		return nil, nil, fmt.Errorf("client_cert: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, nil, fmt.Errorf("client_cert: %w", err)
	}
	config.Certificates = []tls.Certificate{pair}
	return config, append(files, cert, key), nil
}

// Destruct ends the connections. The pool calls it when nobody has the link any more.
func (l *link) Destruct() error { return l.client.Close() }
