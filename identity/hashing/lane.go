package hashing

import "slices"

// lane is a queue in which addresses take turns.
type lane struct {
	ring     []*backlog // one for each address with a request waiting; the first is next
	waiting  int
	returned int            // of those waiting, how many come from an address that had a turn recently
	accounts map[string]int // of those waiting, how many name each account
}

// backlog holds the requests that wait from one address, oldest first.
type backlog struct {
	address string
	places  []*place
}

// next removes and returns the request whose turn it is. Its address goes to the end of the ring.
func (l *lane) next() *place {
	b := l.ring[0]
	p := b.places[0]
	l.remove(p)
	if len(b.places) > 0 {
		l.ring = append(slices.Delete(l.ring, 0, 1), b)
	}
	return p
}

// newestEarly returns the newest request that was retried too early, or nil.
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

// waitingFrom returns how many requests wait from an address.
func (l *lane) waitingFrom(address string) int {
	if i := l.find(address); i >= 0 {
		return len(l.ring[i].places)
	}
	return 0
}

// find returns an address's position in the ring, or -1.
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

// remove takes a request out, and its address with the last one.
func (l *lane) remove(p *place) {
	l.count(p, -1)
	i := l.find(p.visitor.Address)
	b := l.ring[i]
	b.places = slices.DeleteFunc(b.places, func(other *place) bool { return other == p })
	if len(b.places) == 0 {
		l.ring = slices.Delete(l.ring, i, i+1)
	}
}

func (l *lane) count(p *place, n int) {
	l.waiting += n
	if p.returned {
		l.returned += n
	}
	if l.accounts[p.visitor.Account] += n; l.accounts[p.visitor.Account] == 0 {
		delete(l.accounts, p.visitor.Account)
	}
}
