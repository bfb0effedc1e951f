package authserver

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-oauth/caddy-oauth/internal/pages/pagestest"
	"github.com/caddy-oauth/caddy-oauth/storage"
)

const (
	hour = time.Hour
	day  = 24 * time.Hour
)

// lasting returns an edit that sets the choices of how long a client keeps its access.
func lasting(id string, choices ...time.Duration) func(*Config) {
	return client(id, func(c *storage.Client) { c.ConsentLifetimes = choices })
}

// decideFor posts the form of a consent page with a choice.
func (s *testServer) decideFor(t *testing.T, a answer, lifetime string) answer {
	t.Helper()
	return s.post(t, url.Values{"request": {a.sealed(t)}, "decision": {"allow"}, "lifetime": {lifetime}})
}

// tokensFor performs the code flow of webapp with a choice.
func (s *testServer) tokensFor(t *testing.T, lifetime string) map[string]any {
	t.Helper()
	code := s.decideFor(t, s.get(t, asks("webapp")), lifetime).location().Get("code")
	a := s.token(t, redeems(code))
	a.check(t, http.StatusOK, "")
	return a.json(t)
}

// choices returns the values of the radio buttons of a page, with * after the one that is chosen beforehand.
func choices(a answer) (values []string) {
	tags, _ := pagestest.Parts(strings.NewReader(a.Body.String()))
	for _, tag := range tags {
		value, checked, named := "", "", false
		for _, attr := range tag.Attr {
			switch {
			case attr.Key == "name" && attr.Val == "lifetime":
				named = true
			case attr.Key == "value":
				value = attr.Val
			case attr.Key == "checked":
				checked = "*"
			}
		}
		if named {
			values = append(values, value+checked)
		}
	}
	return values
}

func TestConsentPageOffersLifetimes(t *testing.T) {
	for _, row := range []struct {
		name    string
		choices []time.Duration
		want    string
		words   string
	}{
		{"no setting", nil, "", ""},
		{"several", []time.Duration{7 * day, 0, hour, day}, "3600 86400 604800* never", "for 1 hour for 1 day for 7 days until you take it back"},
		{"one", []time.Duration{7 * day}, "", "How long it keeps access for 7 days"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newTestServer(t, lasting("webapp", row.choices...))
			page := s.get(t, asks("webapp"))
			if got := strings.Join(choices(page), " "); got != row.want {
				t.Errorf("choices %q, want %q", got, row.want)
			}
			if got := text(page); !strings.Contains(got, row.words) {
				t.Errorf("the page has no %q: %s", row.words, got)
			}
		})
	}
}

// All that a person has given for a limited time ends then: refresh tokens, access tokens and the remembered consent.
func TestAccessEndsWhenThePersonSaid(t *testing.T) {
	s := newTestServer(t, lasting("webapp", 7*day, hour, 0), client("webapp", func(c *storage.Client) {
		c.RefreshToken.Lifetime, c.RefreshToken.Idle, c.AccessTokenLifetime = 0, 0, 40*time.Minute
	}))
	began := s.clock.Now()
	tokens := s.tokensFor(t, "3600")
	if got := tokens["expires_in"]; got != 2400. {
		t.Errorf("expires_in is %v", got)
	}
	s.clock.Advance(30 * time.Minute)
	if s.asked(t, asks("webapp")) {
		t.Error("asked again within the time")
	}
	a := s.token(t, refreshes(tokens["refresh_token"].(string)))
	a.check(t, http.StatusOK, "")
	tokens = a.json(t)
	claims := s.claims(t, tokens["access_token"])
	if end := began.Add(hour).Unix(); claims["exp"] != float64(end) || tokens["expires_in"] != 1800. {
		t.Errorf("the access token expires at %v, in %v seconds, want at %d", claims["exp"], tokens["expires_in"], end)
	}

	// A code without a new question is part of the same time.
	silent := s.token(t, redeems(s.get(t, asks("webapp")).location().Get("code")))
	silent.check(t, http.StatusOK, "")
	if got := silent.json(t)["expires_in"]; got != 1800. {
		t.Errorf("expires_in of the code without a question is %v", got)
	}

	s.clock.Advance(30 * time.Minute)
	for _, answer := range []map[string]any{tokens, silent.json(t)} {
		s.token(t, refreshes(answer["refresh_token"].(string))).check(t, http.StatusBadRequest, "invalid_grant")
		if s.introspection(t, "webapp", answer["access_token"])["active"] != false {
			t.Error("an access token is good after the end")
		}
	}
	if !s.asked(t, asks("webapp")) {
		t.Error("not asked again after the end")
	}
	s.get(t, asks("webapp", "prompt", "none")).check(t, http.StatusSeeOther, "consent_required")
}

// A client must not take the last token for one that never expires: 0 is no lifetime (RFC 6749 §5.1).
func TestLastTokenExpiresInASecond(t *testing.T) {
	s := newTestServer(t, lasting("webapp", hour))
	tokens := s.tokensFor(t, "3600")
	s.clock.Advance(hour - time.Second/2)
	a := s.token(t, refreshes(tokens["refresh_token"].(string)))
	a.check(t, http.StatusOK, "")
	if got := a.json(t)["expires_in"]; got != 1. {
		t.Errorf("expires_in is %v", got)
	}
}

func TestAccessWithoutEnd(t *testing.T) {
	s := newTestServer(t, lasting("webapp", 7*day, 0))
	tokens := s.tokensFor(t, "never")
	s.clock.Advance(8 * day)
	s.token(t, refreshes(tokens["refresh_token"].(string))).check(t, http.StatusOK, "")
	if s.asked(t, asks("webapp")) {
		t.Error("asked again")
	}
}

// A page of the owner's need not have the choice.
func TestPageWithoutTheChoice(t *testing.T) {
	s := newTestServer(t, lasting("webapp", day, 0))
	tokens := s.tokens(t)
	s.clock.Advance(day)
	s.token(t, refreshes(tokens["refresh_token"].(string))).check(t, http.StatusBadRequest, "invalid_grant")
}

func TestOnlyOfferedLifetimesCount(t *testing.T) {
	for _, lifetime := range []string{"0", "-1", "1", "604801", "604800 ", "0604800", "6.048e5", "Never", "never", "168h", strings.Repeat("9", 400)} {
		s := newTestServer(t, lasting("webapp", 7*day))
		a := s.decideFor(t, s.get(t, asks("webapp")), lifetime)
		a.check(t, http.StatusForbidden, "invalid_request")
		if n := s.store.Count(t, storage.KindConsent) + s.store.Count(t, storage.KindFamily); n != 0 {
			t.Errorf("%q left %d records", lifetime, n)
		}
	}
}

// A reload, or a node with another configuration, does not turn a choice into another one.
func TestLifetimesOfAnotherConfiguration(t *testing.T) {
	t.Run("pages of before are void", func(t *testing.T) {
		for name, row := range map[string]struct{ before, after []time.Duration }{
			"the setting goes":  {[]time.Duration{7 * day}, nil},
			"the setting comes": {nil, []time.Duration{7 * day}},
			"a choice goes":     {[]time.Duration{7 * day, 0}, []time.Duration{0}},
			"the order changes": {[]time.Duration{7 * day, 0}, []time.Duration{0, 7 * day}},
		} {
			s := newTestServer(t, lasting("webapp", row.before...), withDevices, lasting("cli", row.before...))
			page, onDevice := s.get(t, asks("webapp")), s.typeCode(t, s.startDevice(t, "cli").user)
			s.config.Clients["webapp"].ConsentLifetimes, s.config.Clients["cli"].ConsentLifetimes = row.after, row.after
			if a := s.decideFor(t, page, "604800"); a.Code != http.StatusForbidden {
				t.Errorf("%s: %d", name, a.Code)
			}
			if a := s.decideDevice(t, onDevice, "allow"); a.Code != http.StatusForbidden {
				t.Errorf("%s: the page for devices: %d", name, a.Code)
			}
		}
	})
	t.Run("an approval ends although the setting is gone", func(t *testing.T) {
		s := newTestServer(t, lasting("webapp", 7*day))
		tokens := s.tokensFor(t, "604800")
		s.config.Clients["webapp"].ConsentLifetimes = nil
		s.clock.Advance(7 * day)
		s.token(t, refreshes(tokens["refresh_token"].(string))).check(t, http.StatusBadRequest, "invalid_grant")
		if !s.asked(t, asks("webapp")) {
			t.Error("not asked")
		}
	})
	for name, row := range map[string]struct {
		before, after []time.Duration
		asked         bool
	}{
		"an approval without end is longer than any choice": {nil, []time.Duration{7 * day}, true},
		"it may be so":                      {nil, []time.Duration{7 * day, 0}, false},
		"a longer approval than any choice": {[]time.Duration{30 * day}, []time.Duration{7 * day}, true},
		"a shorter one":                     {[]time.Duration{day}, []time.Duration{7 * day}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, lasting("webapp", row.before...))
			s.code(t, asks("webapp"))
			s.config.Clients["webapp"].ConsentLifetimes = row.after
			if got := s.asked(t, asks("webapp")); got != row.asked {
				t.Errorf("asked is %v", got)
			}
		})
	}
}

// Consent never asks nobody, so nothing ends.
func TestLifetimesWithoutAQuestion(t *testing.T) {
	s := newTestServer(t, lasting("webapp", 7*day), client("webapp", consent(storage.ConsentNever)))
	code := s.get(t, asks("webapp")).location().Get("code")
	a := s.token(t, redeems(code))
	a.check(t, http.StatusOK, "")
	s.clock.Advance(8 * day)
	s.token(t, refreshes(a.json(t)["refresh_token"].(string))).check(t, http.StatusOK, "")
}

func TestDeviceAccessEnds(t *testing.T) {
	for _, id := range []string{"cli", "tv"} {
		t.Run(id, func(t *testing.T) {
			s := newTestServer(t, withDevices, lasting(id, day, 2*hour))
			d := s.startDevice(t, id)
			page := s.typeCode(t, d.user)
			if got := strings.Join(choices(page), " "); got != "7200 86400*" {
				t.Errorf("choices %q", got)
			}
			a := s.do(t, postRequest("/oauth/device", url.Values{"request": {page.sealed(t)}, "decision": {"allow"}, "lifetime": {"1"}}.Encode()))
			a.check(t, http.StatusForbidden, "invalid_request")
			a = s.do(t, postRequest("/oauth/device", url.Values{"request": {page.sealed(t)}, "decision": {"allow"}, "lifetime": {"7200"}}.Encode()))
			a.check(t, http.StatusSeeOther, "")
			a = s.poll(t, d)
			a.check(t, http.StatusOK, "")
			refresh := a.json(t)["refresh_token"].(string)
			own := []string{"client_id", id}
			if id == "tv" {
				own = append(own, "client_secret", webSecret)
			}
			s.clock.Advance(2*hour - 5*time.Minute)
			a = s.token(t, refreshes(refresh, own...))
			a.check(t, http.StatusOK, "")
			if got := a.json(t)["expires_in"]; got != 300. {
				t.Errorf("expires_in is %v", got)
			}
			s.clock.Advance(5 * time.Minute)
			s.token(t, refreshes(a.json(t)["refresh_token"].(string), own...)).check(t, http.StatusBadRequest, "invalid_grant")
		})
	}
}

// Of a device code whose approval has ended, the log names the setting that decided.
func TestDeviceCodeAfterTheApproval(t *testing.T) {
	s := newTestServer(t, withDevices, lasting("cli", time.Minute))
	d := s.startDevice(t, "cli")
	s.decideDevice(t, s.typeCode(t, d.user), "allow").check(t, http.StatusSeeOther, "")
	s.clock.Advance(time.Minute)
	s.poll(t, d).check(t, http.StatusBadRequest, "expired_token")
	s.explained(t, "an approval that ended at", "", "client cli: consent_lifetime")
}

// The owner sees what clients have access to now.
func TestGrantsOfAUserEnd(t *testing.T) {
	s := newTestServer(t, lasting("webapp", 7*day), lasting("spa", hour, 0))
	s.tokensFor(t, "604800")
	s.decideFor(t, s.get(t, asks("spa", "scope", "profile")), "never")
	s.decideFor(t, s.get(t, asks("spa", "scope", "orders")), "3600")
	s.clock.Advance(7 * day)
	consents, err := s.Owner().UserConsents(t.Context(), "alice")
	must(t, err)
	if got := consents.Clients["spa"].Scopes; len(consents.Clients) != 1 || !slices.Equal(got, []string{"profile"}) {
		t.Errorf("the clients are %+v", consents.Clients)
	}
}

func TestConnectedAppsSayUntilWhen(t *testing.T) {
	s := newTestServer(t, lasting("webapp", 7*day), lasting("spa", hour, 0))
	s.tokensFor(t, "604800")
	s.decideFor(t, s.get(t, asks("spa")), "never")
	page := func() string {
		return text(s.do(t, httptest.NewRequest(http.MethodGet, "/oauth/apps", nil)))
	}
	end := s.clock.Now().Add(7 * day)
	if got := page(); strings.Count(got, "Ends") != 1 || !strings.Contains(got, "Ends "+end.Format("2 January 2006")) {
		t.Errorf("the page: %s", got)
	}
	s.clock.Advance(7*day - 90*time.Minute)
	if got := page(); !strings.Contains(got, "Ends within 2 hours") {
		t.Errorf("the page: %s", got)
	}
	s.clock.Advance(90 * time.Minute)
	if got := page(); strings.Contains(got, "The app webapp") || !strings.Contains(got, "The app spa") {
		t.Errorf("the page after the end: %s", got)
	}
}

// The audit log says until when.
func TestAuditOfALimitedConsent(t *testing.T) {
	var events []*Event
	s := newTestServer(t, lasting("webapp", 7*day), func(c *Config) {
		c.Observe = func(e *Event) { events = append(events, e) }
	})
	s.tokensFor(t, "604800")
	for _, e := range events {
		if e.Name == eventConsentGiven {
			for name, value := range e.All() {
				if name == "until" && value == s.clock.Now().Add(7*day).UTC().Format(time.RFC3339) {
					return
				}
			}
		}
	}
	t.Error("no event consent_given with the end")
}

// The example of draft-ietf-oauth-refresh-token-expiration: refresh tokens are good for 7 days without use, and the approval for 10.
func TestTokenResponsesSayWhenAccessEnds(t *testing.T) {
	s := newTestServer(t, lasting("webapp", 10*day, 0), client("webapp", func(c *storage.Client) {
		c.RefreshToken.Lifetime, c.RefreshToken.Idle, c.RefreshToken.Retry = 0, 7*day, storage.RetryUntilUsed
	}))
	tokens := s.tokensFor(t, "864000")
	check := func(name string, timeout, approval any) {
		t.Helper()
		if tokens["refresh_token_timeout"] != timeout || tokens["authorization_expires_in"] != approval {
			t.Errorf("%s: refresh_token_timeout is %v and authorization_expires_in %v, want %v and %v",
				name, tokens["refresh_token_timeout"], tokens["authorization_expires_in"], timeout, approval)
		}
	}
	check("at first", 604800., 864000.)
	s.clock.Advance(2 * day)
	first := tokens["refresh_token"].(string)
	tokens = s.token(t, refreshes(first)).json(t)
	check("after 2 days", 604800., 691200.)
	s.clock.Advance(hour)
	tokens = s.token(t, refreshes(first)).json(t)
	check("the same again an hour later", 604800.-3600, 691200.-3600)
	s.clock.Advance(5*day - hour)
	tokens = s.token(t, refreshes(tokens["refresh_token"].(string))).json(t)
	check("after 7 days", 259200., 259200.)
	s.clock.Advance(3 * day)
	s.token(t, refreshes(tokens["refresh_token"].(string))).check(t, http.StatusBadRequest, "invalid_grant")

	tokens = s.tokensFor(t, "never")
	check("without an end", 604800., nil)
	if types := s.fetch(t, wellKnown).json(t)["refresh_token_expiration_types_supported"]; fmt.Sprint(types) != "[authorization token_timeout]" {
		t.Errorf("refresh_token_expiration_types_supported is %v", types)
	}
}

// Responses that nobody has asked to say it do not.
func TestTokenResponsesOfOtherClients(t *testing.T) {
	s := newTestServer(t)
	tokens := s.token(t, redeems(s.code(t, asks("webapp")))).json(t)
	if tokens["refresh_token_timeout"] != nil || s.fetch(t, wellKnown).json(t)["refresh_token_expiration_types_supported"] != nil {
		t.Errorf("the response is %v", tokens)
	}
	s = newTestServer(t, func(c *Config) { c.TellEnds = true })
	tokens = s.token(t, redeems(s.code(t, asks("webapp")))).json(t)
	if tokens["refresh_token_timeout"] == nil || tokens["authorization_expires_in"] != nil {
		t.Errorf("the response of an issuer that says it is %v", tokens)
	}
}

// An owner's page that does not offer the choices works, and the owner learns what it does not do.
func TestOwnersTemplateWithoutLifetimes(t *testing.T) {
	const form = `<form method="post" action="{{.Action}}">{{.Client.Name}} {{.User}} {{.Destination}} {{range .Scopes}}{{.Name}}{{end}}
<input type="hidden" name="request" value="{{.Request}}">%s
<button name="decision" value="allow">Yes</button><button name="decision" value="deny">No</button></form>`
	const buttons = `{{range .Lifetimes}}<input type="radio" name="lifetime" value="{{.Value}}">{{.Words}}{{end}}`
	for _, tt := range []struct {
		name, buttons string
		choices       []time.Duration
		warns         int
	}{
		{"without buttons", "", []time.Duration{day, hour}, 1},
		{"without buttons, which nobody needs", "", []time.Duration{day}, 0},
		{"without lifetimes", "", nil, 0},
		{"with buttons", buttons, []time.Duration{day, hour}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newTestServer(t, lasting("webapp", tt.choices...), func(c *Config) {
				c.Pages.Templates = map[string][]byte{"consent": fmt.Appendf(nil, form, tt.buttons)}
			})
			warnings := s.logs.FilterField(zap.String("setting", "page: template consent")).FilterField(zap.String("client_id", "webapp"))
			if warnings.Len() != tt.warns {
				t.Errorf("%d warnings, want %d: %v", warnings.Len(), tt.warns, s.logs.All())
			}
			s.tokens(t)
		})
	}
}
