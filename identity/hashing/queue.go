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

// Queue decides which request may hash a password now, which one waits and which one is refused. A
// hash keeps a core busy for many milliseconds, so as many requests hash at once as there are slots.
// The others wait for their turn. A request that cannot be served within the queue's patience is
// refused at once.
//
// Addresses take turns, however many requests each of them has waiting: a flood from one address
// delays every other address by one hash. Known devices get three turns of four if they need them.
//
// If the queue is full, a newcomer evicts a request that was retried too early, or else one of the
// address with the most requests waiting. Requests that name the same account, and requests from
// addresses that just had a turn, may fill only a part of the queue. Known devices and all others,
// called strangers, are counted separately for that.
type Queue struct {
	QueueOptions

	mu                 sync.Mutex
	running            int  // turns in a slot, and slots that rest
	strangers, devices lane // the requests that wait: without and with a known device
	deviceTurns        int  // turns of known devices since the last one of a stranger

	backoff      addressMemory // addresses that were refused, until they may try again
	served       addressMemory // addresses that had a turn recently
	absent       returnCounter // refused clients that are expected back
	delayed      int           // refusals that are held back because their clients retried early
	turnTime     time.Duration // of a turn with a hash and the rest after it; a moving average
	shortestHash time.Duration // of recent hashes
}

// QueueOptions configures a [Queue].
type QueueOptions struct {
	Slots int // how many requests hash at once
	// Share is the part of its time that a slot may hash. It rests in between. Nil: all of it.
	Share    func() float64
	Patience time.Duration // how long a request may wait for its turn
	HashTime time.Duration // an estimate of how long a hash takes, until some were measured
	Observer Observer      // may be nil
}

// Observer receives the events of a queue, for metrics. Its methods must not block.
type Observer interface {
	// Hashed reports a password hash: how long it waited for its turn, and how long it took.
	Hashed(waited, took time.Duration)
	// Shed reports a refused request: "full", "account" (too many for one account) or "late" (it waited
	// for longer than the queue's patience).
	Shed(reason string)
}

const (
	// minTurnTime bounds the queue's length when hashes are quick.
	minTurnTime = time.Millisecond
	// fillFactor is the part of the requests that can be served in time that may wait: some hashes
	// take longer than others.
	fillFactor = 0.5
	// accountShare is the part of the queue that strangers may fill who try passwords of one account,
	// and the part that known devices of that account may fill. Otherwise an attack on one account
	// would evict everybody else.
	accountShare = 0.25
	// servedShare is the part of the queue for strangers, and for known devices, whose address had a
	// turn recently. The rest stays free for addresses that come for the first time.
	servedShare = 0.5
	// devicesPerStranger turns of known devices are followed by one of a stranger.
	devicesPerStranger = 3
	// A refused client is told to retry after a random delay of at least 1 second, so that clients do
	// not return together. The delay is at most usualDelay, and at most maxDelay if very many clients
	// are away.
	usualDelay = 5 * time.Second
	maxDelay   = 30 * time.Second
	// earlyPenalty delays the refusal of a client that retries before it was told to. Otherwise a
	// client that retries in a loop would cost more than one that hashes.
	earlyPenalty = 200 * time.Millisecond
	// maxTracked bounds the delayed refusals, and the addresses in each memory.
	maxTracked = 10_000
)

// NewQueue returns a queue.
func NewQueue(o QueueOptions) *Queue {
	return &Queue{
		QueueOptions: o, turnTime: max(o.HashTime, minTurnTime),
		strangers: lane{accounts: map[string]int{}}, devices: lane{accounts: map[string]int{}},
	}
}

// Visitor describes a request that wants a turn.
type Visitor struct {
	Address     string
	Account     string
	KnownDevice bool // the device has signed in to this account before
}

// place is a request's place in the queue, and then its slot.
type place struct {
	queue    *Queue
	lane     *lane
	visitor  Visitor
	joined   time.Time
	began    time.Time     // when it got its slot
	decided  chan struct{} // closed when it has a slot, or was evicted
	evicted  error         // the refusal, if it was evicted
	early    bool          // its address was told to retry later
	returned bool          // its address had a turn recently
	state    placeState    // guarded by queue.mu
	hashes   int           // how many were made in this slot
}

type placeState int

const (
	stateWaiting placeState = iota
	stateHashing
	stateOver
)

// Len returns how many requests wait.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.strangers.waiting + q.devices.waiting
}

// enter waits for a slot, which the caller must leave. See [Hasher.Enter].
func (q *Queue) enter(ctx context.Context, v Visitor, admit func(context.Context) error) (*place, error) {
	p, err := q.join(v, time.Now())
	if err == nil {
		if admit != nil {
			err = admit(ctx)
		}
		if err == nil {
			err = p.wait(ctx)
		}
		if err != nil {
			p.leave()
		}
	}
	if err != nil {
		q.refused(ctx, v.Address, err, time.Now())
		return nil, err
	}
	return p, nil
}

// join takes a place, or returns a [RetryError]. The caller must leave the place.
func (q *Queue) join(v Visitor, now time.Time) (*place, error) {
	p := &place{queue: q, lane: &q.strangers, visitor: v, joined: now, decided: make(chan struct{})}
	if v.KnownDevice {
		p.lane = &q.devices
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	p.early, p.returned = q.backoff.has(v.Address, now), q.served.has(v.Address, now)
	if q.running < q.Slots {
		q.grant(p)
		return p, nil
	}
	l, capacity := p.lane, q.capacity()
	switch {
	case v.Account != "" && float64(l.accounts[v.Account]) >= accountShare*float64(capacity):
		return nil, q.busy("account")
	case p.returned && float64(l.returned) >= servedShare*float64(capacity):
		return nil, q.busy("full")
	case q.strangers.waiting+q.devices.waiting >= capacity && !q.makeRoom(p):
		return nil, q.busy("full")
	}
	l.add(p)
	return p, nil
}

// capacity returns how many requests may wait.
func (q *Queue) capacity() int {
	return max(q.Slots, int(fillFactor*float64(q.Slots)*float64(q.Patience)/float64(q.turnTime)))
}

// makeRoom evicts a waiting request for p and reports whether it found one. q.mu is held.
func (q *Queue) makeRoom(p *place) bool {
	l := &q.strangers
	if l.waiting == 0 {
		l = &q.devices
	}
	precedes := p.visitor.KnownDevice && l == &q.strangers // a known device goes before any stranger
	// A stranger evicts no known device for being early.
	if early := l.newestEarly(); early != nil && !p.early && (p.visitor.KnownDevice || l == &q.strangers) {
		q.evict(early, "full")
		return true
	}
	longest := slices.MaxFunc(l.ring, func(a, b *backlog) int { return len(a.places) - len(b.places) })
	if !precedes && len(longest.places) <= l.waitingFrom(p.visitor.Address)+1 {
		return false
	}
	q.evict(longest.places[len(longest.places)-1], "full")
	return true
}

// evict refuses a request that waits. q.mu is held.
func (q *Queue) evict(p *place, reason string) {
	p.lane.remove(p)
	p.state, p.evicted = stateOver, q.busy(reason)
	close(p.decided)
}

// busy returns the refusal of a request. q.mu is held.
func (q *Queue) busy(reason string) error {
	if q.Observer != nil {
		q.Observer.Shed(reason)
	}
	// Twice as many clients return in a second as can be served. That keeps the queue full, and no
	// fuller, because refusing takes CPU too.
	served := time.Duration(q.absent.count(time.Now())) * q.turnTime / time.Duration(q.Slots)
	delay := min(maxDelay, max(usualDelay, served)) / time.Second
	var random [1]byte
	rand.Read(random[:])
	return &RetryError{After: time.Duration(1+int(random[0])%int(delay)) * time.Second, Err: ErrBusy}
}

// refused remembers when a refused client may try again. If the client retried early, refused
// returns only after a delay.
func (q *Queue) refused(ctx context.Context, address string, err error, now time.Time) {
	var retry *RetryError
	if !errors.As(err, &retry) {
		return
	}
	q.mu.Lock()
	early := q.backoff.has(address, now) && q.delayed < maxTracked
	if early {
		q.delayed++
	} else if errors.Is(err, ErrBusy) {
		q.absent.add(now.Add(retry.After))
	}
	// This restarts the wait of a client that retried early. Otherwise a client that retries in a
	// tight loop would sometimes look as if it had waited.
	q.backoff.keep(address, now, min(retry.After, usualDelay))
	q.mu.Unlock()
	if !early {
		return
	}
	penalty := time.NewTimer(earlyPenalty)
	defer penalty.Stop()
	select {
	case <-penalty.C:
	case <-ctx.Done():
	}
	q.mu.Lock()
	q.delayed--
	q.mu.Unlock()
}

// grant gives p a slot. q.mu is held.
func (q *Queue) grant(p *place) {
	q.running++
	p.began, p.state = time.Now(), stateHashing
	q.served.keep(p.visitor.Address, p.began, usualDelay)
	close(p.decided)
}

// next gives the free slots to the requests whose turn it is. q.mu is held.
func (q *Queue) next() {
	for q.running < q.Slots {
		l := &q.strangers
		if q.devices.waiting > 0 && (l.waiting == 0 || q.deviceTurns < devicesPerStranger) {
			l = &q.devices
		}
		if l.waiting == 0 {
			return
		}
		if l == &q.devices {
			q.deviceTurns++
		} else {
			q.deviceTurns = 0
		}
		q.grant(l.next())
	}
}

// release frees a slot.
func (q *Queue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running--
	q.next()
}

// wait returns nil once p has a slot. It returns a [RetryError] if p is evicted, and ctx's error.
func (p *place) wait(ctx context.Context) error {
	late := time.NewTimer(time.Until(p.joined.Add(p.queue.Patience)))
	defer late.Stop()
	select {
	case <-p.decided:
	case <-ctx.Done():
		return fmt.Errorf("hash password: %w", ctx.Err())
	case <-late.C:
		p.queue.mu.Lock()
		if p.state == stateWaiting {
			p.queue.evict(p, "late")
		}
		p.queue.mu.Unlock()
		<-p.decided
	}
	return p.evicted
}

// leave gives up the place or the slot. It may be called again.
func (p *place) leave() {
	q := p.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	switch p.state {
	case stateWaiting:
		p.lane.remove(p)
	case stateHashing:
		if rest := p.rest(); rest > 0 {
			time.AfterFunc(rest, q.release)
			break
		}
		q.running--
		q.next()
	}
	p.state = stateOver
}

// rest returns how long p's slot has to rest now. Time in which the turn waited for the CPU or for a
// database counts as rest. q.mu is held.
func (p *place) rest() (rest time.Duration) {
	if p.hashes == 0 {
		return 0
	}
	q, elapsed := p.queue, time.Since(p.began)
	if q.Share != nil {
		work := float64(p.hashes) * float64(q.shortestHash)
		rest = max(0, time.Duration(work/q.Share())-elapsed)
	}
	q.turnTime = max(minTurnTime, q.turnTime+(elapsed+rest-q.turnTime)/16)
	return rest
}

// hashed records how long a hash took.
func (p *place) hashed(took time.Duration) {
	q := p.queue
	q.mu.Lock()
	p.hashes++
	if q.shortestHash == 0 {
		q.shortestHash = took
	}
	q.shortestHash = min(took, q.shortestHash+(took-q.shortestHash)/64)
	q.mu.Unlock()
	if q.Observer != nil {
		q.Observer.Hashed(p.began.Sub(p.joined), took)
	}
}
