package metrics

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/otel/trace"
)

func newTestIssuer(t *testing.T, registry Registry, name string) *Issuer {
	t.Helper()
	m, err := New(registry, name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestIssuersShareARegistry(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	first, second := newTestIssuer(t, registry, "first"), newTestIssuer(t, registry, "second")
	first.Request("token", "refresh_token", "ok")
	first.Request("token", "refresh_token", "ok")
	second.Request("token", "", "invalid_client")
	first.Request("jwks", "", "ok")
	newTestIssuer(t, registry, "first").Request("jwks", "", "ok") // after a reload in the same registry
	want := `# HELP caddy_oauth_requests_total Requests by issuer, endpoint, grant type and result: ok or an OAuth error code.
# TYPE caddy_oauth_requests_total counter
caddy_oauth_requests_total{endpoint="jwks",grant_type="",issuer="first",result="ok"} 2
caddy_oauth_requests_total{endpoint="token",grant_type="",issuer="second",result="invalid_client"} 1
caddy_oauth_requests_total{endpoint="token",grant_type="refresh_token",issuer="first",result="ok"} 2
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "caddy_oauth_requests_total"); err != nil {
		t.Error(err)
	}
	if got := first.Requests(); !slices.Equal(got, []RequestCount{
		{Endpoint: "jwks", Result: "ok", Count: 2},
		{Endpoint: "token", GrantType: "refresh_token", Result: "ok", Count: 2},
	}) {
		t.Errorf("the first issuer counts %+v", got)
	}
	if got := second.Requests(); !slices.Equal(got, []RequestCount{{Endpoint: "token", Result: "invalid_client", Count: 1}}) {
		t.Errorf("the second issuer counts %+v", got)
	}
}

func TestNameTakenByAnotherMetric(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "caddy_oauth_requests_total"}))
	if _, err := New(registry, "default"); err == nil {
		t.Error("accepted")
	}
}

func TestGuardOfAnIssuerElsewhere(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	newTestIssuer(t, registry, "default")
	guard, err := NewGuard(registry, "https://idp.example")
	if err != nil {
		t.Fatal(err)
	}
	guard.Decision("ok")
	want := `# HELP caddy_oauth_guard_decisions_total Requests at guards by issuer and result: ok, no_token, throttled or an error code.
# TYPE caddy_oauth_guard_decisions_total counter
caddy_oauth_guard_decisions_total{issuer="https://idp.example",result="ok"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "caddy_oauth_guard_decisions_total"); err != nil {
		t.Error(err)
	}
}

func TestCountsInParallel(t *testing.T) {
	m := newTestIssuer(t, nil, "default")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for n := range 500 {
				m.Request("token", strconv.Itoa(n), "ok")
			}
		})
	}
	wg.Wait()
	counts := m.Requests()
	if len(counts) != 500 || slices.ContainsFunc(counts, func(c RequestCount) bool { return c.Count != 8 }) {
		t.Errorf("%d counts: %+v", len(counts), counts)
	}
}

func TestNoSpanWithoutATrace(t *testing.T) {
	ctx, span := StartSpan(t.Context(), "x")
	span.End("name", "value")
	if span.span != nil || trace.SpanFromContext(ctx).IsRecording() {
		t.Error("a span without a trace")
	}
}

func BenchmarkRequest(b *testing.B) {
	m, err := New(prometheus.NewRegistry(), "default")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		m.Request("token", "refresh_token", "ok")
	}
}
