// Package metrics counts, times and traces what an issuer does. It is the only package that imports Prometheus and
// OpenTelemetry. Start reading at [Issuer].
package metrics

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Registry is where metrics are registered.
type Registry = prometheus.Registerer

// Issuer has the metrics of one issuer. Issuers in one registry share the metrics and differ in the label "issuer".
// Every label comes from the configuration or from a closed list: a request cannot make new ones.
type Issuer struct {
	Guard

	issuer   string
	requests *prometheus.CounterVec // by endpoint, grant type and result
	issued   *prometheus.CounterVec // by grant type
	revoked  *prometheus.CounterVec // by what and reason
	store    map[Op]prometheus.Observer
	keySince prometheus.Gauge
	cutoffs  prometheus.Gauge
}

// Guard has the metrics of a guard, whose issuer may be on another server.
type Guard struct {
	decisions *prometheus.CounterVec // by result
	throttled *prometheus.CounterVec // by kind
}

// Op is an operation of a store.
type Op string

// The operations.
const (
	Get    Op = "get"
	Put    Op = "put"
	Update Op = "update"
	Delete Op = "delete"
	List   Op = "list"
)

// storeBuckets suit stores from memory to another continent.
var storeBuckets = []float64{
	.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10,
}

// New returns the metrics of an issuer. A nil registry is allowed: then nobody collects them.
func New(registry Registry, issuer string) (*Issuer, error) {
	r := registration{registry: registry, issuer: issuer}
	m := &Issuer{
		Guard:  r.guard(),
		issuer: issuer,
		requests: r.counters("requests_total",
			"Requests by issuer, endpoint, grant type and result: ok or an OAuth error code.",
			"endpoint", "grant_type", "result"),
		issued:  r.counters("tokens_issued_total", "Access tokens by issuer and grant type.", "grant_type"),
		revoked: r.counters("revocations_total", "Revocations by issuer, of what, and why.", "what", "reason"),
		keySince: r.gauge("signing_key_since_timestamp_seconds",
			"When the current signing key began to sign, as a Unix time, by issuer."),
		cutoffs: r.gauge("cutoffs", "Revocations that are in force, by issuer."),
		store: r.histograms("store_duration_seconds", "How long the store took, by issuer and operation.",
			"op", Get, Put, Update, Delete, List),
	}
	return m, r.err
}

// NewGuard returns the metrics of a guard whose issuer is on another server.
func NewGuard(registry Registry, issuer string) (*Guard, error) {
	r := registration{registry: registry, issuer: issuer}
	m := r.guard()
	return &m, r.err
}

// Request counts an answered request. The result is "ok" or an error code.
func (m *Issuer) Request(endpoint, grantType, result string) {
	m.requests.WithLabelValues(endpoint, grantType, result).Inc()
}

// TokenIssued counts an access token.
func (m *Issuer) TokenIssued(grantType string) { m.issued.WithLabelValues(grantType).Inc() }

// Revocation counts a revocation.
func (m *Issuer) Revocation(what, reason string) { m.revoked.WithLabelValues(what, reason).Inc() }

// StoreOperation records the duration of an operation that has ended now.
func (m *Issuer) StoreOperation(op Op, began time.Time) {
	m.store[op].Observe(time.Since(began).Seconds())
}

// SigningSince sets when the current signing key began to sign.
func (m *Issuer) SigningSince(t time.Time) { m.keySince.Set(float64(t.Unix())) }

// Cutoffs sets how many revocations are in force.
func (m *Issuer) Cutoffs(n int) { m.cutoffs.Set(float64(n)) }

// Decision counts a decision of a guard.
func (m *Guard) Decision(result string) { m.decisions.WithLabelValues(result).Inc() }

// Throttled counts a refusal after too many failures or codes.
func (m *Guard) Throttled(kind string) { m.throttled.WithLabelValues(kind).Inc() }

// RequestCount is how many requests to an endpoint had one result.
type RequestCount struct {
	Endpoint  string `json:"endpoint"`
	GrantType string `json:"grant_type,omitempty"`
	Result    string `json:"result"`
	Count     int64  `json:"count"`
}

// Requests returns what Request has counted, sorted, for owners who collect no metrics.
func (m *Issuer) Requests() []RequestCount {
	collected := make(chan prometheus.Metric)
	go func() {
		defer close(collected)
		m.requests.Collect(collected)
	}()
	counts := []RequestCount{}
	for metric := range collected {
		var written dto.Metric
		if metric.Write(&written) != nil {
			continue
		}
		labels := make(map[string]string)
		for _, label := range written.GetLabel() {
			labels[label.GetName()] = label.GetValue()
		}
		if labels["issuer"] != m.issuer {
			continue
		}
		counts = append(counts, RequestCount{
			labels["endpoint"], labels["grant_type"], labels["result"], int64(written.GetCounter().GetValue()),
		})
	}
	slices.SortFunc(counts, func(a, b RequestCount) int {
		return cmp.Or(cmp.Compare(a.Endpoint, b.Endpoint), cmp.Compare(a.GrantType, b.GrantType), cmp.Compare(a.Result, b.Result))
	})
	return counts
}

// registration registers the metrics of an issuer, and keeps the first error.
type registration struct {
	registry Registry
	issuer   string
	err      error
}

func (r *registration) guard() Guard {
	return Guard{
		decisions: r.counters("guard_decisions_total",
			"Requests at guards by issuer and result: ok, no_token, throttled or an error code.", "result"),
		throttled: r.counters("throttled_total",
			"Requests refused for too many failures or codes, by issuer and what was too many.", "kind"),
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

// histograms returns one histogram for each value of the label, so that all of them are exposed from the start.
func (r *registration) histograms(name, help, label string, values ...Op) map[Op]prometheus.Observer {
	opts := prometheus.HistogramOpts{Namespace: "caddy_oauth", Name: name, Help: help, Buckets: storeBuckets}
	vec := register(r, prometheus.NewHistogramVec(opts, []string{"issuer", label}))
	byValue := make(map[Op]prometheus.Observer, len(values))
	for _, value := range values {
		byValue[value] = vec.WithLabelValues(r.issuer, string(value))
	}
	return byValue
}

// register returns the collector, or the one that another issuer has registered under its name.
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
