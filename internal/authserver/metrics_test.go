package authserver

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
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

// Nothing that a request brings becomes a label.
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
	for _, name := range []string{"first", "second", "first"} { // the last as after a reload in one registry
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
	t.Run("a name taken by another metric is an error", func(t *testing.T) {
		reg := prometheus.NewRegistry()
		reg.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "caddy_oauth_requests_total"}))
		config := newTestServer(t).config
		config.Registry = reg
		if _, err := New(config); err == nil {
			t.Error("accepted")
		}
	})
}
