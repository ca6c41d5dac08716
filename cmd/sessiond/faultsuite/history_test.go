package faultsuite

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// kind is what a request asks for.
type kind int

const (
	login kind = iota
	check
	refresh
	revoke       // one session
	revokeOthers // all sessions of the user but one; a change of the password is one too
	revokeAll
)

// answer is what the client learned from the response.
type answer int

const (
	good        answer = iota // 2xx
	refused                   // 401, and for a refresh 400: the session is said to be over
	unavailable               // 503, or no response: the outcome is unknown
	odd                       // any other response
)

// op is one request. Times are by the suite's monotonic clock.
type op struct {
	kind       kind
	user       int
	session    int // the session that is meant; for revokeOthers the one that is kept
	answer     answer
	status     int
	at         string // where it was sent: r0, r1, r2 or lb (through the load balancer)
	start, end time.Duration
}

// span is a stretch of time, such as a fault.
type span struct{ from, to time.Duration }

// history is everything that one row recorded.
type history struct {
	began time.Time

	mu       sync.Mutex
	ops      []op
	faults   []span
	sessions int // session numbers so far
	complain []string
}

func (h *history) now() time.Duration { return time.Since(h.began) }

func (h *history) add(o op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, o)
}

// newSession returns a number for a new session.
func (h *history) newSession() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sessions++
	return h.sessions
}

// complaint records something that must not happen and that has no count of its own.
func (h *history) complaint(text string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.complain = append(h.complain, text)
}

func (h *history) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = append(h.faults, span{h.now(), -1})
}

func (h *history) healed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults[len(h.faults)-1].to = h.now()
}

// settled returns when a revocation whose outcome is unknown must be done everywhere or nowhere: a
// while after its end, or after the end of the fault that it ran into.
func (h *history) settled(o op) time.Duration {
	at := o.end
	for _, f := range h.faults {
		if f.from <= o.end && at < f.to {
			at = f.to
		}
	}
	return at + settling
}

// settling is longer than the 5 s of the promise, because a busy machine delays the outbox, too.
const settling = 15 * time.Second

// bySession splits the history: each session's own requests, and the revocations of its user that
// concern it.
func (h *history) bySession() map[int][]op {
	sessions, users := map[int][]op{}, map[int][]op{}
	owner := map[int]int{}
	for _, o := range h.ops {
		switch {
		case o.session < 0: // a login that failed
		case o.kind == revokeOthers, o.kind == revokeAll:
			users[o.user] = append(users[o.user], o)
		default:
			sessions[o.session] = append(sessions[o.session], o)
			owner[o.session] = o.user
		}
	}
	for id := range sessions {
		born := time.Duration(0)
		for _, o := range sessions[id] {
			if o.kind == login {
				born = o.start
			}
		}
		for _, o := range users[owner[id]] {
			if o.kind == revokeOthers && o.session == id {
				continue
			}
			// A revocation that ended before the login does not concern the session, unless
			// nobody knows whether it has ended.
			if o.end < born && (o.answer == good || h.settled(o) < born) {
				continue
			}
			sessions[id] = append(sessions[id], o)
		}
	}
	return sessions
}

// counts are the direct counts of a history.
type counts struct {
	checks, logins, refreshes, revokes int // with a good or refused answer; revokes: acknowledged
	during, unanswered                 int // checks during a fault, and those of them that got a 503 or nothing
	accepted                           int // checks accepted although they began after the acknowledgement
	refused                            int // checks refused although nobody had asked for a revocation
	revived                            int // times that a session was accepted again after a check of it was refused
	lostRefreshes                      int // refreshes refused in the same way
	lostLogins                         int
	worst, p99                         time.Duration   // latency of checks during a fault
	first                              []string        // descriptions of the first wrong answers
	wrong                              []time.Duration // when wrong answers came
}

// answered is the share of checks during a fault that were answered, in %.
func (c *counts) answered() float64 {
	return 100 - 100*float64(c.unanswered)/float64(max(1, c.during))
}

// isRevoke reports whether a request may have revoked sessions. One that was refused did not.
func isRevoke(o op) bool {
	return (o.kind == revoke || o.kind == revokeOthers || o.kind == revokeAll) && (o.answer == good || o.answer == unavailable)
}

// note keeps a description of one of the first faults.
func (c *counts) note(format string, o op, after time.Duration, more string) {
	if len(c.first) < 10 {
		c.first = append(c.first, fmt.Sprintf(format, o.session, o.at, o.start.Round(time.Millisecond), after.Round(time.Millisecond), more))
	}
}

// faultOf returns the latest fault that began before a request ended.
func (h *history) faultOf(o op) (f span) {
	i, _ := slices.BinarySearchFunc(h.faults, o.end, func(f span, at time.Duration) int { return int(f.from - at) })
	if i > 0 {
		f = h.faults[i-1]
	}
	return f
}

// inFault reports whether a request ran while a fault was injected.
func (h *history) inFault(o op) bool {
	f := h.faultOf(o)
	return o.start < f.to || f.to < 0
}

// during returns the requests that ran while a fault was injected, and that keep holds for.
func (h *history) during(keep func(op) bool) (ops []op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range h.ops {
		if h.inFault(o) && keep(o) {
			ops = append(ops, o)
		}
	}
	return ops
}

// count makes the direct counts. They need no model and repeat what porcupine finds.
func (h *history) count() counts {
	h.mu.Lock()
	defer h.mu.Unlock()
	var c counts
	var latencies []time.Duration
	for _, o := range h.ops {
		switch {
		case o.kind == check:
			c.checks++
			if h.inFault(o) {
				c.during++
				latencies = append(latencies, o.end-o.start)
				if o.answer == unavailable {
					c.unanswered++
				}
			}
		case o.kind == login && o.answer == good:
			c.logins++
		case o.kind == refresh && o.answer == good:
			c.refreshes++
		case isRevoke(o) && o.answer == good:
			c.revokes++
		}
	}
	slices.Sort(latencies)
	if n := len(latencies); n > 0 {
		c.worst, c.p99 = latencies[n-1], latencies[n*99/100]
	}
	for _, ops := range h.bySession() {
		h.countSession(&c, ops)
	}
	return c
}

func (h *history) countSession(c *counts, ops []op) {
	const never = time.Duration(1<<63 - 1)
	acked, asked, refusedAt := never, never, never
	var ack op
	for _, o := range ops {
		if !isRevoke(o) {
			continue
		}
		asked = min(asked, o.start)
		if o.answer == good && o.end < acked {
			acked, ack = o.end, o
		}
	}
	slices.SortFunc(ops, func(a, b op) int { return int(a.end - b.end) })
	for _, o := range ops {
		switch {
		case o.kind == check && o.answer == good && o.start > acked:
			c.accepted++
			c.wrong = append(c.wrong, o.end)
			c.note("session %d, %s: accepted at %v, %v after the revocation at %s was acknowledged", o, o.start-acked, ack.at)
		case o.kind == check && o.answer == good && o.start > refusedAt:
			c.revived++
			refusedAt = never
		case o.kind == check && o.answer == refused && o.end < asked:
			c.refused++
			c.wrong = append(c.wrong, o.end)
			c.note("session %d, %s: refused at %v, lasted %v, although nobody had revoked it (%s)", o, o.end-o.start, "401")
		case o.kind == refresh && o.answer == refused && o.end < asked:
			c.lostRefreshes++
			c.note("session %d, %s: refresh refused at %v, lasted %v, although nobody had revoked the session (%s)", o, o.end-o.start, "400")
		}
		if o.kind == check && o.answer == refused {
			refusedAt = min(refusedAt, o.end)
		}
	}
}
