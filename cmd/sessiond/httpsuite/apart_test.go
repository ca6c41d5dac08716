package httpsuite

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
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
	// presentCost is cheap, so that samples are quick; formerCost is what some
	// hashes still have.
	presentCost, formerCost = 6, 4
	// tolerance is what the medians of two answers may differ by at most.
	tolerance = time.Millisecond
	// seeded is a difference that has to be found.
	seeded = 5 * time.Millisecond
)

// timed is the service as serve runs it, on real stores, in this process.
type timed struct {
	*service
	db     *sqlstore.DB
	engine *slowEngine
}

func startTimed(t *testing.T) *timed {
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
	hasher, err := hashing.NewInsecureHasher(presentCost, nil)
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
			BcryptCost: presentCost, PasswordMinLength: 8, HideAccounts: true,
		},
		DB: db, Store: store, Keys: session.NewKeyring(keys), Hasher: hasher, Mailer: nowhere{}, Now: clock.Now, Log: log,
	})
	done, watched := make(chan error, 1), make(chan struct{})
	go func() { done <- a.Serve(ctx, listener, nil, 0, log) }()
	go func() { defer close(watched); clock.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		<-watched
		http.DefaultClient.CloseIdleConnections()
		for _, err := range []error{<-done, store.Close(), db.Close()} {
			if err != nil {
				t.Error(err)
			}
		}
		if log := logs.String(); log != "" {
			t.Errorf("logged: %s", log)
		}
	})
	base := "http://" + listener.Addr().String()
	return &timed{service: &service{base: base, replicas: []string{base}, logs: logs}, db: db, engine: engine}
}

// nowhere takes every mail.
type nowhere struct{}

func (nowhere) Send(context.Context, identitymail.Message) error { return nil }

// slowEngine hashes in this process, and takes longer over one hash.
type slowEngine struct{ slow []byte }

func (e *slowEngine) Compare(_ context.Context, hash, secret []byte) error {
	if bytes.Equal(hash, e.slow) {
		<-time.After(seeded)
	}
	return bcrypt.CompareHashAndPassword(hash, secret)
}

func (*slowEngine) Generate(_ context.Context, secret []byte, cost int) ([]byte, error) {
	return bcrypt.GenerateFromPassword(secret, cost)
}

// person makes a user with a hash, and returns their name.
func (s *timed) person(t *testing.T, hash string, status identity.Status) string {
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

// question is one that must not be told apart from the others of its group.
type question struct {
	name string
	ask  func() answer
}

// asks sends a request whose body may be another one each time.
func (s *timed) asks(t *testing.T, name, method, path string, body func() shape) question {
	return question{name, func() answer { return s.call(t, method, path, jsonBody(body())) }}
}

func always(body shape) func() shape { return func() shape { return body } }

// sample asks every question so many times, in an order of its own in each
// round: what slows the machine down for a while slows all of them down.
func sample(questions []question, rounds int, into [][]time.Duration) {
	for range rounds {
		for _, i := range rand.Perm(len(questions)) {
			begun := time.Now()
			questions[i].ask()
			into[i] = append(into[i], time.Since(begun))
		}
	}
}

// estimates bounds all medians, so that the bounds of any difference hold together
// at 95 %.
func estimates(t *testing.T, samples [][]time.Duration) []estimate {
	t.Helper()
	all := make([]estimate, len(samples))
	for i := range samples {
		var enough bool
		if all[i], enough = estimateMedian(samples[i], 0.05/float64(len(samples))); !enough {
			t.Fatalf("%d samples are too few", len(samples[i]))
		}
	}
	return all
}

// No answer tells whether an account exists, nor does its time. The times are
// measured when SESSIOND_TEST_LONG is 1; else only the answers are compared.
func TestAccountsAreNotToldApart(t *testing.T) {
	s := startTimed(t)
	ours := hashOf(t, presentCost)
	plain, err := bcrypt.GenerateFromPassword([]byte(password), formerCost)
	if err != nil {
		t.Fatal(err)
	}
	known, pending := s.person(t, ours, identity.StatusActive), s.person(t, ours, identity.StatusPending)
	former, imported := s.person(t, hashOf(t, formerCost), identity.StatusActive), s.person(t, string(plain), identity.StatusActive)
	unknown := "u" + strings.ToLower(issuer.NewID())
	const wrong = "wrong horse battery"
	long := strings.Repeat("x", 1025)

	login := func(name, login, password string) question {
		return s.asks(t, name, "POST", "/v1/sessions", always(shape{"login": login, "password": password}))
	}
	mailOf := func(name string) string { return name + "@example.com" }
	reset := func(name, path, of string) question {
		return s.asks(t, name, "POST", path, always(shape{"email": mailOf(of)}))
	}
	register := func(name, email string) question {
		return s.asks(t, name, "POST", "/v1/users", func() shape {
			fresh := "u" + strings.ToLower(issuer.NewID())
			if email == "" {
				return shape{"username": fresh, "email": mailOf(fresh), "password": password}
			}
			return shape{"username": fresh, "email": email, "password": password}
		})
	}
	complete := func(name, of string) question {
		return s.asks(t, name, "PUT", "/updatePasswordViaEmail",
			always(shape{"username": of, "password": goodPassword, "resetPasswordToken": "nonsense"}))
	}
	for _, group := range []struct {
		name      string
		questions []question
	}{
		{"POST /v1/sessions", []question{
			login("a wrong password", known, wrong),
			login("an unknown name", unknown, wrong),
			login("an unknown address", mailOf(unknown), wrong),
			login("a pending user's password", pending, password),
			login("not a pending user's password", pending, wrong),
			login("an old hash", former, wrong),
			login("an imported hash", imported, wrong),
			login("a long password", known, long),
			login("an unknown name, a long password", unknown, long),
		}},
		{"POST /v1/password-resets", []question{
			reset("known", "/v1/password-resets", known),
			reset("unknown", "/v1/password-resets", unknown),
			reset("pending", "/v1/password-resets", pending),
		}},
		{"POST /v1/users", []question{
			register("a free address", ""),
			register("a taken address", mailOf(known)),
		}},
		{"POST /forgotPassword", []question{
			reset("known", "/forgotPassword", known),
			reset("unknown", "/forgotPassword", unknown),
		}},
		{"PUT /updatePasswordViaEmail", []question{
			complete("known", known),
			complete("unknown", unknown),
		}},
	} {
		t.Run(strings.ReplaceAll(group.name, "/", " "), func(t *testing.T) {
			first := group.questions[0]
			want := first.ask()
			for _, q := range group.questions[1:] {
				sameAnswer(t, first.name+" and "+q.name, q.ask(), want)
			}
			if os.Getenv("SESSIOND_TEST_LONG") == "1" {
				sameTime(t, group.questions)
			}
		})
	}
}

// sameTime fails the test unless any two medians differ by less than the tolerance.
func sameTime(t *testing.T, questions []question) {
	t.Helper()
	const warmUp, rounds = 50, 2000
	samples := make([][]time.Duration, len(questions))
	sample(questions, warmUp, make([][]time.Duration, len(questions)))
	sample(questions, rounds, samples)
	all := estimates(t, samples)
	for i, e := range all {
		t.Logf("%-34s median %8v, from %8v to %8v", questions[i].name,
			e.median.Round(time.Microsecond), e.low.Round(time.Microsecond), e.high.Round(time.Microsecond))
	}
	var widest time.Duration
	for i := range all {
		for j := range i {
			low, high := apart(all[i], all[j])
			if widest = max(widest, -low, high); -low >= tolerance || high >= tolerance {
				t.Errorf("%s and %s differ by %v to %v", questions[i].name, questions[j].name, low, high)
			}
		}
	}
	t.Logf("%d samples each: at 95 %% no two medians differ by more than %v", rounds, widest.Round(time.Microsecond))
}

// TestADifferenceIsFound: what measures that there is none finds one. It asks on
// until it does, as a busy machine hides it for longer.
func TestADifferenceIsFound(t *testing.T) {
	s := startTimed(t)
	slow := hashOf(t, presentCost)
	s.engine.slow = []byte(slow[strings.Index(slow, "$2a$"):])
	var questions []question
	for _, hash := range []string{slow, hashOf(t, presentCost)} {
		questions = append(questions, s.asks(t, "", "POST", "/v1/sessions",
			always(shape{"login": s.person(t, hash, identity.StatusActive), "password": "wrong horse battery"})))
	}
	samples := make([][]time.Duration, len(questions))
	for len(samples[0]) < 2000 {
		sample(questions, 50, samples)
		all := estimates(t, samples)
		low, high := apart(all[0], all[1])
		if low > tolerance {
			t.Logf("found after %d samples each: %v to %v", len(samples[0]), low, high)
			return
		}
	}
	t.Errorf("%v is not found in %d samples", seeded, len(samples[0]))
}
