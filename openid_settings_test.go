package caddyoauth

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oauth/caddy-oauth/storage"
)

// replacerOf returns a replacer that knows one placeholder.
func replacerOf(name, value string) *caddy.Replacer {
	repl := caddy.NewEmptyReplacer()
	repl.Set(name, value)
	return repl
}

func TestClaimTypes(t *testing.T) {
	for _, tt := range []struct {
		claim, text string
		want        any // an error: none
	}{
		{`"{v}"`, " Alice ", " Alice "},
		{`"{v}"`, "", nil},
		{`{"value": "{v}", "type": "list"}`, " admins, staff ,,", []string{"admins", "staff"}},
		{`{"value": "{v}", "type": "list"}`, " , ", nil},
		{`{"value": "{v}", "type": "list", "separator": ";"}`, "a,b;c", []string{"a,b", "c"}},
		{`{"value": "{v}", "type": "boolean"}`, "true", true},
		{`{"value": "{v}", "type": "boolean"}`, "yes", error(nil)},
		{`{"value": "{v}", "type": "number"}`, "9007199254740993", json.Number("9007199254740993")},
		{`{"value": "{v}", "type": "number"}`, "1 2", error(nil)},
		{`{"value": "{v}", "type": "number"}`, `"1"`, error(nil)},
		{`{"value": "{v}", "type": "json"}`, `{"locality": "Oslo"}`, map[string]any{"locality": "Oslo"}},
		{`{"value": "{v}", "type": "json"}`, `{"locality": "Oslo"`, error(nil)},
	} {
		var claim Claim
		if err := json.Unmarshal([]byte(tt.claim), &claim); err != nil {
			t.Fatal(err)
		}
		got, err := claim.value(replacerOf("v", tt.text))
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s of %q: %#v with error %v, want %#v", tt.claim, tt.text, got, err, tt.want)
		}
		again, err := json.Marshal(claim)
		if err != nil {
			t.Fatal(err)
		}
		var same Claim
		if err := json.Unmarshal(again, &same); err != nil || same != claim {
			t.Errorf("%s becomes %s", tt.claim, again)
		}
	}
}

// What the site says of the session, and what is not used of it.
func TestSessionOfTheSite(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, tt := range []struct {
		authTime string
		want     int64 // 0: not known
		fails    bool
	}{
		{"", 0, false},
		{"1799999000", 1_799_999_000, false},
		{"1799999000.75", 1_799_999_000, false},
		{now.Add(-time.Hour).UTC().Format(time.RFC3339), 1_799_996_400, false},
		{"1800000050", 1_800_000_050, false}, // the clock of the login is ahead
		{"1800000100", 0, true},
		{"yesterday", 0, true},
		{"-5", 0, true},
		{"NaN", 0, true},
		{"1799999000000", 0, true}, // milliseconds
	} {
		s := &Session{AuthTime: "{t}", ACR: "{t.none}", AMR: "pwd, otp", SID: "s1"}
		authTime, session, err := s.read(replacerOf("t", tt.authTime), now)
		if tt.want == 0 != authTime.IsZero() || !authTime.IsZero() && authTime.Unix() != tt.want || (err != nil) != tt.fails {
			t.Errorf("auth_time %q: %v with error %v", tt.authTime, authTime, err)
		}
		if want := (storage.SiteSession{ID: "s1", AMR: []string{"pwd", "otp"}}); !reflect.DeepEqual(session, want) {
			t.Errorf("session %+v, want %+v", session, want)
		}
	}
	_, session, err := (&Session{SID: "{s}", ACR: "high"}).read(replacerOf("s", "a\nb"), now)
	if err == nil || session.ID != "" || session.ACR != "high" {
		t.Errorf("a session ID with a line break: %+v, error %v", session, err)
	}
}

func TestSectors(t *testing.T) {
	issuer := &Issuer{OpenID: &OpenIDSettings{PairwiseSalt: "{env.SALT}"}}
	for _, tt := range []struct {
		uris   []string
		client ClientOpenID
		want   string // "error" is an error
	}{
		{[]string{"https://a.example/1", "https://A.example:8443/2"}, ClientOpenID{SubjectType: "pairwise"}, "a.example"},
		{[]string{"https://a.example/1"}, ClientOpenID{}, ""},
		{[]string{"https://a.example/1", "https://b.example/2"}, ClientOpenID{SubjectType: "pairwise"}, "error"},
		{[]string{"com.example:/1"}, ClientOpenID{SubjectType: "pairwise"}, "error"},
		{nil, ClientOpenID{SubjectType: "pairwise"}, "error"},
		{[]string{"https://a.example/1", "https://b.example/2"}, ClientOpenID{SubjectType: "pairwise", SectorIdentifierURI: "https://C.example/x"}, "c.example"},
		{[]string{"{env.URL}"}, ClientOpenID{SubjectType: "pairwise"}, ""},
		{nil, ClientOpenID{SubjectType: "pairwise", SectorIdentifierURI: "https://{env.HOST}"}, ""}, // a Caddyfile is adapted
	} {
		sector, err := tt.client.sector(tt.uris, issuer)
		if err != nil {
			sector = "error"
		}
		if sector != tt.want {
			t.Errorf("%v of %+v: %q, %v, want %q", tt.uris, tt.client, sector, err, tt.want)
		}
	}
	if _, err := (&ClientOpenID{SubjectType: "pairwise"}).sector([]string{"https://a.example"}, &Issuer{OpenID: new(OpenIDSettings)}); err == nil {
		t.Error("pairwise without a salt is accepted")
	}
}

// The sector of a client is the host that placeholders give it.
func TestSectorOfAPlaceholder(t *testing.T) {
	t.Setenv("SECTOR_HOST", "c.example")
	issuer := &Issuer{URL: "https://example.com", OpenID: &OpenIDSettings{PairwiseSalt: "{env.SALT}"}}
	for uri, want := range map[string]string{ // "" is an error
		"https://{env.SECTOR_HOST}/x":             "c.example",
		"http://{env.SECTOR_HOST}/x":              "",
		"https://{env.NO_SUCH_SECTOR}/x":          "",
		`https://{env.SECTOR_HOST}/\{literally\}`: "",
	} {
		c := &ClientOpenID{SubjectType: pairwise, SectorIdentifierURI: uri}
		scopes := []string{"openid"}
		if err := c.check(scopes, nil, issuer); err != nil {
			t.Errorf("%s in a Caddyfile: %v", uri, err)
		}
		err := c.resolve(caddy.NewReplacer())
		if err == nil {
			err = c.check(scopes, nil, issuer)
		}
		sector, _ := c.sector(nil, issuer)
		if (err == nil) != (want != "") || err == nil && sector != want {
			t.Errorf("%s: sector %q, error %v, want %q", uri, sector, err, want)
		}
	}
}

// What a client demands of the login is what its settings say, in a configuration and at run time.
func TestDemandsOnTheLogin(t *testing.T) {
	issuer := &Issuer{URL: "https://example.com", OpenID: new(OpenIDSettings)}
	const client = `{"redirect_uris": ["https://app.example/"], "scopes": ["openid"]`
	for _, tt := range []struct {
		more   string
		maxAge any // nil: any
		time   bool
		refuse string // the setting
	}{
		{``, nil, false, ""},
		{`, "default_max_age": 0`, time.Duration(0), false, ""},
		{`, "default_max_age": "12h", "require_auth_time": true`, 12 * time.Hour, true, ""},
		{`, "default_max_age": -1000000000`, nil, false, "default_max_age"},
		{`, "default_max_age": 1500000000`, nil, false, "default_max_age"},
		{`, "default_max_age": 9223372036000000000`, nil, false, "default_max_age"}, // more seconds than a max_age can have
		{`, "scopes": ["profile"], "default_max_age": 0`, nil, false, "default_max_age"},
		{`, "scopes": ["profile"], "require_auth_time": true`, nil, false, "require_auth_time"},
	} {
		c, err := decodeClient(json.RawMessage(client + tt.more + "}"))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.check("app", issuer); (err != nil) != (tt.refuse != "") || err != nil && !strings.HasPrefix(err.Error(), tt.refuse) {
			t.Errorf("%s: %v, want an error of %q", tt.more, err, tt.refuse)
		}
		if tt.refuse != "" {
			continue
		}
		got := c.client("app", issuer).OpenID
		if maxAge := got.DefaultMaxAge; (maxAge == nil) != (tt.maxAge == nil) || maxAge != nil && *maxAge != tt.maxAge || got.RequireAuthTime != tt.time {
			t.Errorf("%s: max_age %v, auth_time %v", tt.more, maxAge, got.RequireAuthTime)
		}
	}
}
