package faultsuite

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessiond/sessiond/session/issuer"
)

// session is a session as a client knows it.
type session struct {
	id             int    // number in the history
	name           string // id in the service
	token, refresh string
	over           bool // a revocation was asked for or acknowledged
}

// person is a user with a few sessions. Only one goroutine at a time acts for a person, but
// checkers read the sessions.
type person struct {
	id        int
	name      string
	passwords []string // the password, and the one before it if nobody knows whether a change was done
	act       sync.Mutex

	mu       sync.Mutex
	sessions []*session
}

// load is a bounded set of users whose clients sign in, refresh, revoke and check.
type load struct {
	history
	rig     *rig
	browser *browser
	people  []*person
	logins  sync.Map // id in the service of the session of every acknowledged login

	behind bool // every request of the random load goes through HAProxy, which must answer it

	cancel context.CancelFunc
	wg     sync.WaitGroup
}

const (
	peopleCount   = 4
	sessionsEach  = 3
	keptOver      = 12 // revoked sessions of each user that random checks go on with
	personEvery   = 500 * time.Millisecond
	startPassword = "correct horse battery"
)

func newLoad(r *rig) *load {
	l := &load{rig: r, browser: newBrowser()}
	l.began = time.Now()
	return l
}

// enrol registers people and signs them in. It fails the test if that fails, because no fault is
// injected yet.
func (l *load) enrol(t testing.TB, people, sessions int) []*person {
	t.Helper()
	var all []*person
	for range people {
		p := &person{id: len(l.people), name: "u" + strings.ToLower(issuer.NewID()[:10]), passwords: []string{startPassword}}
		await(t, "a user is registered", func() bool {
			return l.browser.send("POST", l.rig.replicas[p.id%3].base()+"/registerUser", "",
				object{"username": p.name, "email": p.name + "@example.com", "password": startPassword}).status == 200
		})
		l.people, all = append(l.people, p), append(all, p)
	}
	for i := range people * sessions {
		p := all[i%people]
		await(t, "a user signs in", func() bool { return l.login(p, l.rig.replicas[i%3]) != nil })
	}
	return all
}

// run starts the random load: checks at a rate, and one goroutine for each person.
func (l *load) run(rate int) {
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	people := slices.Clone(l.people)
	turns := make(chan struct{})
	l.wg.Go(func() { // one turn for each check; while the service is slow, turns are dropped
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			select {
			case turns <- struct{}{}:
			default:
			}
		}
	})
	for range 24 {
		l.wg.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-turns:
				}
				p := people[rand.IntN(len(people))]
				if s := p.any(); s != nil {
					l.check(p, s, l.anywhere())
				}
			}
		})
	}
	for _, p := range people {
		l.wg.Go(func() {
			tick := time.NewTicker(personEvery)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
					l.actOnce(p)
				}
			}
		})
	}
}

// stop ends the random load.
func (l *load) stop() {
	if l.cancel != nil {
		l.cancel()
		l.wg.Wait()
	}
	l.browser.CloseIdleConnections()
}

// any returns one of a person's sessions; every third time a revoked one.
func (p *person) any() *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	var active, over []*session
	for _, s := range p.sessions {
		if s.over {
			over = append(over, s)
		} else {
			active = append(active, s)
		}
	}
	over = over[max(0, len(over)-keptOver):]
	if len(active) == 0 || len(over) > 0 && rand.IntN(3) == 0 {
		active = over
	}
	if len(active) == 0 {
		return nil
	}
	return active[rand.IntN(len(active))]
}

func (p *person) active() (list []*session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sessions {
		if !s.over {
			list = append(list, s)
		}
	}
	return list
}

// anywhere returns a replica, or now and then the load balancer.
func (l *load) anywhere() endpoint {
	if i := rand.IntN(4); i < 3 && !l.behind {
		return l.rig.replicas[i]
	}
	return l.rig.balancer
}

// actOnce does one thing that a user does.
func (l *load) actOnce(p *person) {
	p.act.Lock()
	defer p.act.Unlock()
	active, at := p.active(), l.anywhere()
	if len(active) < 2 {
		l.login(p, at)
		return
	}
	one, other := active[0], active[1]
	if rand.IntN(2) == 0 {
		one, other = other, one
	}
	switch n := rand.IntN(100); {
	case n < 30 && len(active) < 2*sessionsEach:
		l.login(p, at)
	case n < 45:
		l.refresh(p, one, at)
	case n < 55:
		l.refreshTwice(p, one, at)
	case n < 75:
		l.revokeOne(p, one, other, at)
	case n < 82:
		l.revokeByRefreshToken(p, one, at)
	case n < 85:
		l.revokeAll(p, one, at)
	case n < 95:
		l.revokeOthers(p, one, at)
	case n < 97:
		l.changePassword(p, one, at)
	case n < 99:
		l.list(p, one, at)
	default:
		l.changePasswordBesideLogins(p, one, at)
	}
}

// ---- requests, each recorded ------------------------------------------------

func (l *load) record(k kind, p *person, session int, at endpoint, start time.Duration, r reply) op {
	o := op{kind: k, user: p.id, session: session, answer: r.answer(), status: r.status, at: at.name(), start: start, end: l.now()}
	if k == refresh && r.status == 400 {
		o.answer = refused
	}
	balanced := at == endpoint(l.rig.balancer)
	if balanced && l.behind && (o.answer == unavailable || o.answer == odd) && !busy(r) {
		l.complaint(fmt.Sprintf("through HAProxy: status %d at %v, after %v: %.200s", r.status, start.Round(time.Millisecond), (o.end - o.start).Round(time.Millisecond), r.body))
	}
	if o.answer == odd && !balanced {
		l.complaint(fmt.Sprintf("%s: status %d at %v: %.200s", at.name(), r.status, start.Round(time.Millisecond), r.body))
	}
	if r.status == 503 && r.header.Get("Retry-After") == "" && !balanced {
		l.complaint(fmt.Sprintf("%s: a 503 without Retry-After: %.200s", at.name(), r.body))
	}
	l.add(o)
	return o
}

// busy reports whether a reply is sessiond's own 503, which a busy machine may cause.
func busy(r reply) bool { return r.status == 503 && r.header.Get("Retry-After") != "" }

// login signs a person in and returns the session, or nil if that failed.
func (l *load) login(p *person, at endpoint) *session {
	for i, password := range slices.Clone(p.passwords) {
		start := l.now()
		s, r := l.signIn(p, password, at)
		switch {
		case s != nil:
			p.passwords = []string{password}
			return s
		case r.status == 401 && i+1 < len(p.passwords):
			continue // the change of the password was done, or not
		case r.status == 401:
			l.complaint(fmt.Sprintf("%s: a login with the right password was refused at %v: %.200s", at.name(), start.Round(time.Millisecond), r.body))
		}
		break
	}
	return nil
}

// signIn is one attempt to sign in with a password, which may be wrong.
func (l *load) signIn(p *person, password string, at endpoint) (*session, reply) {
	start := l.now()
	r := l.browser.send("POST", at.base()+"/v1/sessions", "", object{"login": p.name, "password": password})
	if r.status == 401 {
		return nil, r
	}
	if r.status != 201 {
		l.record(login, p, -1, at, start, r)
		return nil, r
	}
	s := &session{id: l.newSession(), name: r.text("session.id"), token: r.text("access_token"), refresh: r.text("refresh_token")}
	l.record(login, p, s.id, at, start, r)
	l.logins.Store(s.name, s.id)
	p.mu.Lock()
	p.sessions = append(p.sessions, s)
	p.mu.Unlock()
	return s, r
}

// check checks a session and makes sure that the reply is about this session.
func (l *load) check(p *person, s *session, at endpoint) op {
	p.mu.Lock()
	token := s.token
	p.mu.Unlock()
	start := l.now()
	r := l.browser.send("GET", at.base()+"/v1/verify", token, nil)
	if got := r.header.Get("X-Auth-Session"); r.status == 200 && got != s.name {
		l.complaint(fmt.Sprintf("%s: mixed up: a check of session %s was answered for %s", at.name(), s.name, got))
	}
	return l.record(check, p, s.id, at, start, r)
}

// checkEverywhere checks sessions at every replica at once.
func (l *load) checkEverywhere(p *person, sessions ...*session) {
	var wg sync.WaitGroup
	for _, replica := range l.rig.replicas {
		wg.Go(func() {
			for _, s := range sessions {
				l.check(p, s, replica)
			}
		})
	}
	wg.Wait()
}

// list lists a person's sessions, which also checks the session that asks.
func (l *load) list(p *person, s *session, at endpoint) op {
	p.mu.Lock()
	token := s.token
	p.mu.Unlock()
	start := l.now()
	r := l.browser.send("GET", at.base()+"/v1/sessions", token, nil)
	if r.status == 200 && !strings.Contains(string(r.body), s.name) {
		l.complaint(fmt.Sprintf("%s: a list of sessions lacks the one that asked, %s: %.200s", at.name(), s.name, r.body))
	}
	return l.record(check, p, s.id, at, start, r)
}

func (l *load) refresh(p *person, s *session, at endpoint) op {
	p.mu.Lock()
	token := s.refresh
	p.mu.Unlock()
	start := l.now()
	r := l.browser.send("POST", at.base()+"/oauth/token", "", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
	if r.status == 200 {
		p.mu.Lock()
		s.token, s.refresh = r.text("access_token"), r.text("refresh_token")
		p.mu.Unlock()
	}
	return l.record(refresh, p, s.id, at, start, r)
}

// refreshTwice refreshes a session from two tabs at once. Both get the same new refresh token,
// otherwise a later refresh fails.
func (l *load) refreshTwice(p *person, s *session, at endpoint) {
	var wg sync.WaitGroup
	for _, at := range []endpoint{at, l.anywhere()} {
		wg.Go(func() { l.refresh(p, s, at) })
	}
	wg.Wait()
}

// revoked records a revocation, and the check that it made of the session that asked for it. It
// marks the sessions that are over, and checks them at once everywhere if that was acknowledged.
func (l *load) revoked(k kind, p *person, session int, by *session, over []*session, at endpoint, start time.Duration, r reply) op {
	o := l.record(k, p, session, at, start, r)
	if by != nil && (o.answer == good || o.answer == refused) {
		l.add(op{kind: check, user: p.id, session: by.id, answer: o.answer, status: r.status, at: o.at, start: o.start, end: o.end})
	}
	if o.answer == good || o.answer == unavailable {
		p.mu.Lock()
		for _, s := range over {
			s.over = true
		}
		p.mu.Unlock()
	}
	if o.answer == good {
		l.checkEverywhere(p, over...)
	}
	return o
}

func (l *load) revokeOne(p *person, by, target *session, at endpoint) op {
	start := l.now()
	r := l.browser.send("DELETE", at.base()+"/v1/sessions/"+target.name, by.token, nil)
	return l.revoked(revoke, p, target.id, by, []*session{target}, at, start, r)
}

func (l *load) revokeByRefreshToken(p *person, target *session, at endpoint) op {
	start := l.now()
	r := l.browser.send("POST", at.base()+"/oauth/revoke", "", url.Values{"token": {target.refresh}})
	return l.revoked(revoke, p, target.id, nil, []*session{target}, at, start, r)
}

func (l *load) revokeOthers(p *person, keep *session, at endpoint) op {
	over := slices.DeleteFunc(p.active(), func(s *session) bool { return s == keep })
	start := l.now()
	r := l.browser.send("DELETE", at.base()+"/v1/sessions?except=current", keep.token, nil)
	return l.revoked(revokeOthers, p, keep.id, keep, over, at, start, r)
}

func (l *load) revokeAll(p *person, by *session, at endpoint) op {
	over := p.active()
	start := l.now()
	r := l.browser.send("GET", at.base()+"/user/logins/deletes/all", by.token, nil)
	return l.revoked(revokeAll, p, by.id, by, over, at, start, r)
}

// changePassword changes the password, which revokes all other sessions.
func (l *load) changePassword(p *person, keep *session, at endpoint) op {
	over := slices.DeleteFunc(p.active(), func(s *session) bool { return s == keep })
	current, next := p.passwords[0], "battery staple "+issuer.NewID()
	if len(p.passwords) > 1 { // settle first which one is right
		l.login(p, at)
		return op{answer: unavailable}
	}
	start := l.now()
	r := l.browser.send("PUT", at.base()+"/v1/users/me/password", keep.token, object{"current_password": current, "new_password": next})
	switch r.answer() {
	case good:
		p.passwords = []string{next}
	case unavailable:
		p.passwords = []string{current, next}
	}
	return l.revoked(revokeOthers, p, keep.id, keep, over, at, start, r)
}

// changePasswordBesideLogins changes the password while logins with the old one are under way. A
// login that came first is revoked by the change, and any other is refused.
func (l *load) changePasswordBesideLogins(p *person, keep *session, at endpoint) op {
	if len(p.passwords) > 1 { // which one is right is settled first
		l.login(p, at)
		return op{answer: unavailable}
	}
	old, elsewhere := p.passwords[0], l.anywhere()
	var late []*session
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		for {
			s, _ := l.signIn(p, old, elsewhere)
			if s == nil {
				return
			}
			late = append(late, s)
			select {
			case <-done:
				return
			default:
			}
		}
	})
	o := l.changePassword(p, keep, at)
	close(done)
	wg.Wait()
	if o.answer == good || o.answer == unavailable {
		p.mu.Lock()
		for _, s := range late {
			s.over = true
		}
		p.mu.Unlock()
	}
	if o.answer == good {
		l.checkEverywhere(p, late...)
	}
	return o
}

// sweep checks every session at every replica, the revoked ones too.
func (l *load) sweep() {
	var wg sync.WaitGroup
	for _, p := range l.people {
		wg.Go(func() {
			p.mu.Lock()
			sessions := slices.Clone(p.sessions)
			p.mu.Unlock()
			l.checkEverywhere(p, sessions...)
		})
	}
	wg.Wait()
}

// useRefreshTokens refreshes every active session once, to see that no refresh token was lost.
func (l *load) useRefreshTokens() {
	for i, p := range l.people {
		p.act.Lock()
		for _, s := range p.active() {
			l.refresh(p, s, l.rig.replicas[i%3])
		}
		p.act.Unlock()
	}
}
