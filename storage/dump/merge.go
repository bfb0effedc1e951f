package dump

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// check finds values that are none of their kind, as far as that is known.
func check(record storage.Record) (err error) {
	switch record.Key.Kind {
	case storage.KindFamily:
		_, err = storage.DecodeFamily(record.Value)
	case storage.KindConsent:
		_, err = storage.DecodeConsents("", record.Value)
	case storage.KindClient:
		_, err = storage.DecodeRegistered(record.Value)
	case storage.KindCutoff:
		_, err = storage.DecodeCutoff(record.Value)
	case storage.KindAccess:
		_, err = storage.DecodeAccess(record.Value)
	case storage.KindKeys:
		if !json.Valid(record.Value) {
			err = errors.New("not JSON")
		}
	case "sweep", "news", "locks":
		return errors.New("a record of a kind that is never exported: " + string(record.Key.Kind))
	}
	if err != nil {
		return errors.New("the value is no " + string(record.Key.Kind) + " record")
	}
	return nil
}

// Keeps reports whether a store should keep the value it has, nil if it has none, against that of a dump: a family that was
// revoked stays so, and unless the dump is final, what is newer in the store stays. A final dump is one of which it is
// known that nothing has changed since.
func Keeps(old []byte, record storage.Record, final bool) bool {
	if old == nil || check(storage.Record{Key: record.Key, Value: old}) != nil {
		return false
	}
	if record.Key.Kind == storage.KindFamily {
		if was, is := revoked(old), revoked(record.Value); was != is {
			return was
		}
	}
	return !final && moment(record.Key.Kind, old).After(moment(record.Key.Kind, record.Value))
}

func revoked(family []byte) bool {
	f, err := storage.DecodeFamily(family)
	return err == nil && !f.Revoked.IsZero()
}

// moment returns when something last happened to what a record is about, zero if it does not say.
func moment(kind storage.Kind, value []byte) (last time.Time) {
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
	case storage.KindClient:
		if r, err := storage.DecodeRegistered(value); err == nil {
			times = append(times, r.Changed)
		}
	case storage.KindKeys:
		// The server's, which knows more of them.
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
	times := []time.Time{f.Started, f.Revoked}
	if f.Code != nil {
		times = append(times, f.Code.Redeemed)
	}
	if f.Refresh != nil {
		times = append(times, f.Refresh.Rotated)
	}
	return times
}
