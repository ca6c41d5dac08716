package app

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/mail"
)

// accountMetrics holds the metrics of logins, registrations, password resets and mails.
type accountMetrics struct {
	finished map[string]*prometheus.CounterVec // by action
	mails    *prometheus.CounterVec
}

func newAccountMetrics(f promauto.Factory) *accountMetrics {
	m := &accountMetrics{finished: map[string]*prometheus.CounterVec{}}
	for action, o := range map[string]prometheus.CounterOpts{
		"login": {
			Name: "sessiond_logins_total",
			Help: "Logins by outcome of the password check. wrong_password: also if the email address is not confirmed. limited: a rate limit refused it. busy: the queue of password hashes refused it.",
		},
		"registration": {
			Name: "sessiond_registrations_total",
			Help: "Registrations by outcome. On /v1/users, succeeded says nothing about the email address, which may be taken. Those beyond a rate limit count only in sessiond_limiter_decisions_total.",
		},
		"reset_request": {
			Name: "sessiond_password_reset_requests_total",
			Help: "Requests for a mail with a reset link, by outcome. Those beyond a rate limit count only in sessiond_limiter_decisions_total.",
		},
		"reset": {
			Name: "sessiond_password_resets_total",
			Help: "Attempts to set a password with a reset link, by outcome. invalid: the link or the new password is not valid.",
		},
	} {
		m.finished[action] = f.NewCounterVec(o, []string{"outcome"})
		createAll(m.finished[action], identity.Outcomes[action])
	}
	m.mails = f.NewCounterVec(prometheus.CounterOpts{
		Name: "sessiond_mails_total",
		Help: "Attempts to send a mail of the outbox, by outcome: sent, postponed (it is tried again), unwanted (not sent, for example because of a rate limit or because no mail server is set) or failed (given up).",
	}, []string{"outcome"})
	createAll(m.mails, mail.Outcomes)
	return m
}

// createAll creates the counters of a vector with one label, see newProtection.
func createAll(vector *prometheus.CounterVec, values []string) {
	for _, value := range values {
		vector.WithLabelValues(value)
	}
}

// Finished implements a part of [identity.Observer].
func (m *accountMetrics) Finished(action, outcome string) {
	m.finished[action].WithLabelValues(outcome).Inc()
}

func (m *accountMetrics) mailTried(outcome string) { m.mails.WithLabelValues(outcome).Inc() }
