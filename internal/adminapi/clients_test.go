package adminapi

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"
)

// The commands can read the JSON that the API writes: the settings are separated from the members that the API adds.
func TestClientJSON(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second)
	sent := Client{
		ID: "app", Source: "store", Status: "broken", Problem: "no such scope", Public: true,
		Secrets: []Secret{{Created: now, Expires: now}}, Created: now, Changed: now, Secret: "s",
		Settings: json.RawMessage(`{"grant_types":["authorization_code"],"name":"App"}`),
	}
	encoded, err := json.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal(encoded, &object); err != nil || object["client_id"] != "app" || object["name"] != "App" {
		t.Errorf("%v in %s", err, encoded)
	}
	var got Client
	if err := json.Unmarshal(encoded, &got); err != nil || !reflect.DeepEqual(got, sent) {
		t.Errorf("%v: got %+v, want %+v", err, got, sent)
	}
}
