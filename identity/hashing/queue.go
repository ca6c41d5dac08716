package hashing

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Queue decides which request may hash a password now, which request waits and which is refused. A
// hash keeps a core busy for many milliseconds, so only a fixed number of requests may hash at once.
// Each of these has a slot, and the other requests wait for one. The queue is only so long that most
// requests get a slot within [QueueOptions.Patience], the longest time that a request may wait.
//
// A known device has signed in to the account before; every other client is an unknown device. While requests
// of both wait, three slots go to known devices and then one to an unknown device. Within each kind, one request of
// each network is served in turn, and within a network one of each client address. A flood from one network
// then delays all others by one hash, from however many of its addresses it comes.
//
// If the queue is full, a new request evicts a request whose client retried before it was told to, or
// else one from the network with the most waiting requests. Requests for the same account may fill
// only a part of the queue, and so may requests from client addresses that got a slot in the last 5
// seconds. These two bounds count requests of known and unknown devices separately. A part of the queue is
// for networks from which somebody signed in in the last day, so that a flood from many networks does not
// shut out the places where people sign in.
//
// After a hash, a slot may have to stay empty for a while, to leave CPU time for everything else.
type Queue struct {
	QueueOptions

	mu                 sync.Mutex
	running            int  // how many of the Slots hold a request or must stay empty for a while
	strangers, devices lane // waiting requests of unknown devices, and of known devices
	deviceTurns        int  // how many known devices were served since an unknown device was last served

	backoff      addressMemory // refused client addresses; each expires when its client may retry
	served       addressMemory // client addresses that were allowed to hash in the last 5 s
	proven       addressMemory // networks from which somebody signed in in the last day
	absent       returnCounter // how many refused clients have yet to retry
	delayed      int           // how many responses are delayed because their clients retried too early
	turnTime     time.Duration // moving average of how long a request that hashes keeps its slot from the next request
	shortestHash time.Duration // the shortest time that a recent hash took
}

// QueueOptions configures a [Queue].
type QueueOptions struct {
	Slots int // how many requests may hash at once
	// Share returns the part of the time, from 0 to 1, for which each of the Slots may hash; nil means 1.
	Share    func() float64
	Patience time.Duration // how long a request may wait before it is refused
	HashTime time.Duration // first estimate of how long a hash takes; the queue then measures real hashes
	Observer Observer      // may be nil
}

// Observer receives the events of a queue, for metrics. The methods must not block.
type Observer interface {
	// Hashed reports a password hash: how long its request waited in the queue, and how long bcrypt took.
	Hashed(waited, took time.Duration)
	// Shed reports a refused request and its client. The reason is "full" (the queue is full), "account" (too
	// many requests name the same account) or "late" (the request waited for [QueueOptions.Patience]).
	Shed(reason string, v Visitor)
}

const (
	// minTurnTime is the lowest average time per request that the queue assumes. Very quick hashes would
	// otherwise make the queue very long.
	minTurnTime = time.Millisecond
	// fillFactor is the length of the queue, divided by the number of requests that can be served within
	// [QueueOptions.Patience]. It is below 1 because some hashes take longer than the average.
	fillFactor = 0.5
	// accountShare is the part of the queue that requests for one account may fill. Requests of known and
	// unknown devices are counted separately. Without this bound, an attack on one account
	// would evict everybody else.
	accountShare = 0.25
	// servedShare is the part of the queue that requests from addresses that hashed in the last 5 seconds
	// may fill. Requests of known and unknown devices are counted separately.
	servedShare = 0.5
	// unprovenShare is the part of the queue that requests of unknown devices may fill if nobody signed in from
	// their network in the last day.
	unprovenShare = 0.75
	provenFor     = 24 * time.Hour
	// devicesPerStranger is how many known devices are served before each unknown device, if both wait.
	devicesPerStranger = 3
	// A refused client is told to retry after a random delay of at least 1 second. Otherwise all refused
	// clients would return together. The delay is at most usualDelay, or up to maxDelay while very many
	// refused clients have yet to retry.
	usualDelay = 5 * time.Second
	maxDelay   = 30 * time.Second
	// earlyPenalty delays the response to a client that retries before it was told to. Otherwise a
	// client that retries in a loop would use more CPU than a client that hashes.
	earlyPenalty = 200 * time.Millisecond
	// maxTracked bounds the number of delayed responses, and of client addresses in each [addressMemory].
	maxTracked = 10_000
	// maxProven bounds the number of networks that are remembered for a day, in about 10 MB.
	maxProven = 100_000
)

// NewQueue returns an empty queue.
func NewQueue(o QueueOptions) *Queue {
	return &Queue{
		QueueOptions: o, turnTime: max(o.HashTime, minTurnTime),
		backoff: addressMemory{most: maxTracked}, served: addressMemory{most: maxTracked}, proven: addressMemory{most: maxProven},
		strangers: lane{accounts: map[string]int{}}, devices: lane{accounts: map[string]int{}},
	}
}

// Visitor describes the client of a request that wants to hash a password.
type Visitor struct {
	Address     string // IP address of the client, or the network of which it has all addresses
	Network     string // a larger network, which may belong to one customer
	Account     string
	KnownDevice bool // the device has signed in to this account before
}

// place is a request in the queue. The request waits until it gets a slot, in which it may hash.
type place struct {
	queue    *Queue
	lane     *lane
	visitor  Visitor
	joined   time.Time
	began    time.Time     // when the request was allowed to hash
	decided  chan struct{} // closed when the request may hash or was evicted
	evicted  error         // if the request was evicted, the error for its caller
	early    bool          // the client retried before it was told to
	returned bool          // a request from the same client address was allowed to hash in the last 5 s
	proven   bool          // somebody signed in from the same network in the last day
	state    placeState    // guarded by queue.mu
	hashes   float64       // how much the request has hashed so far, in hashes at the current cost
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

// enter waits until a request may hash. The caller must call leave on the returned place.
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
		q.refused(ctx, v, err, time.Now())
		return nil, err
	}
	return p, nil
}

// join adds a request to the queue, or returns a [RetryError] if the queue refuses the request. The caller
// must call leave on the returned place.
func (q *Queue) join(v Visitor, now time.Time) (*place, error) {
	p := &place{queue: q, lane: &q.strangers, visitor: v, joined: now, decided: make(chan struct{})}
	if v.KnownDevice {
		p.lane = &q.devices
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	p.early, p.returned = q.backoff.has(v.Address, now), q.served.has(v.Address, now)
	p.proven = v.KnownDevice || q.proven.has(v.Network, now)
	if n := p.lane.network(v.Network); n != nil {
		p.proven = n.ring[0].places[0].proven // all requests of a network that wait at the same time count alike
	}
	if q.running < q.Slots {
		q.grant(p)
		return p, nil
	}
	l, capacity := p.lane, q.capacity()
	switch {
	case v.Account != "" && float64(l.accounts[v.Account]) >= accountShare*float64(capacity):
		return nil, q.busy("account", v)
	case p.returned && float64(l.returned) >= servedShare*float64(capacity):
		return nil, q.busy("full", v)
	case !p.proven && float64(l.unproven) >= unprovenShare*float64(capacity) && !q.makeRoom(p, true):
		return nil, q.busy("full", v)
	case q.strangers.waiting+q.devices.waiting >= capacity && !q.makeRoom(p, false):
		return nil, q.busy("full", v)
	}
	l.add(p)
	return p, nil
}

// capacity returns how many requests may wait.
func (q *Queue) capacity() int {
	return max(q.Slots, int(fillFactor*float64(q.Slots)*float64(q.Patience)/float64(q.turnTime)))
}

// makeRoom evicts a waiting request to make room for the new request p. If unproven is set, it evicts only a
// request from a network without a recent login. It returns false if p may not evict any request. The caller
// holds q.mu.
func (q *Queue) makeRoom(p *place, unproven bool) bool {
	l := &q.strangers
	if l.waiting == 0 {
		l = &q.devices
	}
	// An unknown device may not evict a request of a known device, even if it retried too early.
	if early := l.newestEarly(unproven); early != nil && !p.early && (p.visitor.KnownDevice || l == &q.strangers) {
		q.evict(early, "full")
		return true
	}
	longest, own := l.longest(unproven), l.network(p.visitor.Network)
	switch {
	case p.visitor.KnownDevice && l == &q.strangers: // a known device may evict any request of an unknown device
	case longest.waiting > own.length()+1:
	case own != nil && len(own.longest().places) > own.waitingFrom(p.visitor.Address)+1:
		longest = own
	default:
		return false
	}
	q.evict(longest.longest().newest(), "full")
	return true
}

// evict refuses a waiting request. The caller holds q.mu.
func (q *Queue) evict(p *place, reason string) {
	p.lane.remove(p)
	p.state, p.evicted = stateOver, q.busy(reason, p.visitor)
	close(p.decided)
}

// busy returns the error of a request that the queue refuses. The caller holds q.mu.
func (q *Queue) busy(reason string, v Visitor) error {
	if q.Observer != nil {
		q.Observer.Shed(reason, v)
	}
	// With these delays, twice as many refused clients return in each second as can be served. This keeps
	// the queue full. If more clients returned, refusing them would use up the CPU.
	served := time.Duration(q.absent.count(time.Now())) * q.turnTime / time.Duration(q.Slots)
	delay := min(maxDelay, max(usualDelay, served)) / time.Second
	var random [1]byte
	rand.Read(random[:])
	return &RetryError{After: time.Duration(1+int(random[0])%int(delay)) * time.Second, Err: ErrBusy}
}

// refused records when the client of a refused request may retry. If the request was itself a retry that
// came too early, refused returns only after a delay. A request from another address of the same network is
// delayed too. Otherwise a client that has many addresses could retry in a loop.
func (q *Queue) refused(ctx context.Context, v Visitor, err error, now time.Time) {
	var retry *RetryError
	if !errors.As(err, &retry) {
		return
	}
	q.mu.Lock()
	early := q.backoff.has(v.Address, now)
	delay := (early || q.backoff.has(v.Network, now)) && q.delayed < maxTracked
	if delay {
		q.delayed++
	}
	if !early && errors.Is(err, ErrBusy) {
		q.absent.add(now.Add(retry.After))
	}
	// Restart the wait for a client that retried early. Otherwise a client that retries in a tight loop
	// would sometimes look as if it had waited.
	q.backoff.keep(v.Address, now, min(retry.After, usualDelay))
	if v.Network != "" {
		q.backoff.keep(v.Network, now, min(retry.After, usualDelay))
	}
	q.mu.Unlock()
	if !delay {
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

// grant gives a free slot to the request p, which may then hash. The caller holds q.mu.
func (q *Queue) grant(p *place) {
	q.running++
	p.began, p.state = time.Now(), stateHashing
	q.served.keep(p.visitor.Address, p.began, usualDelay)
	close(p.decided)
}

// next gives the free slots to waiting requests, which may then hash. The caller holds q.mu.
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

// release makes a slot of the queue available again. After a hash, a slot must stay unused for a while.
func (q *Queue) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.running--
	q.next()
}

// wait returns nil as soon as the request may hash, a [RetryError] if it is evicted, or ctx's error.
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

// leave removes the request from the queue and frees its slot. Calling it a second time does nothing.
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

// rest returns how long the slot must stay empty after the request p has hashed. Time for which p only
// waited for the CPU or a database shortens that time. The caller holds q.mu.
func (p *place) rest() (rest time.Duration) {
	if p.hashes == 0 {
		return 0
	}
	q, elapsed := p.queue, time.Since(p.began)
	if q.Share != nil {
		work := p.hashes * float64(q.shortestHash)
		rest = max(0, time.Duration(work/q.Share())-elapsed)
	}
	q.turnTime = max(minTurnTime, q.turnTime+(elapsed+rest-q.turnTime)/16)
	return rest
}

// hashed records how long a hash of the request took. Its size says as how many hashes at the current cost it
// counts, because the hash of an imported user may cost more.
func (p *place) hashed(took time.Duration, size float64) {
	q := p.queue
	q.mu.Lock()
	p.hashes += size
	usual := time.Duration(float64(took) / size)
	if q.shortestHash == 0 {
		q.shortestHash = usual
	}
	q.shortestHash = min(usual, q.shortestHash+(usual-q.shortestHash)/64)
	q.mu.Unlock()
	if q.Observer != nil {
		q.Observer.Hashed(p.began.Sub(p.joined), took)
	}
}
