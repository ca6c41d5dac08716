package httpsuite

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// limitsOnHere sets a service up whose clients say which address they come from.
var limitsOnHere = []string{"LIMITS=on", "TRUSTED_PROXIES=127.0.0.0/8"}

// fromAddress comes from an address, by way of a proxy that is trusted.
func fromAddress(i int) option {
	return header("X-Forwarded-For", fmt.Sprintf("198.18.%d.%d", i>>8, i&255))
}

func (p person) guess(password string) option {
	return jsonBody(map[string]string{"username": p.username, "password": password})
}

// wantLimited wants a 429 that is complete, and quiet about whom it is for.
func (a answer) wantLimited(t *testing.T, rule string) {
	t.Helper()
	a.want(t, 429)
	if after, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || after < 1 {
		t.Errorf("Retry-After %q", a.header.Get("Retry-After"))
	}
	if got := a.header.Get("RateLimit"); !strings.HasPrefix(got, `"`+rule+`";r=0;t=`+a.header.Get("Retry-After")) {
		t.Errorf("RateLimit %q of the rule %s, Retry-After %s", got, rule, a.header.Get("Retry-After"))
	}
	if got := a.header.Get("RateLimit-Policy"); !regexp.MustCompile(`^"` + rule + `";q=\d+;w=\d+$`).MatchString(got) {
		t.Errorf("RateLimit-Policy %q", got)
	}
}

// guessesWithin is how many guesses at a name a backoff of 10 allows in a time:
// 44 in a day.
func guessesWithin(d time.Duration) int {
	n := 10
	for wait := time.Second; d >= wait; n++ {
		d -= wait
		wait = min(2*wait, time.Hour)
	}
	return n
}

// TestAttackOnOneAccount: from a thousand addresses by way of three replicas,
// there are no more guesses than are documented, the owner's known device signs in
// every time, and so does everybody else.
func TestAttackOnOneAccount(t *testing.T) {
	if n := guessesWithin(24*time.Hour - time.Second); n != 44 {
		t.Fatalf("documented are 44 guesses a day, this test expects %d", n)
	}
	s := startServe(t, 3, limitsOnHere...)
	victim, other := s.register(t), s.register(t)
	token := s.call(t, "POST", "/loginUser", victim.guess(password)).want(t, 200).header.Get("X-Device-Token")
	var made, refused atomic.Int32
	var done atomic.Bool
	var attackers, others sync.WaitGroup
	begin := time.Now()
	const addresses, workers = 1000, 8
	for worker := range workers {
		attackers.Go(func() {
			for i := worker; i < addresses || !done.Load(); i += workers {
				a := callAt(t, s.replicas[i%3], "POST", "/loginUser", victim.guess("wrong password"), fromAddress(i%addresses))
				switch a.status {
				case 403:
					made.Add(1)
				case 429:
					refused.Add(1)
				case 503: // turned away by the queue
				default:
					t.Errorf("guess %d: status %d: %s", i, a.status, a.body)
				}
			}
		})
	}
	others.Go(func() {
		for i := range 10 {
			if a := callAt(t, s.replicas[i%3], "POST", "/loginUser", other.guess(password), fromAddress(5000+i)); a.status != 200 {
				t.Errorf("somebody else's login: status %d: %s", a.status, a.body)
			}
		}
	})
	logins := 100
	if testing.Short() {
		logins = 10
	}
	others.Go(func() {
		for i := range logins {
			a := callAt(t, s.replicas[i%3], "POST", "/loginUser", victim.guess(password), fromAddress(i%addresses), header("X-Device-Token", token))
			if a.status != 200 {
				t.Errorf("the owner's known device, login %d: status %d: %s", i, a.status, a.body)
			}
		}
	})
	others.Wait()
	done.Store(true)
	attackers.Wait()
	took := time.Since(begin)
	if n := int(made.Load()); n < 10 || n > guessesWithin(took) {
		t.Errorf("%d guesses in %v, want 10 to %d", n, took, guessesWithin(took))
	}
	t.Logf("%d guesses were let through in %v, %d refused; %d logins of the owner", made.Load(), took.Round(time.Millisecond), refused.Load(), logins)

	// The right password is refused alike to strangers, and opens the door by the mail.
	for _, base := range s.replicas {
		callAt(t, base, "POST", "/v1/sessions", jsonBody(map[string]string{"login": victim.username, "password": password}), fromAddress(7000)).
			wantLimited(t, "login-account")
	}
	link := s.resetToken(t, victim)
	s.call(t, "PUT", "/updatePasswordViaEmail", jsonBody(map[string]string{
		"username": victim.username, "password": goodPassword, "resetPasswordToken": link,
	})).want(t, 200)
	s.call(t, "POST", "/loginUser", victim.guess(goodPassword), fromAddress(7001)).want(t, 200)
	if strings.Contains(s.logged(t), `"status":429`) {
		t.Error("refusals are logged, which a flood of them would drown the log with")
	}
}

// TestLimitsWithoutRedis: each replica limits by itself, and people sign in.
func TestLimitsWithoutRedis(t *testing.T) {
	_, url := startRedis(t)
	proxy := startProxy(t, strings.TrimPrefix(url, "redis://"))
	s := startServe(t, 1, append(slices.Clone(limitsOnHere), "REDIS_URL=redis://"+proxy.addr)...)
	victim, other := s.register(t), s.register(t)
	proxy.cut()
	begin := time.Now()
	var last answer
	made := 0
	for i := 0; last.status != 429; i++ {
		last = s.call(t, "POST", "/loginUser", victim.guess("wrong password"), fromAddress(i))
		if last.status == 403 {
			made++
		}
		if i > 100 {
			t.Fatal("a hundred guesses, and none was refused")
		}
	}
	last.wantLimited(t, "login-account")
	if took := time.Since(begin); made < 10 || made > guessesWithin(took) {
		t.Errorf("%d guesses in %v", made, took)
	}
	for i := range 10 {
		s.call(t, "POST", "/loginUser", other.guess(password), fromAddress(200+i)).want(t, 200)
	}
	proxy.mend()
	s.call(t, "POST", "/loginUser", other.guess(password), fromAddress(300)).want(t, 200)
}

// TestLimitedRoutes: every route that is limited says so, by the numbers that
// are documented.
func TestLimitedRoutes(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		nobody := person{username: "nobody"}
		none := jsonBody(map[string]string{})
		token := jsonBody(map[string]string{"token": "x"})
		bearer := bearerOf(p.token)
		for i, c := range []struct {
			rule   string
			limit  int
			routes []string
			as     []option
		}{
			{"login-address-account", 8, []string{"POST /loginUser", "POST /v1/sessions"}, []option{nobody.guess("wrong password")}},
			{"register-address", 20, []string{"POST /registerUser", "POST /api/v1/registerUser", "POST /v1/users"}, []option{none}},
			{"reset-email", 3, []string{"POST /forgotPassword", "POST /v1/password-resets"}, []option{jsonBody(map[string]string{"email": "n@example.com"})}},
			{
				"mailed-token-address", 30,
				[]string{
					"POST /v1/users/verify", "POST /v1/password-resets/check", "POST /v1/password-resets/complete",
					"GET /reset?resetPasswordToken=x", "PUT /updatePasswordViaEmail",
				},
				[]option{token},
			},
			{
				"password-session", 10,
				[]string{"POST /v1/sessions/current/reauthenticate", "PUT /v1/users/me/password", "PUT /updatePassword"},
				[]option{bearer},
			},
			{"refresh-address", 1000, []string{"POST /oauth/token"}, []option{formBody("grant_type", "refresh_token", "refresh_token", "x")}},
		} {
			bodies := map[string]option{
				"POST /v1/sessions":                        jsonBody(map[string]string{"login": "nobody", "password": "wrong password"}),
				"POST /v1/sessions/current/reauthenticate": jsonBody(map[string]string{"password": "wrong password"}),
				"PUT /v1/users/me/password":                jsonBody(map[string]string{"current_password": "wrong password", "new_password": goodPassword}),
				"PUT /updatePassword": jsonBody(map[string]string{
					"username": p.username, "current_password": "wrong password", "password": goodPassword,
				}),
			}
			ask := func(route string) answer {
				method, path, _ := strings.Cut(route, " ")
				opts := append(slices.Clone(c.as), fromAddress(1000+i))
				if body := bodies[route]; body != nil {
					opts = append(opts, body)
				}
				return s.call(t, method, path, opts...)
			}
			made := 0
			begin := time.Now()
			a := ask(c.routes[0])
			for ; a.status != 429; a = ask(c.routes[made%len(c.routes)]) {
				made++
				if (c.rule == "reset-email") != (a.header.Get("RateLimit") == "" || !strings.Contains(a.header.Get("RateLimit"), c.rule)) {
					t.Errorf("%s: number %d: RateLimit %q", c.rule, made, a.header.Get("RateLimit"))
				}
				if made > 2*c.limit {
					t.Fatalf("%s: %d were allowed", c.rule, made)
				}
			}
			// Meanwhile there may be more of it.
			if more := int(time.Since(begin) / (50 * time.Millisecond)); made < c.limit || made > c.limit+more {
				t.Errorf("%s: %d were allowed, want %d", c.rule, made, c.limit)
			}
			if c.rule == "refresh-address" { // 50 ms later it is right again
				a.wantLimited(t, c.rule)
				if got := a.text(t, "error"); got != "temporarily_unavailable" {
					t.Errorf("a refresh: %s", a.body)
				}
				continue
			}
			for _, route := range c.routes {
				a := ask(route)
				a.wantLimited(t, c.rule)
				if got := a.text(t, "code"); got != "rate_limited" || a.header.Get("Content-Type") != "application/problem+json; charset=utf-8" {
					t.Errorf("%s: %s %s", route, a.header.Get("Content-Type"), a.body)
				}
			}
		}
		// Another session of the same person has a budget of its own.
		s.call(t, "POST", "/v1/sessions/current/reauthenticate", bearerOf(s.login(t, p)), jsonBody(map[string]string{"password": password})).want(t, 200)
	}, limitsOnHere...)
}

// TestOutageUsesUpNoLimit: who tries again as the 503 says is not refused for it
// when the database is back.
func TestOutageUsesUpNoLimit(t *testing.T) {
	database, err := url.Parse(sqlstoretest.PostgresURL(t))
	if err != nil {
		t.Fatal(err)
	}
	proxy := startProxy(t, database.Host)
	database.Host = proxy.addr
	s := startServe(t, 1, append(slices.Clone(limitsOnHere), "DATABASE_URL="+database.String())...)
	p := s.register(t)
	name := freshName()
	email := jsonBody(shape{"email": p.email})
	newUser := jsonBody(shape{"username": name, "email": name + "@example.com", "password": password})
	token := jsonBody(shape{"token": "x"})
	complete := jsonBody(shape{"token": "x", "password": goodPassword})
	reset := jsonBody(shape{"username": name, "password": goodPassword, "resetPasswordToken": "x"})
	proxy.cut()
	for _, c := range []struct {
		limit  int
		routes map[string]option
	}{
		{3, map[string]option{"POST /v1/password-resets": email, "POST /forgotPassword": email}},
		{20, map[string]option{"POST /v1/users": newUser, "POST /registerUser": newUser}},
		{30, map[string]option{
			"POST /v1/users/verify": token, "POST /v1/password-resets/check": token, "POST /v1/password-resets/complete": complete,
			"GET /reset?resetPasswordToken=x": header("Accept", "*/*"), "PUT /updatePasswordViaEmail": reset,
		}},
	} {
		for range c.limit/len(c.routes) + 1 {
			for route, body := range c.routes {
				method, path, _ := strings.Cut(route, " ")
				s.call(t, method, path, body).want(t, 503)
			}
		}
	}
	proxy.mend()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(5 * time.Second)
	for made := 0; made < 3; <-tick.C {
		switch a := s.call(t, "POST", "/v1/password-resets", email); {
		case a.status == 202:
			made++
		case a.status != 503 || time.Now().After(deadline):
			t.Fatalf("a mail, with the database back: status %d: %s", a.status, a.body)
		}
	}
	s.call(t, "POST", "/v1/password-resets", email).wantLimited(t, "reset-email")
}

// TestLimitsHideAccounts: names that exist and names that do not are answered
// alike, before a limit, at it and beyond.
func TestLimitsHideAccounts(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		known := person{username: freshName()}
		known.email = known.username + "@example.com"
		s.call(t, "POST", "/registerUser", jsonBody(map[string]string{"username": known.username, "email": known.email, "password": password})).want(t, 200)
		token := verifyLink.FindStringSubmatch(s.awaitMail(t, known.email, "#token=").Text)[1]
		s.call(t, "POST", "/v1/users/verify", jsonBody(map[string]string{"token": token})).want(t, 204)
		unknown := person{username: "nobody", email: "nobody@example.com"}

		times := regexp.MustCompile(`t=\d+`)
		same := func(what string, ask func(p person, address int) answer) (status int) {
			t.Helper()
			a, b := ask(known, 2000), ask(unknown, 3000)
			for _, h := range []http.Header{a.header, b.header} { // but for the time in between
				for _, name := range []string{"Ratelimit", "Retry-After"} {
					if got := h.Get(name); got != "" {
						h.Set(name, times.ReplaceAllString(strings.TrimLeft(got, "0123456789"), "t"))
					}
				}
			}
			sameAnswer(t, what, a, b)
			return a.status
		}
		for i := range 10 {
			status := same(fmt.Sprint("login ", i+1, " of an address"), func(p person, address int) answer {
				return s.call(t, "POST", "/loginUser", p.guess("wrong password"), fromAddress(address))
			})
			if want := map[bool]int{true: 401, false: 429}[i < 8]; status != want {
				t.Errorf("login %d of an address: status %d, want %d", i+1, status, want)
			}
		}
		same("a login of the many addresses that are too many", func(p person, address int) (a answer) {
			for i := 1; i < 20 && a.status != 429; i++ {
				a = s.call(t, "POST", "/loginUser", p.guess("wrong password"), fromAddress(address+i))
			}
			return a.want(t, 429)
		})
		// One of the mails to the known address was that of its registration.
		s.call(t, "POST", "/forgotPassword", jsonBody(map[string]string{"email": unknown.email}), fromAddress(4000)).want(t, 200)
		for i := range 3 {
			status := same(fmt.Sprint("mail ", i+1), func(p person, address int) answer {
				return s.call(t, "POST", "/forgotPassword", jsonBody(map[string]string{"email": p.email}), fromAddress(address))
			})
			if want := map[bool]int{true: 200, false: 429}[i < 2]; status != want {
				t.Errorf("mail %d: status %d, want %d", i+1, status, want)
			}
		}
	}, append(slices.Clone(limitsOnHere), "HIDE_ACCOUNTS=true")...)
}

// TestLimitsAreOnUnlessToldSo, and say loudly when they are not.
func TestLimitsAreOnUnlessToldSo(t *testing.T) {
	const warning = "SESSIOND_LIMITS is off"
	on := startDev(t, t.TempDir(), "LIMITS=", "CORS_ORIGINS=https://app.example")
	a := on.call(t, "POST", "/loginUser", person{username: "nobody"}.guess("wrong password"), header("Origin", "https://app.example")).want(t, 401)
	if got, policy := a.header.Get("RateLimit"), a.header.Get("RateLimit-Policy"); got != `"login-address-account";r=7;t=1800` || policy != `"login-address-account";q=8;w=14400` {
		t.Errorf("RateLimit %s, RateLimit-Policy %s", got, policy)
	}
	if exposed := a.header.Get("Access-Control-Expose-Headers"); !strings.Contains(exposed, http.CanonicalHeaderKey("RateLimit")+", Ratelimit-Policy") {
		t.Errorf("a browser is shown %q", exposed)
	}
	if strings.Contains(on.logged(t), warning) {
		t.Error("it says that the limits are off, and they are not")
	}
	off := startDev(t, t.TempDir())
	for range 12 {
		a := off.call(t, "POST", "/loginUser", person{username: "nobody"}.guess("wrong password")).want(t, 401)
		if a.header.Get("RateLimit") != "" || a.header.Get("RateLimit-Policy") != "" {
			t.Fatalf("limits that are off: %v", a.header)
		}
	}
	if !strings.Contains(off.logged(t), warning) {
		t.Error("the limits are off, and nobody is told")
	}
}
