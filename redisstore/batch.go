package redisstore

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/sessiond/sessiond/session"
)

// batcher lets the lookups that arrive together travel together: one pipeline
// for all that wait, so that a busy replica pays for its system calls, and Redis
// for its own, once for many.
//
// At low load it stands aside. A lookup that finds no more than one other under way
// goes at once, on its caller's goroutine, and waits for nobody. From the
// third on they wait for the flight that is out, and leave together as it lands.
// At high load those that are ready to run get to ask before it leaves: the
// processor is yielded once, for no time at all when nobody is ready. A crowd travels
// in two flights, so that Redis answers the one while the other is dealt with here.
type batcher struct {
	// send answers all calls. Its context ends after timeout.
	send      func(ctx context.Context, calls []*call)
	timeout   time.Duration
	unbatched bool // all go alone

	mu       sync.Mutex
	waiting  []*call
	alone    int // lookups on their callers' goroutines
	flights  int
	late     int  // flights that are out for longer than patience
	yielding bool // somebody lets others come along, and will launch a flight
	crowded  bool // lately there was company: it is worth a look whether more comes

	calls sync.Pool
}

const (
	// Two alone cost no more than a flight of two, and wait for nothing.
	maxAlone = 2
	// patience is how long those who wait are held up by one slow flight before
	// another is sent past it, of which no more than maxFlights are out.
	patience   = 5 * time.Millisecond
	maxFlights = 4
	// crowd is how many make a second flight worth what it costs.
	crowd = 24
	// maxBatch bounds how long Redis is busy with one flight.
	maxBatch = 256
)

// call is one lookup.
type call struct {
	keys [3]string // see keys.check

	view session.Lookup
	err  error
	done chan struct{} // receives when view and err are there

	alone [1]*call // itself, as a flight of one
	until time.Time
	left  bool // the caller waits no more; guarded by batcher.mu
}

// newCall takes a call that was used before, or makes one.
func (b *batcher) newCall(keys [3]string) *call {
	c, ok := b.calls.Get().(*call)
	if !ok {
		c = &call{done: make(chan struct{}, 1)}
	}
	c.keys, c.view, c.err = keys, session.Lookup{}, nil
	c.until = time.Now().Add(b.timeout)
	return c
}

// answer returns what came for a call, which can then be used again. One whose
// caller has left cannot: its answer may still come.
func (b *batcher) answer(c *call) (session.Lookup, error) {
	view, err := c.view, c.err
	b.calls.Put(c)
	return view, err
}

// look asks for keys, alone or with others, and waits for the answer until ctx
// ends or the timeout is over.
func (b *batcher) look(ctx context.Context, keys [3]string) (session.Lookup, error) {
	c := b.newCall(keys)
	b.mu.Lock()
	if b.mayGoAlone() {
		b.alone++
		b.mu.Unlock()
		b.goAlone(ctx, c)
		return b.answer(c)
	}
	b.waiting = append(b.waiting, c)
	b.launch()
	b.mu.Unlock()

	select {
	case <-c.done:
		return b.answer(c)
	case <-ctx.Done():
		b.mu.Lock()
		c.left = true
		b.mu.Unlock()
		return session.Lookup{}, ctx.Err()
	}
}

// mayGoAlone tells whether so little is under way that a lookup need not wait
// for company. b.mu is held.
func (b *batcher) mayGoAlone() bool {
	switch {
	case b.unbatched:
		return true
	case b.flights > 0, b.alone >= maxAlone, b.yielding:
		return false
	case b.crowded:
		b.yield()
		b.crowded = len(b.waiting) > 0
	}
	return !b.crowded
}

// yield lets those go first who are about to ask, so that they come along. b.mu
// is held, but not meanwhile.
func (b *batcher) yield() {
	b.yielding = true
	b.mu.Unlock()
	runtime.Gosched()
	b.mu.Lock()
	b.yielding = false
}

func (b *batcher) goAlone(ctx context.Context, c *call) {
	ctx, cancel := context.WithDeadline(ctx, c.until)
	c.alone[0] = c
	b.send(ctx, c.alone[:])
	<-c.done
	cancel()
	b.mu.Lock()
	b.alone--
	b.mu.Unlock()
}

// launch sends a flight for those who wait, unless one is out that will take
// them with it soon, or somebody is about to launch it. b.mu is held.
func (b *batcher) launch() {
	if b.flights == maxFlights || b.yielding {
		return
	}
	if onTime := b.flights - b.late; onTime == 0 && len(b.waiting) > 0 || onTime == 1 && len(b.waiting) >= crowd {
		b.flights++
		go b.fly()
	}
}

// fly sends those who wait, flight after flight, until nobody does.
func (b *batcher) fly() {
	var board []*call
	for {
		b.mu.Lock()
		if len(b.waiting) > 0 {
			b.yield()
		}
		board = b.board(board[:0])
		b.crowded = b.crowded || len(board) > 1
		b.launch()
		if len(board) == 0 {
			b.flights--
			b.mu.Unlock()
			return
		}
		f := &flight{batcher: b}
		watch := time.AfterFunc(patience, f.isLate)
		b.mu.Unlock()

		// Who has waited longest sets the time, so that nobody waits past their own. A
		// flight that ends early for the others is a failure that the ledger mends.
		ctx, cancel := context.WithDeadline(context.Background(), board[0].until)
		b.send(ctx, board)
		cancel()
		watch.Stop()
		f.land()
	}
}

// flight is one that is out. Its fields are guarded by the batcher's mu.
type flight struct {
	*batcher
	landed, late bool
}

// isLate is called when the others' patience with a flight ends.
func (f *flight) isLate() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.landed {
		f.late = true
		f.batcher.late++
		f.launch()
	}
}

func (f *flight) land() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.landed = true
	if f.late {
		f.batcher.late--
	}
}

// board takes those who wait, but for those who have left: half of them when no
// other flight is out and they are enough for two. b.mu is held.
func (b *batcher) board(seats []*call) []*call {
	most, taken := maxBatch, 0
	if len(b.waiting) >= 2*crowd && b.flights-b.late == 1 {
		most = min(most, len(b.waiting)/2)
	}
	for _, c := range b.waiting {
		if len(seats) == most {
			break
		}
		taken++
		if !c.left {
			seats = append(seats, c)
		}
	}
	b.waiting = slices.Delete(b.waiting, 0, taken)
	return seats
}
