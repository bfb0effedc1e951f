package authserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/clients"
	"github.com/caddy-oauth/caddy-oauth/internal/jwt"
	"github.com/caddy-oauth/caddy-oauth/internal/keyring"
	"github.com/caddy-oauth/caddy-oauth/internal/metrics"
	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/dump"
)

// Owner is what only the owner of the site may do with an issuer, by the admin API.
type Owner struct{ s *Server }

// Owner returns what the owner of the site may do.
func (s *Server) Owner() Owner { return Owner{s} }

// Clients returns the directory of clients, which adds and changes clients at run time.
func (o Owner) Clients() *clients.Directory { return o.s.clients }

// Revoker returns what ends tokens.
func (o Owner) Revoker() *Revoker { return o.s.revoker }

// Keys returns the signing keys.
func (o Owner) Keys() *keyring.Ring { return o.s.keys }

// RotateKey makes a key that signs, see [keyring.Ring.RotateNow], and lets other nodes know.
func (o Owner) RotateKey(ctx context.Context, atOnce bool) (kid string, err error) {
	if kid, err = o.s.keys.RotateNow(ctx, atOnce); err != nil {
		return "", err
	}
	return kid, o.s.upkeep.marker.set(ctx)
}

// RetireKey removes a key, see [keyring.Ring.RetireNow], and lets other nodes know.
func (o Owner) RetireKey(ctx context.Context, kid string) error {
	if err := o.s.keys.RetireNow(ctx, kid); err != nil {
		return err
	}
	return o.s.upkeep.marker.set(ctx)
}

// UserConsents returns which clients have access to a user's account now.
func (o Owner) UserConsents(ctx context.Context, subject string) (*storage.Consents, error) {
	consents, err := o.s.consents.of(ctx, subject)
	if err != nil {
		return nil, err
	}
	now := o.s.now()
	consents.Prune(now)
	for id, consent := range consents.Clients {
		consents.Clients[id] = consent.ValidAt(now)
	}
	return consents, nil
}

// SignIns returns where a person has signed in, the one that was used last at the end.
func (o Owner) SignIns(ctx context.Context, subject string) ([]storage.SignIn, error) {
	sessions, err := o.s.sessions.of(ctx, subject)
	if err != nil {
		return nil, err
	}
	return sessions.Select(o.s.now(), func(*storage.SignIn) bool { return true }), nil
}

// EndSession ends a session at the site: all that clients got in it. It returns false if nobody has signed in to a client in it.
func (o Owner) EndSession(ctx context.Context, sid string) (found bool, err error) {
	return o.s.endSession(ctx, sid, "", "")
}

// What a token was that RevokeAny ended.
const (
	RevokedFamily = "family"
	RevokedToken  = "token"
	RevokedNone   = "nothing" // the text is no token that is good here
)

// RevokeAny ends what a token is part of: with a refresh token its family, with an access token that token.
func (o Owner) RevokeAny(ctx context.Context, token, reason string) (what string, err error) {
	all, _, err := o.s.clients.All(ctx)
	if err != nil {
		return "", err
	}
	prefixes := []string{o.s.config.DescribedRefreshPrefix}
	for _, client := range all {
		prefixes = append(prefixes, client.RefreshToken.Prefix)
	}
	slices.Sort(prefixes)
	for _, prefix := range slices.Compact(prefixes) {
		id, f, err := o.s.findFamily(ctx, &storage.Client{RefreshToken: storage.RefreshPolicy{Prefix: prefix}}, token)
		if err != nil {
			return "", err
		}
		switch {
		case f == nil:
		case !f.Revoked.IsZero():
			return RevokedNone, o.s.revoker.finishFamily(ctx, id, f)
		default:
			return RevokedFamily, o.s.revoker.RevokeFamily(ctx, id, reason, "")
		}
	}
	claims, err := o.s.AccessToken(ctx, token, jwt.MaxLeeway)
	var invalid jwt.InvalidToken
	switch {
	case errors.As(err, &invalid):
		return RevokedNone, nil
	case err != nil:
		return "", err
	}
	return RevokedToken, o.s.revoker.revokeToken(ctx, claims, reason, "")
}

// Stats are figures of this node, since the configuration was loaded.
type Stats struct {
	Since    time.Time              `json:"since"`
	Requests []metrics.RequestCount `json:"requests"`
	// Cutoffs is how many revocations are in force.
	Cutoffs int `json:"cutoffs"`
	// Added is how many clients were added at run time, Configured how many there are in the configuration.
	Added      int            `json:"added_clients"`
	Configured int            `json:"configured_clients"`
	Keys       []keyring.Info `json:"keys"`
	// NamingEndpoint are the clients whose assertions have the token endpoint as their audience, and not the issuer.
	NamingEndpoint []string `json:"clients_signing_for_token_endpoint,omitempty"`
}

// Stats returns figures of this node.
func (o Owner) Stats(ctx context.Context) (*Stats, error) {
	keys, err := o.s.keys.List(ctx)
	if err != nil {
		return nil, err
	}
	added, err := o.s.clients.Added(ctx)
	if err != nil {
		return nil, err
	}
	if err := o.s.cutoffs.Load(ctx); err != nil {
		return nil, err
	}
	return &Stats{
		Since: o.s.started, Requests: o.s.metrics.Requests(), Cutoffs: o.s.cutoffs.Count(),
		Added: len(added), Configured: len(o.s.config.Clients), Keys: keys,
		NamingEndpoint: o.s.assertions.Naming(),
	}, nil
}

// EndOlderWrites makes sure that no older configuration of the issuer in this process writes to the store any more.
func (o Owner) EndOlderWrites(ctx context.Context) error {
	older, err := o.s.config.Servers.endOlderWrites(ctx, o.s.running)
	if err == nil && older > 0 {
		o.s.log.Info("the previous configuration may no longer write", zap.String("issuer", o.s.config.Name))
	}
	return err
}

// Export writes a dump of all records of the issuer, unencrypted. If the issuer is read-only, on all nodes, and after
// [Owner.EndOlderWrites], the dump is final. Otherwise a record that changes meanwhile is in it as it was before or
// after. If the export fails, the last line of the dump says so.
func (o Owner) Export(ctx context.Context, w io.Writer) error {
	header := dump.Header{Issuer: o.s.config.Name, Time: o.s.now(), ReadOnly: o.s.config.ReadOnly}
	n, err := dump.Write(w, header, o.exported(ctx))
	fields := []zap.Field{
		zap.String("issuer", o.s.config.Name), zap.Int("records", n.Records), zap.Int("damaged", n.Damaged),
	}
	if err != nil {
		o.s.log.Error("export failed", append(fields, zap.Error(err))...)
		return err
	}
	o.s.log.Warn("all records were exported, private keys among them", fields...)
	return nil
}

// exported yields all records but the change marker, which is of no use in another store.
func (o Owner) exported(ctx context.Context) iter.Seq2[storage.Record, error] {
	return func(yield func(storage.Record, error) bool) {
		exporter, ok := storage.As[storage.Exporter](o.s.store)
		if !ok {
			yield(storage.Record{}, fmt.Errorf("the store cannot list all its records: %w", errors.ErrUnsupported))
			return
		}
		for record, err := range exporter.Export(ctx) {
			if record.Key.Kind == changeKey.Kind {
				continue
			}
			if !yield(record, err) {
				return
			}
		}
	}
}

// ErrNoEncryption refuses to encrypt records without a key.
var ErrNoEncryption = errors.New("no encryption_key is configured")

// Reencrypted is the result of Reencrypt.
type Reencrypted struct {
	Records    int `json:"records"`
	Changed    int `json:"changed"`
	Unreadable int `json:"unreadable"` // damaged, or encrypted with a key that is not configured
}

// Reencrypt encrypts all records as new ones would be, see [storage.Reencrypter].
func (o Owner) Reencrypt(ctx context.Context) (done Reencrypted, err error) {
	store, ok := storage.As[storage.Reencrypter](o.s.store)
	if !ok {
		return done, ErrNoEncryption
	}
	if o.s.store.ReadOnly() {
		return done, storage.ErrReadOnly
	}
	for changed, err := range store.Reencrypt(ctx) {
		switch {
		case errors.Is(err, storage.ErrDamaged), errors.Is(err, storage.ErrUnknownKey):
			o.s.log.Error("a record cannot be read, and stays as it is", zap.String("issuer", o.s.config.Name), zap.Error(err))
			done.Unreadable++
		case err != nil:
			return done, err
		case changed:
			done.Changed++
		}
		done.Records++
		if o.s.store.ReadOnly() {
			return done, storage.ErrReadOnly
		}
	}
	o.s.log.Info("records encrypted anew", zap.String("issuer", o.s.config.Name), zap.Int("records", done.Records),
		zap.Int("changed", done.Changed), zap.Int("unreadable", done.Unreadable))
	return done, nil
}
