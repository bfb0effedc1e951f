package authserver

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Registry is where metrics are registered.
type Registry = prometheus.Registerer

// metrics counts what the server does. Every label is from the configuration or from a closed list.
type metrics struct {
	requests *prometheus.CounterVec
}

func newMetrics(registry Registry, issuer string) (*metrics, error) {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caddy_oauth",
		Name:      "requests_total",
		Help:      "Requests by issuer, endpoint, grant type and result: ok or an OAuth error code.",
	}, []string{"issuer", "endpoint", "grant_type", "result"})
	if registry != nil {
		var registered prometheus.AlreadyRegisteredError
		switch err := registry.Register(requests); {
		case errors.As(err, &registered): // another issuer was first
			requests = registered.ExistingCollector.(*prometheus.CounterVec)
		case err != nil:
			return nil, err
		}
	}
	return &metrics{requests.MustCurryWith(prometheus.Labels{"issuer": issuer})}, nil
}

// count counts an answered request.
func (m *metrics) count(endpoint, grantType, result string) {
	m.requests.WithLabelValues(endpoint, grantType, result).Inc()
}
