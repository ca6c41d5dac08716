package hashing

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Queue decides who may hash a password, which keeps a core busy for many
// milliseconds, and who has to wait or to come back later. As many hash at once
// as there are slots; the others wait in turn, no longer than its patience. Whom
// it could not serve in time it turns away at once.
//
// Addresses take turns, however many requests each of them has waiting, so that
// a flood from one delays the others by one hash. Known devices take three turns
// of four, if they need them. When it is full, who came back before they were
// told to gives way, then the address with the most waiting. Those who name one
// account, and those whose address has just had a turn, have a part of the places
// only, as strangers and again as known devices.
type Queue struct {
	QueueOptions

	mu       sync.Mutex
	running  int
	lanes    [2]lane // strangers, known devices
	away     memory  // until when an address is too early
	served   memory  // until when it has had a turn of late
	expected returns
	held     int           // who came back too early, and waits for the answer
	known    int           // turns of known devices since the last of a stranger
	took     time.Duration // of a turn with a hash, and its rest; a moving average
	quickest time.Duration // hash of late
}

// QueueOptions is how a [Queue] works.
type QueueOptions struct {
	Slots int // how many hash at once
	// Share is how much of its time a slot may hash; it rests in between. Nil: all.
	Share    func() float64
	Patience time.Duration // how long one may wait for a turn
	Took     time.Duration // a guess at what a hash takes, until some were made
	Observer Observer      // nil: nobody
}

const (
	// leastHash bounds how many may wait when hashes are quick.
	leastHash = time.Millisecond
	// filled is how much of what can be served in time may wait: not every hash
	// takes the same.
	filled = 0.5
	// perAccount is the share of the places that strangers may have who try the
	// passwords of one account, and again that its known devices may have: one that
	// is in many hands must not push out everybody else.
	perAccount = 0.25
	// perServed is the share of the places that strangers may have, and again known
	// devices, from addresses that had a turn within the usual time: who comes for the
	// first time finds one.
	perServed = 0.5
	// knownTurns of known devices are followed by one of a stranger.
	knownTurns = 3
	// Those who were turned away come back after 1 to so many seconds, at random, so
	// that they do not return together: usually, and when very many are away.
	usualReturn, mostReturn = 5, 30
	// Who comes back before that, or within the usual time, is answered as late as
	// this, or a client that tries again and again would cost more than one that
	// hashes. No more than maxHeld wait for that, and of so many addresses it is known.
	hold    = 200 * time.Millisecond
	maxHeld = 10_000
)

// NewQueue returns a queue.
func NewQueue(o QueueOptions) *Queue {
	if o.Observer == nil {
		o.Observer = unobserved{}
	}
	q := &Queue{QueueOptions: o, took: max(o.Took, leastHash)}
	for i := range q.lanes {
		q.lanes[i].account = map[string]int{}
	}
	return q
}

// busy turns one away. q.mu is held.
func (q *Queue) busy(reason string) error {
	q.Observer.Shed(reason)
	// Of those who are away twice as many return in a second as can be served: enough
	// for the queue to stay full, and no more, since turning away takes CPU, too.
	rate := float64(q.Slots) / q.took.Seconds()
	most := min(mostReturn, max(usualReturn, int(float64(q.expected.from(time.Now()))/rate)))
	var random [1]byte
	rand.Read(random[:])
	return &RetryError{After: time.Duration(1+int(random[0])%most) * time.Second, Err: ErrBusy}
}

// Visitor is who wants a turn.
type Visitor struct {
	Address     string
	Account     string
	KnownDevice bool // a device that has signed in to this account before
}

// lane is a queue in which addresses take turns.
type lane struct {
	ring    []*backlog // each with somebody waiting; the first is next
	waiting int
	again   int            // who wait, and have had a turn of late
	account map[string]int // who wait, by the account they name
}

// backlog are those who wait from one address, first come first.
type backlog struct {
	address string
	turns   []*place
}

// place is one place in the queue, and then a slot.
type place struct {
	q       *Queue
	v       Visitor
	joined  time.Time
	began   time.Time     // when it got its slot
	granted chan struct{} // closed: it has a slot, or is shed
	shed    error
	early   bool       // its address was told to come later
	again   bool       // its address has had a turn of late
	state   placeState // guarded by q.mu
	hashes  int        // that were made
}

type placeState int

const (
	waiting placeState = iota
	hashing
	over
)

// Len is how many wait.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lanes[0].waiting + q.lanes[1].waiting
}

// join takes a place in the queue, which has to be left. [RetryError].
func (q *Queue) join(v Visitor, now time.Time) (*place, error) {
	t := &place{q: q, v: v, joined: now, granted: make(chan struct{})}
	q.mu.Lock()
	defer q.mu.Unlock()
	t.early = q.away.has(v.Address, now)
	t.again = q.served.has(v.Address, now)
	if q.running < q.Slots {
		q.grant(t)
		return t, nil
	}
	l := q.laneOf(t)
	if v.Account != "" && float64(l.account[v.Account]) >= perAccount*float64(q.capacity()) {
		return nil, q.busy("account")
	}
	if t.again && float64(l.again) >= perServed*float64(q.capacity()) {
		return nil, q.busy("full")
	}
	if q.lanes[0].waiting+q.lanes[1].waiting >= q.capacity() && !q.makeRoom(t) {
		return nil, q.busy("full")
	}
	l.add(t)
	return t, nil
}

// turnAway notes when an address is to come back, and holds up the answer to one
// that was told before.
func (q *Queue) turnAway(ctx context.Context, address string, err error, now time.Time) {
	retry := (*RetryError)(nil)
	if !errors.As(err, &retry) {
		return
	}
	q.mu.Lock()
	early := q.away.has(address, now) && q.held < maxHeld
	if early {
		q.held++
	} else if errors.Is(err, ErrBusy) {
		q.expected.add(now.Add(retry.After))
	}
	// For who was early it begins anew: or who never waits would now and then pass for
	// one who did.
	q.away.keep(address, now, min(retry.After, usualReturn*time.Second))
	q.mu.Unlock()
	if !early {
		return
	}
	wait := time.NewTimer(hold)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
	}
	q.mu.Lock()
	q.held--
	q.mu.Unlock()
}

// capacity is how many can be served within patience.
func (q *Queue) capacity() int {
	return max(q.Slots, int(filled*float64(q.Slots)*float64(q.Patience)/float64(q.took)))
}

func (q *Queue) laneOf(t *place) *lane {
	if t.v.KnownDevice {
		return &q.lanes[1]
	}
	return &q.lanes[0]
}

// makeRoom sheds the newest of those who came earlier than they were told to, for
// one who did not, or else of the address that has most waiting, if that is more
// than t's has, or strangers for a known device.
func (q *Queue) makeRoom(t *place) bool {
	l := &q.lanes[0]
	if l.waiting == 0 {
		l = &q.lanes[1]
	}
	if early := l.newestEarly(); early != nil && !t.early && (t.v.KnownDevice || l == &q.lanes[0]) {
		q.drop(early, "full")
		return true
	}
	longest := slices.MaxFunc(l.ring, func(a, b *backlog) int { return len(a.turns) - len(b.turns) })
	if passes := t.v.KnownDevice && l == &q.lanes[0]; !passes && len(longest.turns) <= l.from(t.v.Address)+1 {
		return false
	}
	q.drop(longest.turns[len(longest.turns)-1], "full")
	return true
}

// drop sheds one who waits. q.mu is held.
func (q *Queue) drop(t *place, reason string) {
	q.laneOf(t).remove(t)
	t.state, t.shed = over, q.busy(reason)
	close(t.granted)
}

func (q *Queue) grant(t *place) {
	q.running++
	t.began, t.state = time.Now(), hashing
	q.served.keep(t.v.Address, t.began, usualReturn*time.Second)
	close(t.granted)
}

// next gives a free slot to whose turn it is. q.mu is held.
func (q *Queue) next() {
	for q.running < q.Slots {
		strangers, known := &q.lanes[0], &q.lanes[1]
		l := strangers
		if known.waiting > 0 && (strangers.waiting == 0 || q.known < knownTurns) {
			l = known
		}
		if l.waiting == 0 {
			return
		}
		if l == known {
			q.known++
		} else {
			q.known = 0
		}
		t := l.ring[0].turns[0]
		l.remove(t)
		l.pass(t.v.Address)
		q.grant(t)
	}
}

// wait returns when it is the turn of t. [RetryError], or the error of ctx.
func (t *place) wait(ctx context.Context) error {
	late := time.NewTimer(time.Until(t.joined.Add(t.q.Patience)))
	defer late.Stop()
	select {
	case <-t.granted:
	case <-ctx.Done():
		return fmt.Errorf("hash password: %w", ctx.Err())
	case <-late.C:
		t.q.mu.Lock()
		if t.state == waiting {
			t.q.drop(t, "late")
		}
		t.q.mu.Unlock()
		<-t.granted
	}
	if t.shed != nil {
		return t.shed
	}
	return nil
}

// leave gives up the place or the slot. It may be called again.
func (t *place) leave() {
	t.q.mu.Lock()
	defer t.q.mu.Unlock()
	switch t.state {
	case waiting:
		t.q.laneOf(t).remove(t)
	case hashing:
		if rest := t.rest(); rest > 0 {
			time.AfterFunc(rest, t.q.release)
			break
		}
		t.q.running--
		t.q.next()
	}
	t.state = over
}

// rest is how long the slot of t has to rest now. What it waited for meanwhile, for
// the CPU or for a database, was rest, too. q.mu is held.
func (t *place) rest() (rest time.Duration) {
	if t.hashes == 0 {
		return 0
	}
	took := time.Since(t.began)
	if t.q.Share != nil {
		work := float64(t.hashes) * float64(t.q.quickest)
		rest = max(0, time.Duration(work/t.q.Share())-took)
	}
	t.q.took = max(leastHash, t.q.took+(took+rest-t.q.took)/16)
	return rest
}

// release frees a slot.
func (q *Queue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running--
	q.next()
}

// hashed notes what a hash took.
func (t *place) hashed(took time.Duration) {
	t.q.mu.Lock()
	t.hashes++
	if t.q.quickest == 0 {
		t.q.quickest = took
	}
	t.q.quickest = min(took, t.q.quickest+(took-t.q.quickest)/64)
	t.q.mu.Unlock()
	t.q.Observer.Hashed(t.began.Sub(t.joined), took)
}

// newestEarly is the last to come of those who were told to come later. Nil: none.
func (l *lane) newestEarly() (newest *place) {
	for _, b := range l.ring {
		for _, t := range b.turns {
			if t.early && (newest == nil || !t.joined.Before(newest.joined)) {
				newest = t
			}
		}
	}
	return newest
}

// from is how many wait from an address.
func (l *lane) from(address string) int {
	if i := l.find(address); i >= 0 {
		return len(l.ring[i].turns)
	}
	return 0
}

func (l *lane) find(address string) int {
	return slices.IndexFunc(l.ring, func(b *backlog) bool { return b.address == address })
}

func (l *lane) add(t *place) {
	l.count(t, 1)
	l.account[t.v.Account]++
	if i := l.find(t.v.Address); i >= 0 {
		l.ring[i].turns = append(l.ring[i].turns, t)
		return
	}
	l.ring = append(l.ring, &backlog{address: t.v.Address, turns: []*place{t}})
}

func (l *lane) count(t *place, n int) {
	l.waiting += n
	if t.again {
		l.again += n
	}
}

// remove takes out one who waits, and its address with the last one.
func (l *lane) remove(t *place) {
	l.count(t, -1)
	if l.account[t.v.Account]--; l.account[t.v.Account] == 0 {
		delete(l.account, t.v.Account)
	}
	i := l.find(t.v.Address)
	b := l.ring[i]
	b.turns = slices.DeleteFunc(b.turns, func(other *place) bool { return other == t })
	if len(b.turns) == 0 {
		l.ring = slices.Delete(l.ring, i, i+1)
	}
}

// pass makes an address the last, after a turn of its own.
func (l *lane) pass(address string) {
	if i := l.find(address); i >= 0 {
		b := l.ring[i]
		l.ring = append(slices.Delete(l.ring, i, i+1), b)
	}
}

// turn waits for a turn, which has to be left.
func (q *Queue) enter(ctx context.Context, v Visitor, admit func(context.Context) error) (*place, error) {
	now := time.Now()
	t, err := q.join(v, now)
	if err != nil {
		q.turnAway(ctx, v.Address, err, time.Now())
		return nil, err
	}
	if admit != nil {
		err = admit(ctx)
	}
	if err == nil {
		err = t.wait(ctx)
	}
	if err != nil {
		t.leave()
		q.turnAway(ctx, v.Address, err, time.Now())
		return nil, err
	}
	return t, nil
}
