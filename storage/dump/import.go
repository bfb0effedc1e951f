package dump

import (
	"context"
	"encoding/json"
	"errors"
	"hash/maphash"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// Report is the result of an import.
type Report struct {
	Records int64 `json:"records"`
	Written int64 `json:"written"`
	Same    int64 `json:"same"`    // already in the store
	Kept    int64 `json:"kept"`    // newer or revoked in the store
	Expired int64 `json:"expired"` // skipped
	Removed int64 `json:"removed"` // deleted from the store, because a final dump does not have them
}

// importers is how many records are written concurrently.
const importers = 16

// Import writes records into a store. With final, it then deletes all other records, except revocations, which expire by
// themselves; that takes about 20 bytes of memory for each record.
//
// The caller may stop it and start again: records that the store already has are only read.
func Import(
	ctx context.Context, store storage.Store, records iter.Seq2[storage.Record, error], final bool,
) (Report, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	i := &importer{store: store, final: final, seed: maphash.MakeSeed()}
	i.exporter, _ = store.(storage.Exporter)
	// A lane keeps records with the same key in their order.
	var lanes [importers]chan storage.Record
	var running sync.WaitGroup
	for n := range lanes {
		lanes[n] = make(chan storage.Record)
		running.Go(func() {
			for record := range lanes[n] {
				if err := i.write(ctx, record); err != nil {
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
	if err == nil {
		err = i.mergeJournal(ctx)
	}
	if err == nil && final {
		err = i.removeOthers(ctx)
	}
	return i.report(), err
}

type importer struct {
	store    storage.Store
	exporter storage.Exporter // nil if the store is no Exporter
	final    bool

	records                               int64
	written, same, kept, expired, removed atomic.Int64

	journal []byte      // of the dump
	revokes atomic.Bool // a cutoff was written

	seed  maphash.Seed
	seen  map[uint64]struct{} // the hashes of the keys of a final dump
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
		if record.Key == storage.JournalKey {
			i.journal = record.Value
			continue
		}
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

// write writes a record, unless the store has it already or has a newer one.
func (i *importer) write(ctx context.Context, record storage.Record) error {
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
			i.revokes.CompareAndSwap(false, record.Key.Kind == storage.KindCutoff)
			return i.store.Put(ctx, record.Key, record.Value, record.Expires)
		case err != nil:
			return err
		case same(found, record):
			i.same.Add(1)
			return nil
		}
	}
	kept := false
	err := i.store.Update(ctx, record.Key, func(old []byte) ([]byte, time.Time, error) {
		if err := checkReadable(storage.Record{Key: record.Key, Value: old}); err != nil {
			return nil, time.Time{}, err
		}
		if kept = keeps(old, record, i.final); kept {
			return nil, time.Time{}, storage.ErrKeep
		}
		return record.Value, record.Expires, nil
	})
	if err != nil {
		return err
	}
	if kept {
		i.kept.Add(1)
		return nil
	}
	i.written.Add(1)
	i.revokes.CompareAndSwap(false, record.Key.Kind == storage.KindCutoff)
	return nil
}

// allKinds are the kinds of records whose rest a final import deletes, although the dump may have none of the kind.
var allKinds = []storage.Kind{
	storage.KindFamily, storage.KindConsent, storage.KindKeys, storage.KindClient, storage.KindDocument, storage.KindCutoff, storage.KindAccess,
	storage.KindDynamic, storage.KindDevice, storage.KindUserCode, storage.KindPushed,
	storage.KindSession, storage.KindLogout,
}

// removeOthers deletes the records that a final dump does not have, such as a consent that was withdrawn after an earlier import.
func (i *importer) removeOthers(ctx context.Context) error {
	kinds := slices.Concat(i.kinds, allKinds)
	slices.Sort(kinds)
	for _, kind := range slices.Compact(kinds) {
		switch kind {
		case storage.KindCutoff, storage.KindJournal, storage.KindOnce, storage.KindInitial: // nothing that was revoked or used may be good again
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

// mergeJournal gives the journal of the store what that of the dump has, once all cutoffs are written: then nodes that use the store
// find them.
func (i *importer) mergeJournal(ctx context.Context) error {
	if i.journal == nil && !i.revokes.Load() {
		return nil
	}
	imported, err := storage.DecodeJournal(i.journal)
	if err != nil {
		return err
	}
	same := false
	merge := func(old []byte) ([]byte, time.Time, error) {
		journal, err := storage.DecodeJournal(old)
		switch {
		case errors.Is(err, storage.ErrUnknownKey):
			return nil, time.Time{}, err
		case err != nil:
			journal = new(storage.Journal) // it is damaged
		}
		if same = journal.ID != "" && journal.Max(imported.Lifetimes) == journal.Lifetimes && !i.revokes.Load(); same {
			return nil, time.Time{}, storage.ErrKeep
		}
		journal.Merge(imported)
		record, err := journal.Encode()
		return record, time.Time{}, err
	}
	err = i.store.Update(ctx, storage.JournalKey, merge)
	if errors.Is(err, storage.ErrDamaged) {
		var record []byte
		if record, _, err = merge(nil); err == nil {
			err = i.store.Put(ctx, storage.JournalKey, record, time.Time{})
		}
	}
	switch {
	case err != nil || i.journal == nil:
	case same:
		i.same.Add(1)
	default:
		i.written.Add(1)
	}
	return err
}

func (i *importer) report() Report {
	return Report{
		Records: i.records, Written: i.written.Load(), Same: i.same.Load(), Kept: i.kept.Load(),
		Expired: i.expired.Load(), Removed: i.removed.Load(),
	}
}

// same reports whether two records with the same key are the same. A store may know only how long a record will live, so that its
// expiry varies a little.
func same(a, b storage.Record) bool {
	difference := a.Expires.Sub(b.Expires).Abs()
	return string(a.Value) == string(b.Value) && a.Expires.IsZero() == b.Expires.IsZero() && difference < time.Second
}

// checkValue returns an error if a value is not a record of its kind. It accepts any value of an unknown kind.
func checkValue(record storage.Record) (err error) {
	switch record.Key.Kind {
	case storage.KindFamily:
		_, err = storage.DecodeFamily(record.Value)
	case storage.KindConsent:
		_, err = storage.DecodeConsents("", record.Value)
	case storage.KindClient:
		_, err = storage.DecodeAddedClient(record.Value)
	case storage.KindDocument:
		_, err = storage.DecodeDocument(record.Value)
	case storage.KindCutoff:
		_, err = storage.DecodeCutoff(record.Value)
	case storage.KindJournal:
		_, err = storage.DecodeJournal(record.Value)
	case storage.KindAccess:
		_, err = storage.DecodeAccess(record.Value)
	case storage.KindDevice:
		_, err = storage.DecodeDevice(record.Value)
	case storage.KindPushed:
		_, err = storage.DecodePushed(record.Value)
	case storage.KindUserCode:
		_, err = storage.DecodeUserCode(record.Value)
	case storage.KindSession:
		_, err = storage.DecodeSessions("", record.Value)
	case storage.KindLogout:
		_, err = storage.DecodeLogout(record.Value)
	case storage.KindInitial:
		_, err = storage.DecodeInitialUses(record.Value)
	case storage.KindKeys, storage.KindDynamic:
		if !json.Valid(record.Value) {
			err = errors.New("not JSON")
		}
	case storage.KindChange, "sweep", "locks":
		return errors.New("a record of a kind that is never exported: " + string(record.Key.Kind))
	}
	if err != nil {
		return errors.New("the value is not a " + string(record.Key.Kind) + " record")
	}
	return nil
}

// keeps reports whether a store should keep its value old, which may be nil, instead of that of a dump. A revoked family stays
// revoked. Unless the dump is final, which means that nothing has changed since, a newer record stays too.
func keeps(old []byte, record storage.Record, final bool) bool {
	if old == nil || checkValue(storage.Record{Key: record.Key, Value: old}) != nil {
		return false
	}
	if record.Key.Kind == storage.KindFamily {
		if was, is := isRevoked(old), isRevoked(record.Value); was != is {
			return was
		}
	}
	if record.Key.Kind == storage.KindInitial { // uses are only added
		return uses(old) >= uses(record.Value)
	}
	return !final && lastChange(record.Key.Kind, old).After(lastChange(record.Key.Kind, record.Value))
}

// uses returns how often an initial access token was used.
func uses(record []byte) int {
	u, err := storage.DecodeInitialUses(record)
	if err != nil {
		return 0
	}
	return len(u.Clients)
}

func isRevoked(family []byte) bool {
	f, err := storage.DecodeFamily(family)
	return err == nil && !f.Revoked.IsZero()
}

// lastChange returns when a record last changed, as far as its value says, and zero if it does not.
func lastChange(kind storage.Kind, value []byte) (last time.Time) {
	var times []time.Time
	switch kind {
	case storage.KindFamily:
		if f, err := storage.DecodeFamily(value); err == nil {
			times = familyTimes(f)
		}
	case storage.KindConsent:
		if consents, err := storage.DecodeConsents("", value); err == nil {
			for _, c := range consents.Clients {
				times = append(times, c.Since, c.Last, c.Used)
			}
		}
	case storage.KindSession:
		if s, err := storage.DecodeSessions("", value); err == nil {
			for _, in := range s.SignIns {
				times = append(times, in.Last)
			}
		}
	case storage.KindClient:
		if r, err := storage.DecodeAddedClient(value); err == nil {
			times = append(times, r.Changed)
		}
	case storage.KindDocument:
		if d, err := storage.DecodeDocument(value); err == nil {
			times = append(times, d.Fetched, d.Used)
		}
	case storage.KindDevice:
		if d, err := storage.DecodeDevice(value); err == nil {
			times = append(times, d.Started, d.Denied, d.Redeemed)
			if d.Approval != nil {
				times = append(times, d.Approval.Started)
			}
		}
	case storage.KindDynamic:
		// Only the members that matter here; the package registration has the others.
		var r struct{ Created, Changed, Used, Deleted time.Time }
		if json.Unmarshal(value, &r) == nil {
			times = append(times, r.Created, r.Changed, r.Used, r.Deleted)
		}
	case storage.KindKeys:
		// Only the members that matter here; the package keyring has the others.
		var keys struct {
			Keys []struct {
				Created time.Time `json:"created"`
			} `json:"keys"`
		}
		if json.Unmarshal(value, &keys) == nil {
			for _, key := range keys.Keys {
				times = append(times, key.Created)
			}
		}
	}
	for _, t := range times {
		if t.After(last) {
			last = t
		}
	}
	return last
}

func familyTimes(f *storage.Family) []time.Time {
	times := []time.Time{f.Started, f.Revoked, f.Checked}
	if f.Code != nil {
		times = append(times, f.Code.Redeemed)
	}
	if f.Refresh != nil {
		times = append(times, f.Refresh.Rotated)
	}
	return times
}
