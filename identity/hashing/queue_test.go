package hashing

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
)

// observed notes what a queue tells.
type observed struct {
	unobserved

	mu     sync.Mutex
	shed   []string
	waited []time.Duration
	took   []time.Duration
}

func (o *observed) Shed(reason string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.shed = append(o.shed, reason)
}

func (o *observed) Hashed(waited, took time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waited, o.took = append(o.waited, waited), append(o.took, took)
}

func (o *observed) sheds() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.shed)
}

// queueOf has one slot, whose hashes take a second, and places for so many to wait.
func queueOf(places int) (*Queue, *observed) {
	o := &observed{}
	patience := time.Duration(float64(places)/filled) * time.Second
	return NewQueue(QueueOptions{Slots: 1, Patience: patience, Took: time.Second, Observer: o}), o
}

// arrivals are turns by name: "a1" is the first from the address a, "A1" that
// of a known device there.
type arrivals struct {
	*testing.T
	q     *Queue
	turns map[string]*place
	count map[rune]int
}

// arrive has them come, each by the letter of its address, and returns the last error.
func (a *arrivals) arrive(addresses string) (err error) {
	if a.turns == nil {
		a.turns, a.count = map[string]*place{}, map[rune]int{}
	}
	for _, address := range addresses {
		a.count[address]++
		var t *place
		v := Visitor{Address: string(unicode.ToLower(address)), KnownDevice: unicode.IsUpper(address)}
		if t, err = a.q.join(v, time.Now()); err == nil {
			a.turns[fmt.Sprintf("%c%d", address, a.count[address])] = t
		}
	}
	return err
}

// in are those in a state.
func (a *arrivals) in(s placeState) []string {
	a.q.mu.Lock()
	defer a.q.mu.Unlock()
	var names []string
	for name, t := range a.turns {
		if t.state == s {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// serve ends the hash of whoever has the slot, n times, and returns whom it then
// was given.
func (a *arrivals) serve(n int) string {
	a.Helper()
	var order []string
	for range n {
		holder := a.in(hashing)
		if len(holder) != 1 {
			a.Fatalf("one slot is held by %v", holder)
		}
		a.turns[holder[0]].leave()
		order = append(order, a.in(hashing)...)
	}
	return strings.Join(order, " ")
}

func TestQueueOrder(t *testing.T) {
	for _, c := range []struct{ why, arrive, want string }{
		{"from one address, first come first", "aaa", "a1 a2 a3"},
		{"a flood from one address delays another by one hash", "aaaab", "a1 b1 a2 a3 a4"},
		{"addresses take turns, whatever each has waiting", "aaabbc", "a1 b1 c1 a2 b2 a3"},
		{"three turns of four go to known devices", "abcdABCDE", "A1 B1 C1 a1 D1 E1 b1 c1 d1"},
		{"all of them do when no stranger waits", "ABCDE", "A1 B1 C1 D1 E1"},
		{"all go to strangers when no known device waits", "abcde", "a1 b1 c1 d1 e1"},
		{"known devices of one address take turns like others", "AAAB", "A1 B1 A2 A3"},
		{"an address may have both", "aA", "A1 a1"},
	} {
		q, _ := queueOf(100)
		a := &arrivals{T: t, q: q}
		if err := a.arrive("x" + c.arrive); err != nil {
			t.Fatal(err)
		}
		if got := a.serve(len(c.arrive)); got != c.want {
			t.Errorf("%s: %s come as %s, want %s", c.why, c.arrive, got, c.want)
		}
		if a.serve(1) != "" || q.running != 0 || q.Len() != 0 {
			t.Errorf("%s: %d hash and %d wait when all are done", c.why, q.running, q.Len())
		}
	}
}

// A stranger has waited for all the known devices that went before.
func TestQueueOwesAStrangerATurn(t *testing.T) {
	q, _ := queueOf(100)
	a := &arrivals{T: t, q: q}
	_ = a.arrive("xABCDEF")
	a.serve(4)
	_ = a.arrive("a")
	if got := a.serve(3); got != "a1 E1 F1" {
		t.Errorf("after four known devices: %s", got)
	}
}

func TestQueueOrderOfThoseWhoComeAgain(t *testing.T) {
	q, _ := queueOf(100)
	a := &arrivals{T: t, q: q}
	_ = a.arrive("xab")
	a.serve(1) // a1
	_ = a.arrive("a")
	if got := a.serve(2); got != "b1 a2" {
		t.Errorf("who was just served comes before who waits: %s", got)
	}
}

func TestFullQueue(t *testing.T) {
	for _, c := range []struct {
		why, waiting string // four, which is all that fit
		comes        string
		shed         string // who gives way; "": who comes
	}{
		{"the newest of the address with the most gives way", "aaab", "c", "a3"},
		{"the newest, wherever it stands", "abaa", "c", "a3"},
		{"two of an address are more than none", "aabc", "d", "a2"},
		{"among equals, who comes last has to go", "abcd", "e", ""},
		{"the address with the most gets no more", "aaab", "a", ""},
		{"nor one that would have as many then", "aabc", "b", ""},
		{"a known device takes a stranger's place", "abcd", "E", "a1"},
		{"that of the address with the most", "abbc", "D", "b2"},
		{"strangers go before known devices do, however many these are", "AAAb", "C", "b1"},
		{"known devices share among themselves", "AAAB", "C", "A3"},
		{"no more of them fit than that", "ABCD", "E", ""},
		{"a stranger takes no known device's place", "ABCD", "e", ""},
		{"but that of an address with more than one", "AAAB", "c", "A3"},
	} {
		q, o := queueOf(4)
		a := &arrivals{T: t, q: q}
		if err := a.arrive("x" + c.waiting); err != nil || q.Len() != 4 {
			t.Fatalf("%s: %d wait, %v", c.why, q.Len(), err)
		}
		err := a.arrive(c.comes)
		retry, ok := errors.AsType[*RetryError](err)
		if c.shed == "" && (!ok || !errors.Is(err, ErrBusy) || retry.After <= 0) || c.shed != "" && err != nil {
			t.Errorf("%s: %v", c.why, err)
		}
		var want []string
		if c.shed != "" {
			want = []string{c.shed}
			if dropped := a.turns[c.shed]; !errors.Is(dropped.wait(t.Context()), ErrBusy) {
				t.Errorf("%s: %s is not told", c.why, c.shed)
			}
		}
		if got := a.in(over); !slices.Equal(got, want) || q.Len() != 4 || !slices.Equal(o.sheds(), []string{"full"}) {
			t.Errorf("%s: %v gave way, %d wait, observed %v", c.why, got, q.Len(), o.sheds())
		}
	}
}

// always is a Share that does not change.
func always(share float64) func() float64 { return func() float64 { return share } }

func TestQueueShareOfAnAccount(t *testing.T) {
	q, o := queueOf(16)
	join := func(address, account string, known bool) (*place, error) {
		return q.join(Visitor{address, account, known}, time.Now())
	}
	holder, _ := join("x", "bob", false)
	var attack []*place
	for _, known := range []bool{false, true} {
		for i := range 4 { // a quarter
			turn, err := join(fmt.Sprint(i), "ada", known)
			if err != nil {
				t.Fatalf("known %t, number %d: %v", known, i, err)
			}
			attack = append(attack, turn)
		}
		if _, err := join("y", "ada", known); !errors.Is(err, ErrBusy) || !slices.Equal(o.sheds(), []string{"account"}) {
			t.Errorf("known %t: one more of the same Account: %v, %v", known, err, o.sheds())
		}
		o.shed = nil
	}
	if _, err := join("y", "bob", false); err != nil {
		t.Errorf("another Account: %v", err)
	}
	for range 5 {
		if _, err := join("z", "", false); err != nil {
			t.Errorf("those who name none: %v", err)
		}
	}
	attack[0].leave()
	if _, err := join("y", "ada", false); err != nil {
		t.Errorf("after one left: %v", err)
	}
	holder.leave() // and a known device hashes
	if _, err := join("y", "ada", true); err != nil {
		t.Errorf("after one got its turn: %v", err)
	}
}

func TestQueueCapacity(t *testing.T) {
	for _, c := range []struct {
		why            string
		slots          int
		patience, took time.Duration
		want           int
	}{
		{"half of what can be served in time", 2, 4 * time.Second, 50 * time.Millisecond, 80},
		{"less with slower hashes", 2, 4 * time.Second, 500 * time.Millisecond, 8},
		{"as many as hash at least", 4, time.Second, 10 * time.Second, 4},
		{"with no guess, of hashes that take no time, bounded all the same", 1, time.Second, 0, 500},
	} {
		q := NewQueue(QueueOptions{Slots: c.slots, Patience: c.patience, Took: c.took})
		if got := q.capacity(); got != c.want {
			t.Errorf("%s: %d, want %d", c.why, got, c.want)
		}
	}
}

func TestQueueMeasures(t *testing.T) {
	for _, c := range []struct {
		why   string
		share float64
		took  time.Duration
		want  int // of four slots, with a patience of 8 s
	}{
		{"as guessed", 1, 100 * time.Millisecond, 160},
		{"slower than guessed", 1, 400 * time.Millisecond, 40},
		{"quicker than guessed", 1, 50 * time.Millisecond, 320},
		{"with a rest of as long", 0.5, 100 * time.Millisecond, 80},
		{"in no time at all", 1, 0, 16000},
	} {
		synctest.Test(t, func(t *testing.T) {
			o := &observed{}
			q := NewQueue(QueueOptions{Slots: 4, Share: always(c.share), Patience: 8 * time.Second, Took: 100 * time.Millisecond, Observer: o})
			for range 300 {
				turn, err := q.join(Visitor{}, time.Now())
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(c.took)
				turn.hashed(c.took)
				turn.leave()
				time.Sleep(c.took) // it may rest
				synctest.Wait()
			}
			if got := q.capacity(); got < c.want*98/100 || got > c.want*102/100 {
				t.Errorf("%s: %d, want %d", c.why, got, c.want)
			}
			if len(o.took) != 300 || o.took[0] != c.took {
				t.Errorf("%s: observed %d hashes, %v", c.why, len(o.took), o.took[0])
			}
		})
	}
}

func TestQueuePatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, o := queueOf(2) // a patience of 4 s
		holder, err := q.enter(t.Context(), Visitor{Address: "x"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		_, err = q.enter(t.Context(), Visitor{Address: "a", Account: "ada"}, nil)
		if waited := time.Since(begun); !errors.Is(err, ErrBusy) || waited != 4*time.Second || !slices.Equal(o.sheds(), []string{"late"}) {
			t.Errorf("after %v: %v, observed %v", waited, err, o.sheds())
		}
		if q.Len() != 0 || len(q.lanes[0].account) != 0 {
			t.Errorf("who went is still there: %d, %v", q.Len(), q.lanes[0].account)
		}

		// In time, and just so.
		time.AfterFunc(4*time.Second-1, holder.leave)
		begun = time.Now()
		next, err := q.enter(t.Context(), Visitor{Address: "a"}, nil)
		if err != nil || time.Since(begun) != 4*time.Second-1 || next.began != time.Now() {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		next.leave()
	})
}

func TestQueueIsLeftByWhoGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, o := queueOf(10)
		holder, err := q.enter(t.Context(), Visitor{Address: "x"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		for _, known := range []bool{false, true} {
			go func() {
				_, err := q.enter(ctx, Visitor{"a", "ada", known}, nil)
				gone <- err
			}()
		}
		stays := make(chan error)
		go func() {
			next, err := q.enter(t.Context(), Visitor{Address: "b"}, nil)
			if err == nil {
				defer next.leave()
			}
			stays <- err
		}()
		synctest.Wait()
		if q.Len() != 3 {
			t.Fatalf("%d wait", q.Len())
		}
		cancel()
		for range 2 {
			if err := <-gone; !errors.Is(err, context.Canceled) {
				t.Errorf("who gave up is told: %v", err)
			}
		}
		if q.Len() != 1 || len(q.lanes[0].account) != 1 || len(q.lanes[1].account) != 0 || len(o.sheds()) != 0 {
			t.Errorf("%d wait, %v, %v", q.Len(), q.lanes[0].account, o.sheds())
		}
		holder.leave()
		if err := <-stays; err != nil {
			t.Errorf("who waited behind them: %v", err)
		}
	})
}

// Whose context ends at the moment that the slot is given to them gives it back.
func TestSlotOfWhoGaveUpIsFree(t *testing.T) {
	q, _ := queueOf(10)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		if turn, err := q.enter(ctx, Visitor{}, nil); err == nil {
			turn.leave()
		} else if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if q.running != 0 || q.Len() != 0 {
			t.Fatalf("%d hash, %d wait", q.running, q.Len())
		}
	}
}

func TestSlotRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(QueueOptions{Slots: 1, Share: always(0.25), Patience: time.Minute, Took: time.Second})
		h := quick(t, q, func(context.Context) error { time.Sleep(time.Second); return nil })
		begun := time.Now()
		for range 3 {
			if _, err := h.Hash(t.Context(), "password"); err != nil {
				t.Fatal(err)
			}
		}
		// Each second of work is followed by three of rest, the last by one that nobody waits for.
		if took := time.Since(begun); took != 9*time.Second {
			t.Errorf("three hashes took %v", took)
		}
		synctest.Wait()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if q.running != 0 {
			t.Error("the slot still rests")
		}
	})
}

// TestQueueRestsFromWorkAlone: what a turn had to wait for the CPU, or else, is part
// of its slot's rest; and each of its hashes earns some.
func TestQueueRestsFromWorkAlone(t *testing.T) {
	for _, c := range []struct {
		before, took, after time.Duration
		hashes              int
		least, most         time.Duration
	}{
		{0, time.Second, 0, 1, time.Second, time.Second},
		{0, time.Second, 0, 2, 2 * time.Second, 2 * time.Second},
		{100 * time.Millisecond, time.Second, 200 * time.Millisecond, 1, 700 * time.Millisecond, 700 * time.Millisecond},
		{0, 1500 * time.Millisecond, 0, 1, 500 * time.Millisecond, 550 * time.Millisecond},
		{0, 3 * time.Second, 0, 1, 0, 0},
		{100 * time.Millisecond, 0, 0, 0, 0, 0}, // no hash: gave up, or no such user
	} {
		synctest.Test(t, func(t *testing.T) {
			q := NewQueue(QueueOptions{Slots: 1, Share: always(0.5), Patience: time.Minute, Took: time.Second})
			q.quickest = time.Second
			turn, err := q.join(Visitor{}, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(c.before)
			for range c.hashes {
				time.Sleep(c.took)
				turn.hashed(c.took)
			}
			time.Sleep(c.after)
			if got := turn.rest(); got < c.least || got > c.most {
				t.Errorf("%+v: %v", c, got)
			}
			if c.hashes == 0 && q.took != time.Second {
				t.Errorf("a turn without a hash is taken for one of %v", q.took)
			}
		})
	}
}

func TestWhenToComeBack(t *testing.T) {
	q, o := queueOf(1)
	seen := map[time.Duration]int{}
	for range 500 {
		retry, ok := errors.AsType[*RetryError](q.busy("full"))
		if !ok {
			t.Fatal("no RetryError")
		}
		seen[retry.After]++
	}
	want := []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 4 * time.Second, 5 * time.Second}
	if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, want) || len(o.sheds()) != 500 {
		t.Errorf("told to come back after %v", seen)
	}
}

// The more are away, the later the next ones are to come back; and when all are
// back, it is as before.
func TestCrowdComesBackLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(QueueOptions{Slots: 1, Patience: 40 * time.Millisecond, Took: 20 * time.Millisecond})
		for range 2 {
			if _, err := q.join(Visitor{Address: "x"}, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		arrived := 0
		told := func(n int) (longest time.Duration) {
			for range n {
				arrived++
				_, err := q.enter(t.Context(), Visitor{Address: fmt.Sprint("a", arrived)}, nil)
				if retry, ok := errors.AsType[*RetryError](err); ok {
					longest = max(longest, retry.After)
				}
			}
			return longest
		}
		rate := 1 / q.took.Seconds()
		if got := told(int(usualReturn * rate)); got > usualReturn*time.Second {
			t.Errorf("as many as usual: %v", got)
		}
		some := int(15*rate) - arrived
		told(some)
		if got := told(200); got < 12*time.Second || got > 20*time.Second {
			t.Errorf("as many as are served in 15 s: %v", got)
		}
		told(int(100 * rate))
		if got := told(200); got < 25*time.Second || got > mostReturn*time.Second {
			t.Errorf("very many: %v", got)
		}
		for address, until := range q.away.until {
			if d := time.Until(until); d > usualReturn*time.Second {
				t.Errorf("%s is early for %v", address, d)
			}
		}
		all := q.expected.from(time.Now())
		time.Sleep(time.Second)
		if left := q.expected.from(time.Now()); left < all*9/10 || left > all {
			t.Errorf("of %d, %d are away a second later", all, left)
		}
		time.Sleep(mostReturn * time.Second)
		if got := told(3); got > usualReturn*time.Second {
			t.Errorf("all are back: %v", got)
		}
		if n := q.expected.from(time.Now().Add(time.Hour)); n != 0 {
			t.Errorf("%d are away for ever", n)
		}
	})
}

// Half of the places are for who has had no turn of late.
func TestWhoHadATurnLeavesRoom(t *testing.T) {
	q, o := queueOf(4)
	now := time.Now()
	join := func(address string, known bool) (*place, error) {
		return q.join(Visitor{Address: address, KnownDevice: known}, now)
	}
	for _, address := range []string{"a", "b", "c"} {
		turn, err := join(address, false)
		if err != nil {
			t.Fatal(err)
		}
		turn.leave()
	}
	holder, err := join("x", false)
	if err != nil {
		t.Fatal(err)
	}
	var waits []*place
	for _, c := range []struct {
		address   string
		known, in bool
	}{
		{"a", false, true},
		{"b", false, true},
		{"c", false, false},
		{"a", false, false},
		{"c", true, true},
		{"n", false, true},
	} {
		turn, err := join(c.address, c.known)
		if (err == nil) != c.in || err != nil && !errors.Is(err, ErrBusy) {
			t.Errorf("%s, known %t: %v", c.address, c.known, err)
		}
		if err == nil {
			waits = append(waits, turn)
		}
	}
	if got := o.sheds(); !slices.Equal(got, []string{"full", "full"}) {
		t.Errorf("shed as %q", got)
	}
	waits[0].leave() // of two that were served
	if _, err := join("c", false); err != nil {
		t.Errorf("in the place of one who left: %v", err)
	}
	for _, turn := range append(waits[1:], holder) {
		turn.leave()
	}
	now = time.Now().Add(usualReturn * time.Second)
	for range 4 {
		if _, err := join("a", false); err != nil {
			t.Errorf("a while later: %v", err)
		}
	}
}

// filledQueue has a slot and one place, both taken for as long as the test.
func filledQueue(t *testing.T) *Queue {
	q, _ := queueOf(1)
	a := &arrivals{T: t, q: q}
	if err := a.arrive("xy"); err != nil {
		t.Fatal(err)
	}
	return q
}

// TestWhoComesBackEarlyGivesWay: a full queue has room for who was not told to
// come later, at the cost of who was; however few places each of those has.
func TestWhoComesBackEarlyGivesWay(t *testing.T) {
	q, _ := queueOf(2)
	now := time.Now()
	retry := &RetryError{After: 5 * time.Second, Err: ErrBusy}
	for _, rude := range []string{"a", "b"} {
		q.turnAway(t.Context(), rude, retry, now)
	}
	join := func(address string, at time.Time) (*place, error) { return q.join(Visitor{Address: address}, at) }
	if _, err := join("x", now); err != nil { // hashes
		t.Fatal(err)
	}
	first, err := join("a", now)
	if err != nil {
		t.Fatal(err)
	}
	second, err := join("b", now.Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := join("a", now.Add(time.Second)); !errors.Is(err, ErrBusy) {
		t.Errorf("one who came early made room for himself: %v", err)
	}
	if _, err := join("c", now.Add(time.Second)); err != nil || second.shed == nil || first.shed != nil {
		t.Errorf("a newcomer: %v; the last of the early ones was shed: %v", err, second.shed)
	}
	if _, err := join("d", now.Add(time.Second)); err != nil || first.shed == nil {
		t.Errorf("another newcomer: %v; the other early one was shed: %v", err, first.shed)
	}
	if _, err := join("e", now.Add(time.Second)); !errors.Is(err, ErrBusy) {
		t.Errorf("nobody is early any more: %v", err)
	}
}

// A known device keeps its place before a stranger, early or not.
func TestKnownDeviceThatComesBackEarlyKeepsItsPlace(t *testing.T) {
	q, _ := queueOf(1)
	now := time.Now()
	q.turnAway(t.Context(), "a", &RetryError{After: 5 * time.Second, Err: ErrBusy}, now)
	if _, err := q.join(Visitor{Address: "x"}, now); err != nil { // hashes
		t.Fatal(err)
	}
	known, err := q.join(Visitor{Address: "a", KnownDevice: true}, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.join(Visitor{Address: "b"}, now); !errors.Is(err, ErrBusy) || known.shed != nil {
		t.Errorf("a stranger: %v; the known device was shed: %v", err, known.shed)
	}
}

func TestWhoComesBackEarlyIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := filledQueue(t)
		come := func(ctx context.Context, address string) (held, after time.Duration) {
			t.Helper()
			begun := time.Now()
			_, err := q.enter(ctx, Visitor{Address: address}, nil)
			retry, ok := errors.AsType[*RetryError](err)
			if !ok {
				t.Fatalf("a full queue says %v", err)
			}
			return time.Since(begun), retry.After
		}
		if held, _ := come(t.Context(), "a"); held != 0 {
			t.Errorf("held at the first time: %v", held)
		}
		var after time.Duration
		for range 100 { // each time it begins anew
			var held time.Duration
			if held, after = come(t.Context(), "a"); held != hold {
				t.Fatalf("back too early: held %v", held)
			}
			time.Sleep(min(after, usualReturn*time.Second) - hold - 1)
		}
		if held, _ := come(t.Context(), "b"); held != 0 {
			t.Errorf("another address is held %v", held)
		}
		time.Sleep(time.Nanosecond)
		if held, _ := come(t.Context(), "a"); held != 0 {
			t.Errorf("back in time: held %v", held)
		}

		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(hold/2, cancel)
		if held, _ := come(ctx, "a"); held != hold/2 {
			t.Errorf("who gives up is held %v", held)
		}
		if q.held != 0 {
			t.Errorf("%d are held when nobody is", q.held)
		}
		q.held = maxHeld
		if held, _ := come(t.Context(), "a"); held != 0 || q.held != maxHeld {
			t.Errorf("one more than may be held is held %v", held)
		}
	})
}

func TestFewAreRememberedToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := filledQueue(t)
		flood := func(name string) {
			for i := range maxHeld + 10 {
				_, _ = q.enter(t.Context(), Visitor{Address: fmt.Sprint(name, i)}, nil)
			}
		}
		flood("a")
		if len(q.away.until) != maxHeld {
			t.Errorf("%d addresses are remembered", len(q.away.until))
		}
		time.Sleep(mostReturn * time.Second)
		flood("b")
		if _, old := q.away.until["a0"]; old || len(q.away.until) != maxHeld {
			t.Errorf("%d addresses are remembered after all could be back", len(q.away.until))
		}
		// To look at all of them for each one more would cost more than a hash.
		stale := time.Now()
		q.away.until["b0"] = stale
		time.Sleep(sweepEvery - 1)
		flood("c")
		if q.away.until["b0"] != stale {
			t.Error("looked through again within the second")
		}
	})
}

// A hash ends the turn of its request; a second one, as to re-hash, waits again,
// as the same visitor.
func TestOneTurnIsOneHash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, o := queueOf(10)
		h := quick(t, q, func(context.Context) error { time.Sleep(time.Second); return nil })
		v := Visitor{"a", "ada", true}
		turn, err := h.Enter(t.Context(), v, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := turn.VerifyNobody(t.Context(), "password"); err != nil || q.running != 0 {
			t.Fatalf("%d hash after it, %v", q.running, err)
		}
		holder, err := q.enter(t.Context(), Visitor{Address: "x"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() {
			_, err := turn.Hash(t.Context(), "password")
			done <- err
		}()
		synctest.Wait()
		if waits := q.lanes[1]; waits.waiting != 1 || waits.ring[0].turns[0].v != v {
			t.Errorf("the second hash does not wait as the same visitor: %+v", waits)
		}
		holder.leave()
		if err := <-done; err != nil {
			t.Error(err)
		}
		turn.Leave()
		turn.Leave()
		if q.running != 0 || len(o.took) != 2 {
			t.Errorf("%d hash, %d were observed", q.running, len(o.took))
		}
	})
}

// A request that hashes nothing after all gives its turn back.
func TestTurnThatIsNotUsed(t *testing.T) {
	q, _ := queueOf(10)
	h := quick(t, q, func(context.Context) error { return nil })
	turn, err := h.Enter(t.Context(), Visitor{}, nil)
	if err != nil || q.running != 1 {
		t.Fatalf("%d hash, %v", q.running, err)
	}
	turn.Leave()
	turn.Leave()
	if q.running != 0 {
		t.Errorf("%d hash after all left", q.running)
	}
}

// Many come, wait, give up and hash, and nothing is left of it.
func TestQueueUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slots, requests = 3, 2000
		o := &observed{}
		q := NewQueue(QueueOptions{Slots: slots, Share: always(0.8), Patience: 4 * time.Second, Took: 50 * time.Millisecond, Observer: o})
		var now, most, hashed atomic.Int64
		h := quick(t, q, func(context.Context) error {
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(50 * time.Millisecond)
			now.Add(-1)
			hashed.Add(1)
			return nil
		})
		random := rand.New(rand.NewPCG(1, 2))
		var running sync.WaitGroup
		var answered atomic.Int64
		for range requests {
			time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond)
			v := Visitor{fmt.Sprint(random.IntN(40)), fmt.Sprint(random.IntN(20)), random.IntN(3) == 0}
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(6000))*time.Millisecond)
			running.Go(func() {
				defer cancel()
				turn, err := h.Enter(ctx, v, nil)
				if err == nil {
					defer turn.Leave()
					err = turn.VerifyNobody(ctx, "password")
				}
				if err == nil || errors.Is(err, ErrBusy) || errors.Is(err, context.DeadlineExceeded) {
					answered.Add(1)
				}
			})
		}
		running.Wait()
		time.Sleep(time.Minute)
		synctest.Wait()
		if most.Load() != slots || answered.Load() != requests || hashed.Load() == 0 || len(o.sheds()) == 0 {
			t.Errorf("at most %d at once; %d of %d answered, %d hashed, %d shed", most.Load(), answered.Load(), requests, hashed.Load(), len(o.sheds()))
		}
		for i, l := range q.lanes {
			if l.waiting != 0 || len(l.ring) != 0 || len(l.account) != 0 {
				t.Errorf("left in lane %d: %+v", i, l)
			}
		}
		if q.running != 0 || q.held != 0 {
			t.Errorf("%d hash, %d are held", q.running, q.held)
		}
	})
}

// quick is a Hasher whose engine is a function.
func quick(t *testing.T, q *Queue, f engineFunc) *Hasher {
	t.Helper()
	h, err := NewInsecureHasher(4, nil)
	if err != nil {
		t.Fatal(err)
	}
	h.Queue, h.Engine = q, f
	return h
}

type engineFunc func(ctx context.Context) error

func (f engineFunc) Compare(ctx context.Context, _, _ []byte) error { return f(ctx) }

func (f engineFunc) Generate(ctx context.Context, secret []byte, cost int) ([]byte, error) {
	if err := f(ctx); err != nil {
		return nil, err
	}
	return inProcess{}.Generate(ctx, secret, cost)
}
