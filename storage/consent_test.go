package storage

import (
	"bytes"
	"reflect"
	"testing"
	"time"
)

func TestConsentCovers(t *testing.T) {
	c := &Consents{Subject: "alice", Clients: map[string]Consent{}}
	c.Approve("app", []string{"profile", "orders"}, []string{"https://api.example.com"}, approval)
	c.Approve("plain", nil, nil, approval)
	for _, row := range []struct {
		name             string
		client           string
		scopes, audience []string
		want             bool
	}{
		{"all of it", "app", []string{"profile", "orders"}, []string{"https://api.example.com"}, true},
		{"in another order", "app", []string{"orders", "profile"}, nil, true},
		{"less", "app", []string{"orders"}, nil, true},
		{"nothing", "app", nil, nil, true},
		{"a further scope", "app", []string{"profile", "mail"}, nil, false},
		{"a further resource", "app", []string{"profile"}, []string{"https://other.example.com"}, false},
		{"a scope in other letters", "app", []string{"Profile"}, nil, false},
		{"the beginning of a scope", "app", []string{"pro"}, nil, false},
		{"the empty scope", "app", []string{""}, nil, false},
		{"two scopes in one", "app", []string{"profile orders"}, nil, false},
		{"another client", "other", nil, nil, false},
		{"a client that was approved without scopes", "plain", nil, nil, true},
		{"a scope for that", "plain", []string{"profile"}, nil, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := c.Covers(row.client, row.scopes, row.audience); got != row.want {
				t.Errorf("got %v, want %v", got, row.want)
			}
		})
	}
}

func TestConsentGrows(t *testing.T) {
	c, err := DecodeConsents("alice", nil)
	if err != nil {
		t.Fatal(err)
	}
	later := approval.Add(time.Hour)
	scopes := []string{"orders", "profile"}
	c.Approve("app", scopes, []string{"https://b.example.com"}, approval)
	c.Approve("app", []string{"mail", "orders"}, []string{"https://a.example.com"}, later)

	want := Consent{
		Scopes:   []string{"mail", "orders", "profile"},
		Audience: []string{"https://a.example.com", "https://b.example.com"},
		Since:    approval,
		Last:     later,
	}
	if got := c.Clients["app"]; !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if scopes[0] != "orders" || scopes[1] != "profile" {
		t.Errorf("the caller's scopes became %q", scopes)
	}
}

func TestConsentKeyTellsNothing(t *testing.T) {
	key := ConsentKey("alice@example.com")
	if want := (Key{KindConsent, HashID("alice@example.com")}); key != want {
		t.Errorf("got %v, want %v", key, want)
	}
	for _, subject := range []string{"", "../../etc", "a\x00b", "alice@example.org"} {
		if other := ConsentKey(subject); other.Check() != nil || other == key {
			t.Errorf("%q: key %v", subject, other)
		}
	}
}

// The form must not change by accident. Records of a later version can be read.
func TestConsentRecords(t *testing.T) {
	want := &Consents{Subject: "alice", Clients: map[string]Consent{"app": {
		Scopes: []string{"orders", "profile"}, Audience: []string{"https://example.com"},
		Since: approval, Last: approval.Add(time.Hour),
	}}}
	for name, record := range map[string][]byte{
		"of today": goldenHex(t, "consents.hex"), "of a later version": goldenHex(t, "consents-later-version.hex"),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := DecodeConsents("alice", record)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v, error %v\nwant %+v", got, err, want)
			}
		})
	}
	record, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if want := goldenHex(t, "consents.hex"); !bytes.Equal(record, want) {
		t.Errorf("written %x\nwant    %x", record, want)
	}
}

func TestConsentRecordsThatAreNone(t *testing.T) {
	for _, record := range []string{"", "{", "{}", "null", "\x02", "\x01\x0a", "\x01\x12\x02\x0a\x05"} {
		if got, err := DecodeConsents("alice", []byte(record)); err == nil || got != nil {
			t.Errorf("%q is read as %+v with error %v", record, got, err)
		}
	}
	for _, record := range [][]byte{nil, {fieldsFormat}} {
		got, err := DecodeConsents("alice", record)
		if err != nil || got.Subject != "alice" || got.Clients == nil || len(got.Clients) != 0 {
			t.Errorf("%q is read as %+v with error %v, want no approvals", record, got, err)
		}
	}
}

func TestConsentUse(t *testing.T) {
	later := approval.Add(UseInterval)
	approved := Consent{Scopes: []string{"orders"}, Since: approval, Last: approval}
	used := func(c Consent, at time.Time, unasked ...string) Consent {
		c.Used, c.Unasked = at, unasked
		return c
	}
	unasked := Consent{Since: approval}
	for _, row := range []struct {
		name   string
		before Consent
		scopes []string
		at     time.Time
		want   Consent
		change bool
	}{
		{"the first use of approved scopes", approved, []string{"orders"}, approval, used(approved, approval), true},
		{"again within the interval", used(approved, approval), []string{"orders"}, later.Add(-1), used(approved, approval), false},
		{"again after it", used(approved, approval), []string{"orders"}, later, used(approved, later), true},
		{"a further scope", used(approved, approval), []string{"orders", "mail"}, approval, used(approved, approval, "mail"), true},
		{"two further scopes in turn", used(approved, approval, "mail"), []string{"files"}, approval, used(approved, approval, "files", "mail"), true},
		{"a clock that is behind", used(approved, later), []string{"mail"}, approval, used(approved, later, "mail"), true},
		{"nobody was asked", Consent{}, []string{"orders"}, approval, used(unasked, approval, "orders"), true},
		{"nobody was asked, again", used(unasked, approval, "orders"), []string{"orders"}, later.Add(-1), used(unasked, approval, "orders"), false},
		{"nobody was asked, no scopes", Consent{}, nil, approval, used(unasked, approval), true},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := &Consents{Clients: map[string]Consent{"app": row.before}}
			if reflect.DeepEqual(row.before, Consent{}) {
				delete(c.Clients, "app")
			}
			changed := c.Use("app", row.scopes, row.at)
			got := c.Clients["app"]
			if len(got.Unasked) == 0 {
				got.Unasked = nil
			}
			if changed != row.change || !reflect.DeepEqual(got, row.want) {
				t.Errorf("changed %v\ngot  %+v\nwant %+v", changed, got, row.want)
			}
		})
	}
}

// A client that got tokens without approval still has to ask.
func TestUseIsNoApproval(t *testing.T) {
	c := &Consents{Clients: map[string]Consent{}}
	c.Use("app", []string{"orders"}, approval)
	if c.Covers("app", []string{"orders"}, nil) || c.Covers("app", nil, nil) {
		t.Error("a use counts as an approval")
	}
	c.Approve("app", []string{"mail"}, nil, approval.Add(time.Hour))
	if c.Covers("app", []string{"orders"}, nil) || !c.Covers("app", []string{"mail"}, nil) {
		t.Error("scopes that were used before count as approved")
	}
	if got := c.Clients["app"]; !got.Since.Equal(approval) || !reflect.DeepEqual(got.All(), []string{"mail", "orders"}) {
		t.Errorf("since %v, all %q", got.Since, got.All())
	}
}
