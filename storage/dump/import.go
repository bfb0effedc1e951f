package dump

import (
	"context"
	"errors"
	"hash/maphash"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Report is what came of an import.
type Report struct {
	Records int64 `json:"records"`
	Written int64 `json:"written"`
	Same    int64 `json:"same"`    // the store had them already
	Kept    int64 `json:"kept"`    // the store has what is newer, or was revoked
	Expired int64 `json:"expired"` // and passed over
	Removed int64 `json:"removed"` // from the store, as a final dump does not have them
}

// importers is how many records are written at a time.
const importers = 16

// Import writes records into a store. With final, the store holds these afterwards and no others, but for revocations,
// which stay: they end by themselves. It takes about 20 bytes of memory for each record then.
//
// It may be stopped and begun again: what the store has already is only looked at.
func Import(
	ctx context.Context, store storage.Store, records iter.Seq2[storage.Record, error], final bool,
) (Report, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	i := &importer{store: store, final: final, seed: maphash.MakeSeed()}
	i.exporter, _ = store.(storage.Exporter)
	// Records of one key stay in their order.
	var lanes [importers]chan storage.Record
	var running sync.WaitGroup
	for n := range lanes {
		lanes[n] = make(chan storage.Record)
		running.Go(func() {
			for record := range lanes[n] {
				if err := i.take(ctx, record); err != nil {
					cancel(err)
				}
			}
		})
	}
	err := i.distribute(ctx, records, &lanes)
	for _, lane := range lanes {
		close(lane)
	}
	running.Wait()
	if failed := context.Cause(ctx); failed != nil {
		err = failed
	}
	if err == nil && final {
		err = i.removeOthers(ctx)
	}
	return i.report(), err
}

type importer struct {
	store    storage.Store
	exporter storage.Exporter // nil if the store is none
	final    bool

	records                               int64
	written, same, kept, expired, removed atomic.Int64

	seed  maphash.Seed
	seen  map[uint64]struct{} // of a final dump
	kinds []storage.Kind
}

// distribute gives each record to the lane of its key.
func (i *importer) distribute(
	ctx context.Context, records iter.Seq2[storage.Record, error], lanes *[importers]chan storage.Record,
) error {
	i.seen = make(map[uint64]struct{})
	for record, err := range records {
		if err != nil {
			return err
		}
		i.records++
		h := i.hash(record.Key)
		if i.final {
			i.seen[h] = struct{}{}
			if !slices.Contains(i.kinds, record.Key.Kind) {
				i.kinds = append(i.kinds, record.Key.Kind)
			}
		}
		select {
		case lanes[h%importers] <- record:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (i *importer) hash(key storage.Key) uint64 {
	return maphash.String(i.seed, string(key.Kind)+"/"+key.ID)
}

// take writes a record, if need be.
func (i *importer) take(ctx context.Context, record storage.Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if storage.Expired(record.Expires, time.Now()) {
		i.expired.Add(1)
		return nil
	}
	if i.exporter != nil {
		found, err := i.exporter.Look(ctx, record.Key)
		switch {
		case errors.Is(err, storage.ErrNotFound), errors.Is(err, errors.ErrUnsupported):
		case errors.Is(err, storage.ErrDamaged):
			i.written.Add(1)
			return i.store.Put(ctx, record.Key, record.Value, record.Expires)
		case err != nil:
			return err
		case Same(found, record):
			i.same.Add(1)
			return nil
		}
	}
	kept := false
	err := i.store.Update(ctx, record.Key, func(old []byte) ([]byte, time.Time, error) {
		if err := readable(storage.Record{Key: record.Key, Value: old}); err != nil {
			return nil, time.Time{}, err
		}
		if kept = Keeps(old, record, i.final); kept {
			return nil, time.Time{}, storage.ErrKeep
		}
		return record.Value, record.Expires, nil
	})
	if err != nil {
		return err
	}
	if kept {
		i.kept.Add(1)
	} else {
		i.written.Add(1)
	}
	return nil
}

// known are the kinds that there may be.
var known = []storage.Kind{
	storage.KindFamily, storage.KindConsent, storage.KindKeys, storage.KindClient, storage.KindCutoff, storage.KindAccess,
}

// removeOthers removes what was in the store before, such as a consent that was taken back since an earlier import.
func (i *importer) removeOthers(ctx context.Context) error {
	kinds := slices.Concat(i.kinds, known)
	slices.Sort(kinds)
	for _, kind := range slices.Compact(kinds) {
		if kind == storage.KindCutoff {
			continue
		}
		for id, err := range i.store.List(ctx, kind) {
			if err != nil {
				return err
			}
			key := storage.Key{Kind: kind, ID: id}
			if _, seen := i.seen[i.hash(key)]; seen {
				continue
			}
			if err := i.store.Delete(ctx, key); err != nil {
				return err
			}
			i.removed.Add(1)
		}
	}
	return nil
}

func (i *importer) report() Report {
	return Report{
		Records: i.records, Written: i.written.Load(), Same: i.same.Load(), Kept: i.kept.Load(),
		Expired: i.expired.Load(), Removed: i.removed.Load(),
	}
}
