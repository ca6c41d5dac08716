package httpsuite

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/session/issuer"
)

// response is a response of the service.
type response struct {
	status int
	header http.Header
	body   []byte

	took  time.Duration
	again func() response // sends the same request again
}

// option changes a request before it is sent.
type option func(*http.Request)

func bearer(token string) option {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

func header(name, value string) option {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// jsonBody sends v as the JSON body of the request.
func jsonBody(v any) option {
	return func(r *http.Request) {
		data, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		rawBody("application/json", data)(r)
	}
}

// credentials sends the JSON body of a login on the classic (pre-/v1) routes.
func credentials(username, password string) option {
	return jsonBody(shape{"username": username, "password": password})
}

// registration sends the JSON body of a registration.
func registration(username, email, password string) option {
	return jsonBody(shape{"username": username, "email": email, "password": password})
}

// refreshGrant sends the form body of a refresh.
func refreshGrant(refresh string) option {
	return formBody("grant_type", "refresh_token", "refresh_token", refresh)
}

// formBody sends a form. The arguments are field names and values in turn.
func formBody(pairs ...string) option {
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	return func(r *http.Request) { rawBody("application/x-www-form-urlencoded", []byte(form.Encode()))(r) }
}

func rawBody(contentType string, data []byte) option {
	return func(r *http.Request) {
		if contentType != "" {
			r.Header.Set("Content-Type", contentType)
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
	}
}

// call sends a request to the service's first replica.
func (s *service) call(t testing.TB, method, path string, opts ...option) response {
	t.Helper()
	return callAt(t, s.base, method, path, opts...)
}

// callAt sends a request to the replica with this base URL.
func callAt(t testing.TB, base, method, path string, opts ...option) response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range opts {
		o(r)
	}
	begin := time.Now()
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	again := func() response { return callAt(t, base, method, path, opts...) }
	return response{resp.StatusCode, resp.Header, body, time.Since(begin), again}
}

// patient repeats the request while a busy machine may be the cause of a 503, because too many
// password hashes wait or a dependency timed out. A dependency that fails within 100 ms has not
// timed out, because all timeouts are longer. In that case, patient returns the 503.
func (a response) patient(t testing.TB) response {
	t.Helper()
	for deadline := time.Now().Add(patience); a.status == 503 && time.Now().Before(deadline); a = a.again() {
		slow := a.took > 100*time.Millisecond && bytes.Contains(a.body, []byte(`"unavailable"`))
		if !slow && !bytes.Contains(a.body, []byte(`"busy"`)) {
			break
		}
		t.Logf("503 after %v, so the client tries again: %s", a.took, a.body)
		time.Sleep(50 * time.Millisecond)
	}
	return a
}

// want fails the test unless the response has this status. If that status is not 503, want first
// repeats the request as [response.patient] does, because a busy machine can cause a 503.
func (a response) want(t testing.TB, status int) response {
	t.Helper()
	if status != 503 {
		a = a.patient(t)
	}
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	return a
}

// into decodes the body from JSON.
func (a response) into(t testing.TB, v any) response {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("body %q: %v", a.body, err)
	}
	return a
}

// text returns the member of the JSON body at a path such as "session.id", or "" if there is none.
func (a response) text(t testing.TB, path string) string {
	t.Helper()
	var v any
	a.into(t, &v)
	for name := range strings.SplitSeq(path, ".") {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// password is the password of every user in these tests.
const password = "correct horse battery"

// person is a user with the access token and the refresh token of the first login.
type person struct {
	username, email, token, refresh string
}

// newName returns a username that no other user has.
func newName() string { return "u" + strings.ToLower(issuer.NewID()[:10]) }

// register creates a user with a new name and signs this user in.
func (s *service) register(t testing.TB) person {
	t.Helper()
	name := newName()
	p := person{username: name, email: name + "@example.com"}
	a := s.call(t, "POST", "/registerUser", registration(p.username, p.email, password)).want(t, 200)
	p.token, p.refresh = a.text(t, "token"), a.text(t, "refresh_token")
	return p
}

// confirmed creates a signed-in user whose email address is confirmed.
func (s *service) confirmed(t testing.TB) person {
	t.Helper()
	p := s.register(t)
	s.confirm(t, p)
	return p
}

// confirm confirms the email address of a user who has just registered.
func (s *service) confirm(t testing.TB, p person) {
	t.Helper()
	s.call(t, "POST", "/v1/users/verify", jsonBody(shape{"token": s.confirmToken(t, p.email)})).want(t, 204)
}

// confirmToken waits for a mail with a link that confirms this address, and returns its token.
func (s *service) confirmToken(t testing.TB, email string) string {
	t.Helper()
	return verifyLink.FindStringSubmatch(s.awaitMail(t, email, "/verify#token=").Text)[1]
}

// login signs a user in again and returns the new access token.
func (s *service) login(t testing.TB, p person, opts ...option) string {
	t.Helper()
	opts = append([]option{credentials(p.username, password)}, opts...)
	return s.call(t, "POST", "/loginUser", opts...).want(t, 200).text(t, "token")
}

// alive reports whether the service accepts an access token (200) or refuses it (401). Any other
// status fails the test.
func (s *service) alive(t testing.TB, token string) bool {
	t.Helper()
	return aliveAt(t, s.base, token)
}

// aliveAt reports whether the replica with this base URL accepts an access token. It calls the
// gateway check /v1/verify. Other routes also read the session from Postgres, and could refuse a
// revoked session that the gateway check wrongly accepts.
func aliveAt(t testing.TB, base, token string) bool {
	t.Helper()
	a := callAt(t, base, "GET", "/v1/verify", bearer(token)).patient(t)
	if a.status != 200 && a.status != 401 {
		t.Fatalf("GET /v1/verify: status %d, want 200 or 401: %s", a.status, a.body)
	}
	return a.status == 200
}

// claimsOf decodes the claims of an access token without verifying it.
func claimsOf(t *testing.T, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("not a JWT: %q", token)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// refreshed sends a refresh token and fails the test unless the response has this status. It
// returns the new access token and the new refresh token.
func (s *service) refreshed(t *testing.T, refresh string, status int) (token, next string) {
	t.Helper()
	a := s.call(t, "POST", "/oauth/token", refreshGrant(refresh)).want(t, status)
	return a.text(t, "access_token"), a.text(t, "refresh_token")
}
