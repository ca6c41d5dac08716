package httpsuite

import (
	"net/http"
	"testing"
)

// A page of another site lets its own name lead to 127.0.0.1, to read the mailbox in a developer's browser.
func TestDev_AnswersOnlyAtNamesOfThisMachine(t *testing.T) {
	s := startDev(t, t.TempDir())
	host := func(name string) option { return func(r *http.Request) { r.Host = name } }
	for name, status := range map[string]int{
		"localhost": 200, "LOCALHOST:8080": 200, "127.0.0.1": 200, "127.9.9.9:1": 200, "[::1]:8080": 200, "[::1]": 200,
		"rebind.attacker.example": 421, "localhost.attacker.example:8080": 421, "192.0.2.1": 421, "0.0.0.0": 421,
	} {
		for _, path := range []string{"/dev/mail", "/livez"} {
			if got := s.call(t, "GET", path, host(name)); got.status != status {
				t.Errorf("GET %s with Host %s: got %d, want %d", path, name, got.status, status)
			}
		}
	}
	s.call(t, "GET", "/v1/verify", host("rebind.attacker.example")).want(t, 421)
}
