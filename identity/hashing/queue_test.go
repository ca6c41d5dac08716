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

// recorder is an [Observer] that records refused requests and hashes of the queue.
type recorder struct {
	mu     sync.Mutex
	shed   []string
	waited []time.Duration
	took   []time.Duration
}

func (o *recorder) Shed(reason string, _ Visitor) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.shed = append(o.shed, reason)
}

func (o *recorder) Hashed(waited, took time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waited, o.took = append(o.waited, waited), append(o.took, took)
}

func (o *recorder) sheds() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.shed)
}

// queueOf returns a queue in which one request may hash at once, for an estimated second, and the given
// number of requests may wait.
func queueOf(places int) (*Queue, *recorder) {
	o := &recorder{}
	patience := time.Duration(float64(places)/fillFactor) * time.Second
	q := NewQueue(QueueOptions{Slots: 1, Patience: patience, HashTime: time.Second, Observer: o})
	q.proven.keep("", time.Now(), provenFor) // requests without a network may fill the whole queue
	return q, o
}

// arrivals gives names to the requests in a queue. The request "a1" is the first one of an unknown device
// from client address a. The request "A1" is the first one of a known device from that address.
type arrivals struct {
	*testing.T
	q      *Queue
	places map[string]*place
	count  map[rune]int
}

// arrive adds a request to the queue for each letter, which is the request's client address. A capital
// letter means a known device. arrive returns the last error.
func (a *arrivals) arrive(addresses string) (err error) {
	if a.places == nil {
		a.places, a.count = map[string]*place{}, map[rune]int{}
	}
	for _, address := range addresses {
		a.count[address]++
		var p *place
		v := Visitor{Address: string(unicode.ToLower(address)), KnownDevice: unicode.IsUpper(address)}
		if p, err = a.q.join(v, time.Now()); err == nil {
			a.places[fmt.Sprintf("%c%d", address, a.count[address])] = p
		}
	}
	return err
}

// in returns the sorted names of the requests whose state is s, for example stateWaiting.
func (a *arrivals) in(s placeState) []string {
	a.q.mu.Lock()
	defer a.q.mu.Unlock()
	var names []string
	for name, p := range a.places {
		if p.state == s {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// serve ends the hash of the only request that may hash, n times. It returns the names of the requests that
// were allowed to hash next, in order.
func (a *arrivals) serve(n int) string {
	a.Helper()
	var order []string
	for range n {
		holder := a.in(stateHashing)
		if len(holder) != 1 {
			a.Fatalf("the slot is held by %v, want one request", holder)
		}
		a.places[holder[0]].leave()
		order = append(order, a.in(stateHashing)...)
	}
	return strings.Join(order, " ")
}

func TestQueue_ServesClientAddressesInTurn(t *testing.T) {
	for _, c := range []struct{ why, arrive, want string }{
		{"one address is served in order of arrival", "aaa", "a1 a2 a3"},
		{"a flood from one address delays another address by one hash", "aaaab", "a1 b1 a2 a3 a4"},
		{"addresses take turns, however many requests each of them has", "aaabbc", "a1 b1 c1 a2 b2 a3"},
		{"serves three known devices, then one unknown device", "abcdABCDE", "A1 B1 C1 a1 D1 E1 b1 c1 d1"},
		{"serves only known devices if no unknown device waits", "ABCDE", "A1 B1 C1 D1 E1"},
		{"serves only unknown devices if no known device waits", "abcde", "a1 b1 c1 d1 e1"},
		{"addresses of known devices take turns too", "AAAB", "A1 B1 A2 A3"},
		{"one address may have both unknown and known devices", "aA", "A1 a1"},
	} {
		q, _ := queueOf(100)
		a := &arrivals{T: t, q: q}
		if err := a.arrive("x" + c.arrive); err != nil {
			t.Fatal(err)
		}
		if got := a.serve(len(c.arrive)); got != c.want {
			t.Errorf("%s: %s were served as %s, want %s", c.why, c.arrive, got, c.want)
		}
		if a.serve(1) != "" || q.running != 0 || q.Len() != 0 {
			t.Errorf("%s: in the end, %d slots are taken and %d requests wait, want 0", c.why, q.running, q.Len())
		}
	}
}

func TestQueue_UnknownDeviceIsServedAfterThreeKnownDevices(t *testing.T) {
	q, _ := queueOf(100)
	a := &arrivals{T: t, q: q}
	_ = a.arrive("xABCDEF")
	a.serve(4)
	_ = a.arrive("a")
	if got := a.serve(3); got != "a1 E1 F1" {
		t.Errorf("after four known devices, the queue served %s, want a1 E1 F1", got)
	}
}

func TestQueue_ServesMostRecentlyServedAddressLast(t *testing.T) {
	q, _ := queueOf(100)
	a := &arrivals{T: t, q: q}
	_ = a.arrive("xab")
	a.serve(1) // lets the request a1 hash
	_ = a.arrive("a")
	if got := a.serve(2); got != "b1 a2" {
		t.Errorf("the queue served %s, want b1 a2", got)
	}
}

func TestQueue_FullQueueEvictsRequestOfAddressWithMostRequests(t *testing.T) {
	for _, c := range []struct {
		why, waiting string // waiting has the client addresses of four requests, which fill the queue
		newcomer     string
		evicted      string // name of the evicted request; empty if the new request is refused
	}{
		{"evicts the newest request of the address with the most requests", "aaab", "c", "a3"},
		{"evicts that address's newest request, not its first", "abaa", "c", "a3"},
		{"evicts from an address with two requests for an address with none", "aabc", "d", "a2"},
		{"refuses a new address if each address has one request", "abcd", "e", ""},
		{"refuses the address with the most requests", "aaab", "a", ""},
		{"refuses an address that would then have as many requests as any", "aabc", "b", ""},
		{"evicts an unknown device for a known device", "abcd", "E", "a1"},
		{"evicts an unknown device of the address with the most requests", "abbc", "D", "b2"},
		{"evicts an unknown device rather than a known device", "AAAb", "C", "b1"},
		{"evicts a known device of the address with the most requests", "AAAB", "C", "A3"},
		{"refuses a known device if each address has one known device", "ABCD", "E", ""},
		{"refuses an unknown device if each address has one known device", "ABCD", "e", ""},
		{"evicts one of an address's several known devices for an unknown device", "AAAB", "c", "A3"},
	} {
		q, o := queueOf(4)
		a := &arrivals{T: t, q: q}
		if err := a.arrive("x" + c.waiting); err != nil || q.Len() != 4 {
			t.Fatalf("%s: %d requests wait, %v", c.why, q.Len(), err)
		}
		err := a.arrive(c.newcomer)
		retry, ok := errors.AsType[*RetryError](err)
		if c.evicted == "" && (!ok || !errors.Is(err, ErrBusy) || retry.After <= 0) || c.evicted != "" && err != nil {
			t.Errorf("%s: %v", c.why, err)
		}
		var want []string
		if c.evicted != "" {
			want = []string{c.evicted}
			if err := a.places[c.evicted].wait(t.Context()); !errors.Is(err, ErrBusy) {
				t.Errorf("%s: %s was told %v, want ErrBusy", c.why, c.evicted, err)
			}
		}
		if got := a.in(stateOver); !slices.Equal(got, want) || q.Len() != 4 || !slices.Equal(o.sheds(), []string{"full"}) {
			t.Errorf("%s: evicted %v, want %v; %d requests wait, want 4; observed %v", c.why, got, want, q.Len(), o.sheds())
		}
	}
}

// always returns a function for [QueueOptions.Share] that always returns the same part of the time.
func always(share float64) func() float64 { return func() float64 { return share } }

func TestQueue_OneAccountFillsAtMostAQuarterOfTheQueue_ASVS_V15_2_2(t *testing.T) {
	q, o := queueOf(16)
	join := func(address, account string, known bool) (*place, error) {
		return q.join(Visitor{Address: address, Account: account, KnownDevice: known}, time.Now())
	}
	holder, _ := join("x", "bob", false)
	var attack []*place
	for _, known := range []bool{false, true} {
		for i := range 4 { // four requests fill a quarter of a queue for 16
			p, err := join(fmt.Sprint(i), "ada", known)
			if err != nil {
				t.Fatalf("known device %t, request %d: %v", known, i, err)
			}
			attack = append(attack, p)
		}
		if _, err := join("y", "ada", known); !errors.Is(err, ErrBusy) || !slices.Equal(o.sheds(), []string{"account"}) {
			t.Errorf("known device %t: one more request for the account: %v, observed %v", known, err, o.sheds())
		}
		o.shed = nil
	}
	if _, err := join("y", "bob", false); err != nil {
		t.Errorf("another account: %v", err)
	}
	for range 5 {
		if _, err := join("z", "", false); err != nil {
			t.Errorf("a request without an account: %v", err)
		}
	}
	attack[0].leave()
	if _, err := join("y", "ada", false); err != nil {
		t.Errorf("after a request left: %v", err)
	}
	holder.leave() // lets a request of a known device hash
	if _, err := join("y", "ada", true); err != nil {
		t.Errorf("after a known device got its turn: %v", err)
	}
}

func TestQueue_HoldsHalfOfTheRequestsThatCanBeServedWithinMaximumWait(t *testing.T) {
	for _, c := range []struct {
		why                string
		slots              int
		patience, hashTime time.Duration
		want               int
	}{
		{"half of the requests that can be served within the maximum wait", 2, 4 * time.Second, 50 * time.Millisecond, 80},
		{"fewer requests if hashes are slower", 2, 4 * time.Second, 500 * time.Millisecond, 8},
		{"at least as many as there are slots", 4, time.Second, 10 * time.Second, 4},
		{"a bounded number without an estimate of the hash time", 1, time.Second, 0, 500},
	} {
		q := NewQueue(QueueOptions{Slots: c.slots, Patience: c.patience, HashTime: c.hashTime})
		if got := q.capacity(); got != c.want {
			t.Errorf("%s: capacity %d, want %d", c.why, got, c.want)
		}
	}
}

func TestQueue_CapacityFollowsMeasuredHashTimes(t *testing.T) {
	for _, c := range []struct {
		why   string
		share float64
		took  time.Duration
		want  int // how many requests may wait, with four hashes at once and a maximum wait of 8 s
	}{
		{"hashes as slow as estimated", 1, 100 * time.Millisecond, 160},
		{"hashes slower than estimated", 1, 400 * time.Millisecond, 40},
		{"hashes quicker than estimated", 1, 50 * time.Millisecond, 320},
		{"slot stays empty for as long as each hash took", 0.5, 100 * time.Millisecond, 80},
		{"hashes that take no time", 1, 0, 16000},
	} {
		synctest.Test(t, func(t *testing.T) {
			o := &recorder{}
			q := NewQueue(QueueOptions{Slots: 4, Share: always(c.share), Patience: 8 * time.Second, HashTime: 100 * time.Millisecond, Observer: o})
			for range 300 {
				p, err := q.join(Visitor{}, time.Now())
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(c.took)
				p.hashed(c.took, 1)
				p.leave()
				time.Sleep(c.took) // in the case with share 0.5, the slot stays empty for as long as the hash took
				synctest.Wait()
			}
			if got := q.capacity(); got < c.want*98/100 || got > c.want*102/100 {
				t.Errorf("%s: capacity %d, want %d", c.why, got, c.want)
			}
			if len(o.took) != 300 || o.took[0] != c.took {
				t.Errorf("%s: observed %d hashes, %v", c.why, len(o.took), o.took[0])
			}
		})
	}
}

func TestQueue_RefusesRequestAfterMaximumWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, o := queueOf(2) // in this queue, a request may wait for 4 s
		holder, err := q.enter(t.Context(), Visitor{Address: "x"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		_, err = q.enter(t.Context(), Visitor{Address: "a", Account: "ada"}, nil)
		if waited := time.Since(begun); !errors.Is(err, ErrBusy) || waited != 4*time.Second || !slices.Equal(o.sheds(), []string{"late"}) {
			t.Errorf("after %v: %v, observed %v", waited, err, o.sheds())
		}
		if q.Len() != 0 || len(q.strangers.accounts) != 0 {
			t.Errorf("the refused request still waits: %d, %v", q.Len(), q.strangers.accounts)
		}

		// The slot becomes free just before the waiting request would be refused.
		time.AfterFunc(4*time.Second-1, holder.leave)
		begun = time.Now()
		next, err := q.enter(t.Context(), Visitor{Address: "a"}, nil)
		if err != nil || time.Since(begun) != 4*time.Second-1 || next.began != time.Now() {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		next.leave()
	})
}

func TestQueue_CanceledRequestLeavesTheQueue(t *testing.T) {
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
				_, err := q.enter(ctx, Visitor{Address: "a", Account: "ada", KnownDevice: known}, nil)
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
			t.Fatalf("%d requests wait, want 3", q.Len())
		}
		cancel()
		for range 2 {
			if err := <-gone; !errors.Is(err, context.Canceled) {
				t.Errorf("a cancelled request got %v", err)
			}
		}
		if q.Len() != 1 || len(q.strangers.accounts) != 1 || len(q.devices.accounts) != 0 || len(o.sheds()) != 0 {
			t.Errorf("%d requests wait; accounts %v; observed %v", q.Len(), q.strangers.accounts, o.sheds())
		}
		holder.leave()
		if err := <-stays; err != nil {
			t.Errorf("the request behind the cancelled ones got %v", err)
		}
	})
}

// The context of a request may end at the very moment when the queue allows that request to start its hash.
func TestQueue_RequestCanceledJustBeforeHashingFreesItsSlot(t *testing.T) {
	q, _ := queueOf(10)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		if p, err := q.enter(ctx, Visitor{}, nil); err == nil {
			p.leave()
		} else if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if q.running != 0 || q.Len() != 0 {
			t.Fatalf("%d slots are taken and %d requests wait", q.running, q.Len())
		}
	}
}

func TestQueue_HashesOnlyForTheConfiguredPartOfTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(QueueOptions{Slots: 1, Share: always(0.25), Patience: time.Minute, HashTime: time.Second})
		h := quick(t, q, func(context.Context) error { time.Sleep(time.Second); return nil })
		begun := time.Now()
		for range 3 {
			if _, err := h.Hash(t.Context(), "password"); err != nil {
				t.Fatal(err)
			}
		}
		// After each second of hashing, the slot stays empty for three seconds: 1 + 3 + 1 + 3 + 1.
		if took := time.Since(begun); took != 9*time.Second {
			t.Errorf("three hashes took %v, want 9s", took)
		}
		synctest.Wait()
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if q.running != 0 {
			t.Error("the slot still rests after three seconds")
		}
	})
}

// After hashing, a slot stays empty for a while. Each hash of a request makes that time longer. Time for
// which the request had the slot but waited for the CPU or a database makes it shorter.
func TestQueue_SlotStaysEmptyForAWhileOnlyAfterHashing(t *testing.T) {
	for _, c := range []struct {
		before, took, after time.Duration
		hashes              int
		size                float64
		least, most         time.Duration
	}{
		{0, time.Second, 0, 1, 1, time.Second, time.Second},
		{0, 4 * time.Second, 0, 1, 4, 4 * time.Second, 4 * time.Second}, // one hash that costs as much as four
		{0, time.Second, 0, 2, 1, 2 * time.Second, 2 * time.Second},
		{100 * time.Millisecond, time.Second, 200 * time.Millisecond, 1, 1, 700 * time.Millisecond, 700 * time.Millisecond},
		{0, 1500 * time.Millisecond, 0, 1, 1, 500 * time.Millisecond, 550 * time.Millisecond},
		{0, 3 * time.Second, 0, 1, 1, 0, 0},
		{100 * time.Millisecond, 0, 0, 0, 0, 0, 0}, // the request made no hash
	} {
		synctest.Test(t, func(t *testing.T) {
			q := NewQueue(QueueOptions{Slots: 1, Share: always(0.5), Patience: time.Minute, HashTime: time.Second})
			q.shortestHash = time.Second
			p, err := q.join(Visitor{}, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(c.before)
			for range c.hashes {
				time.Sleep(c.took)
				p.hashed(c.took, c.size)
			}
			time.Sleep(c.after)
			if got := p.rest(); got < c.least || got > c.most {
				t.Errorf("%+v: the slot rests for %v", c, got)
			}
			if c.hashes == 0 && q.turnTime != time.Second {
				t.Errorf("a turn without a hash changed the average to %v", q.turnTime)
			}
		})
	}
}

func TestQueue_TellsClientsToRetryAfterRandomTimes(t *testing.T) {
	q, o := queueOf(1)
	seen := map[time.Duration]int{}
	for range 500 {
		retry, ok := errors.AsType[*RetryError](q.busy("full", Visitor{}))
		if !ok {
			t.Fatal("no RetryError")
		}
		seen[retry.After]++
	}
	want := []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 4 * time.Second, 5 * time.Second}
	if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, want) || len(o.sheds()) != 500 {
		t.Errorf("told to retry after %v", seen)
	}
}

// The more refused clients wait to retry, the later the next refused client is told to retry.
func TestQueue_TellsClientsToRetryLaterIfManyWereRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := NewQueue(QueueOptions{Slots: 1, Patience: 40 * time.Millisecond, HashTime: 20 * time.Millisecond})
		for range 2 {
			if _, err := q.join(Visitor{Address: "x"}, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
		arrived := 0
		longestDelay := func(n int) (longest time.Duration) {
			for range n {
				arrived++
				_, err := q.enter(t.Context(), Visitor{Address: fmt.Sprint("a", arrived)}, nil)
				if retry, ok := errors.AsType[*RetryError](err); ok {
					longest = max(longest, retry.After)
				}
			}
			return longest
		}
		rate := 1 / q.turnTime.Seconds()
		if got := longestDelay(int(usualDelay.Seconds() * rate)); got > usualDelay {
			t.Errorf("with the usual number of refused clients, told to retry after up to %v", got)
		}
		some := int(15*rate) - arrived
		longestDelay(some)
		if got := longestDelay(200); got < 12*time.Second || got > 20*time.Second {
			t.Errorf("with as many refused clients as are served in 15 s, told to retry after up to %v", got)
		}
		longestDelay(int(100 * rate))
		if got := longestDelay(200); got < 25*time.Second || got > maxDelay {
			t.Errorf("with very many refused clients, told to retry after up to %v", got)
		}
		for address, until := range q.backoff.until {
			if d := time.Until(until); d > usualDelay {
				t.Errorf("%s counts as early for %v", address, d)
			}
		}
		all := q.absent.count(time.Now())
		time.Sleep(time.Second)
		if left := q.absent.count(time.Now()); left < all*9/10 || left > all {
			t.Errorf("a second later, %d of %d clients have yet to retry", left, all)
		}
		time.Sleep(maxDelay)
		if got := longestDelay(3); got > usualDelay {
			t.Errorf("after the retries of all clients, told to retry after up to %v", got)
		}
		if n := q.absent.count(time.Now().Add(time.Hour)); n != 0 {
			t.Errorf("an hour later, %d clients have yet to retry, want 0", n)
		}
	})
}

func TestQueue_AddressesThatHashedRecentlyFillAtMostHalfOfTheQueue(t *testing.T) {
	q, o := queueOf(4)
	now := time.Now()
	join := func(address string, known bool) (*place, error) {
		return q.join(Visitor{Address: address, KnownDevice: known}, now)
	}
	for _, address := range []string{"a", "b", "c"} {
		p, err := join(address, false)
		if err != nil {
			t.Fatal(err)
		}
		p.leave()
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
		p, err := join(c.address, c.known)
		if (err == nil) != c.in || err != nil && !errors.Is(err, ErrBusy) {
			t.Errorf("address %s, known device %t: %v", c.address, c.known, err)
		}
		if err == nil {
			waits = append(waits, p)
		}
	}
	if got := o.sheds(); !slices.Equal(got, []string{"full", "full"}) {
		t.Errorf("observed %q", got)
	}
	waits[0].leave() // gives up the place of a request whose address hashed in the last 5 seconds
	if _, err := join("c", false); err != nil {
		t.Errorf("in the place of a request that left: %v", err)
	}
	for _, p := range append(waits[1:], holder) {
		p.leave()
	}
	now = time.Now().Add(usualDelay)
	for range 4 {
		if _, err := join("a", false); err != nil {
			t.Errorf("when no address was served recently: %v", err)
		}
	}
}

// crowd joins requests to a queue of 16 places and remembers all of them.
type crowd struct {
	*testing.T
	q   *Queue
	all []*place
}

func (c *crowd) join(network, address string) (*place, error) {
	p, err := c.q.join(Visitor{Address: address, Network: network}, time.Now())
	if err == nil {
		c.all = append(c.all, p)
	}
	return p, err
}

// serve ends the hash of the only request that may hash.
func (c *crowd) serve() {
	c.Helper()
	i := slices.IndexFunc(c.all, func(p *place) bool { return p.state == stateHashing })
	if i < 0 {
		c.Fatal("no request may hash")
	}
	c.all[i].leave()
}

func TestQueue_FloodFromManyAddressesOfOneNetworkDelaysOthersByOneHash_ASVS_V2_4_1(t *testing.T) {
	q, _ := queueOf(16)
	c := &crowd{T: t, q: q}
	for i := range 100 {
		_, _ = c.join("flood", fmt.Sprint("flood", i))
	}
	if q.Len() != 12 {
		t.Fatalf("%d requests wait, want the 12 that networks without a login may fill", q.Len())
	}
	var strangers []*place
	for i := range 3 {
		p, err := c.join(fmt.Sprint("elsewhere", i), "a")
		if err != nil {
			t.Fatalf("stranger %d: %v", i, err)
		}
		if strangers = append(strangers, p); q.Len() != 12 {
			t.Errorf("%d requests wait, want 12", q.Len())
		}
		if _, err := c.join("flood", fmt.Sprint("more", i)); !errors.Is(err, ErrBusy) {
			t.Errorf("one more request of the flood: %v", err)
		}
	}
	c.serve() // the flood's next request came before the strangers
	for i, p := range strangers {
		if c.serve(); p.state != stateHashing {
			t.Errorf("stranger %d was not served in turn", i)
		}
	}
}

func TestQueue_KeepsPlacesForNetworksWithALoginInTheLastDay_ASVS_V2_4_1(t *testing.T) {
	q, _ := queueOf(16)
	c := &crowd{T: t, q: q}
	turn := &Turn{hasher: &Hasher{Queue: q}, visitor: Visitor{Network: "office"}}
	turn.Succeeded()
	for i := range 100 {
		_, _ = c.join(fmt.Sprint("flood", i), fmt.Sprint("flood", i))
	}
	if _, err := c.join("elsewhere", "a"); !errors.Is(err, ErrBusy) {
		t.Errorf("a network without a login: %v", err)
	}
	for i := range 4 {
		if _, err := c.join("office", fmt.Sprint(i)); err != nil {
			t.Errorf("request %d of a network with a login: %v", i+1, err)
		}
	}
	if _, err := c.join("office", "more"); !errors.Is(err, ErrBusy) || q.Len() != 16 {
		t.Errorf("a request beyond the places: %v; %d wait", err, q.Len())
	}
	if q.proven.has("office", time.Now().Add(provenFor)) {
		t.Error("the login counts for more than a day")
	}
}

func TestQueue_DelaysEarlyRetryFromAnotherAddressOfTheNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := filledQueue(t)
		for _, c := range []struct {
			address, network string
			delay            time.Duration
		}{{"a", "n", 0}, {"b", "n", earlyPenalty}, {"c", "m", 0}} {
			begun := time.Now()
			if _, err := q.enter(t.Context(), Visitor{Address: c.address, Network: c.network}, nil); !errors.Is(err, ErrBusy) {
				t.Fatal(err)
			}
			if delay := time.Since(begun); delay != c.delay {
				t.Errorf("address %s of network %s was delayed by %v, want %v", c.address, c.network, delay, c.delay)
			}
		}
	})
}

// filledQueue returns a full queue: one request hashes and one waits, both for the whole test.
func filledQueue(t *testing.T) *Queue {
	q, _ := queueOf(1)
	a := &arrivals{T: t, q: q}
	if err := a.arrive("xy"); err != nil {
		t.Fatal(err)
	}
	return q
}

func TestQueue_EvictsRequestsThatRetriedEarlyFirst(t *testing.T) {
	q, _ := queueOf(2)
	now := time.Now()
	retry := &RetryError{After: 5 * time.Second, Err: ErrBusy}
	for _, address := range []string{"a", "b"} {
		q.refused(t.Context(), Visitor{Address: address}, retry, now)
	}
	join := func(address string, at time.Time) (*place, error) { return q.join(Visitor{Address: address}, at) }
	if _, err := join("x", now); err != nil { // this request hashes, so later requests must wait
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
		t.Errorf("an early retry evicted another one: %v", err)
	}
	if _, err := join("c", now.Add(time.Second)); err != nil || second.evicted == nil || first.evicted != nil {
		t.Errorf("a newcomer got %v; the newest early retry got %v, want an eviction", err, second.evicted)
	}
	if _, err := join("d", now.Add(time.Second)); err != nil || first.evicted == nil {
		t.Errorf("another newcomer got %v; the other early retry got %v, want an eviction", err, first.evicted)
	}
	if _, err := join("e", now.Add(time.Second)); !errors.Is(err, ErrBusy) {
		t.Errorf("with no early retry left: %v", err)
	}
}

func TestQueue_UnknownDeviceDoesNotEvictKnownDeviceThatRetriedEarly(t *testing.T) {
	q, _ := queueOf(1)
	now := time.Now()
	q.refused(t.Context(), Visitor{Address: "a"}, &RetryError{After: 5 * time.Second, Err: ErrBusy}, now)
	if _, err := q.join(Visitor{Address: "x"}, now); err != nil { // this request hashes, so later requests must wait
		t.Fatal(err)
	}
	known, err := q.join(Visitor{Address: "a", KnownDevice: true}, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.join(Visitor{Address: "b"}, now); !errors.Is(err, ErrBusy) || known.evicted != nil {
		t.Errorf("an unknown device got %v; the known device got %v", err, known.evicted)
	}
}

func TestQueue_DelaysResponseToEarlyRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := filledQueue(t)
		try := func(ctx context.Context, address string) (delay, after time.Duration) {
			t.Helper()
			begun := time.Now()
			_, err := q.enter(ctx, Visitor{Address: address}, nil)
			retry, ok := errors.AsType[*RetryError](err)
			if !ok {
				t.Fatalf("a full queue returned %v", err)
			}
			return time.Since(begun), retry.After
		}
		if delay, _ := try(t.Context(), "a"); delay != 0 {
			t.Errorf("the first refusal was delayed by %v", delay)
		}
		var after time.Duration
		for range 100 { // each early retry restarts the wait of the client
			var delay time.Duration
			if delay, after = try(t.Context(), "a"); delay != earlyPenalty {
				t.Fatalf("an early retry was delayed by %v", delay)
			}
			time.Sleep(min(after, usualDelay) - earlyPenalty - 1)
		}
		if delay, _ := try(t.Context(), "b"); delay != 0 {
			t.Errorf("another address was delayed by %v", delay)
		}
		time.Sleep(time.Nanosecond)
		if delay, _ := try(t.Context(), "a"); delay != 0 {
			t.Errorf("a retry in time was delayed by %v", delay)
		}

		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(earlyPenalty/2, cancel)
		if delay, _ := try(ctx, "a"); delay != earlyPenalty/2 {
			t.Errorf("a cancelled request was delayed by %v", delay)
		}
		if q.delayed != 0 {
			t.Errorf("%d refusals are counted as delayed, want 0", q.delayed)
		}
		q.delayed = maxTracked
		if delay, _ := try(t.Context(), "a"); delay != 0 || q.delayed != maxTracked {
			t.Errorf("a refusal beyond the bound was delayed by %v", delay)
		}
	})
}

func TestQueue_RemembersBoundedNumberOfClientAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := filledQueue(t)
		flood := func(name string) {
			for i := range maxTracked + 10 {
				_, _ = q.enter(t.Context(), Visitor{Address: fmt.Sprint(name, i)}, nil)
			}
		}
		flood("a")
		if len(q.backoff.until) != maxTracked {
			t.Errorf("%d addresses are remembered, want %d", len(q.backoff.until), maxTracked)
		}
		time.Sleep(maxDelay)
		flood("b")
		if _, old := q.backoff.until["a0"]; old || len(q.backoff.until) != maxTracked {
			t.Errorf("%d addresses are remembered after the first ones expired", len(q.backoff.until))
		}
		stale := time.Now()
		q.backoff.until["b0"] = stale
		time.Sleep(sweepEvery - 1)
		flood("c")
		if q.backoff.until["b0"] != stale {
			t.Error("expired addresses were removed twice within a second")
		}
	})
}

// After a hash, the request gives up its slot in the queue. For a second hash, for example with a new
// pepper, the request waits again, with the same client address, account and device.
func TestTurn_SecondHashWaitsInTheQueueAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, o := queueOf(10)
		h := quick(t, q, func(context.Context) error { time.Sleep(time.Second); return nil })
		v := Visitor{Address: "a", Account: "ada", KnownDevice: true}
		turn, err := h.Enter(t.Context(), v, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := turn.VerifyNobody(t.Context(), "password"); err != nil || q.running != 0 {
			t.Fatalf("%d slots are taken after the hash, %v", q.running, err)
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
		if waits := q.devices; waits.waiting != 1 || waits.ring[0].ring[0].places[0].visitor != v {
			t.Errorf("the second hash does not wait as the same visitor: %+v", waits)
		}
		holder.leave()
		if err := <-done; err != nil {
			t.Error(err)
		}
		turn.Leave()
		turn.Leave()
		if q.running != 0 || len(o.took) != 2 {
			t.Errorf("%d slots are taken, %d hashes were observed", q.running, len(o.took))
		}
	})
}

func TestTurn_LeaveWithoutHashingFreesTheSlotInTheQueue(t *testing.T) {
	q, _ := queueOf(10)
	h := quick(t, q, func(context.Context) error { return nil })
	turn, err := h.Enter(t.Context(), Visitor{}, nil)
	if err != nil || q.running != 1 {
		t.Fatalf("%d slots are taken, %v", q.running, err)
	}
	turn.Leave()
	turn.Leave()
	if q.running != 0 {
		t.Errorf("%d slots are taken after Leave", q.running)
	}
}

func TestQueue_IsEmptyAgainAfterHeavyLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slots, requests = 3, 2000
		o := &recorder{}
		q := NewQueue(QueueOptions{Slots: slots, Share: always(0.8), Patience: 4 * time.Second, HashTime: 50 * time.Millisecond, Observer: o})
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
			v := Visitor{
				Address: fmt.Sprint(random.IntN(40)), Network: fmt.Sprint(random.IntN(10)), Account: fmt.Sprint(random.IntN(20)), KnownDevice: random.IntN(3) == 0,
			}
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
		for i, l := range []lane{q.strangers, q.devices} {
			if l.waiting != 0 || l.unproven != 0 || len(l.ring) != 0 || len(l.accounts) != 0 {
				t.Errorf("lane %d still holds %+v", i, l)
			}
		}
		if q.running != 0 || q.delayed != 0 {
			t.Errorf("%d slots are taken, %d refusals are delayed", q.running, q.delayed)
		}
	})
}

// quick returns a Hasher whose engine runs f instead of a slow bcrypt.
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

func (f engineFunc) Derive(ctx context.Context, _ KDF, _ []byte) ([]byte, error) { return nil, f(ctx) }
