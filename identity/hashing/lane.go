package hashing

import "slices"

// lane is one of the two waiting lines of a [Queue]. Requests of known devices wait in one lane, requests
// of unknown devices in the other. A lane serves one request of each network in turn. Among the requests of
// a network, it serves one of each client address in turn.
type lane struct {
	ring     []*network     // waiting requests by network; the first network is served next
	waiting  int            // how many requests wait
	unproven int            // how many requests wait from a network without a recent login
	returned int            // how many requests wait whose client address was allowed to hash in the last 5 s
	accounts map[string]int // how many waiting requests name each account
}

// network holds the waiting requests from one network, by client address. The first address is served next.
type network struct {
	name    string
	ring    []*backlog
	waiting int
}

// backlog holds the waiting requests from one client address, oldest first.
type backlog struct {
	address string
	places  []*place
}

// next removes and returns the request to serve next. If more requests wait from its network, the network
// moves behind all other networks; and so does its client address in the network.
func (l *lane) next() *place {
	n := l.ring[0]
	b := n.ring[0]
	p := b.places[0]
	l.remove(p)
	if len(b.places) > 0 {
		n.ring = append(slices.Delete(n.ring, 0, 1), b)
	}
	if n.waiting > 0 {
		l.ring = append(slices.Delete(l.ring, 0, 1), n)
	}
	return p
}

// newestEarly returns the newest request whose client retried before it was told to, or nil. If unproven is
// set, it looks only at networks without a recent login.
func (l *lane) newestEarly(unproven bool) (newest *place) {
	for _, n := range l.ring {
		for _, b := range n.ring {
			for _, p := range b.places {
				if p.early && (!unproven || !p.proven) && (newest == nil || !p.joined.Before(newest.joined)) {
					newest = p
				}
			}
		}
	}
	return newest
}

// network returns the waiting requests of a network, or nil if there are none.
func (l *lane) network(name string) *network {
	if i := slices.IndexFunc(l.ring, func(n *network) bool { return n.name == name }); i >= 0 {
		return l.ring[i]
	}
	return nil
}

// longest returns the network with the most waiting requests, or nil if none waits. If unproven is set, it
// looks only at networks without a recent login.
func (l *lane) longest(unproven bool) (longest *network) {
	for _, n := range l.ring {
		if unproven && n.ring[0].places[0].proven {
			continue
		}
		if longest == nil || n.waiting > longest.waiting {
			longest = n
		}
	}
	return longest
}

// length returns how many requests of the network wait; n may be nil.
func (n *network) length() int {
	if n == nil {
		return 0
	}
	return n.waiting
}

// waitingFrom returns how many requests from a client address wait.
func (n *network) waitingFrom(address string) int {
	if i := n.find(address); i >= 0 {
		return len(n.ring[i].places)
	}
	return 0
}

// find returns the index of a client address in n.ring, or -1 if no request from that address waits.
func (n *network) find(address string) int {
	return slices.IndexFunc(n.ring, func(b *backlog) bool { return b.address == address })
}

// longest returns the client address with the most waiting requests.
func (n *network) longest() *backlog {
	return slices.MaxFunc(n.ring, func(a, b *backlog) int { return len(a.places) - len(b.places) })
}

func (b *backlog) newest() *place { return b.places[len(b.places)-1] }

func (l *lane) add(p *place) {
	l.count(p, 1)
	n := l.network(p.visitor.Network)
	if n == nil {
		n = &network{name: p.visitor.Network}
		l.ring = append(l.ring, n)
	}
	n.waiting++
	if i := n.find(p.visitor.Address); i >= 0 {
		n.ring[i].places = append(n.ring[i].places, p)
		return
	}
	n.ring = append(n.ring, &backlog{address: p.visitor.Address, places: []*place{p}})
}

// remove removes a request, and also its client address and its network if no other request from there waits.
func (l *lane) remove(p *place) {
	l.count(p, -1)
	n := l.network(p.visitor.Network)
	n.waiting--
	i := n.find(p.visitor.Address)
	b := n.ring[i]
	b.places = slices.DeleteFunc(b.places, func(other *place) bool { return other == p })
	if len(b.places) == 0 {
		n.ring = slices.Delete(n.ring, i, i+1)
	}
	if n.waiting == 0 {
		l.ring = slices.DeleteFunc(l.ring, func(other *network) bool { return other == n })
	}
}

// count adds n to each counter of waiting requests in which the request p is counted.
func (l *lane) count(p *place, n int) {
	l.waiting += n
	if !p.proven {
		l.unproven += n
	}
	if p.returned {
		l.returned += n
	}
	if l.accounts[p.visitor.Account] += n; l.accounts[p.visitor.Account] == 0 {
		delete(l.accounts, p.visitor.Account)
	}
}
