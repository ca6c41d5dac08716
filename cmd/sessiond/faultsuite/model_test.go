package faultsuite

import (
	"time"

	"github.com/anishathalye/porcupine"
)

// state is what is known of a session.
type state struct {
	phase   phase
	pending int // revocations that have begun and of which nobody knows yet whether they are done
}

type phase int

const (
	none phase = iota
	active
	revoked
)

// step is an event in the life of a session.
type step int

const (
	opened    step = iota // a login was answered
	accepted              // a check or a refresh succeeded
	denied                // a check or a refresh was refused
	asked                 // a client sent a revocation
	acked                 // the revocation was acknowledged
	undecided             // the revocation must be done everywhere by now, or nowhere
)

// sessionModel is what a session may do. While a revocation is pending, both answers are right.
// When it is acknowledged, the session is revoked for ever. If its outcome stays unknown, the state
// forks: the session was revoked, or it was not.
var sessionModel = (&porcupine.NondeterministicModel{
	Init: func() []any { return []any{state{}} },
	Step: func(s, input, _ any) []any {
		now := s.(state)
		switch input.(step) {
		case opened:
			now.phase = active
		case accepted:
			if now.phase != active {
				return nil
			}
		case denied:
			if now.phase == active && now.pending == 0 {
				return nil
			}
		case asked:
			now.pending++
		case acked:
			now.pending--
			if now.phase == active {
				now.phase = revoked
			}
		case undecided:
			now.pending--
			if now.phase == active {
				return []any{now, state{revoked, now.pending}}
			}
		}
		return []any{now}
	},
	Equal: func(a, b any) bool { return a == b },
}).ToModel()

// judge has porcupine check the history of every session, and returns the sessions whose history no
// correct service can produce.
func (h *history) judge() (wrong []int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, ops := range h.bySession() {
		if !porcupine.CheckOperations(sessionModel, h.steps(ops)) {
			wrong = append(wrong, id)
		}
	}
	return wrong
}

// steps turns a session's requests into the events of the model. Unanswered checks say nothing.
func (h *history) steps(ops []op) (events []porcupine.Operation) {
	add := func(s step, from, to time.Duration) {
		events = append(events, porcupine.Operation{Input: s, Call: int64(from), Return: int64(to)})
	}
	for _, o := range ops {
		switch {
		case isRevoke(o):
			add(asked, o.start, o.start)
			if o.answer == good {
				add(acked, o.end, o.end)
			} else {
				add(undecided, h.settled(o), h.settled(o))
			}
		case o.kind == login && o.answer == good:
			add(opened, o.start, o.end)
		case (o.kind == check || o.kind == refresh) && o.answer == good:
			add(accepted, o.start, o.end)
		case (o.kind == check || o.kind == refresh) && o.answer == refused:
			add(denied, o.start, o.end)
		}
	}
	return events
}
