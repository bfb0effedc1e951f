// Package redis keeps records in Redis or Valkey. To have it in a build of Caddy, import it:
//
//	xcaddy build --with github.com/caddy-oauth/caddy-oauth --with github.com/caddy-oauth/caddy-oauth/storage/redis
//
// Start with [Redis], the Caddy module and its settings. store.go reads and updates single records, list.go finds many, watch.go
// subscribes to changes; record.go has the form of a record and the scripts, and connection.go the client and its retries.
package redis

import (
	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

func init() {
	caddy.RegisterModule(Redis{})
}

// Redis keeps records in Redis 6.2 or newer, or in Valkey: one server, one that Sentinels watch over, or a Cluster.
// It is the store for many Caddy instances and for many tokens: an operation is one round trip, or two to change a record that
// another instance was the last to change, and each refresh token and code is used once across all instances.
// Revocations reach all instances at once.
//
// After a crash, the store has what your Redis has. With `appendonly yes` and `appendfsync always` nothing is
// lost that a client was told; with `everysec`, Redis' default for it, the last second can be lost; without `appendonly`,
// everything since the last snapshot. A failover to a replica can lose what that replica had not received yet. Whoever
// refreshed in the time that is lost has to log in again, and tokens that were revoked in it are valid again.
//
// Redis must not evict records to free memory, or users are logged out and revoked tokens become valid again: leave
// `maxmemory-policy` at `noeviction`. It may hold other data, and several issuers: all keys and channels begin with
// the prefix. This creates a user for Caddy with the permissions it needs, and no more:
//
//	ACL SETUSER caddy on >PASSWORD resetkeys resetchannels ~oauth:* &oauth:* -@all +hello +client|setname +select +ping +get
//	+set +unlink +del +eval +evalsha +getrange +time +zadd +zrem +zrange +zremrangebyscore +publish +subscribe +scan
//
// On each node of a Cluster, add `+cluster|slots`. With `+info` Caddy can warn about a wrong `maxmemory-policy`.
//
// The store contains hashes of tokens and codes, never the tokens themselves.
type Redis struct {
	// Where Redis is: host and port, or a host alone for port 6379, or `unix/` and the path of a socket. With more than
	// one address, or with `cluster`, these are nodes of a Redis Cluster, of which the others are found; with
	// `sentinel` they are Sentinels, and their port is 26379.
	Addresses []string `json:"addresses,omitempty"`

	// The user and the password to log in with; without a user, the password is the one of Redis' `requirepass`. Use
	// a placeholder such as `{env.REDIS_PASSWORD}` to keep the password out of the config.
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`

	// The number of the database. Default: 0, the only one that a Cluster has.
	DB int `json:"db,omitempty"`

	// What the names of all keys and channels begin with. Issuers of one name with one prefix on one database are the
	// same issuer, wherever they run. Default: `oauth`.
	Prefix string `json:"prefix,omitempty"`

	// The address is of a Cluster. This is only needed with a single address.
	Cluster bool `json:"cluster,omitempty"`

	// The addresses are of Sentinels, which know where Redis is.
	Sentinel *Sentinel `json:"sentinel,omitempty"`

	// Connects with TLS, to Sentinels too.
	TLS *TLS `json:"tls,omitempty"`

	// How many connections there may be, to each node of a Cluster. Default: 10 for each processor.
	PoolSize int `json:"pool_size,omitempty"`

	// How long an operation may take before it fails, with connecting and trying again. Default: 2 seconds.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// How long connecting may take. Default: half of the timeout.
	DialTimeout caddy.Duration `json:"dial_timeout,omitempty"`

	// How many MiB of recently used families this process caches. A refresh of a cached family takes one round trip instead of
	// two. Changes by other processes are noticed. Default: 16.
	Cache int `json:"cache,omitempty"`

	log    *zap.Logger
	pooled string      // the key of the connection in the pool
	shared *connection // nil before Open
}

// Sentinel is about the Sentinels that watch over a Redis.
type Sentinel struct {
	// The name that the Sentinels know the Redis by.
	Master string `json:"master"`

	// The user and the password to log in to the Sentinels with, which are not those of the Redis.
	Username string `json:"username,omitempty"`
	Password string `json:"password,omitempty"`
}

// TLS is how to connect with TLS.
type TLS struct {
	// A PEM file with the certificates of the authorities that the certificate of Redis may be from. Default: those of
	// the system.
	CA string `json:"ca,omitempty"`

	// The name in the certificate of Redis. Default: the host of the address.
	ServerName string `json:"server_name,omitempty"`

	// PEM files with a certificate to show to Redis, and its private key.
	ClientCert string `json:"client_cert,omitempty"`
	ClientKey  string `json:"client_key,omitempty"`

	// DANGER: takes any certificate. Whoever is in between can read and change everything, and log in as anybody.
	InsecureSkipVerify bool `json:"insecure_skip_verify,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (Redis) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "oauth.stores.redis",
		New: func() caddy.Module { return new(Redis) },
	}
}

// Provision checks the settings. It connects to nothing.
func (r *Redis) Provision(ctx caddy.Context) error {
	r.log = ctx.Logger()
	if err := r.resolve(caddy.NewReplacer()); err != nil {
		return err
	}
	return r.check()
}

// Open returns the store of the named issuer. Stores with the same settings share their connections, across reloads
// too.
func (r *Redis) Open(issuer string) (storage.Store, error) {
	c, err := r.connect()
	if err != nil {
		return nil, err
	}
	return newStore(c, r.Prefix, issuer, r.log), nil
}

// Cleanup releases the connection, if this module has one.
func (r *Redis) Cleanup() error {
	if r.shared == nil {
		return nil
	}
	r.shared = nil
	_, err := connections.Delete(r.pooled)
	return err
}

var (
	_ caddy.Provisioner     = (*Redis)(nil)
	_ caddy.CleanerUpper    = (*Redis)(nil)
	_ caddyfile.Unmarshaler = (*Redis)(nil)
	_ storage.Opener        = (*Redis)(nil)
)
