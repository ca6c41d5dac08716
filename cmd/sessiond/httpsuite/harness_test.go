package httpsuite

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"go.uber.org/goleak"

	"github.com/sessiond/sessiond/cmd/sessiond/app"
	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// service is the program under test, seen from outside.
type service struct {
	base     string   // of the first replica
	replicas []string // all of them
	mails    func() []keptMail
	logs     *lockedBuffer
	prefix   string // of its keys in the real Redis; empty in dev
}

type keptMail struct {
	To, Subject, Text string
}

// eachMode runs f against the embedded default and, as real processes, against
// real Postgres and Redis.
func eachMode(t *testing.T, f func(t *testing.T, s *service), settings ...string) {
	t.Run("dev", func(t *testing.T) { f(t, startDev(t, t.TempDir(), settings...)) })
	t.Run("serve", func(t *testing.T) { f(t, startServe(t, 1, settings...)) })
}

// startDev runs dev in this process, so that the race detector sees it.
// settings are NAME=value, without prefix.
func startDev(t *testing.T, data string, settings ...string) *service {
	t.Helper()
	s, stop := tryDev(t, data, settings...)
	t.Cleanup(stop)
	return s
}

// tryDev is startDev with the stopping left to the caller; it may be called twice.
func tryDev(t *testing.T, data string, settings ...string) (*service, func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	env := environment(append([]string{"BCRYPT_COST=4", "LIMITS=off"}, settings...)) // see limits_test.go
	out, logs := &lockedBuffer{}, &lockedBuffer{}
	done := make(chan error, 1)
	go func() {
		done <- app.Run(ctx, []string{"dev", "--addr", "127.0.0.1:0", "--data", data}, env.lookup, out, logs)
	}()
	stop := sync.OnceFunc(func() {
		cancel()
		http.DefaultClient.CloseIdleConnections()
		if err := <-done; err != nil {
			t.Errorf("dev ended with: %v", err)
		}
	})
	s := &service{logs: logs}
	s.base = awaitMatch(t, out, done, regexp.MustCompile(`(http://127\.0\.0\.1:\d+) `))
	s.replicas = []string{s.base}
	s.mails = func() []keptMail {
		var kept []keptMail
		s.call(t, "GET", "/dev/mail").into(t, &kept)
		return kept
	}
	return s, stop
}

// startServe starts n replicas as processes on one fresh Postgres database and
// one Redis, with a mail server of the test's own.
func startServe(t *testing.T, n int, settings ...string) *service {
	t.Helper()
	env := serveEnvironment(t)
	s := &service{logs: &lockedBuffer{}, prefix: env["SESSIOND_REDIS_PREFIX"]}
	env.set(settings)
	if _, set := env["SESSIOND_SMTP_URL"]; !set {
		server := startSMTP(t)
		env["SESSIOND_SMTP_URL"], env["SESSIOND_MAIL_FROM"] = "smtp+plain://"+server.addr, "id@example.com"
		s.mails = server.received
	}
	t.Cleanup(s.tellWhy(t))
	binary := program(t)
	runProgram(t, binary, env, "migrate")
	for range n {
		base := startReplica(t, binary, env, s.logs)
		s.replicas = append(s.replicas, base)
	}
	s.base = s.replicas[0]
	return s
}

// serveEnvironment is a complete and safe configuration on real stores.
func serveEnvironment(t *testing.T) environ {
	t.Helper()
	env := environ{}
	env.set([]string{
		"DATABASE_URL=" + sqlstoretest.PostgresURL(t), "REDIS_URL=" + redisstoretest.RealURL(t),
		"REDIS_PREFIX=" + "t" + issuer.NewID() + ":", "ISSUER=https://id.example", "PUBLIC_URL=https://id.example",
		"SIGNING_KEYS_FILE=" + filepath.Join(t.TempDir(), "keys.json"), "ADDR=127.0.0.1:0", "METRICS_ADDR=127.0.0.1:0",
		"LIMITS=off", // tests are many logins from one address; see limits_test.go
	})
	newKeys(t, env["SESSIOND_SIGNING_KEYS_FILE"], session.AlgEdDSA)
	return env
}

// newKeys makes a key file with one signing key.
func newKeys(t *testing.T, path, alg string) {
	t.Helper()
	if err := app.Run(t.Context(), []string{"keys", "new", "--out", path, "--alg", alg}, environ{}.lookup, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
}

// startReplica starts one serve process and returns its base URL.
func startReplica(t *testing.T, binary string, env environ, logs *lockedBuffer) string {
	t.Helper()
	base, _ := startKillable(t, binary, env, logs)
	return base
}

// startKillable is startReplica with a way to kill it at once, as a node that
// is lost would.
func startKillable(t *testing.T, binary string, env environ, logs *lockedBuffer) (base string, kill func()) {
	t.Helper()
	own := &lockedBuffer{}
	cmd := exec.Command(binary, "serve")
	cmd.Env = env.list()
	cmd.Stdout, cmd.Stderr = io.MultiWriter(own, logs), io.MultiWriter(own, logs)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var killed bool
	kill = func() {
		killed = true
		_ = cmd.Process.Kill()
		if err := <-done; err == nil {
			t.Error("a replica that was killed ended as if it had been asked to")
		}
	}
	t.Cleanup(func() {
		if killed {
			return
		}
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("a replica ended with: %v", err)
			}
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			t.Error("a replica did not end")
		}
	})
	return "http://" + awaitMatch(t, own, done, regexp.MustCompile(`"msg":"serving","addr":"([^"]+)"`)), kill
}

// awaitMatch waits until the output of a program shows re's first group.
func awaitMatch(t *testing.T, out *lockedBuffer, done <-chan error, re *regexp.Regexp) string {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		changed := out.changed()
		if m := re.FindStringSubmatch(out.String()); m != nil {
			return m[1]
		}
		select {
		case <-changed:
		case err := <-done:
			t.Fatalf("the program ended early: %v\n%s", err, out.String())
		case <-deadline:
			t.Fatalf("not in time: %s\n%s", re, out.String())
		}
	}
}

// logged returns what the service has logged of all that it has answered so far.
// What a process writes takes a moment to arrive here.
func (s *service) logged(t *testing.T) string {
	t.Helper()
	for _, base := range s.replicas {
		id := issuer.NewID()
		callAt(t, base, "GET", "/nowhere", header("X-Request-Id", id)).want(t, 404)
		awaitMatch(t, s.logs, nil, regexp.MustCompile(`\brequest_id"?[:=]"?(`+id+`).*\n`))
	}
	return s.logs.String()
}

// tellWhy shows, when the test has failed, what the service has complained of.
func (s *service) tellWhy(t *testing.T) func() {
	return func() {
		if !t.Failed() {
			return
		}
		const most = 20
		shown := 0
		for line := range strings.Lines(s.logs.String()) {
			if !strings.Contains(line, `"level":"INFO"`) && shown < most {
				t.Log(strings.TrimSpace(line))
				shown++
			}
		}
	}
}

var (
	buildOnce sync.Once
	builtPath string
	buildErr  error
)

// program builds the binary once. It is built without the race detector, whose
// cost would make a thousand password hashes take minutes.
func program(t *testing.T) string {
	t.Helper()
	buildOnce.Do(func() {
		dir, err := os.MkdirTemp("", "sessiond-test-") //nolint:usetesting // it outlives the test that is first to need it
		if err != nil {
			buildErr = err
			return
		}
		builtPath = filepath.Join(dir, "sessiond")
		out, err := exec.Command("go", "build", "-o", builtPath, "..").CombinedOutput()
		if err != nil {
			buildErr = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	return builtPath
}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		if builtPath != "" {
			_ = os.RemoveAll(filepath.Dir(builtPath))
		}
		os.Exit(status)
	}))
}

func runProgram(t *testing.T, binary string, env environ, args ...string) string {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = env.list()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("sessiond %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// environ is an environment of settings.
type environ map[string]string

func environment(settings []string) environ {
	e := environ{}
	e.set(settings)
	return e
}

func (e environ) set(settings []string) {
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		e["SESSIOND_"+name] = value
	}
}

func (e environ) lookup(name string) (string, bool) { v, ok := e[name]; return v, ok }

func (e environ) list() []string {
	list := []string{"PATH=" + os.Getenv("PATH")}
	for name, value := range e {
		list = append(list, name+"="+value)
	}
	return list
}

// answer is what the service answered.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// option shapes a request.
type option func(*http.Request)

func bearerOf(token string) option {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

func header(name, value string) option {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

func jsonBody(v any) option {
	return func(r *http.Request) {
		data, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		rawBody("application/json", data)(r)
	}
}

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

// call asks the first replica, callAt any.
func (s *service) call(t testing.TB, method, path string, opts ...option) answer {
	t.Helper()
	return callAt(t, s.base, method, path, opts...)
}

func callAt(t testing.TB, base, method, path string, opts ...option) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range opts {
		o(r)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, body}
}

// want fails the test unless the status is this one.
func (a answer) want(t testing.TB, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	return a
}

func (a answer) into(t testing.TB, v any) answer {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("body %q: %v", a.body, err)
	}
	return a
}

// text finds a member of the body by its path, as "session.id"; empty when it is not there.
func (a answer) text(t testing.TB, path string) string {
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

const password = "correct horse battery"

// person is somebody with an account.
type person struct {
	username, email, token, refresh string
}

// register makes an account with a fresh name and signs it in.
func (s *service) register(t testing.TB) person {
	t.Helper()
	id := strings.ToLower(issuer.NewID()[:10])
	p := person{username: "u" + id, email: "u" + id + "@example.com"}
	a := s.call(t, "POST", "/registerUser", jsonBody(map[string]string{"username": p.username, "email": p.email, "password": password})).want(t, 200)
	p.token, p.refresh = a.text(t, "token"), a.text(t, "refresh_token")
	return p
}

// login signs in once more and returns the access token.
func (s *service) login(t testing.TB, p person, opts ...option) string {
	t.Helper()
	opts = append([]option{jsonBody(map[string]string{"username": p.username, "password": password})}, opts...)
	return s.call(t, "POST", "/loginUser", opts...).want(t, 200).text(t, "token")
}

// alive tells whether a token is accepted; any status but 200 and 401 fails the test.
func (s *service) alive(t testing.TB, token string) bool {
	t.Helper()
	return aliveAt(t, s.base, token)
}

// aliveAt asks the check itself: a route that read the session's row as well
// would hide a check that says yes too often.
func aliveAt(t testing.TB, base, token string) bool {
	t.Helper()
	a := callAt(t, base, "GET", "/v1/verify", bearerOf(token))
	if a.status != 200 && a.status != 401 {
		t.Fatalf("a check answered %d: %s", a.status, a.body)
	}
	return a.status == 200
}

// awaitMail waits for a mail to an address whose subject or text holds a word.
func (s *service) awaitMail(t testing.TB, to, word string) keptMail {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-tick.C {
		for _, m := range s.mails() {
			if m.To == to && strings.Contains(m.Subject+m.Text, word) {
				return m
			}
		}
	}
	t.Fatalf("no mail to %s with %q", to, word)
	return keptMail{}
}

var resetLink = regexp.MustCompile(`resetPasswordToken=([A-Za-z0-9_-]+)`)

// resetToken asks for a reset and reads the token out of the mail.
func (s *service) resetToken(t testing.TB, p person) string {
	t.Helper()
	tokens := func() (all []string) {
		for _, m := range s.mails() {
			if found := resetLink.FindStringSubmatch(m.Text); m.To == p.email && found != nil {
				all = append(all, found[1])
			}
		}
		return all
	}
	before := tokens()
	s.call(t, "POST", "/forgotPassword", jsonBody(map[string]string{"email": p.email})).want(t, 200)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-tick.C {
		for _, token := range tokens() {
			if !slices.Contains(before, token) {
				return token
			}
		}
	}
	t.Fatal("no reset mail")
	return ""
}

// lockedBuffer is a buffer that a program writes and a test reads.
type lockedBuffer struct {
	mu     sync.Mutex
	buf    bytes.Buffer
	notify chan struct{}
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.notify != nil {
		close(b.notify)
		b.notify = nil
	}
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// changed returns a channel that is closed by the next write.
func (b *lockedBuffer) changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.notify == nil {
		b.notify = make(chan struct{})
	}
	return b.notify
}

// smtpServer is a real mail server that keeps what it is given, newest first.
type smtpServer struct {
	addr string
	mu   sync.Mutex
	kept []keptMail
}

func startSMTP(t *testing.T) *smtpServer {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &smtpServer{addr: l.Addr().String()}
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &smtpSession{server: s}, nil }))
	server.Domain = "localhost"
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		_ = l.Close() // Serve may not have come as far as to know it
		<-done
	})
	return s
}

func (s *smtpServer) received() []keptMail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]keptMail(nil), s.kept...)
}

type smtpSession struct {
	server *smtpServer
	to     []string
}

func (s *smtpSession) Reset()                                    { s.to = nil }
func (s *smtpSession) Logout() error                             { return nil }
func (s *smtpSession) Mail(string, *smtp.MailOptions) error      { return nil }
func (s *smtpSession) Rcpt(to string, _ *smtp.RcptOptions) error { s.to = append(s.to, to); return nil }

func (s *smtpSession) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	text := decodeQuotedPrintable(raw)
	m := keptMail{To: strings.Join(s.to, ","), Text: text}
	for line := range strings.Lines(text) {
		if subject, ok := strings.CutPrefix(line, "Subject: "); ok {
			m.Subject = strings.TrimSpace(subject)
		}
	}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.kept = append([]keptMail{m}, s.server.kept...)
	return nil
}

// decodeQuotedPrintable joins soft line breaks and decodes what a link can hold.
func decodeQuotedPrintable(raw []byte) string {
	text := strings.ReplaceAll(string(raw), "=\r\n", "")
	return strings.NewReplacer("=3D", "=", "=3d", "=").Replace(text)
}
