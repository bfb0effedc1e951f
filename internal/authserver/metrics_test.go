package authserver

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/caddy-oauth/caddy-oauth/grants"
	"github.com/caddy-oauth/caddy-oauth/internal/bearer"
)

func registry(r prometheus.Registerer, name string) func(*Config) {
	return func(c *Config) { c.Registry, c.Name = r, name }
}

func TestRequestsAreCounted(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	s := newTestServer(t, registry(reg, "default"), withoutConsent("webapp"))
	s.tokens(t)
	s.token(t, asBilling())
	s.token(t, asBilling())
	s.token(t, asBilling("client_secret", "wrong"))
	s.token(t, redeems("nonsense"))
	s.get(t, asks("webapp", "scope", "magic"))
	s.fetch(t, "/oauth/jwks")
	s.fetch(t, wellKnown)
	want := `# HELP caddy_oauth_requests_total Requests by issuer, endpoint, grant type and result: ok or an OAuth error code.
# TYPE caddy_oauth_requests_total counter
caddy_oauth_requests_total{endpoint="authorize",grant_type="",issuer="default",result="invalid_scope"} 1
caddy_oauth_requests_total{endpoint="authorize",grant_type="",issuer="default",result="ok"} 1
caddy_oauth_requests_total{endpoint="jwks",grant_type="",issuer="default",result="ok"} 1
caddy_oauth_requests_total{endpoint="metadata",grant_type="",issuer="default",result="ok"} 1
caddy_oauth_requests_total{endpoint="token",grant_type="",issuer="default",result="invalid_client"} 1
caddy_oauth_requests_total{endpoint="token",grant_type="authorization_code",issuer="default",result="invalid_grant"} 1
caddy_oauth_requests_total{endpoint="token",grant_type="authorization_code",issuer="default",result="ok"} 1
caddy_oauth_requests_total{endpoint="token",grant_type="client_credentials",issuer="default",result="ok"} 2
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "caddy_oauth_requests_total"); err != nil {
		t.Error(err)
	}
}

func TestClosedAccountsAreCounted(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	a := &testAccounts{err: noAccount()}
	s := newTestServer(t, registry(reg, "default"), accountsAt(a))
	token := s.tokens(t)["refresh_token"].(string)
	s.clock.Advance(time.Hour)
	s.refused(t, token)
	want := `# HELP caddy_oauth_revocations_total Revocations by issuer, of what, and why.
# TYPE caddy_oauth_revocations_total counter
caddy_oauth_revocations_total{issuer="default",reason="closed",what="family"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "caddy_oauth_revocations_total"); err != nil {
		t.Error(err)
	}
}

// A request cannot choose the value of a label.
func TestLabelsAreFromAClosedList(t *testing.T) {
	const mark = "hostile"
	reg := prometheus.NewPedanticRegistry()
	s := newTestServer(t, registry(reg, "default"))
	for _, name := range []string{"client_id", "response_type", "scope", "prompt", "response_mode", "redirect_uri", "resource", "code_challenge_method"} {
		s.get(t, asks("webapp", name, mark))
	}
	for _, name := range []string{"client_id", "grant_type", "scope", "resource", "client_secret"} {
		s.token(t, asBilling(name, mark))
	}
	s.token(t, url.Values{}, header("Authorization", mark))
	s.fetch(t, "/oauth/token", func(r *http.Request) { r.Method = strings.ToUpper(mark) })
	s.do(t, httptest.NewRequest(http.MethodGet, wellKnown+"?"+mark, nil))

	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	closed := map[string][]string{
		"issuer": {"default"}, "endpoint": {"authorize", "token", "jwks", "metadata"},
		"grant_type": {"", "authorization_code", "refresh_token", "client_credentials"},
		"result": {
			"ok", "invalid_request", "invalid_client", "invalid_scope", "invalid_target", "unsupported_response_type",
			"unsupported_grant_type", "unauthorized_client",
		},
		"op": {"get", "put", "update", "delete", "list"},
	}
	counted := 0
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			counted += int(metric.GetCounter().GetValue())
			for _, label := range metric.GetLabel() {
				if !slices.Contains(closed[label.GetName()], label.GetValue()) {
					t.Errorf("label %s=%q", label.GetName(), label.GetValue())
				}
			}
		}
	}
	if counted != 16 {
		t.Errorf("%d of 16 requests were counted", counted)
	}
}

func TestASecondServerRegistersBesideTheFirst(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	for _, name := range []string{"first", "second", "first"} { // the last is as after a reload in the same registry
		newTestServer(t, registry(reg, name)).fetch(t, wellKnown)
	}
	want := `# HELP caddy_oauth_requests_total Requests by issuer, endpoint, grant type and result: ok or an OAuth error code.
# TYPE caddy_oauth_requests_total counter
caddy_oauth_requests_total{endpoint="metadata",grant_type="",issuer="first",result="ok"} 2
caddy_oauth_requests_total{endpoint="metadata",grant_type="",issuer="second",result="ok"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "caddy_oauth_requests_total"); err != nil {
		t.Error(err)
	}
}

func TestTokensRevocationsAndFailuresAreCounted(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	s := newTestServer(t, registry(reg, "default"), few, withoutConsent("webapp"))
	first, _ := s.tokens(t)["refresh_token"].(string)
	second, _ := s.token(t, refreshes(first)).json(t)["refresh_token"].(string)
	s.token(t, refreshes(second))
	s.token(t, refreshes(first)).check(t, http.StatusBadRequest, "invalid_grant") // reuse
	s.token(t, asBilling())
	for range 4 {
		s.token(t, asBilling("client_id", "webapp", "client_secret", "wrong"))
		s.token(t, redeems("x", "client_id", "spa"))
	}
	if err := s.revoker.Revoke(t.Context(), "bob", "", "left us", ""); err != nil {
		t.Fatal(err)
	}
	guard := &bearer.Resource{Source: s.Server, Audience: []string{testIssuer}, Monitor: s.Monitor()}
	for _, authorization := range []string{"", "Bearer x", "Bearer x", "Bearer x", "Bearer x", "Bearer "} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		_, _ = guard.Check(r, new(bearer.Tokens), "") // this test is about the counters
	}
	want := `# HELP caddy_oauth_cutoffs Revocations that are in force, by issuer.
# TYPE caddy_oauth_cutoffs gauge
caddy_oauth_cutoffs{issuer="default"} 2
# HELP caddy_oauth_guard_decisions_total Requests at guards by issuer and result: ok, no_token, throttled or an error code.
# TYPE caddy_oauth_guard_decisions_total counter
caddy_oauth_guard_decisions_total{issuer="default",result="invalid_request"} 1
caddy_oauth_guard_decisions_total{issuer="default",result="invalid_token"} 3
caddy_oauth_guard_decisions_total{issuer="default",result="no_token"} 1
caddy_oauth_guard_decisions_total{issuer="default",result="throttled"} 1
# HELP caddy_oauth_revocations_total Revocations by issuer, of what, and why.
# TYPE caddy_oauth_revocations_total counter
caddy_oauth_revocations_total{issuer="default",reason="owner",what="user"} 1
caddy_oauth_revocations_total{issuer="default",reason="reuse",what="family"} 1
# HELP caddy_oauth_signing_key_since_timestamp_seconds When the current signing key began to sign, as a Unix time, by issuer.
# TYPE caddy_oauth_signing_key_since_timestamp_seconds gauge
caddy_oauth_signing_key_since_timestamp_seconds{issuer="default"} ` + strconv.FormatInt(epoch.Unix(), 10) + `
# HELP caddy_oauth_throttled_total Requests refused for too many failures or codes, by issuer and what was too many.
# TYPE caddy_oauth_throttled_total counter
caddy_oauth_throttled_total{issuer="default",kind="client"} 1
caddy_oauth_throttled_total{issuer="default",kind="grant"} 1
caddy_oauth_throttled_total{issuer="default",kind="token"} 1
# HELP caddy_oauth_tokens_issued_total Access tokens by issuer and grant type.
# TYPE caddy_oauth_tokens_issued_total counter
caddy_oauth_tokens_issued_total{grant_type="authorization_code",issuer="default"} 1
caddy_oauth_tokens_issued_total{grant_type="client_credentials",issuer="default"} 1
caddy_oauth_tokens_issued_total{grant_type="refresh_token",issuer="default"} 2
`
	err := testutil.GatherAndCompare(reg, strings.NewReader(want), "caddy_oauth_cutoffs", "caddy_oauth_guard_decisions_total",
		"caddy_oauth_revocations_total", "caddy_oauth_signing_key_since_timestamp_seconds", "caddy_oauth_throttled_total",
		"caddy_oauth_tokens_issued_total")
	if err != nil {
		t.Error(err)
	}
}

func TestStoreIsMeasured(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	s := newTestServer(t, registry(reg, "default"), withoutConsent("webapp"))
	operations := func() map[string]int {
		t.Helper()
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		count := make(map[string]int)
		for _, family := range families {
			for _, metric := range family.GetMetric() {
				for _, label := range metric.GetLabel() {
					if label.GetName() == "op" {
						count[label.GetValue()] = int(metric.GetHistogram().GetSampleCount())
					}
				}
			}
		}
		return count
	}
	refreshToken, _ := s.tokens(t)["refresh_token"].(string)
	before := operations()
	s.token(t, refreshes(refreshToken))
	after := operations()
	for op, want := range map[string]int{"get": 0, "put": 0, "update": 1, "delete": 0, "list": 0} {
		if got := after[op] - before[op]; got != want {
			t.Errorf("%d operations %s for a refresh, want %d", got, op, want)
		}
	}
	if before["put"] != 1 || before["list"] == 0 || before["get"] == 0 {
		t.Errorf("%v before it", before)
	}
}

func TestMetricsOfAGuardOfAnIssuerElsewhere(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	newTestServer(t, registry(reg, "default"))
	monitor, err := bearer.NewMonitor("https://idp.example", reg)
	if err != nil {
		t.Fatal(err)
	}
	guard := &bearer.Resource{Monitor: monitor}
	if _, err := guard.Check(httptest.NewRequest(http.MethodGet, "/", nil), new(bearer.Tokens), ""); err == nil {
		t.Fatal("a request without a token passes")
	}
	want := `# HELP caddy_oauth_guard_decisions_total Requests at guards by issuer and result: ok, no_token, throttled or an error code.
# TYPE caddy_oauth_guard_decisions_total counter
caddy_oauth_guard_decisions_total{issuer="https://idp.example",result="no_token"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "caddy_oauth_guard_decisions_total"); err != nil {
		t.Error(err)
	}
}

// The theft of anything that can be used once is counted as reuse. What an owner writes is not.
func TestReuseIsCounted(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	s := newTestServer(t, registry(reg, "default"), withoutConsent("webapp"), withDevices)
	d := s.startDevice(t, "cli")
	s.approveDevice(t, d)
	s.poll(t, d).check(t, http.StatusOK, "")
	s.clock.Advance(time.Minute)
	s.poll(t, d).check(t, http.StatusBadRequest, grants.InvalidGrant)

	code := s.code(t, asks("webapp"))
	first := s.token(t, redeems(code)).json(t)["refresh_token"].(string)
	s.token(t, refreshes(first)).check(t, http.StatusOK, "") // else it may be a repeat
	s.token(t, redeems(code)).check(t, http.StatusBadRequest, grants.InvalidGrant)

	used := s.tokens(t)["refresh_token"].(string)
	next := s.token(t, refreshes(used)).json(t)["refresh_token"].(string)
	s.token(t, refreshes(next)).check(t, http.StatusOK, "")
	s.token(t, refreshes(used)).check(t, http.StatusBadRequest, grants.InvalidGrant)

	if err := s.revoker.Revoke(t.Context(), "bob", "", grants.ReplayedRefreshToken+" used again", ""); err != nil {
		t.Fatal(err)
	}
	want := `# HELP caddy_oauth_revocations_total Revocations by issuer, of what, and why.
# TYPE caddy_oauth_revocations_total counter
caddy_oauth_revocations_total{issuer="default",reason="owner",what="user"} 1
caddy_oauth_revocations_total{issuer="default",reason="reuse",what="family"} 3
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "caddy_oauth_revocations_total"); err != nil {
		t.Error(err)
	}
}

// The metrics keep the grant type as a label. As a part of the body, it would keep all of it in memory.
func TestGrantTypeIsNoPartOfTheBody(t *testing.T) {
	s := newTestServer(t)
	c := &call{client: s.config.Clients["webapp"]}
	body := "grant_type=refresh_token"
	grant, err := newTokenEndpoint(s.core).findGrant(c, body[11:])
	if err != nil {
		t.Fatal(err)
	}
	if c.grant != "refresh_token" || unsafe.StringData(c.grant) != unsafe.StringData(grant.Type()) {
		t.Errorf("the grant type of the call, %s, is not that of the grant", c.grant)
	}
}
