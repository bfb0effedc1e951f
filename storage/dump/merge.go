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
	if old == nil {
		return false
	}
	switch record.Key.Kind {
	case storage.KindFamily:
		was, err := storage.DecodeFamily(old)
		if err != nil {
			return false
		}
		is, err := storage.DecodeFamily(record.Value)
		if err != nil {
			return true
		}
		if was.Revoked.IsZero() != is.Revoked.IsZero() {
			return is.Revoked.IsZero()
		}
		return !final && familyMoment(was).After(familyMoment(is))
	case storage.KindClient:
		was, err := storage.DecodeRegistered(old)
		if err != nil {
			return false
		}
		is, err := storage.DecodeRegistered(record.Value)
		return err != nil || !final && was.Changed.After(is.Changed)
	}
	return false
}

// familyMoment returns when something last happened to a family.
func familyMoment(f *storage.Family) time.Time {
	last := f.Started
	if f.Code != nil && f.Code.Redeemed.After(last) {
		last = f.Code.Redeemed
	}
	if f.Refresh != nil && f.Refresh.Rotated.After(last) {
		last = f.Refresh.Rotated
	}
	if f.Revoked.After(last) {
		last = f.Revoked
	}
	return last
}
