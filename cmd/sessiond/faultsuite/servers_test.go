package faultsuite

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/lib/pq" // the driver "postgres"
	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/redisstore/redisstoretest"
)

// postgres is a Postgres server of the suite's own.
type postgres struct {
	t        testing.TB
	dir      string
	port     int
	password string
	program  string
	proc     *process
	admin    *sql.DB
}

func startPostgres(t testing.TB, parent string) *postgres {
	t.Helper()
	initdb := find(t, "initdb", "/usr/lib/postgresql/*/bin/initdb", "/usr/pgsql-*/bin/initdb")
	p := &postgres{t: t, dir: serverDir(t, parent, "postgres"), port: freePort(t), password: rand.Text(), program: filepath.Join(filepath.Dir(initdb), "postgres")}
	secret := filepath.Join(serverDir(t, parent, "secret"), "password")
	writeForServer(t, secret, []byte(p.password))
	create := spawn(t, parent, "initdb", true, nil, initdb, "--pgdata="+filepath.Join(p.dir, "data"), "--username=suite",
		"--pwfile="+secret, "--auth=password", "--encoding=UTF8", "--locale=C", "--no-sync")
	<-create.done
	p.start()
	var err error
	if p.admin, err = sql.Open("postgres", p.url("postgres", p.port)); err != nil {
		t.Fatal(err)
	}
	p.admin.SetMaxOpenConns(2)
	t.Cleanup(func() { _ = p.admin.Close() })
	p.await()
	return p
}

// writeForServer writes a file that belongs to the servers' user.
func writeForServer(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if c := unprivileged(); c != nil {
		if err := os.Chown(path, int(c.Uid), int(c.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// present makes the server take TLS connections, too, with this certificate.
func (p *postgres) present(c redisstoretest.Certificate) {
	p.t.Helper()
	for path, name := range map[string]string{c.File: "server.crt", c.KeyFile: "server.key"} { // Postgres' default names
		data, err := os.ReadFile(path)
		if err != nil {
			p.t.Fatal(err)
		}
		writeForServer(p.t, filepath.Join(p.dir, "data", name), data)
	}
	p.exec("ALTER SYSTEM SET ssl = on")
	p.exec("SELECT pg_reload_conf()")
}

func (p *postgres) url(database string, port int) string {
	return fmt.Sprintf("postgres://suite:%s@%s/%s?sslmode=disable", p.password, local(port), database)
}

// start starts the server. Its data outlives a kill of the process, but not of the machine.
func (p *postgres) start() {
	p.proc = spawn(p.t, filepath.Dir(p.dir), "postgres-server", true, nil, p.program, "-D", filepath.Join(p.dir, "data"), "-p", fmt.Sprint(p.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=200",
		"-c", "fsync=off", "-c", "full_page_writes=off")
}

// await waits until the server answers.
func (p *postgres) await() {
	p.proc.awaitUp(p.t, func() bool { return p.try("SELECT 1") == nil })
}

func (p *postgres) try(statement string, args ...any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := p.admin.ExecContext(ctx, statement, args...)
	return err
}

func (p *postgres) exec(statement string, args ...any) {
	p.t.Helper()
	if err := p.try(statement, args...); err != nil {
		p.t.Fatalf("%s: %v", statement, err)
	}
}

// crash ends the server as a crash of it would: every connection is cut, and it recovers from its
// log at the next start.
func (p *postgres) crash() { p.proc.stop(syscall.SIGQUIT) }

// readOnly makes every new transaction read-only, as on a standby.
func (p *postgres) readOnly(on bool) {
	p.t.Helper()
	p.exec(fmt.Sprintf("ALTER SYSTEM SET default_transaction_read_only = %t", on))
	p.exec("SELECT pg_reload_conf()")
}

// database connects to one database of the server.
func (p *postgres) database(t testing.TB, name string) *sql.DB {
	db, err := sql.Open("postgres", p.url(name, p.port))
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(2)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// node is a Redis server of the suite's own. Peers and Sentinels reach it through the link public,
// if there is one, and each replica of sessiond through a link of that replica.
type node struct {
	t      testing.TB
	dir    string
	name   string
	port   int
	args   []string
	public *link
	proc   *process
	client *redis.Client
}

func newNode(t testing.TB, parent, name string, args ...string) *node {
	t.Helper()
	n := &node{t: t, dir: serverDir(t, parent, name), name: name, port: freePort(t), args: args}
	n.client = redis.NewClient(&redis.Options{Addr: local(n.port), MaxRetries: -1, DialTimeout: time.Second, PoolSize: 3, Protocol: 2})
	t.Cleanup(func() { _ = n.client.Close() })
	return n
}

// start starts the server. It loads the data that [node.save] saved, if any.
func (n *node) start() {
	n.t.Helper()
	args := []string{"--bind", "127.0.0.1", "--port", fmt.Sprint(n.port), "--dir", n.dir, "--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"}
	args = append(args, n.args...)
	n.proc = spawn(n.t, n.dir, n.name, true, nil, redisServer(n.t), args...)
}

// redisServer returns the path of redis-server, or of the program in SESSIOND_TEST_REDIS_SERVER.
func redisServer(t testing.TB) string {
	t.Helper()
	return find(t, cmp.Or(os.Getenv("SESSIOND_TEST_REDIS_SERVER"), "redis-server"))
}

// redisCLI returns the path of redis-cli, or of the one beside the program in SESSIOND_TEST_REDIS_SERVER.
func redisCLI(t testing.TB) string {
	t.Helper()
	return find(t, strings.TrimSuffix(redisServer(t), "server")+"cli")
}

func (n *node) await() {
	n.t.Helper()
	n.proc.awaitUp(n.t, func() bool { return n.client.Ping(context.Background()).Err() == nil })
}

// kill kills the server as a crash would.
func (n *node) kill() { n.proc.kill() }

// restart starts a killed server again and waits for it.
func (n *node) restart() {
	n.t.Helper()
	n.start()
	n.await()
}

// do sends a command, given as one text, and fails the test if that fails.
func (n *node) do(command string) any {
	n.t.Helper()
	v, err := n.try(command)
	if err != nil {
		n.t.Fatalf("%s: %s: %v", n.name, command, err)
	}
	return v
}

func (n *node) try(command string) (any, error) {
	var args []any
	for word := range strings.FieldsSeq(command) {
		args = append(args, strings.Trim(word, `"`))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return n.client.Do(ctx, args...).Result()
}

// info returns a field of INFO, or "" if the server does not answer.
func (n *node) info(field string) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	text := n.client.Info(ctx).Val()
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), field+":"); ok {
			return value
		}
	}
	return ""
}

// forget deletes what the server saved, so that it starts empty.
func (n *node) forget() { _ = os.Remove(filepath.Join(n.dir, "dump.rdb")) }

// announced is the port at which peers find the server.
func (n *node) announced() int {
	if n.public != nil {
		return n.public.port
	}
	return n.port
}

// newName returns a name for a database.
func newName() string { return "suite_" + strings.ToLower(rand.Text()[:12]) }

func redisURL(scheme string, addrs []string, tail string) string {
	return (&url.URL{Scheme: scheme, Host: strings.Join(addrs, ","), RawQuery: tail}).String()
}
