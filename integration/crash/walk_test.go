package crash_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"

	"github.com/caddy-oauth/caddy-oauth/integration"
	"github.com/caddy-oauth/caddy-oauth/storage"
	caddystore "github.com/caddy-oauth/caddy-oauth/storage/caddy"
	"github.com/caddy-oauth/caddy-oauth/storage/redis"
)

// kinds are all kinds of records.
var kinds = []storage.Kind{
	storage.KindFamily, storage.KindAccess, storage.KindConsent, storage.KindClient, storage.KindCutoff, storage.KindKeys, storage.KindChange,
	storage.KindJournal, storage.KindDocument, storage.KindDynamic, storage.KindOnce, storage.KindSession, storage.KindLogout,
}

// walk reads all records of a store. Every record must be whole.
func walk(t *testing.T, store storage.Store) (records int) {
	t.Helper()
	people := peopleByRecord()
	for _, kind := range kinds {
		for id, err := range store.List(t.Context(), kind) {
			must(t, err)
			record := storage.Record{Key: storage.Key{Kind: kind, ID: id}}
			if record.Value, err = store.Get(t.Context(), record.Key); errors.Is(err, storage.ErrNotFound) {
				continue // it has expired since
			}
			if err == nil {
				err = decode(people, record)
			}
			if err != nil {
				t.Errorf("the record %v: %v", record.Key, err)
			}
			records++
		}
	}
	return records
}

// decode decodes a record of any kind.
func decode(people map[string]string, record storage.Record) (err error) {
	switch record.Key.Kind {
	case storage.KindFamily:
		_, err = storage.DecodeFamily(record.Value)
	case storage.KindConsent:
		_, err = storage.DecodeConsents(people[record.Key.ID], record.Value)
	case storage.KindCutoff:
		_, err = storage.DecodeCutoff(record.Value)
	case storage.KindAccess:
		_, err = storage.DecodeAccess(record.Value)
	case storage.KindClient:
		_, err = storage.DecodeAddedClient(record.Value)
	case storage.KindDocument:
		_, err = storage.DecodeDocument(record.Value)
	case storage.KindJournal:
		_, err = storage.DecodeJournal(record.Value)
	case storage.KindDynamic:
		var client struct{ Metadata map[string]any }
		err = json.Unmarshal(record.Value, &client)
	case storage.KindSession:
		_, err = storage.DecodeSessions("", record.Value)
	case storage.KindLogout:
		_, err = storage.DecodeLogout(record.Value)
	case storage.KindKeys:
		var keys struct{ Keys []json.RawMessage }
		err = json.Unmarshal(record.Value, &keys)
	}
	return err
}

func peopleByRecord() map[string]string {
	people := make(map[string]string)
	for i := range customers {
		people[storage.ConsentKey(customer(i)).ID] = customer(i)
	}
	return people
}

// filesIn returns the store of the shop in a directory.
func filesIn(dir string) storage.Store {
	return caddystore.New(&certmagic.FileStorage{Path: dir}, issuer)
}

// redisAt returns the store of the shop in a Redis.
func redisAt(t *testing.T, address string) storage.Store {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	module := &redis.Redis{Addresses: []string{address}, Timeout: caddy.Duration(integration.Patience)}
	must(t, module.Provision(ctx))
	t.Cleanup(func() { must(t, module.Cleanup()) })
	store, err := module.Open(issuer)
	must(t, err)
	return store
}
