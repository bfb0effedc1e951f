package storage

import (
	"bytes"
	"reflect"
	"testing"
	"time"
)

func TestConsentCovers(t *testing.T) {
	c := &Consents{Subject: "alice", Clients: map[string]Consent{}}
	c.Approve("app", []string{"profile", "orders"}, []string{"https://api.example.com"}, time.Time{}, approval)
	c.Approve("plain", nil, nil, time.Time{}, approval)
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
			if _, got := c.Approved(row.client, approval).Covers(row.scopes, row.audience); got != row.want {
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
	c.Approve("app", scopes, []string{"https://b.example.com"}, time.Time{}, approval)
	c.Approve("app", []string{"mail", "orders"}, []string{"https://a.example.com"}, time.Time{}, later)

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
			changed := c.Use("app", row.scopes, row.at, time.Time{})
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
	c.Use("app", []string{"orders"}, approval, time.Time{})
	covers := func(scopes ...string) bool {
		_, covered := c.Approved("app", approval).Covers(scopes, nil)
		return covered
	}
	if covers("orders") || covers() {
		t.Error("a use counts as an approval")
	}
	c.Approve("app", []string{"mail"}, nil, time.Time{}, approval.Add(time.Hour))
	if covers("orders") || !covers("mail") {
		t.Error("scopes that were used before count as approved")
	}
	if got := c.Clients["app"]; !got.Since.Equal(approval) || !reflect.DeepEqual(got.All(), []string{"mail", "orders"}) {
		t.Errorf("since %v, all %q", got.Since, got.All())
	}
}

// What a user approves for a limited time ends then, and the latest approval of a scope holds.
func TestConsentEnds(t *testing.T) {
	const day = 24 * time.Hour
	at := func(d time.Duration) time.Time { return approval.Add(d) }
	type step struct {
		at, until time.Duration // until 0: without end
		scopes    []string
	}
	steps := func(all ...step) []step { return all }
	for _, row := range []struct {
		name    string
		steps   []step
		asked   []string
		now     time.Duration
		covered bool
		until   time.Duration // 0: none
		left    []string      // on the page of apps
		ends    time.Duration // there; 0: never
	}{
		{"within its time", steps(step{0, 7 * day, []string{"a", "b"}}), []string{"a"}, day, true, 7 * day, []string{"a", "b"}, 7 * day},
		{"at its end", steps(step{0, 7 * day, []string{"a", "b"}}), []string{"a"}, 7 * day, false, 0, nil, 0},
		{"without end", steps(step{0, 0, []string{"a"}}), []string{"a"}, 999 * day, true, 0, []string{"a"}, 0},
		{
			"a further scope does not prolong another", steps(step{0, day, []string{"a"}}, step{0, 7 * day, []string{"b"}}),
			[]string{"a", "b"},
			day / 2, true, day,
			[]string{"a", "b"},
			7 * day,
		},
		{
			"the other one is over", steps(step{0, day, []string{"a"}}, step{0, 7 * day, []string{"b"}}),
			[]string{"a", "b"},
			2 * day, false, 0,
			[]string{"b"},
			7 * day,
		},
		{
			"a longer approval prolongs", steps(step{0, day, []string{"a"}}, step{0, 7 * day, []string{"a"}}),
			[]string{"a"},
			2 * day, true, 7 * day,
			[]string{"a"},
			7 * day,
		},
		{
			"a shorter approval shortens, but not the tokens of before", steps(step{0, 7 * day, []string{"a"}}, step{0, day, []string{"a"}}),
			[]string{"a"},
			2 * day, false, 0,
			[]string{"a"},
			7 * day,
		},
		{
			"nor those without end", steps(step{0, 0, []string{"a"}}, step{0, day, []string{"a"}}),
			[]string{"a"},
			2 * day, false, 0,
			[]string{"a"},
			0,
		},
		{
			"an approval without end holds", steps(step{0, day, []string{"a"}}, step{0, 0, []string{"a"}}),
			[]string{"a"},
			2 * day, true, 0,
			[]string{"a"},
			0,
		},
		{
			"what is over does not come back with another scope", steps(step{0, day, []string{"a"}}, step{2 * day, 9 * day, []string{"b"}}),
			[]string{"a"},
			3 * day, false, 0,
			[]string{"b"},
			9 * day,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := &Consents{Subject: "alice", Clients: map[string]Consent{}}
			for _, s := range row.steps {
				var until time.Time
				if s.until > 0 {
					until = at(s.until)
				}
				c.Approve("app", s.scopes, []string{"https://api.example.com"}, until, at(s.at))
			}
			record, err := c.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if c, err = DecodeConsents("alice", record); err != nil {
				t.Fatal(err)
			}
			until, covered := c.Approved("app", at(row.now)).Covers(row.asked, []string{"https://api.example.com"})
			var want, ends time.Time
			if row.until > 0 {
				want = at(row.until)
			}
			if row.ends > 0 {
				ends = at(row.ends)
			}
			if covered != row.covered || !until.Equal(want) {
				t.Errorf("covered %v until %v, want %v until %v", covered, until, row.covered, want)
			}
			if over := c.Clients["app"].Expired(at(row.now)); over != (row.left == nil) {
				t.Errorf("over: %v", over)
			}
			left := c.Clients["app"].ValidAt(at(row.now))
			if len(left.Scopes)+len(row.left) > 0 && !reflect.DeepEqual(left.Scopes, row.left) {
				t.Errorf("scopes %q, want %q", left.Scopes, row.left)
			}
			if row.left != nil && !left.Ends().Equal(ends) {
				t.Errorf("ends %v, want %v", left.Ends(), ends)
			}
			c.Prune(at(row.now))
			if len(c.Clients) == 0 != (row.left == nil) {
				t.Errorf("after Prune: %+v", c.Clients)
			}
		})
	}
}

// Tokens that the client got without asking go on after a later approval has ended.
func TestConsentEndsAfterUseWithoutApproval(t *testing.T) {
	const day = 24 * time.Hour
	c := &Consents{Clients: map[string]Consent{}}
	c.Use("app", []string{"a"}, approval, time.Time{})
	c.Approve("app", []string{"a", "b"}, nil, approval.Add(day), approval)
	got := c.Clients["app"].ValidAt(approval.Add(2 * day))
	if !reflect.DeepEqual(got.Scopes, []string{"a"}) || !got.Ends().IsZero() || got.Expired(approval.Add(2*day)) {
		t.Errorf("after the end: %+v", got)
	}
	if _, covered := c.Approved("app", approval.Add(2*day)).Covers([]string{"a"}, nil); covered {
		t.Error("the approval does not end")
	}
}

// A token that a client gets without approval, once the approval is over, is shown as such.
func TestUseAfterTheEnd(t *testing.T) {
	c := &Consents{Clients: map[string]Consent{}}
	c.Approve("app", []string{"orders"}, nil, approval.Add(time.Hour), approval)
	if !c.Use("app", []string{"orders"}, approval.Add(2*time.Hour), time.Time{}) {
		t.Error("the use is not noted")
	}
	if got := c.Clients["app"]; got.Expired(approval.Add(3*time.Hour)) || !reflect.DeepEqual(got.All(), []string{"orders"}) || !got.Ends().IsZero() {
		t.Errorf("got %+v", got)
	}
}

// What clients got without approval does not fill the store for ever: the record ends with the last of it, unless the user has approved
// something without end.
func TestConsentsExpire(t *testing.T) {
	const day = 24 * time.Hour
	at := func(days int) time.Time { return approval.Add(time.Duration(days) * day) }
	use := func(client string, on, until int) func(*Consents) {
		return func(c *Consents) {
			end := time.Time{}
			if until > 0 {
				end = at(until)
			}
			c.Use(client, []string{"orders"}, at(on), end)
		}
	}
	approve := func(client, scope string, until time.Time) func(*Consents) {
		return func(c *Consents) { c.Approve(client, []string{scope}, nil, until, approval) }
	}
	for _, row := range []struct {
		name    string
		changes []func(*Consents)
		want    time.Time
		over    []string // on day 45
	}{
		{"a use", []func(*Consents){use("a", 0, 30)}, at(30), []string{"a"}},
		{"a later use", []func(*Consents){use("a", 0, 30), use("a", 20, 50)}, at(50), nil},
		{"a later use of shorter tokens", []func(*Consents){use("a", 0, 50), use("a", 10, 40)}, at(50), nil},
		{"tokens without end", []func(*Consents){use("a", 0, 0), use("a", 10, 40)}, time.Time{}, nil},
		{"two clients", []func(*Consents){use("a", 0, 30), use("b", 0, 50)}, at(50), []string{"a"}},
		{"a client approved without end", []func(*Consents){use("a", 0, 30), approve("b", "mail", time.Time{})}, time.Time{}, []string{"a"}},
		{"a client approved for some time", []func(*Consents){use("a", 0, 30), approve("b", "mail", at(40))}, at(40), []string{"a", "b"}},
		{"more than was approved for some time", []func(*Consents){approve("a", "mail", at(40)), use("a", 0, 50)}, at(50), nil},
		{"less than was approved for some time", []func(*Consents){approve("a", "orders", at(40)), use("a", 0, 50)}, at(40), []string{"a"}},
		{"a use after what was approved", []func(*Consents){approve("a", "orders", at(10)), use("a", 20, 50)}, at(50), nil},
		{"no clients", nil, time.Time{}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := &Consents{Clients: map[string]Consent{}}
			for _, change := range row.changes {
				change(c)
			}
			record, err := c.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if c, err = DecodeConsents("alice", record); err != nil {
				t.Fatal(err)
			}
			if got := c.Expires(); !got.Equal(row.want) {
				t.Errorf("expires %s, want %s", got, row.want)
			}
			var over []string
			for _, client := range []string{"a", "b"} {
				if consent, ok := c.Clients[client]; ok && consent.Expired(at(45)) {
					over = append(over, client)
				}
			}
			if !reflect.DeepEqual(over, row.over) {
				t.Errorf("over: %q, want %q", over, row.over)
			}
		})
	}
}
