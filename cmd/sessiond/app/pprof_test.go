package app

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"testing"
)

// The metrics listener serves profiles only with --pprof, and never the command line, which may contain
// secrets.
func TestServe_ProfilesNeedSetting(t *testing.T) {
	for _, c := range []struct {
		pprof bool
		path  string
		want  int
	}{
		{false, "/debug/pprof/", 404},
		{false, "/debug/pprof/heap", 404},
		{false, "/debug/pprof/profile?seconds=1", 404},
		{true, "/debug/pprof/", 200},
		{true, "/debug/pprof/heap", 200},
		{true, "/debug/pprof/goroutine?debug=1", 200},
		{true, "/debug/pprof/cmdline", 404},
	} {
		ctx, stop := context.WithCancel(t.Context())
		public, metrics := newPipes(), newPipes()
		service := &Service{Handler: http.NotFoundHandler(), metrics: http.NotFoundHandler(), pprof: c.pprof}
		done := make(chan error)
		go func() {
			done <- service.Serve(ctx, Listeners{Public: public, Metrics: metrics}, 0, slog.New(slog.DiscardHandler))
		}()
		transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return metrics.dial(), nil }}
		response, err := (&http.Client{Transport: transport}).Get("http://service" + c.path)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != c.want {
			t.Errorf("pprof %t: GET %s: status %d, want %d", c.pprof, c.path, response.StatusCode, c.want)
		}
		transport.CloseIdleConnections()
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
