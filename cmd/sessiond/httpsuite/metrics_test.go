package httpsuite

import (
	"bytes"
	"cmp"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	_ "github.com/lib/pq" // the driver "postgres"
)

var update = flag.Bool("update", false, "write the generated table of metrics.md instead of comparing it")

// exposition is what /metrics returned.
type exposition struct {
	text       string
	help, kind map[string]string              // by name
	series     map[string]float64             // by name and labels, as in the text
	labels     map[string]map[string][]string // the values of each label, by name
}

var sampleLine = regexp.MustCompile(`^([a-z_]+)(?:\{(.*)\})? (\S+)$`)

// labelPair matches one label. No value in /metrics has an escaped character.
var labelPair = regexp.MustCompile(`([a-z_]+)="([^"\\]*)"`)

func parseExposition(t *testing.T, text string) exposition {
	t.Helper()
	e := exposition{text, map[string]string{}, map[string]string{}, map[string]float64{}, map[string]map[string][]string{}}
	name := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
			var help string
			name, help, _ = strings.Cut(rest, " ")
			e.help[name], e.labels[name] = help, map[string][]string{}
			continue
		}
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			e.kind[name] = strings.TrimPrefix(rest, name+" ")
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("/metrics has the line %q", line)
		}
		value, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Fatal(err)
		}
		e.series[strings.TrimSuffix(line, " "+m[3])] = value
		for _, pair := range labelPair.FindAllStringSubmatch(m[2], -1) {
			if values := e.labels[name][pair[1]]; pair[1] != "le" && !slices.Contains(values, pair[2]) {
				e.labels[name][pair[1]] = append(values, pair[2])
			}
		}
	}
	return e
}

// The labels whose values depend on requests or on the program.
var describedLabels = map[string]string{
	"sessiond_http_request_duration_seconds method": "the method of the request, or `other`",
	"sessiond_http_request_duration_seconds route":  "a [route](../../README.md#routes) with its placeholders, such as `/v1/sessions/{id}`, or `other`",
	"sessiond_http_request_duration_seconds status": "the status of the response",
	"sessiond_build_info version":                   "of the program",
	"sessiond_build_info revision":                  "in Git",
	"sessiond_build_info go_version":                "of Go",
}

// table returns the rows of all metrics in Markdown, without those of the Go runtime and the process.
func (e exposition) table(t *testing.T) string {
	t.Helper()
	var table strings.Builder
	table.WriteString("| metric | type | labels and their values | meaning |\n| --- | --- | --- | --- |\n")
	for _, name := range slices.Sorted(maps.Keys(e.help)) {
		if strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "go_sql_") || strings.HasPrefix(name, "process_") {
			continue
		}
		var labels []string
		for _, label := range slices.Sorted(maps.Keys(e.labels[name])) {
			values := describedLabels[name+" "+label]
			if values == "" {
				slices.Sort(e.labels[name][label])
				values = "`" + strings.Join(e.labels[name][label], "` `") + "`"
			}
			labels = append(labels, "`"+label+"`: "+values)
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", name, e.kind[name], cmp.Or(strings.Join(labels, " · "), "none"), e.help[name])
	}
	return table.String()
}

// Each metric must exist from the start, must move with what it counts, must be documented in metrics.md,
// and must not name a person.
func TestMetrics_MoveWithWhatTheyCountAndNameNobody(t *testing.T) {
	t.Parallel()
	env := serveEnvironment(t)
	redisURL, err := url.Parse(env["SESSIOND_REDIS_URL"])
	if err != nil {
		t.Fatal(err)
	}
	redisProxy := startProxy(t, redisURL.Host)
	redisURL.Host = redisProxy.addr
	metricsAddr := freeAddr(t)
	s := startServe(t, 1, "LIMITS=on", "REDIS_URL="+redisURL.String(), "DATABASE_URL="+env["SESSIOND_DATABASE_URL"], "METRICS_ADDR="+metricsAddr)
	scrape := func() exposition {
		t.Helper()
		return parseExposition(t, string(callAt(t, "http://"+metricsAddr, "GET", "/metrics").want(t, 200).body))
	}
	names := []string{password}
	// rises runs act and waits until each of the series is higher than before.
	rises := func(what string, act func(), series ...string) {
		t.Helper()
		before := scrape()
		for _, name := range series {
			if _, exists := before.series[name]; !exists {
				t.Fatalf("%s: there is no series %s before", what, name)
			}
		}
		act()
		for _, name := range series {
			await(t, what+": "+name+" rises", func() bool { return scrape().series[name] > before.series[name] })
		}
	}
	newPerson := func() person {
		t.Helper()
		p := s.register(t)
		names = append(names, p.username, p.email, claimsOf(t, p.token)["sid"].(string), claimsOf(t, p.token)["sub"].(string), p.token)
		return p
	}
	await(t, "the outbox is measured", func() bool { _, ok := scrape().series[`sessiond_outbox_length{kind="mail"}`]; return ok })

	var p person
	rises("a registration", func() { p = newPerson() }, `sessiond_registrations_total{outcome="succeeded"}`,
		`sessiond_session_starts_total{outcome="started"}`, `sessiond_mails_total{outcome="sent"}`,
		`sessiond_limiter_decisions_total{action="register",decision="allowed",limits="shared"}`,
		`sessiond_password_hash_duration_seconds_count`, `sessiond_password_hash_wait_seconds_count`)
	rises("a taken name", func() { s.call(t, "POST", "/registerUser", registration(p.username, p.email, password)).want(t, 403) },
		`sessiond_registrations_total{outcome="taken"}`)
	rises("an invalid registration", func() { s.call(t, "POST", "/registerUser", registration("x", p.email, password)).want(t, 400) },
		`sessiond_registrations_total{outcome="invalid"}`)
	var token string
	rises("a login", func() { token = s.login(t, p) }, `sessiond_logins_total{outcome="succeeded"}`)
	rises("a wrong password", func() { s.call(t, "POST", "/loginUser", credentials(p.username, "not it")).want(t, 403) },
		`sessiond_logins_total{outcome="wrong_password"}`)
	rises("an unknown user", func() { s.call(t, "POST", "/loginUser", credentials(newName(), password)).want(t, 401) },
		`sessiond_logins_total{outcome="unknown_user"}`)

	rises("the first check of a session", func() { s.alive(t, token) }, `sessiond_check_verdicts_total{verdict="active"}`,
		`sessiond_token_checks_total`, `sessiond_ledger_checks_total`, `sessiond_redis_check_round_trips_total`,
		`sessiond_backfills_total{outcome="stored"}`, `sessiond_backfill_wait_seconds_count`, `sessiond_backfill_duration_seconds_count`)
	rises("a malformed token", func() { s.alive(t, "x") }, `sessiond_check_verdicts_total{verdict="invalid"}`)
	rises("a logout", func() { s.call(t, "DELETE", "/logout", bearer(token)).want(t, 200) }, `sessiond_revocations_total{reason="logout"}`,
		`sessiond_revocation_enforce_seconds_count{path="at_once"}`)
	rises("a revoked token", func() { s.alive(t, token) }, `sessiond_check_verdicts_total{verdict="revoked"}`)
	rises("a revoked access token", func() {
		s.call(t, "POST", "/oauth/revoke", formBody("token", s.login(t, p))).want(t, 200)
	}, `sessiond_revocations_total{reason="token"}`)

	var next string
	rises("a refresh", func() { _, next = s.refreshed(t, p.refresh, 200) }, `sessiond_refreshes_total{outcome="new"}`)
	rises("a lost reply", func() { s.refreshed(t, p.refresh, 200) }, `sessiond_refreshes_total{outcome="lost_reply"}`)
	s.refreshed(t, next, 200)
	rises("a stolen token", func() { s.refreshed(t, p.refresh, 400) }, `sessiond_refreshes_total{outcome="theft"}`,
		`sessiond_revocations_total{reason="token_theft"}`)
	rises("an ended session", func() { s.refreshed(t, next, 400) }, `sessiond_refreshes_total{outcome="ended"}`)
	rises("an unknown refresh token", func() { s.refreshed(t, "x", 400) }, `sessiond_refreshes_total{outcome="invalid"}`)

	p = newPerson()
	rises("a request for a reset", func() { token = s.resetToken(t, p) }, `sessiond_password_reset_requests_total{outcome="succeeded"}`)
	rises("a reset", func() {
		s.call(t, "POST", "/v1/password-resets/complete", jsonBody(shape{"token": token, "password": password + "!"})).want(t, 204)
	}, `sessiond_password_resets_total{outcome="succeeded"}`, `sessiond_revocations_total{reason="password_reset"}`)
	rises("a used reset link", func() {
		s.call(t, "POST", "/v1/password-resets/complete", jsonBody(shape{"token": token, "password": password})).want(t, 404)
	}, `sessiond_password_resets_total{outcome="invalid"}`)
	p = newPerson()
	rises("a changed password", func() {
		s.call(t, "PUT", "/v1/users/me/password", bearer(p.token), jsonBody(shape{"current_password": password, "new_password": password + "!"})).want(t, 204)
	}, `sessiond_revocations_total{reason="password_changed"}`)
	rises("the other sessions", func() { s.call(t, "DELETE", "/v1/sessions?except=current", bearer(p.token)).want(t, 200) },
		`sessiond_revocations_total{reason="revoked_others"}`)
	rises("a deleted account", func() { s.call(t, "DELETE", "/v1/users/me", bearer(p.token)).want(t, 204) },
		`sessiond_revocations_total{reason="account_deleted"}`)

	// The series of every route.
	var document struct {
		Paths map[string]map[string]any
	}
	s.call(t, "GET", "/openapi.json").want(t, 200).into(t, &document)
	for path, methods := range document.Paths {
		for method := range methods {
			if method = strings.ToUpper(method); method == "SERVERS" || method == "PARAMETERS" {
				continue
			}
			s.call(t, method, strings.NewReplacer("{id}", p.username, "{login_id}", p.username).Replace(path))
			series := fmt.Sprintf(`sessiond_http_request_duration_seconds_count{method=%q,route=%q,`, method, strings.TrimSuffix(path, "/*"))
			if !strings.Contains(scrape().text, series) {
				t.Errorf("no series begins with %s", series)
			}
		}
	}
	rises("a check of a gateway", func() { s.call(t, "GET", "/v1/verify/"+p.username).want(t, 401) },
		`sessiond_http_request_duration_seconds_count{method="GET",route="/v1/verify",status="401"}`)
	s.call(t, "BREW", "/"+p.username)
	if series := `sessiond_http_request_duration_seconds_count{method="other",route="other",`; !strings.Contains(scrape().text, series) {
		t.Errorf("no series begins with %s", series)
	}

	// A revocation that Redis does not get at once waits in the outbox.
	p = newPerson()
	await(t, "Redis is trusted", func() bool { return scrape().series["sessiond_redis_trusted"] == 1 })
	redisProxy.cut()
	s.call(t, "DELETE", "/v1/sessions", bearer(p.token)).want(t, 503)
	await(t, "a revocation waits", func() bool {
		e := scrape()
		return e.series[`sessiond_outbox_length{kind="revocation"}`] == 1 && e.series[`sessiond_outbox_oldest_seconds{kind="revocation"}`] > 0
	})
	rises("Redis is back", redisProxy.mend, `sessiond_revocation_enforce_seconds_count{path="outbox"}`)
	await(t, "no revocation waits", func() bool { return scrape().series[`sessiond_outbox_length{kind="revocation"}`] == 0 })

	db, err := sql.Open("postgres", env["SESSIOND_DATABASE_URL"])
	if err == nil {
		_, err = db.ExecContext(t.Context(), "ANALYZE users, sessions")
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	p = newPerson()
	await(t, "sessions and users are estimated", func() bool {
		e := scrape()
		return e.series["sessiond_sessions_estimate"] >= 1 && e.series["sessiond_users_estimate"] >= 2
	})
	if e := scrape(); e.series["sessiond_epoch"] < 1 || e.series[`go_sql_open_connections{db_name="main"}`] < 1 ||
		e.series[`sessiond_redis_pool_connections{state="idle"}`]+e.series[`sessiond_redis_pool_connections{state="used"}`] < 1 {
		t.Errorf("epoch or connections are missing:\n%s", e.text)
	}

	e := scrape()
	documented(t, e)
	for _, name := range append(names, "127.0.0.1", "@") {
		if strings.Contains(e.text, name) {
			t.Errorf("/metrics contains %q", name)
		}
	}
}

// documented compares the table in metrics.md with e.
func documented(t *testing.T, e exposition) {
	t.Helper()
	const name = "../../../deploy/docs/metrics.md"
	page, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	section := regexp.MustCompile(`(?s)(<!-- table: metrics -->\n\n).*?(\n<!-- end -->)`)
	if !section.Match(page) {
		t.Fatal("metrics.md has no place for the table")
	}
	written := section.ReplaceAll(page, []byte("${1}"+strings.ReplaceAll(e.table(t), "$", "$$")+"${2}"))
	switch {
	case bytes.Equal(written, page):
	case *update:
		if err := os.WriteFile(name, written, 0o600); err != nil {
			t.Fatal(err)
		}
	default:
		t.Error("the table in metrics.md is outdated; run this test with -update")
	}
}
