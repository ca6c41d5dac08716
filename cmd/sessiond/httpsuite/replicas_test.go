package httpsuite

import (
	"sync"
	"testing"
)

// manyLogins signs a user in n times, at each replica in turn, and returns the access tokens.
func (s *service) manyLogins(t *testing.T, p person, n int) []string {
	t.Helper()
	tokens := make([]string, n)
	var wg sync.WaitGroup
	for worker := range 2 {
		wg.Go(func() {
			for i := worker; i < n; i += 2 {
				base := s.replicas[i%len(s.replicas)]
				a := callAt(t, base, "POST", "/loginUser", credentials(p.username, password)).patient(t)
				if a.status != 200 {
					t.Errorf("login %d: status %d, want 200: %s", i, a.status, a.body)
					return
				}
				tokens[i] = a.text(t, "token")
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return tokens
}

// The test revokes 200 sessions, each through one of three replicas (1,000 with
// SESSIOND_TEST_LONG=1). The other replicas must refuse each revoked session on the next request.
func TestRevocation_IsVisibleOnOtherReplicasAtOnce_ASVS_V7_4_1(t *testing.T) {
	t.Parallel()
	rounds := 200
	if isLong() {
		rounds = 1000
	}
	s := startServe(t, 3, "MAX_SESSIONS=0")
	p := s.register(t)
	tokens := s.manyLogins(t, p, rounds)
	refused := 0
	for i, token := range tokens {
		for _, base := range s.replicas {
			if !aliveAt(t, base, token) {
				t.Fatalf("round %d: an active session is refused", i)
			}
		}
		id := callAt(t, s.replicas[i%3], "GET", "/v1/sessions/current", bearer(token)).want(t, 200).text(t, "id")
		callAt(t, s.replicas[i%3], "GET", "/user/logins/delete/"+id, bearer(p.token)).want(t, 200)
		if aliveAt(t, s.replicas[(i+1)%3], token) || aliveAt(t, s.replicas[(i+2)%3], token) {
			t.Fatalf("round %d: a revoked session is accepted", i)
		}
		refused++
	}
	if !aliveAt(t, s.replicas[2], p.token) {
		t.Error("the session whose user revoked the other sessions is refused")
	}
	t.Logf("both other replicas refused %d of %d revoked sessions on the next request", refused, rounds)
}
