package api

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/clients"
)

func TestAdminHandler_ServesOnlyRoutesForOperators(t *testing.T) {
	a := &API{Users: &identity.Service{}, Clients: &clients.Registry{}, Log: slog.New(slog.DiscardHandler)}
	status := func(h http.Handler, path string) int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
		return w.Code
	}
	if got := status(a.Handler(), "/v1/admin/stats"); got != 401 {
		t.Errorf("without ADMIN_ADDR, the main listener answers %d, want 401", got)
	}
	a.AdminElsewhere = true
	for path, want := range map[string][2]int{ // on the main listener, and on that of operators
		"/v1/admin/stats": {404, 401}, "/v1/admin/users/x/": {404, 401}, "/v1/sessions": {401, 404}, "/v1/verify": {401, 404}, "/findUser": {401, 404}, "/livez": {200, 200},
	} {
		if got := [2]int{status(a.Handler(), path), status(a.AdminHandler(), path)}; got != want {
			t.Errorf("%s: status %v on the two listeners, want %v", path, got, want)
		}
	}
}
