package hashing

import "slices"

// lane is one of the two waiting lines of a [Queue]. Requests of known devices wait in one lane, requests
// of unknown devices in the other. A lane serves one request of each client address in turn.
type lane struct {
	ring     []*backlog     // waiting requests by client address; the first address is served next
	waiting  int            // how many requests wait
	returned int            // how many requests wait whose client address was allowed to hash in the last 5 s
	accounts map[string]int // how many waiting requests name each account
}

// backlog holds the waiting requests from one client address, oldest first.
type backlog struct {
	address string
	places  []*place
}

// next removes and returns the request to serve next. If more requests from its client address wait, the
// address moves behind all other addresses.
func (l *lane) next() *place {
	b := l.ring[0]
	p := b.places[0]
	l.remove(p)
	if len(b.places) > 0 {
		l.ring = append(slices.Delete(l.ring, 0, 1), b)
	}
	return p
}

// newestEarly returns the newest request whose client retried before it was told to, or nil.
func (l *lane) newestEarly() (newest *place) {
	for _, b := range l.ring {
		for _, p := range b.places {
			if p.early && (newest == nil || !p.joined.Before(newest.joined)) {
				newest = p
			}
		}
	}
	return newest
}

// waitingFrom returns how many requests from a client address wait.
func (l *lane) waitingFrom(address string) int {
	if i := l.find(address); i >= 0 {
		return len(l.ring[i].places)
	}
	return 0
}

// find returns the index of a client address in l.ring, or -1 if no request from that address waits.
func (l *lane) find(address string) int {
	return slices.IndexFunc(l.ring, func(b *backlog) bool { return b.address == address })
}

func (l *lane) add(p *place) {
	l.count(p, 1)
	if i := l.find(p.visitor.Address); i >= 0 {
		l.ring[i].places = append(l.ring[i].places, p)
		return
	}
	l.ring = append(l.ring, &backlog{address: p.visitor.Address, places: []*place{p}})
}

// remove removes a request, and also its client address if no other request from that address waits.
func (l *lane) remove(p *place) {
	l.count(p, -1)
	i := l.find(p.visitor.Address)
	b := l.ring[i]
	b.places = slices.DeleteFunc(b.places, func(other *place) bool { return other == p })
	if len(b.places) == 0 {
		l.ring = slices.Delete(l.ring, i, i+1)
	}
}

// count adds n to each counter of waiting requests in which the request p is counted.
func (l *lane) count(p *place, n int) {
	l.waiting += n
	if p.returned {
		l.returned += n
	}
	if l.accounts[p.visitor.Account] += n; l.accounts[p.visitor.Account] == 0 {
		delete(l.accounts, p.visitor.Account)
	}
}
