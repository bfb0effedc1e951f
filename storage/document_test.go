package storage_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

func TestDocumentRecord(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 1, time.UTC)
	d := &storage.Document{
		ID: "https://app.example.com/client.json", Body: json.RawMessage(`{"a":1}`), ETag: `"1"`, LastModified: "x",
		Fetched: now, Fresh: now.Add(1), Created: now.Add(2), Used: now.Add(3), Live: now.Add(4), Endless: true,
	}
	record, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := storage.DecodeDocument(record)
	if err != nil || got.ID != d.ID || string(got.Body) != string(d.Body) || got.ETag != d.ETag || got.LastModified != d.LastModified ||
		!got.Fetched.Equal(d.Fetched) || !got.Fresh.Equal(d.Fresh) || !got.Created.Equal(d.Created) || !got.Used.Equal(d.Used) ||
		!got.Live.Equal(d.Live) || !got.Endless {
		t.Errorf("%+v, %v", got, err)
	}
	if err := storage.DocumentKey(d.ID).Check(); err != nil {
		t.Error(err)
	}
	for _, damaged := range []string{"", "{", "{}", `{"client_id":"a"}`, `{"document":{}}`, `{"client_id":"a","document":{}}x`} {
		if _, err := storage.DecodeDocument([]byte(damaged)); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("%q: %v", damaged, err)
		}
	}
}
