package session

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

func TestEpochs_TrustLastsTwoSecondsAndIsProlongedOnlyInTime(t *testing.T) {
	start := time.Now()
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	list := []Epoch{{Number: 7, Server: "a/0/"}}
	trusts := func(e *Epochs, seconds float64) bool { return len(e.Current(at(seconds), time.Time{})) == 1 }

	var e Epochs
	e.Prolong(at(0))
	if trusts(&e, 0) {
		t.Error("trusts a server before the ledger has answered")
	}
	e.Learn(list, at(0), 0)
	if !trusts(&e, 0) || !trusts(&e, 2) || trusts(&e, 2.1) {
		t.Error("trust does not last 2 s")
	}
	e.Prolong(at(1.5))
	if !trusts(&e, 3.5) || trusts(&e, 3.6) {
		t.Error("a failed poll does not prolong trust by 2 s from its own sending")
	}
	e.Prolong(at(3.6))
	if trusts(&e, 3.6) {
		t.Error("a failed poll brings lapsed trust back")
	}
	e.Learn([]Epoch{{Number: 8, Server: "b/0/"}}, at(5), 0)
	e.Learn(list, at(4.5), 0) // from another replica
	if got := e.Current(at(5), time.Time{}); len(got) != 1 || got[0].Number != 8 {
		t.Errorf("an older answer replaced a newer one: %v", got)
	}
}

func TestEpochs_TrustServerAfterFailureOnceRevocationsAreEnforced(t *testing.T) {
	start := time.Now()
	second := func(n int) time.Time { return start.Add(time.Duration(n) * time.Second) }
	list := []Epoch{{Number: 7, Server: "a/0/"}}
	var e Epochs
	for _, c := range []struct {
		name    string
		poll    func()
		trusted bool
	}{
		{"a poll from before the failure", func() { e.Learn(list, second(0), 0) }, false},
		{"a revocation from before the failure is not enforced", func() { e.Learn(list, second(2), 2*time.Second) }, false},
		{"the oldest one is younger than the failure", func() { e.Learn(list, second(3), time.Second) }, true},
		{"none is left", func() { e.Learn(list, second(4), 0) }, true},
	} {
		c.poll()
		if got := len(e.Current(second(2), second(1))) == 1; got != c.trusted {
			t.Errorf("%s: trusted %t, want %t", c.name, got, c.trusted)
		}
	}
	// Nobody else could decide while the ledger is away too.
	if e.Prolong(second(5)); len(e.Current(second(6), second(5))) != 1 {
		t.Error("after a failure, the server is not trusted while the ledger is away")
	}
	if e.Learn(list, second(6), 2*time.Second); len(e.Current(second(6), second(5))) != 0 {
		t.Error("the server is trusted although the ledger is back and a revocation waits")
	}
}

// document returns the JSON that sessiond sends, or nil before the first answer of the ledger.
func document(e *Epochs) []byte {
	d, err := e.Document(time.Now())
	text, _ := json.Marshal(d)
	if err != nil {
		return nil
	}
	return text
}

func TestFetchEpochs_CountsTimeInCaches(t *testing.T) {
	for age, trusted := range map[string]bool{"": true, "1": true, "3": false, "99999999999999999999": false, "-3": true} {
		var service Epochs
		if document(&service) != nil {
			t.Fatal("a document before the first answer of the ledger")
		}
		service.Learn([]Epoch{{Number: 3, Server: "a/0/"}}, time.Now().Add(500*time.Millisecond), 0) // because this machine may be slow
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Age", age)
			_, _ = w.Write(document(&service))
		}))
		e, err := FetchEpochs(t.Context(), server.URL, RemoteOptions{})
		server.Close()
		if err != nil {
			t.Fatal(err)
		}
		if got := len(e.Current(time.Now(), time.Time{})) == 1; got != trusted {
			t.Errorf("with the age %q, trusted: %t, want %t", age, got, trusted)
		}
	}
}

func TestFetchEpochs_FollowsTheService(t *testing.T) {
	var service Epochs
	service.Learn([]Epoch{{Number: 3, Server: "a/0/"}}, time.Now(), time.Second)
	var down atomic.Bool
	polled := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			select {
			case polled <- struct{}{}:
			case <-r.Context().Done():
			}
		}()
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(document(&service))
	}))
	defer server.Close()
	var e *Epochs
	fetched := make(chan struct{})
	go func() {
		defer close(fetched)
		var err error
		if e, err = FetchEpochs(t.Context(), server.URL, RemoteOptions{}); err != nil {
			t.Error(err)
		}
	}()
	<-polled
	<-fetched
	now := time.Now()
	if got := e.Current(now, time.Time{}); len(got) != 1 || got[0] != (Epoch{Number: 3, Server: "a/0/"}) {
		t.Errorf("fetched %v", got)
	}
	if got := e.Current(now, now.Add(-500*time.Millisecond)); len(got) != 0 {
		t.Error("a server that failed is trusted although a revocation from before waits")
	}
	down.Store(true)
	<-polled
	<-polled // the first failure has been counted
	if k := e.known.Load(); !k.away || k.asked.Add(epochTrust).Before(time.Now()) {
		t.Errorf("a service that is down ends trust: %+v", k)
	}
	if _, err := FetchEpochs(t.Context(), "http://id.example.com/", RemoteOptions{}); err == nil {
		t.Error("FetchEpochs accepts an unencrypted URL")
	}
}
