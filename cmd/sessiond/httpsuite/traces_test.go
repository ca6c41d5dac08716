package httpsuite

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/sessiond/sessiond/session/issuer"
)

// collector is an OpenTelemetry collector that keeps all spans that it receives by OTLP over HTTP.
type collector struct {
	url string

	mu       sync.Mutex
	received []byte // all requests
	resource *tracepb.ResourceSpans
	spans    []*tracepb.Span
}

func startCollector(t *testing.T) *collector {
	t.Helper()
	c := new(collector)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request collectorpb.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &request)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("the collector got a request to %s that is not OTLP: %v", r.URL.Path, err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.received = append(c.received, body...)
		for _, resource := range request.ResourceSpans {
			c.resource = resource
			for _, scope := range resource.ScopeSpans {
				c.spans = append(c.spans, scope.Spans...)
			}
		}
	}))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// all returns the spans that the collector has received so far.
func (c *collector) all() []*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans)
}

// trace waits until the collector has the server's span of a request, and returns that span and all
// spans of the trace.
func (c *collector) trace(t *testing.T, id string) (server *tracepb.Span, spans []*tracepb.Span) {
	t.Helper()
	await(t, "the server's span of trace "+id, func() bool {
		spans = nil
		for _, span := range c.all() {
			if hex.EncodeToString(span.TraceId) == id {
				spans = append(spans, span)
				if span.Kind == tracepb.Span_SPAN_KIND_SERVER {
					server = span
				}
			}
		}
		return server != nil
	})
	return server, spans
}

// named returns the spans whose names begin with the text.
func named(spans []*tracepb.Span, begin string) (some []*tracepb.Span) {
	for _, span := range spans {
		if strings.HasPrefix(span.Name, begin) {
			some = append(some, span)
		}
	}
	return some
}

func attribute(attributes []*commonpb.KeyValue, key string) string {
	for _, a := range attributes {
		if a.Key == key {
			return a.Value.GetStringValue()
		}
	}
	return ""
}

// traceparent sets the header of a trace that a client has begun.
func traceparent(traceID, spanID string) option {
	return header("traceparent", "00-"+traceID+"-"+spanID+"-01")
}

func newTraceID() string { return fmt.Sprintf("%x", sha1.Sum([]byte(issuer.NewID())))[:32] }

// startTraced starts a replica of 'sessiond serve' that sends its spans to the endpoint.
func startTraced(t *testing.T, endpoint string, settings ...string) *service {
	t.Helper()
	env := serveEnvironment(t)
	mails := startSMTP(t)
	env.set(append([]string{"SMTP_URL=smtp+plain://" + mails.addr, "MAIL_FROM=id@example.com", "BCRYPT_COST=10"}, settings...))
	env["OTEL_EXPORTER_OTLP_ENDPOINT"], env["OTEL_BSP_SCHEDULE_DELAY"] = endpoint, "20"
	s := &service{logs: &lockedBuffer{}, prefix: env["SESSIOND_REDIS_PREFIX"], mails: mails.received}
	t.Cleanup(s.printComplaints(t))
	runProgram(t, program(t), env, "migrate")
	s.base = startReplica(t, program(t), env, s.logs)
	s.replicas = []string{s.base}
	return s
}

// A client's trace shows the parts of its login: the request, the wait for the queue with the limits in
// Redis, the hash, and SQL.
func TestTraces_LoginShowsHTTPQueueHashSQLAndRedisUnderTraceOfClient(t *testing.T) {
	t.Parallel()
	c := startCollector(t)
	s := startTraced(t, c.url, "LIMITS=on")
	p := s.register(t)
	id, parent := newTraceID(), "00f067aa0ba902b7"
	s.call(t, "POST", "/v1/sessions", jsonBody(shape{"login": p.username, "password": password}),
		traceparent(id, parent), header("tracestate", "vendor=canary-state"), header("baggage", "user=canary-baggage")).want(t, 201)
	server, spans := c.trace(t, id)

	if got := hex.EncodeToString(server.ParentSpanId); got != parent {
		t.Errorf("the server's span has the parent %s, want the client's span %s", got, parent)
	}
	if server.TraceState != "vendor=canary-state" {
		t.Errorf("the span has the trace state %q, want the client's", server.TraceState)
	}
	if route := attribute(server.Attributes, "http.route"); server.Name != "POST /v1/sessions" || route != "/v1/sessions" {
		t.Errorf("the server's span is named %q and has the route %q", server.Name, route)
	}
	names := map[string]string{parent: "client"} // by span id
	for _, span := range spans {
		names[hex.EncodeToString(span.SpanId)] = span.Name
	}
	parents := map[string][]string{} // names of the parents by name of a span
	for _, span := range spans {
		name := names[hex.EncodeToString(span.ParentSpanId)]
		if name == "" {
			t.Errorf("the parent of the span %s is not in the trace", span.Name)
		}
		parents[span.Name] = append(parents[span.Name], name)
	}
	for name, parent := range map[string]string{
		"password.queue": server.Name, "evalsha": "password.queue", "password.hash": server.Name, "sql.stmt.query": server.Name, "sql.tx.commit": server.Name,
	} {
		if !slices.Contains(parents[name], parent) {
			t.Errorf("there is no span %s below %s; the spans and their parents are %v", name, parent, parents)
		}
	}
	for name, system := range map[string][2]string{"evalsha": {"db.system", "redis"}, "sql.stmt.query": {"db.system.name", "postgresql"}} {
		if got := attribute(named(spans, name)[0].Attributes, system[0]); got != system[1] {
			t.Errorf("the span %s has %s=%q, want %q", name, system[0], got, system[1])
		}
	}
	c.mu.Lock()
	if name := attribute(c.resource.Resource.Attributes, "service.name"); name != "sessiond" || attribute(c.resource.Resource.Attributes, "service.version") == "" {
		t.Errorf("the spans have the service name %q, and no version or one", name)
	}
	c.mu.Unlock()

	var line struct {
		Route   string
		TraceID string `json:"trace_id"`
		SpanID  string `json:"span_id"`
	}
	for text := range strings.Lines(s.logged(t)) {
		if strings.Contains(text, id) {
			if err := json.Unmarshal([]byte(text), &line); err != nil {
				t.Fatal(err)
			}
		}
	}
	if line.Route != "/v1/sessions" || line.SpanID != hex.EncodeToString(server.SpanId) {
		t.Errorf("the log has %+v, want the line of the request with the ids of its span", line)
	}
}

// Checks at the listeners for gateways are in the trace of the request that the gateway forwards.
func TestTraces_ShowChecksOfGateways(t *testing.T) {
	t.Parallel()
	c := startCollector(t)
	check, extAuthz := freeAddr(t), freeAddr(t)
	s := startTraced(t, c.url, "CHECK_ADDR="+check, "EXT_AUTHZ_ADDR="+extAuthz)
	p := s.register(t)
	want := func(id, name string, status int) {
		t.Helper()
		server, spans := c.trace(t, id)
		answered := slices.ContainsFunc(server.Attributes, func(a *commonpb.KeyValue) bool {
			return a.Key == "http.response.status_code" && a.Value.GetIntValue() == int64(status)
		})
		if server.Name != name || !answered || server.Kind != tracepb.Span_SPAN_KIND_SERVER {
			t.Errorf("the server's span is %v, want %s with status %d", server, name, status)
		}
		if status == 200 && len(named(spans, "session.lookup")) == 0 {
			t.Errorf("the trace has no lookup: %v", spans)
		}
	}
	const parent = "00f067aa0ba902b7"
	id := newTraceID()
	callAt(t, "http://"+check, "GET", "/v1/verify", bearer(p.token), traceparent(id, parent)).want(t, 200)
	want(id, "GET /v1/verify", 200)
	id = newTraceID()
	callAt(t, "http://"+check, "GET", "/v1/verify", bearer("x"), traceparent(id, parent)).want(t, 401)
	want(id, "GET /v1/verify", 401)

	conn, err := grpc.NewClient("passthrough:///"+extAuthz, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	id = newTraceID()
	answer, err := authv3.NewAuthorizationClient(conn).Check(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: "POST", Headers: map[string]string{"authorization": "Bearer " + p.token, "traceparent": "00-" + id + "-" + parent + "-01"},
		}},
	}})
	if err != nil || answer.GetOkResponse() == nil {
		t.Fatalf("got %v %v, want OK", answer, err)
	}
	want(id, "POST /envoy.service.auth.v3.Authorization/Check", 200)
}

// Lookups of several requests share a round trip. Each request has a span for its own lookup, and the
// batch's span has links to them.
func TestTraces_BatchOfChecksLinksToLookupOfEachRequest(t *testing.T) {
	t.Parallel()
	const clients = 24
	c := startCollector(t)
	s := startTraced(t, c.url)
	token := s.register(t).token
	var batch *tracepb.Span
	sent := map[string]bool{} // trace ids
	await(t, "a batch of several lookups", func() bool {
		var checks sync.WaitGroup
		for range clients {
			id := newTraceID()
			sent[id] = true
			checks.Go(func() {
				callAt(t, s.base, "GET", "/v1/verify", bearer(token), traceparent(id, "00f067aa0ba902b7"))
			})
		}
		checks.Wait()
		for _, span := range named(c.all(), "session.lookup.batch") {
			if len(span.Links) > 1 {
				batch = span
			}
		}
		return batch != nil
	})
	if !sent[hex.EncodeToString(batch.TraceId)] {
		t.Errorf("the batch's span is in no client's trace")
	}
	traces := map[string]bool{}
	for _, link := range batch.Links {
		id := hex.EncodeToString(link.TraceId)
		traces[id] = true
		server, spans := c.trace(t, id)
		found := named(spans, "session.lookup")
		i := slices.IndexFunc(found, func(span *tracepb.Span) bool { return bytes.Equal(span.SpanId, link.SpanId) })
		if i < 0 {
			t.Fatalf("the batch has a link to a span that is not the lookup of trace %s", id)
		}
		if lookup := found[i]; lookup.Name != "session.lookup" || !bytes.Equal(lookup.ParentSpanId, server.SpanId) || server.Name != "GET /v1/verify" {
			t.Errorf("the batch has a link to %s below %s, want session.lookup below GET /v1/verify", lookup.Name, server.Name)
		} else if len(lookup.Links) != 1 || !bytes.Equal(lookup.Links[0].SpanId, batch.SpanId) {
			t.Errorf("the lookup has the links %v, want one to the batch", lookup.Links)
		}
	}
	if len(traces) != len(batch.Links) {
		t.Errorf("the batch has %d links into %d traces, want one for each request", len(batch.Links), len(traces))
	}
	var pipelines []string
	for _, span := range c.all() {
		if bytes.Equal(span.ParentSpanId, batch.SpanId) {
			pipelines = append(pipelines, span.Name)
		}
	}
	if !slices.Equal(pipelines, []string{"redis.pipeline getex mget info"}) {
		t.Errorf("below the batch are the spans %q, want one pipeline", pipelines)
	}
	for id := range sent {
		if _, spans := c.trace(t, id); len(named(spans, "session.lookup")) == 0 {
			t.Errorf("the check with trace %s has no span of its lookup", id)
		}
	}
}

// The service for breached passwords gets the trace of the request, but no baggage of the client.
func TestTraces_GoOnToServiceForBreachedPasswords(t *testing.T) {
	t.Parallel()
	headers := make(chan http.Header, 1)
	breaches := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		headers <- r.Header
		fmt.Fprint(w, "0018A45C4D1DEF81644B54AB7F969B88D65:0\r\n")
	}))
	t.Cleanup(breaches.Close)
	c := startCollector(t)
	s := startTraced(t, c.url, "BREACHED_URL="+breaches.URL+"/range/")
	id, name := newTraceID(), newName()
	s.call(t, "POST", "/v1/users", jsonBody(shape{"username": name, "email": name + "@example.com", "password": password}),
		traceparent(id, "00f067aa0ba902b7"), header("tracestate", "vendor=x"), header("baggage", "user=x")).want(t, 202)
	_, spans := c.trace(t, id)
	calls := named(spans, "HTTP GET")
	if len(calls) != 1 {
		t.Fatalf("the trace has %d spans of the call, want 1", len(calls))
	}
	got := <-headers
	if want := "00-" + id + "-" + hex.EncodeToString(calls[0].SpanId) + "-01"; got.Get("traceparent") != want || got.Get("tracestate") != "vendor=x" {
		t.Errorf("the service got the trace %q %q, want %q vendor=x", got.Get("traceparent"), got.Get("tracestate"), want)
	}
	if got.Get("baggage") != "" {
		t.Errorf("the service got the baggage %q of the client", got.Get("baggage"))
	}
	// The mail is sent later, in a trace of its own.
	s.awaitMail(t, name+"@example.com", "/verify#token=")
	await(t, "the mail's span", func() bool {
		mails := named(c.all(), "mail.send confirm_email")
		return len(mails) == 1 && mails[0].ParentSpanId == nil &&
			slices.ContainsFunc(named(c.all(), "sql."), func(span *tracepb.Span) bool { return bytes.Equal(span.ParentSpanId, mails[0].SpanId) })
	})
}

// Requests carry secrets wherever a client can put them. None may be in a span.
func TestTraces_ContainNoSecretAndNoPersonalData(t *testing.T) {
	t.Parallel()
	breaches, away := breachService(t)
	away.Store(true) // the error of a call quotes its URL, which contains a part of the password's hash
	c := startCollector(t)
	s := startTraced(t, c.url, "LIMITS=on", "BREACHED_URL="+breaches, "TRUSTED_PROXIES=127.0.0.1")
	secrets := map[string]string{"Redis keys": s.prefix, "password": password}
	keep := func(what, secret string) string {
		if len(secret) < 6 {
			t.Fatalf("%s is %q, which is too short to search for", what, secret)
		}
		secrets[what] = secret
		return secret
	}
	sum := sha1.Sum([]byte(password))
	secrets["hash prefix"] = "/range/" + strings.ToUpper(hex.EncodeToString(sum[:])[:5])
	from := []option{
		header("X-Forwarded-For", keep("client address", "203.0.113.77")), header("User-Agent", keep("user agent", "canary-agent/1")),
		header("X-Request-Id", keep("request id", "canary-request-id")), header("baggage", "user="+keep("baggage", "canary-baggage")),
		header("Referer", "https://"+keep("referer", "canary-referer")),
	}
	call := func(method, path string, opts ...option) response {
		return s.call(t, method, path, append(slices.Clone(from), opts...)...)
	}
	p := s.confirmed(t)
	keep("username", p.username)
	login := call("POST", "/v1/sessions", jsonBody(shape{"login": p.username, "password": password})).want(t, 201)
	token := keep("access token", login.text(t, "access_token"))
	keep("refresh token", login.text(t, "refresh_token"))
	for _, claim := range []string{"sub", "sid", "jti"} {
		keep(claim, fmt.Sprint(claimsOf(t, token)[claim]))
	}
	reset := keep("reset token", s.resetToken(t, p))
	sid := secrets["sid"]
	call("POST", "/v1/sessions", jsonBody(shape{"login": p.username, "password": keep("wrong password", "canary wrong password")})).want(t, 401)
	call("POST", "/registerUser", registration(p.username, p.email, password)).want(t, 403)
	call("GET", "/findUser?username="+p.username, bearer(token)).want(t, 200)
	call("GET", "/reset?resetPasswordToken="+reset).want(t, 200)
	call("GET", "/v1/verify/"+keep("path below /v1/verify", "canary-verify")+"?token="+token, bearer(token)).want(t, 200)
	call("GET", "/"+keep("unknown path", "canary-path")).want(t, 404)
	call(keep("unknown method", "CANARYMETHOD"), "/loginUser").want(t, 405)
	call("GET", "/user/logins/delete/"+keep("unknown login", "canary-login"), bearer(token)).want(t, 400)
	call("GET", "/v1/users/me", header("Authorization", "Bearer "+keep("bad token", "canary.bad.token"))).want(t, 401)
	call("GET", "/v1/users/me", bearer(token), func(r *http.Request) { r.Host = keep("host", "canary-host.example") }).want(t, 200)
	call("POST", "/oauth/token", refreshGrant(secrets["refresh token"])).want(t, 200)
	call("POST", "/v1/users", jsonBody(shape{"username": newName(), "email": p.email, "password": password})).want(t, 202)
	last := newTraceID()
	call("DELETE", "/v1/sessions/"+sid, bearer(token), traceparent(last, "00f067aa0ba902b7")).want(t, 204)
	c.trace(t, last)

	routes := map[string]bool{}
	for _, span := range c.all() {
		routes[attribute(span.Attributes, "http.route")] = true
	}
	for _, route := range []string{"/findUser", "/reset", "/v1/verify", "/v1/sessions/{id}", "other", "/oauth/token"} {
		if !routes[route] {
			t.Errorf("no span has the route %s; the routes are %q", route, slices.Sorted(maps.Keys(routes)))
		}
	}
	for _, name := range []string{"HTTP GET", "evalsha", "sql.stmt.query", "mail.send", "session.lookup"} {
		if len(named(c.all(), name)) == 0 {
			t.Errorf("there is no span %s", name)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for what, secret := range secrets {
		if bytes.Contains(bytes.ToLower(c.received), []byte(strings.ToLower(secret))) {
			t.Errorf("the collector got the %s", what)
		}
	}
	for _, key := range []string{"url.path", "url.full", "url.query", "client.address", "network.peer.address", "user_agent.original", "db.statement", "exception.message"} {
		if bytes.Contains(c.received, []byte(key)) {
			t.Errorf("a span has the attribute %s", key)
		}
	}
}

// A replica that is told to stop exports the spans that it still has.
func TestTraces_AreExportedAtShutdown(t *testing.T) {
	t.Parallel()
	c := startCollector(t)
	env := serveEnvironment(t)
	env["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"], env["OTEL_BSP_SCHEDULE_DELAY"] = c.url+"/v1/traces", "3600000"
	runProgram(t, program(t), env, "migrate")
	id := newTraceID()
	t.Run("replica", func(t *testing.T) {
		base := startReplica(t, program(t), env, &lockedBuffer{})
		callAt(t, base, "GET", "/v1/verify", traceparent(id, "00f067aa0ba902b7")).want(t, 401)
	})
	c.trace(t, id)
}

// The service works without the collector, says once that traces are lost, and stops in time.
func TestTraces_ServiceRunsWhileCollectorIsDown(t *testing.T) {
	t.Parallel()
	var s *service
	t.Run("replica", func(t *testing.T) {
		s = startTraced(t, "http://127.0.0.1:1")
		p := s.register(t)
		awaitLost := func() bool { return strings.Contains(s.logs.String(), "traces cannot be exported and are lost") }
		await(t, "the warning", awaitLost)
		for range 20 {
			if !s.alive(t, p.token) {
				t.Error("an access token is refused")
			}
		}
	})
	if n := strings.Count(s.logs.String(), "traces cannot be exported"); n != 1 {
		t.Errorf("the log says %d times that traces are lost, want once", n)
	}
}

// Without a variable of OpenTelemetry, or if one of them turns traces off, nothing is traced.
func TestTraces_AreOffByDefault(t *testing.T) {
	t.Parallel()
	c := startCollector(t)
	for _, variables := range [][]string{
		nil,
		{"OTEL_SDK_DISABLED=true", "OTEL_EXPORTER_OTLP_ENDPOINT=" + c.url},
		{"OTEL_TRACES_EXPORTER=none", "OTEL_EXPORTER_OTLP_ENDPOINT=" + c.url},
	} {
		t.Run(strings.Join(variables, " "), func(t *testing.T) {
			env := serveEnvironment(t)
			for _, v := range variables {
				name, value, _ := strings.Cut(v, "=")
				env[name] = value
			}
			runProgram(t, program(t), env, "migrate")
			s := &service{logs: &lockedBuffer{}}
			t.Run("replica", func(t *testing.T) {
				s.base = startReplica(t, program(t), env, s.logs)
				s.replicas = []string{s.base}
				s.call(t, "GET", "/v1/users/me", traceparent(newTraceID(), "00f067aa0ba902b7")).want(t, 401)
				if log := s.logged(t); strings.Contains(log, "trace_id") || strings.Contains(log, "tracing is on") {
					t.Errorf("the log shows traces: %s", log)
				}
			})
			if spans := c.all(); len(spans) > 0 {
				t.Errorf("the collector got %d spans", len(spans))
			}
		})
	}
}
