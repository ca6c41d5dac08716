package httpsuite

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/sessiond/sessiond/cmd/sessiond/app"
	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/hashing"
	identitymail "github.com/sessiond/sessiond/identity/mail"
	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

const (
	// currentCost is the bcrypt cost of new password hashes. It is low, because the tests measure
	// thousands of logins. oldCost is the cost of hashes from the time before the setting was raised.
	currentCost, oldCost = 6, 4
	// tolerance is the largest allowed difference between the median response times of two
	// requests.
	tolerance = time.Millisecond
	// knownDifference is a delay that the tests add to one of two requests. The timing measurement
	// must find it.
	knownDifference = 5 * time.Millisecond
)

// timedService is a service in the test process on real Postgres and Redis servers. Its field
// engine computes password hashes and can be slowed down.
type timedService struct {
	*service
	db     *sqlstore.DB
	engine *slowEngine
}

func startTimedService(t *testing.T) *timedService {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	logs := &lockedBuffer{}
	log := slog.New(slog.NewJSONHandler(logs, &slog.HandlerOptions{Level: slog.LevelError}))
	db, err := sqlstore.Open(ctx, sqlstoretest.PostgresURL(t), sqlstore.Options{})
	ok(err)
	ok(db.Migrate(ctx))
	clock, err := db.Clock(ctx)
	ok(err)
	store, err := redisstore.Open(redisstoretest.RealURL(t), redisstore.Options{Prefix: "t" + issuer.NewID() + ":"})
	ok(err)
	key, err := session.GenerateKey(session.AlgEdDSA)
	ok(err)
	keys, err := session.NewKeySet(key)
	ok(err)
	hasher, err := hashing.NewInsecureHasher(currentCost, nil)
	ok(err)
	engine := &slowEngine{}
	hasher.Engine = engine
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	ok(err)
	a := app.Assemble(app.Parts{
		Settings: app.Settings{
			Issuer: "https://id.example", Audience: "https://id.example", PublicURL: "https://id.example",
			AccessTokenTTL: time.Hour, SessionIdleTTL: 720 * time.Hour, SessionMaxTTL: 2160 * time.Hour, RefreshGrace: 30 * time.Second,
			ReauthMaxAge: 10 * time.Minute, ResetTTL: 10 * time.Minute, DatabaseMaxConns: 20,
			BcryptCost: currentCost, PasswordMinLength: 8, HideAccounts: true,
		},
		DB: db, Store: store, Keys: session.NewKeyring(keys), Hasher: hasher, Mailer: discardMailer{}, Now: clock.Now, Background: []func(context.Context){clock.Run}, Log: log,
	})
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx, app.Listeners{Public: listener}, 0, log) }()
	t.Cleanup(func() {
		stop()
		http.DefaultClient.CloseIdleConnections()
		for _, err := range []error{<-done, store.Close(), db.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
		if log := logs.String(); log != "" {
			t.Errorf("the service logged: %s", log)
		}
	})
	base := "http://" + listener.Addr().String()
	return &timedService{service: &service{base: base, replicas: []string{base}, logs: logs}, db: db, engine: engine}
}

// discardMailer accepts every mail and discards it.
type discardMailer struct{}

func (discardMailer) Send(context.Context, identitymail.Message) error { return nil }

// slowEngine hashes passwords with bcrypt. To compare a password with the hash in the field `slow`,
// it needs knownDifference more time.
type slowEngine struct {
	hashing.Engine // nil; only bcrypt is used
	slow           []byte
}

func (e *slowEngine) Compare(_ context.Context, hash, secret []byte) error {
	if bytes.Equal(hash, e.slow) {
		<-time.After(knownDifference)
	}
	return bcrypt.CompareHashAndPassword(hash, secret)
}

func (*slowEngine) Generate(_ context.Context, secret []byte, cost int) ([]byte, error) {
	return bcrypt.GenerateFromPassword(secret, cost)
}

// person creates a user with this password hash and this status, and returns the username.
func (s *timedService) person(t *testing.T, hash string, status identity.Status) string {
	t.Helper()
	now, id := time.Now(), issuer.NewID()
	name := "u" + strings.ToLower(id)
	err := s.db.Users().Create(t.Context(), identity.User{
		ID: id, Username: name, Email: name + "@example.com", PasswordHash: hash, PasswordVersion: 1,
		Status: status, CreatedAt: now, UpdatedAt: now,
	}, time.Time{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// hashOf returns a bcrypt hash with this cost. It is a hash of the password of all test users.
func hashOf(t *testing.T, cost int) string {
	t.Helper()
	h, err := hashing.NewInsecureHasher(cost, nil)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := h.Hash(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

// probe is a request whose response must equal the responses of the other probes in its group.
type probe struct {
	name string
	send func() response
}

// newProbe returns a probe, which is a request that can be sent repeatedly. The function `body`
// returns the body of each request.
func (s *timedService) newProbe(t *testing.T, name, method, path string, body func() shape) probe {
	return probe{name, func() response { return s.call(t, method, path, jsonBody(body())) }}
}

// always returns a function that returns the same request body each time.
func always(body shape) func() shape { return func() shape { return body } }

// sample sends the request of every probe once in each round, and measures its response time. The
// order within a round is random, because a busy machine then slows all probes down equally.
func sample(probes []probe, rounds int, into [][]time.Duration) {
	for range rounds {
		for _, i := range rand.Perm(len(probes)) {
			begun := time.Now()
			probes[i].send()
			into[i] = append(into[i], time.Since(begun))
		}
	}
}

// estimates returns the median of each list of response times, with bounds. With a probability of
// 95 %, the bounds of all lists are correct.
func estimates(t *testing.T, samples [][]time.Duration) []estimate {
	t.Helper()
	all := make([]estimate, len(samples))
	for i := range samples {
		var enough bool
		if all[i], enough = estimateMedian(samples[i], 0.05/float64(len(samples))); !enough {
			t.Fatalf("%d samples are too few to estimate a median", len(samples[i]))
		}
	}
	return all
}

// probeGroup is a list of requests to one route that must get the same response.
type probeGroup struct {
	name   string
	probes []probe
}

// accountProbes returns requests that name existing accounts and unknown accounts. It returns one
// group of requests for each route.
func (s *timedService) accountProbes(t *testing.T) []probeGroup {
	t.Helper()
	current := hashOf(t, currentCost)
	plain, err := bcrypt.GenerateFromPassword([]byte(password), oldCost)
	if err != nil {
		t.Fatal(err)
	}
	known, pending := s.person(t, current, identity.StatusActive), s.person(t, current, identity.StatusPending)
	old, imported := s.person(t, hashOf(t, oldCost), identity.StatusActive), s.person(t, string(plain), identity.StatusActive)
	unknown := "u" + strings.ToLower(issuer.NewID())
	const wrong = "wrong horse battery"
	long := strings.Repeat("x", 1025)

	login := func(name, login, password string) probe {
		return s.newProbe(t, name, "POST", "/v1/sessions", always(shape{"login": login, "password": password}))
	}
	mailOf := func(name string) string { return name + "@example.com" }
	reset := func(name, path, of string) probe {
		return s.newProbe(t, name, "POST", path, always(shape{"email": mailOf(of)}))
	}
	register := func(name, email string) probe {
		return s.newProbe(t, name, "POST", "/v1/users", func() shape {
			fresh := "u" + strings.ToLower(issuer.NewID())
			if email == "" {
				return shape{"username": fresh, "email": mailOf(fresh), "password": password}
			}
			return shape{"username": fresh, "email": email, "password": password}
		})
	}
	complete := func(name, of string) probe {
		return s.newProbe(t, name, "PUT", "/updatePasswordViaEmail",
			always(shape{"username": of, "password": goodPassword, "resetPasswordToken": "nonsense"}))
	}
	return []probeGroup{
		{"POST /v1/sessions", []probe{
			login("a wrong password", known, wrong),
			login("an unknown name", unknown, wrong),
			login("an unknown address", mailOf(unknown), wrong),
			login("the password of a pending user", pending, password),
			login("a wrong password of a pending user", pending, wrong),
			login("an old hash", old, wrong),
			login("an imported hash", imported, wrong),
			login("a long password", known, long),
			login("an unknown name with a long password", unknown, long),
		}},
		{"POST /v1/password-resets", []probe{
			reset("known", "/v1/password-resets", known),
			reset("unknown", "/v1/password-resets", unknown),
			reset("pending", "/v1/password-resets", pending),
		}},
		{"POST /v1/users", []probe{
			register("a free address", ""),
			register("a taken address", mailOf(known)),
		}},
		{"POST /forgotPassword", []probe{
			reset("known", "/forgotPassword", known),
			reset("unknown", "/forgotPassword", unknown),
		}},
		{"PUT /updatePasswordViaEmail", []probe{
			complete("known", known),
			complete("unknown", unknown),
		}},
	}
}

func TestHideAccounts_ResponseDoesNotDependOnWhetherAccountExists(t *testing.T) {
	for _, group := range startTimedService(t).accountProbes(t) {
		first := group.probes[0]
		want := first.send()
		for _, p := range group.probes[1:] {
			sameResponse(t, group.name+": "+first.name+" and "+p.name, p.send(), want)
		}
	}
}

func TestHideAccounts_ResponseTimeDoesNotDependOnWhetherAccountExists(t *testing.T) {
	runLong(t)
	for _, group := range startTimedService(t).accountProbes(t) {
		t.Run("on route "+strings.ReplaceAll(group.name, "/", " "), func(t *testing.T) { sameTime(t, group.probes) })
	}
}

// sameTime fails the test unless the median response times of all given requests differ by less
// than the tolerance.
func sameTime(t *testing.T, probes []probe) {
	t.Helper()
	const warmUp, rounds = 50, 2000
	samples := make([][]time.Duration, len(probes))
	sample(probes, warmUp, make([][]time.Duration, len(probes)))
	sample(probes, rounds, samples)
	all := estimates(t, samples)
	for i, e := range all {
		t.Logf("%-34s median %8v, from %8v to %8v", probes[i].name,
			e.median.Round(time.Microsecond), e.low.Round(time.Microsecond), e.high.Round(time.Microsecond))
	}
	var widest time.Duration
	for i := range all {
		for j := range i {
			low, high := difference(all[i], all[j])
			if widest = max(widest, -low, high); -low >= tolerance || high >= tolerance {
				t.Errorf("the median response times for %s and for %s differ by %v to %v", probes[i].name, probes[j].name, low, high)
			}
		}
	}
	t.Logf("%d samples each: with probability 95 %%, no two medians differ by more than %v", rounds, widest.Round(time.Microsecond))
}

// This test proves that the timing measurement can find a difference between response times. It
// slows one of two logins down. It takes samples until it finds the delay, because a busy machine
// can hide the delay in the first samples.
func TestTimingMeasurement_FindsDifferenceOf5Milliseconds(t *testing.T) {
	runLong(t)
	s := startTimedService(t)
	slow := hashOf(t, currentCost)
	s.engine.slow = []byte(slow[strings.Index(slow, "$2a$"):])
	var probes []probe
	for _, hash := range []string{slow, hashOf(t, currentCost)} {
		probes = append(probes, s.newProbe(t, "", "POST", "/v1/sessions",
			always(shape{"login": s.person(t, hash, identity.StatusActive), "password": "wrong horse battery"})))
	}
	samples := make([][]time.Duration, len(probes))
	for len(samples[0]) < 2000 {
		sample(probes, 50, samples)
		all := estimates(t, samples)
		low, high := difference(all[0], all[1])
		if low > tolerance {
			t.Logf("after %d samples each, the difference is %v to %v", len(samples[0]), low, high)
			return
		}
	}
	t.Errorf("the measurement did not find a delay of %v in %d samples", knownDifference, len(samples[0]))
}
