package httpsuite

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/lib/pq" // the driver of the database
)

// The command line revokes thousands of sessions and is killed on the way. A replica must go on, and end exactly
// the sessions that the dry run counted.
func TestBulkRevocation_GoesOnAfterKill(t *testing.T) {
	t.Parallel()
	const copies = 5000
	s := startServe(t, 2)
	boss, p := s.administrator(t), s.register(t)
	token := s.login(t, p, header("User-Agent", "Bulk/1"))
	db, err := sql.Open("postgres", s.env["SESSIOND_DATABASE_URL"])
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), `
		INSERT INTO sessions (id, user_id, token_id, ip, user_agent, device, amr, generation, created_at, last_seen_at, auth_time,
			access_expires_at, expires_at, max_expires_at, refresh_family, refresh_current)
		SELECT substr(id, 1, 8) || substr(md5(n::text), 1, 22), user_id, substr(md5(n::text), 1, 22), ip, user_agent, device, amr, generation,
			created_at, last_seen_at, auth_time, access_expires_at, expires_at, max_expires_at, sha256(n::text::bytea), sha256(('x' || n)::bytea)
		FROM sessions, generate_series(1, $1::int) AS n WHERE user_agent = 'Bulk/1'`, copies); err != nil {
		t.Fatal(err)
	}
	_, counted, err := s.operate(t, "admin", "sessions", "revoke", "--user-agent", "bulk/1")
	if err == nil {
		t.Error("without --yes, the verb did something")
	}
	if out, _, _ := s.operate(t, "admin", "sessions", "revoke", "--user-agent", "bulk/1", "--json"); !strings.Contains(out, `"matched":5001`) {
		t.Errorf("the dry run prints %q and %q", out, counted)
	}
	cmd := exec.Command(program(t), "admin", "sessions", "revoke", "--user-agent", "bulk/1", "--yes", "--reason", "killed")
	cmd.Env = s.env.list()
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var id string
	var revoked int
	await(t, "the command has begun to revoke", func() bool {
		err := db.QueryRowContext(t.Context(), `SELECT id, revoked FROM bulk_revocations`).Scan(&id, &revoked)
		return err == nil && revoked > 0
	})
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if revoked > copies/2 {
		t.Logf("the command was quick: it was killed after %d sessions", revoked)
	}
	var b struct {
		State            string
		Matched, Revoked int
	}
	await(t, "a replica finishes the revocation", func() bool {
		s.call(t, "GET", "/v1/admin/revocations/"+id, bearer(boss.token)).want(t, 200).into(t, &b)
		return b.State == "done"
	})
	if b.Matched != copies+1 || b.Revoked != copies+1 {
		t.Errorf("the revocation is %+v, want %d sessions: %s", b, copies+1, output.String())
	}
	if aliveAt(t, s.replicas[1], token) || !aliveAt(t, s.replicas[1], p.token) {
		t.Error("a revoked session is accepted, or another one is refused")
	}
	var waiting int
	if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM outbox WHERE topic LIKE 'revocation%'`).Scan(&waiting); err != nil || waiting > 0 {
		t.Errorf("%d revocations wait, %v", waiting, err)
	}
}

// Each audit event is also a line of JSON in the file of AUDIT_LOG.
func TestAuditLog_HasALineForEachEvent(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	s := startDev(t, t.TempDir(), "AUDIT_LOG="+path)
	p := s.register(t)
	s.mustOperate(t, "admin", "users", "suspend", p.username, "--reason", "test")
	var types []string
	await(t, "the events are in the file", func() bool {
		types = nil
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var e struct {
				Number int
				Type   string
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil || e.Number != len(types)+1 {
				t.Fatalf("line %d is %q, %v", len(types)+1, line, err)
			}
			types = append(types, e.Type)
		}
		return len(types) >= 4
	})
	if got := strings.Join(types, " "); got != "user.registered session.started user.suspended sessions.ended" {
		t.Errorf("the file has the events %s", got)
	}
}

// The verbs print tables for people and JSON for programs, page by page.
func TestOperatorVerbs_PrintTablesAndJSON(t *testing.T) {
	t.Parallel()
	s := startDev(t, t.TempDir())
	boss, p := s.administrator(t), s.register(t)
	for i := range 120 { // more than one page
		body := shape{"username": fmt.Sprintf("many%03d", i), "email": fmt.Sprintf("many%03d@example.com", i)}
		s.call(t, "POST", "/v1/admin/users", bearer(boss.token), jsonBody(body)).want(t, 201)
	}
	lines := func(text string) []string { return strings.Split(strings.TrimSpace(text), "\n") }
	for _, c := range []struct {
		args string
		want int // lines
	}{
		{"admin users list --q many", 1 + 100},
		{"admin users list --q many --limit 0", 1 + 120},
		{"admin users list --q many --limit 110", 1 + 110},
		{"admin users list --q many --limit 0 --json", 120},
		{"admin users list --q many00 --limit 0", 1 + 10},
		{"admin sessions list --user " + p.username, 1 + 1},
		{"admin sessions list --address 192.0.2.1", 1},
		{"admin sessions list --json", 2},
		{"clients list", 1},
	} {
		if got := lines(s.mustOperate(t, strings.Fields(c.args)...)); len(got) != c.want {
			t.Errorf("sessiond %s prints %d lines, want %d:\n%s", c.args, len(got), c.want, strings.Join(got[:min(3, len(got))], "\n"))
		}
	}
	var shown struct {
		Username, Status string
		Roles            []string
		Sessions         int
	}
	if err := json.Unmarshal([]byte(s.mustOperate(t, "admin", "users", "show", p.email, "--json")), &shown); err != nil || shown.Username != p.username || shown.Status != "active" || shown.Sessions != 1 {
		t.Errorf("the user is shown as %+v, %v", shown, err)
	}
	for args, want := range map[string]string{
		"admin users show nobody":                          "user not found",
		"admin users list --status x":                      "status: must be pending",
		"admin users roles " + p.username + " --add Admin": "roles: a role has",
		"admin users create --username a --email x":        "username:",
		"admin users suspend":                              "want one USER",
		"admin users delete " + p.username:                 "nothing was done",
		"admin sessions list --address x":                  "--address must be",
		"admin sessions revoke":                            "want either --id or flags",
		"admin sessions revoke --id x":                     "session not found",
		"admin events verify --head x":                     "--head: want NUMBER:HASH",
		"clients add --id /":                               "--id ID is required",
		"clients add --id a --scope root":                  "--scope: unknown scope",
		"clients rotate --id nobody":                       "there is no such client",
	} {
		if _, _, err := s.operate(t, strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("sessiond %s: %v, want %q", args, err, want)
		}
	}
	if !s.alive(t, p.token) {
		t.Error("a refused verb ended a session")
	}
}
