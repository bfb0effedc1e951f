package authserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/dump"
)

// Export writes a dump of all records of the issuer, unencrypted. If the issuer is read-only, on all nodes, and after
// [Server.EndOlderWrites], the dump is final. Otherwise a record that changes meanwhile is in it as it was before or
// after. If the export fails, the last line of the dump says so.
func (s *Server) Export(ctx context.Context, w io.Writer) error {
	header := dump.Header{Issuer: s.config.Name, Time: s.now(), ReadOnly: s.config.ReadOnly}
	n, err := dump.Write(w, header, s.exported(ctx))
	fields := []zap.Field{
		zap.String("issuer", s.config.Name), zap.Int("records", n.Records), zap.Int("damaged", n.Damaged),
	}
	if err != nil {
		s.log.Error("export failed", append(fields, zap.Error(err))...)
		return err
	}
	s.log.Warn("all records were exported, private keys among them", fields...)
	return nil
}

// exported yields all records but the change marker, which is of no use in another store.
func (s *Server) exported(ctx context.Context) iter.Seq2[storage.Record, error] {
	return func(yield func(storage.Record, error) bool) {
		exporter, ok := storage.As[storage.Exporter](s.store)
		if !ok {
			yield(storage.Record{}, fmt.Errorf("the store cannot list all its records: %w", errors.ErrUnsupported))
			return
		}
		for record, err := range exporter.Export(ctx) {
			if record.Key.Kind == newsRecord.Kind {
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
func (s *Server) Reencrypt(ctx context.Context) (done Reencrypted, err error) {
	store, ok := storage.As[storage.Reencrypter](s.store)
	if !ok {
		return done, ErrNoEncryption
	}
	if s.store.ReadOnly() {
		return done, storage.ErrReadOnly
	}
	for changed, err := range store.Reencrypt(ctx) {
		switch {
		case errors.Is(err, storage.ErrDamaged), errors.Is(err, storage.ErrUnknownKey):
			s.log.Error("a record cannot be read, and stays as it is", zap.String("issuer", s.config.Name), zap.Error(err))
			done.Unreadable++
		case err != nil:
			return done, err
		case changed:
			done.Changed++
		}
		done.Records++
		if s.store.ReadOnly() {
			return done, storage.ErrReadOnly
		}
	}
	s.log.Info("records encrypted anew", zap.String("issuer", s.config.Name), zap.Int("records", done.Records),
		zap.Int("changed", done.Changed), zap.Int("unreadable", done.Unreadable))
	return done, nil
}
