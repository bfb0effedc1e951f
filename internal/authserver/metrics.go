package authserver

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/caddy-oauth/caddy-oauth/internal/throttle"
)

// Registry is where metrics are registered.
type Registry = prometheus.Registerer

// metrics counts what the server does. Every label is from the configuration or from a closed list.
type metrics struct {
	guardMetrics
	issuer   string
	requests *prometheus.CounterVec // by endpoint, grant type and result
	issued   *prometheus.CounterVec // by grant type
	revoked  *prometheus.CounterVec // by what and reason
	store    map[storeOp]prometheus.Observer
	keySince prometheus.Gauge
	cutoffs  prometheus.Gauge
}

// guardMetrics are those of a guard too, whose issuer may be elsewhere.
type guardMetrics struct {
	decisions *prometheus.CounterVec // by result
	throttled *prometheus.CounterVec // by kind
}

// storeBuckets are for stores from memory to another continent.
var storeBuckets = []float64{
	.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10,
}

func newMetrics(registry Registry, issuer string) (*metrics, error) {
	r := registration{registry: registry, issuer: issuer}
	m := &metrics{
		issuer:       issuer,
		guardMetrics: r.guard(),
		requests: r.counters("requests_total",
			"Requests by issuer, endpoint, grant type and result: ok or an OAuth error code.",
			"endpoint", "grant_type", "result"),
		issued:  r.counters("tokens_issued_total", "Access tokens by issuer and grant type.", "grant_type"),
		revoked: r.counters("revocations_total", "Revocations by issuer, of what, and why.", "what", "reason"),
		keySince: r.gauge("signing_key_since_timestamp_seconds",
			"When the key that signs began to, as a Unix time, by issuer."),
		cutoffs: r.gauge("cutoffs", "Revocations that are in force, by issuer."),
		store:   r.histograms("store_duration_seconds", "How long the store took, by issuer and operation.", "op", storeOps),
	}
	return m, r.err
}

func newGuardMetrics(registry Registry, issuer string) (*guardMetrics, error) {
	r := registration{registry: registry, issuer: issuer}
	m := r.guard()
	return &m, r.err
}

// count counts an answered request.
func (m *metrics) count(endpoint, grantType, result string) {
	m.requests.WithLabelValues(endpoint, grantType, result).Inc()
}

// Count is the number of requests to an endpoint that had one result: "ok" or an error code.
type Count struct {
	Endpoint  string `json:"endpoint"`
	GrantType string `json:"grant_type,omitempty"`
	Result    string `json:"result"`
	N         int64  `json:"count"`
}

// counts returns how many requests of the issuer were counted, sorted, for owners who collect no metrics.
func (m *metrics) counts() []Count {
	collected := make(chan prometheus.Metric)
	go func() {
		defer close(collected)
		m.requests.Collect(collected)
	}()
	list := []Count{}
	for metric := range collected {
		var written dto.Metric
		if metric.Write(&written) != nil {
			continue
		}
		labels := make(map[string]string)
		for _, label := range written.GetLabel() {
			labels[label.GetName()] = label.GetValue()
		}
		if labels["issuer"] != m.issuer { // issuers share a registry
			continue
		}
		list = append(list, Count{
			labels["endpoint"], labels["grant_type"], labels["result"], int64(written.GetCounter().GetValue()),
		})
	}
	slices.SortFunc(list, func(a, b Count) int {
		return cmp.Or(cmp.Compare(a.Endpoint, b.Endpoint), cmp.Compare(a.GrantType, b.GrantType), cmp.Compare(a.Result, b.Result))
	})
	return list
}

// issue counts an access token.
func (m *metrics) issue(grantType string) { m.issued.WithLabelValues(grantType).Inc() }

// revocation counts a revocation.
func (m *metrics) revocation(what, reason string) { m.revoked.WithLabelValues(what, reason).Inc() }

// stored measures an operation that began at a time.
func (m *metrics) stored(op storeOp, began time.Time) {
	m.store[op].Observe(time.Since(began).Seconds())
}

// signs tells since when the key signs that does now.
func (m *metrics) signs(since time.Time) { m.keySince.Set(float64(since.Unix())) }

// live tells how many cutoffs there are.
func (m *metrics) live(cutoffs int) { m.cutoffs.Set(float64(cutoffs)) }

// decide counts what a guard has decided.
func (m *guardMetrics) decide(result string) { m.decisions.WithLabelValues(result).Inc() }

// throttle counts a refusal because of too many failures.
func (m *guardMetrics) throttle(kind throttle.Kind) { m.throttled.WithLabelValues(string(kind)).Inc() }

// registration registers the metrics of an issuer, and keeps the first error.
type registration struct {
	registry Registry
	issuer   string
	err      error
}

func (r *registration) guard() guardMetrics {
	return guardMetrics{
		decisions: r.counters("guard_decisions_total",
			"Requests at guards by issuer and result: ok, no_token, throttled or an error code.", "result"),
		throttled: r.counters("throttled_total",
			"Requests refused for too many failures, by issuer and what failed.", "kind"),
	}
}

func (r *registration) counters(name, help string, labels ...string) *prometheus.CounterVec {
	opts := prometheus.CounterOpts{Namespace: "caddy_oauth", Name: name, Help: help}
	vec := register(r, prometheus.NewCounterVec(opts, append([]string{"issuer"}, labels...)))
	return vec.MustCurryWith(prometheus.Labels{"issuer": r.issuer})
}

func (r *registration) gauge(name, help string) prometheus.Gauge {
	opts := prometheus.GaugeOpts{Namespace: "caddy_oauth", Name: name, Help: help}
	return register(r, prometheus.NewGaugeVec(opts, []string{"issuer"})).WithLabelValues(r.issuer)
}

// histograms returns one for each value of a label.
func (r *registration) histograms(name, help, label string, values []storeOp) map[storeOp]prometheus.Observer {
	opts := prometheus.HistogramOpts{Namespace: "caddy_oauth", Name: name, Help: help, Buckets: storeBuckets}
	vec := register(r, prometheus.NewHistogramVec(opts, []string{"issuer", label}))
	of := make(map[storeOp]prometheus.Observer, len(values))
	for _, value := range values {
		of[value] = vec.WithLabelValues(r.issuer, string(value))
	}
	return of
}

// register returns the collector, or the one that another issuer has registered before.
func register[C prometheus.Collector](r *registration, collector C) C {
	if r.registry == nil {
		return collector
	}
	err := r.registry.Register(collector)
	if registered, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if existing, ok := registered.ExistingCollector.(C); ok {
			return existing
		}
	}
	if err != nil && r.err == nil {
		r.err = err
	}
	return collector
}
