package api

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// epochsStore is a store that only has epochs.
type epochsStore struct {
	issuer.Store
	known session.Epochs
}

func (s *epochsStore) Epochs() *session.Epochs { return &s.known }

// A verifier that asks a replica which has just started must not take its empty answer for the truth.
func TestGetEpochs_Returns503BeforeFirstAnswerOfLedger(t *testing.T) {
	store := &epochsStore{}
	a := &API{Log: slog.New(slog.DiscardHandler), Sessions: &issuer.Manager{Store: store}}
	get := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		a.serve(a.getEpochs, a.writeProblem(nil, false))(w, httptest.NewRequest("GET", "/", nil))
		return w
	}
	if w := get(); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" ||
		!strings.HasPrefix(w.Header().Get("Content-Type"), "application/problem+json") || strings.Contains(w.Header().Get("Cache-Control"), "public") {
		t.Errorf("before the first answer: status %d, headers %v, %s", w.Code, w.Header(), w.Body)
	}
	store.known.Learn([]session.Epoch{{Number: 3, Server: "a/0/"}}, time.Now(), 0)
	if w := get(); w.Code != http.StatusOK || w.Header().Get("Cache-Control") != "public, max-age=1, must-revalidate" ||
		!strings.Contains(w.Body.String(), `"number":3`) {
		t.Errorf("status %d, headers %v, %s", w.Code, w.Header(), w.Body)
	}
}
