package api

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func serveOnce(h handler) *httptest.ResponseRecorder {
	a := &API{Log: slog.New(slog.DiscardHandler)}
	w := httptest.NewRecorder()
	a.serve(h, a.writeProblem(nil, false))(w, httptest.NewRequest("GET", "/", nil))
	return w
}

// A handler may return a reply together with an error. The client must not receive that reply.
func TestServe_SendsNoReplyIfHandlerReturnsError_ASVS_V16_5_1_V16_5_3(t *testing.T) {
	w := serveOnce(func(q *request) (reply, error) {
		q.replyHeader.Set("X-Auth-Token", "secret")
		return ok("secret"), errors.New("failed")
	})
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "secret") || w.Header().Get("X-Auth-Token") != "" {
		t.Errorf("got status %d, headers %v and body %s, want a 500 that shows nothing of the reply", w.Code, w.Header(), w.Body)
	}
}

func TestServe_HidesCauseOfPanicFromClient_ASVS_V16_5_1(t *testing.T) {
	w := serveOnce(func(*request) (reply, error) { panic("secret") })
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("got status %d and body %s, want a 500 that does not show the panic's value", w.Code, w.Body)
	}
}
