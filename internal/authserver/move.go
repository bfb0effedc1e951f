package authserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/storage"
	"github.com/caddy-oauth/caddy-oauth/storage/dump"
)

// These are for the owner of the site, who moves the records to another store or encrypts them.

// freezePatience is how long writes that are under way may take.
const freezePatience = 30 * time.Second

// Freeze holds up all that would write to the store, on this node, for that long or until Thaw. It returns when
// nothing is being written any more, with the time until which that is so. When the time has run out over is asked,
// and if it says no, because another server has taken the place of this one, it stays so.
func (s *Server) Freeze(ctx context.Context, long time.Duration, over func() bool) (until time.Time, err error) {
	s.attempt(ctx, "writing when apps were used", func(ctx context.Context) error { return s.uses.write(ctx, "") })
	ctx, cancel := context.WithTimeout(ctx, freezePatience)
	defer cancel()
	until, err = s.freezer.freeze(ctx, long, func() bool {
		issuer := zap.String("issuer", s.config.Name)
		if !over() {
			s.log.Info(stayingFrozen, issuer)
			return false
		}
		s.log.Warn("writes are no longer held up: what was exported meanwhile is getting old", issuer)
		return true
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("waiting for writes that are under way: %w", err)
	}
	s.log.Warn("writes are held up", zap.String("issuer", s.config.Name), zap.Time("until", until))
	return until, nil
}

const stayingFrozen = "writes stay held up here: another server has taken over"

// stayFrozen is for the end of a server: if writes are held up, they stay so, since the store may have been moved.
func (s *Server) stayFrozen() {
	if s.freezer.stay() {
		s.log.Info(stayingFrozen, zap.String("issuer", s.config.Name))
	}
}

// FrozenUntil returns until when writes are held up, zero if they are not.
func (s *Server) FrozenUntil() time.Time { return s.freezer.frozenUntil() }

// Thaw ends Freeze, and reports whether there was anything to end.
func (s *Server) Thaw() bool {
	thawed := s.freezer.thaw()
	if thawed {
		s.log.Info("writes are no longer held up", zap.String("issuer", s.config.Name))
	}
	return thawed
}

// Export writes a dump of all records of the issuer, in plain. Unless writes are held up on all nodes, a record that
// changes meanwhile may be in it as it was before or after; frozen is until when they are held up, if they are. What goes
// wrong with the records stands in the dump, too.
func (s *Server) Export(ctx context.Context, w io.Writer, frozen time.Time) error {
	header := dump.Header{Issuer: s.config.Name, Time: s.now(), Frozen: frozen}
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

// exported yields what is to be moved: not what is only news to other nodes.
func (s *Server) exported(ctx context.Context) iter.Seq2[storage.Record, error] {
	return func(yield func(storage.Record, error) bool) {
		exporter, ok := storage.Power[storage.Exporter](s.records)
		if !ok {
			yield(storage.Record{}, fmt.Errorf("the store cannot tell all it holds: %w", errors.ErrUnsupported))
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

// Resealed is what came of Reseal.
type Resealed struct {
	Records    int `json:"records"`
	Changed    int `json:"changed"`
	Unreadable int `json:"unreadable"` // damaged, or encrypted with a key that is not configured
}

// Reseal brings all records to how they would be written now, see [storage.Resealer].
func (s *Server) Reseal(ctx context.Context) (done Resealed, err error) {
	resealer, ok := storage.Power[storage.Resealer](s.records)
	if !ok {
		return done, fmt.Errorf("the store does not encrypt: %w", errors.ErrUnsupported)
	}
	if !s.freezer.enter() {
		return done, ErrFrozen
	}
	entered := true
	defer func() {
		if entered {
			s.freezer.leave()
		}
	}()
	for changed, err := range resealer.Reseal(ctx) {
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
		s.freezer.leave() // let a freeze in
		if entered = s.freezer.enter(); !entered {
			return done, ErrFrozen
		}
	}
	s.log.Info("records encrypted anew", zap.String("issuer", s.config.Name), zap.Int("records", done.Records),
		zap.Int("changed", done.Changed), zap.Int("unreadable", done.Unreadable))
	return done, nil
}
