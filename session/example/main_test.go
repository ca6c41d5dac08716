package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sessiond and the example run as processes with a real Postgres and Redis. The example asks
// sessiond once for each session, and Redis for each request. It continues to work when sessiond
// stops.
func TestExample_VerifiesWhileSessiondIsStopped(t *testing.T) {
	redisURL := redisstoretest.StartServer(t)
	// These are all the Redis permissions that a service which verifies tokens needs.
	if err := redisstoretest.Client(t, redisURL).Do(t.Context(),
		"ACL", "SETUSER", "orders", "on", ">secret", "%R~s:*", "%R~b:*", "~g:*", "+@connection", "-@dangerous", "+info", "+mget", "+getex").Err(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	keys, clients := filepath.Join(dir, "keys.json"), filepath.Join(dir, "clients")
	sessiond := program{path: build(t, dir, "../../cmd/sessiond"), env: []string{
		"SESSIOND_DATABASE_URL=" + sqlstoretest.PostgresURL(t), "SESSIOND_REDIS_URL=" + redisURL,
		"SESSIOND_ISSUER=https://id.example", "SESSIOND_PUBLIC_URL=https://id.example", "SESSIOND_AUDIENCE=https://api.example",
		"SESSIOND_SIGNING_KEYS_FILE=" + keys, "SESSIOND_CLIENTS_FILE=" + clients, "SESSIOND_ADDR=127.0.0.1:0", "SESSIOND_METRICS_ADDR=127.0.0.1:0",
	}}
	sessiond.run(t, "keys", "new", "--out", keys)
	secret := strings.TrimSpace(sessiond.run(t, "clients", "add", "--file", clients, "--id", "example"))
	sessiond.run(t, "migrate")
	id, stopSessiond := sessiond.start(t, "serve")

	toSessiond, toRedis := startWire(t, strings.TrimPrefix(id, "http://")), startWire(t, strings.TrimPrefix(redisURL, "redis://"))
	example := program{path: build(t, dir, "."), env: []string{
		"SESSIOND_EXAMPLE_ADDR=127.0.0.1:0", "SESSIOND_EXAMPLE_URL=http://" + toSessiond.addr,
		"SESSIOND_EXAMPLE_REDIS_URL=redis://orders:secret@" + toRedis.addr,
		"SESSIOND_EXAMPLE_CLIENT_ID=example", "SESSIOND_EXAMPLE_CLIENT_SECRET=" + secret,
		"SESSIOND_EXAMPLE_ISSUER=https://id.example", "SESSIOND_EXAMPLE_AUDIENCE=https://api.example",
	}}
	service, _ := example.start(t)
	withWrongSecret, _ := program{path: example.path, env: append(example.env[:len(example.env):len(example.env)], "SESSIOND_EXAMPLE_CLIENT_SECRET=wrong")}.start(t)

	call(t, "POST", id+"/registerUser", "", `{"username":"ada","email":"ada@example.com","password":"correct horse battery"}`)
	login := func() string {
		t.Helper()
		return call(t, "POST", id+"/loginUser", "", `{"username":"ada","password":"correct horse battery"}`).text(t, "token")
	}
	check := func(what, base, token string, want int) answer {
		t.Helper()
		got := call(t, "GET", base+"/whoami", token, "")
		if got.status != want {
			t.Fatalf("%s: status %d, want %d: %s", what, got.status, want, got.body)
		}
		if want == 200 && got.text(t, "username") != "ada" {
			t.Fatalf("%s: %s", what, got.body)
		}
		return got
	}

	if got := check("no token", service, "", 401); got.header.Get("WWW-Authenticate") != `Bearer realm="sessiond"` {
		t.Errorf("challenge %q", got.header.Get("WWW-Authenticate"))
	}
	active, revoked := login(), login()

	asked := toSessiond.messages.Load()
	check("the first check after a login", service, active, 200)
	if toSessiond.messages.Load() == asked {
		t.Error("the first check after a login did not ask sessiond")
	}
	asked, trips := toSessiond.messages.Load(), toRedis.messages.Load()
	check("the second check", service, active, 200)
	if http, redis := toSessiond.messages.Load()-asked, toRedis.messages.Load()-trips; http != 0 || redis != 1 {
		t.Errorf("the second check sent %d requests to sessiond and %d to Redis, want 0 and 1", http, redis)
	}

	check("before the logout", service, revoked, 200)
	call(t, "DELETE", id+"/logout", revoked, "")
	check("the request after the logout", service, revoked, 401)

	check("wrong credentials, session unknown to Redis", withWrongSecret, login(), 503)
	check("wrong credentials, session known to Redis", withWrongSecret, active, 200)

	// sessiond begins to sign with a new key while the example is running.
	oldKey := keyOf(t, active)
	sessiond.run(t, "keys", "add", "--file", keys)
	next := regexp.MustCompile(`(\S+) .*published`).FindStringSubmatch(sessiond.run(t, "keys", "list", "--file", keys))
	sessiond.run(t, "keys", "activate", "--file", keys, "--kid", next[1], "--now")
	rotated := ""
	await(t, "sessiond signs with the new key", func() bool { rotated = login(); return keyOf(t, rotated) != oldKey })
	await(t, "the example has fetched the new key", func() bool { return call(t, "GET", service+"/whoami", rotated, "").status == 200 })
	check("a token of the old key", service, active, 200)

	unseen := login()
	stopSessiond()
	check("active session, sessiond stopped", service, active, 200)
	check("token of the new key, sessiond stopped", service, rotated, 200)
	check("revoked session, sessiond stopped", service, revoked, 401)
	check("session unknown to Redis, sessiond stopped", service, unseen, 503)

	toRedis.cut(true)
	for what, token := range map[string]string{"active": active, "revoked": revoked, "unseen": unseen} {
		if got := check(what+" session, sessiond and Redis stopped", service, token, 503); got.header.Get("Retry-After") == "" {
			t.Error("the response 503 has no Retry-After")
		}
	}
	check("malformed token, sessiond and Redis stopped", service, "x.y.z", 401)
	toRedis.cut(false)
	await(t, "the example works after Redis is back", func() bool { return call(t, "GET", service+"/whoami", active, "").status == 200 })
	check("revoked session, Redis is back", service, revoked, 401)
}

// program is an executable with its environment.
type program struct {
	path string
	env  []string
}

func build(t *testing.T, dir, source string) string {
	t.Helper()
	path := filepath.Join(dir, filepath.Base(source)+".program")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, source).CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", source, err, out)
	}
	return path
}

func (p program) run(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), p.path, args...)
	cmd.Env = p.env
	var errors bytes.Buffer
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, errors.String())
	}
	return string(out)
}

var serving = regexp.MustCompile(`serving.*?(127\.0\.0\.1:\d+)`)

// start runs the program and returns after the program has logged its network address. The function
// stop interrupts the program. The test's cleanup also calls stop.
func (p program) start(t *testing.T, args ...string) (base string, stop func()) {
	t.Helper()
	cmd := exec.Command(p.path, args...)
	cmd.Env = p.env
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = write, write
	err = cmd.Start()
	_ = write.Close()
	if err != nil {
		t.Fatal(err)
	}
	var output strings.Builder
	lines, drained := bufio.NewScanner(read), make(chan struct{})
	for base == "" && lines.Scan() {
		output.WriteString(lines.Text() + "\n")
		if m := serving.FindStringSubmatch(lines.Text()); m != nil {
			base = "http://" + m[1]
		}
	}
	go func() { defer close(drained); _, _ = io.Copy(io.Discard, read) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		http.DefaultClient.CloseIdleConnections()
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s exited with %v", filepath.Base(p.path), err)
		}
		<-drained
		_ = read.Close()
	}
	t.Cleanup(stop)
	if base == "" {
		t.Fatalf("%s did not start:\n%s", filepath.Base(p.path), output.String())
	}
	return base, stop
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

func call(t *testing.T, method, target, token, body string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a answer) text(t *testing.T, member string) string {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(a.body, &v); err != nil || a.status != 200 {
		t.Fatalf("status %d, body %q: %v", a.status, a.body, err)
	}
	text, _ := v[member].(string)
	return text
}

func keyOf(t *testing.T, token string) string {
	t.Helper()
	head, _, _ := strings.Cut(token, ".")
	data, err := base64.RawURLEncoding.DecodeString(head)
	var header struct{ Kid string }
	if err == nil {
		err = json.Unmarshal(data, &header)
	}
	if err != nil {
		t.Fatal(err)
	}
	return header.Kid
}

// await calls done again and again until it returns true, because other processes take some time.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(2 * time.Minute); !done(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within two minutes: %s", what)
		}
	}
}
