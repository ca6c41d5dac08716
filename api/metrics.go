package api

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics counts requests and measures how long their answers take.
type Metrics struct {
	requests   *prometheus.HistogramVec
	unreadable prometheus.Counter
}

// NewMetrics creates the metrics of the API and registers them with r.
func NewMetrics(r prometheus.Registerer) *Metrics {
	return &Metrics{
		requests: promauto.With(r).NewHistogramVec(prometheus.HistogramOpts{
			Name:    "sessiond_http_request_duration_seconds",
			Help:    "Time to answer a request, by method, route and status.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"method", "route", "status"}),
		unreadable: promauto.With(r).NewCounter(prometheus.CounterOpts{
			Name: "sessiond_client_address_unreadable_total",
			Help: "Requests of trusted proxies that reported no client address that could be read.",
		}),
	}
}

func (m *Metrics) observe(method, route string, status int, took time.Duration) {
	if m == nil {
		return
	}
	m.requests.WithLabelValues(methodLabel(method), route, strconv.Itoa(status)).Observe(took.Seconds())
}

func (m *Metrics) unreadableAddress() {
	if m != nil {
		m.unreadable.Inc()
	}
}

// methodLabel returns the method, or "other" for an unknown method. Otherwise a client that invents
// methods could create any number of time series.
func methodLabel(method string) string {
	switch method {
	case "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS":
		return method
	default:
		return "other"
	}
}
