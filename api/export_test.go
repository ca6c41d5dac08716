package api

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// A response that fails halfway must not look complete: the connection is cut.
func TestObserve_CutsConnectionOfAbortedResponse(t *testing.T) {
	a := &API{Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry())}
	server := httptest.NewServer(a.observe(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"logins":[`)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})))
	defer server.Close()
	response, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("the client reads %q without an error", body)
	}
}
