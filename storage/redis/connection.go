package redis

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.uber.org/zap"
)

// connection is shared by stores with the same settings: the client with its connections, and the cache.
type connection struct {
	client  goredis.UniversalClient
	timeout time.Duration // of an operation
	cache   *cache

	eviction sync.Once // checks the eviction policy
}

// connections shares them between the issuers and the configurations of this process.
var connections = caddy.NewUsagePool()

// connect returns the connection with these settings, which must have passed check. It dials when it is first used.
func (r *Redis) connect() (*connection, error) {
	if r.shared != nil {
		return r.shared, nil
	}
	tlsConfig, files, err := r.TLS.config()
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	key, err := r.poolKey(files)
	if err != nil {
		return nil, err
	}
	pooled, _, err := connections.LoadOrNew(key, func() (caddy.Destructor, error) { return r.newConnection(tlsConfig), nil })
	if err != nil {
		return nil, err
	}
	r.pooled, r.shared = key, pooled.(*connection)
	return r.shared, nil
}

// poolKey returns a hash of all settings and of the files they name. It is a hash because the settings contain passwords.
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

func (r *Redis) newConnection(tlsConfig *tls.Config) *connection {
	return &connection{
		client:  r.client(tlsConfig),
		timeout: time.Duration(r.Timeout),
		cache:   newCache(r.Cache << 20),
	}
}

func (r *Redis) client(tlsConfig *tls.Config) goredis.UniversalClient {
	timeout, dial := time.Duration(r.Timeout), time.Duration(r.DialTimeout)
	options := &goredis.UniversalOptions{
		Addrs: r.Addresses, DB: r.DB, Username: r.Username, Password: r.Password,
		ClientName: "caddy-oauth", DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},

		// An operation has its own deadline and its own retries, see attempt.
		ContextTimeoutEnabled: true,
		MaxRetries:            -1, DialerRetries: 1,
		DialTimeout: dial, ReadTimeout: timeout / 2, WriteTimeout: timeout / 2, PoolTimeout: timeout,
		PoolSize: r.PoolSize, PipelinePoolSize: -1, // pipelines use the same pool

		TLSConfig: tlsConfig, Dialer: dialer(dial, tlsConfig),
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

// dialer replaces the dialer of the client, which ignores its context during a TLS handshake.
func dialer(timeout time.Duration, tlsConfig *tls.Config) func(context.Context, string, string) (net.Conn, error) {
	tcp := &net.Dialer{Timeout: timeout}
	if tlsConfig == nil {
		return tcp.DialContext
	}
	return (&tls.Dialer{NetDialer: tcp, Config: tlsConfig}).DialContext
}

// config returns the TLS settings, nil for none, and the content of the files they name.
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

// Destruct closes the connections. The pool calls it when the last module has released them.
func (c *connection) Destruct() error { return c.client.Close() }

func init() {
	goredis.SetLogger(clientLogger{})
}

// clientLogger logs what the client reports about connections. By default, the client would write it to stderr again and again
// while Redis is down, which the errors of operations say anyway.
type clientLogger struct{}

// Printf logs at level debug.
func (clientLogger) Printf(_ context.Context, format string, v ...any) {
	if entry := caddy.Log().Named("oauth.stores.redis").Check(zap.DebugLevel, "message of the Redis client"); entry != nil {
		entry.Write(zap.String("message", fmt.Sprintf(format, v...)))
	}
}

const (
	maxAttempts = 3
	firstPause  = 20 * time.Millisecond
)

// attempt calls do, which must be harmless to do twice, and retries it after a temporary error. uncertain tells do that an earlier
// attempt may have been carried out although its answer was lost.
func (c *connection) attempt(ctx context.Context, do func(ctx context.Context, uncertain bool) error) error {
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	uncertain := false
	for pause, n := firstPause, 1; ; pause, n = 4*pause, n+1 {
		err := do(limited, uncertain)
		if err == nil || errors.Is(err, goredis.Nil) {
			return err
		}
		temporary, sent := classify(err)
		if !temporary || n == maxAttempts || !wait(limited, pause) {
			return c.explainTimeout(ctx, limited, err)
		}
		uncertain = uncertain || sent
	}
}

// classify reports whether an error may be temporary, and whether the command may have been carried out nevertheless.
func classify(err error) (temporary, sent bool) {
	if errors.Is(err, goredis.ErrClosed) {
		return false, false
	}
	if _, answered := errors.AsType[goredis.Error](err); answered {
		return slices.ContainsFunc(temporaryAnswers, func(prefix string) bool { return goredis.HasErrorPrefix(err, prefix) }) ||
			strings.Contains(err.Error(), readOnlyAnswer), false
	}
	op, ok := errors.AsType[*net.OpError](err)
	unsent := ok && op.Op == "dial" || errors.Is(err, goredis.ErrPoolTimeout)
	return true, !unsent
}

// temporaryAnswers are how Redis' answers begin while it starts, fails over or moves slots. readOnlyAnswer is part of the answer to a
// script then. With any of them, the command was not carried out.
var temporaryAnswers = []string{"LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "max number of clients reached"}

const readOnlyAnswer = "READONLY You can't write"

// explainTimeout returns the error of ctx if err is only its consequence: a connection has the deadline of its context and reports no
// more than that it has passed. limited is ctx with the timeout of an operation.
func (c *connection) explainTimeout(ctx, limited context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	end, ok := limited.Deadline()
	if !ok || time.Now().Before(end) {
		return err
	}
	if own, ok := ctx.Deadline(); ok && !end.Before(own) {
		return context.DeadlineExceeded
	}
	return fmt.Errorf("no answer within %s: %w", c.timeout, err)
}

// wait waits about that long, or returns false if ctx ends before.
func wait(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause/2 + rand.N(pause)) //nolint:gosec // G404: it spreads retries, and is no secret
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// run runs a script once.
func (c *connection) run(ctx context.Context, s script, keys []string, args ...any) (any, error) {
	line := make([]any, 0, 3+2+4)
	line = append(line, "evalsha", s.hash, strconv.Itoa(len(keys)))
	for _, key := range keys {
		line = append(line, key)
	}
	line = append(line, args...)
	cmd := goredis.NewCmd(ctx, line...)
	err := c.client.Process(ctx, once{cmd})
	if err != nil && goredis.HasErrorPrefix(err, "NOSCRIPT") {
		line[0], line[1] = "eval", s.source
		cmd = goredis.NewCmd(ctx, line...)
		err = c.client.Process(ctx, once{cmd})
	}
	return cmd.Val(), err
}

// once is a command that the client must not retry by itself: when it is not known whether a write was carried out, the caller has to
// find out.
type once struct{ *goredis.Cmd }

// NoRetry implements goredis.Cmder.
func (once) NoRetry() bool { return true }
