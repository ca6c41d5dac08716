package httpsuite

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sessiond/sessiond/session/issuer"
)

// limitsByAddress are settings that switch the rate limits on. They also let the tests choose the
// client's address in the header X-Forwarded-For.
var limitsByAddress = []string{"LIMITS=on", "TRUSTED_PROXIES=127.0.0.0/8"}

// fromAddress makes a request look as if a trusted proxy had received it from the ith client
// address.
func fromAddress(i int) option {
	return header("X-Forwarded-For", fmt.Sprintf("198.18.%d.%d", i>>8, i&255))
}

// guess sends a login of this user with this password.
func (p person) guess(password string) option {
	return credentials(p.username, password)
}

// wantLimited fails the test unless the response is a 429 because of this rate limit rule, with the
// headers Retry-After, RateLimit and RateLimit-Policy.
func (a response) wantLimited(t *testing.T, rule string) {
	t.Helper()
	a = a.want(t, 429)
	if after, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || after < 1 {
		t.Errorf("Retry-After is %q, want at least 1", a.header.Get("Retry-After"))
	}
	if got := a.header.Get("RateLimit"); !strings.HasPrefix(got, `"`+rule+`";r=0;t=`+a.header.Get("Retry-After")) {
		t.Errorf("RateLimit is %q, want rule %s, r=0 and t=%s", got, rule, a.header.Get("Retry-After"))
	}
	if got := a.header.Get("RateLimit-Policy"); !regexp.MustCompile(`^"` + rule + `";q=\d+;w=\d+$`).MatchString(got) {
		t.Errorf("RateLimit-Policy is %q", got)
	}
}

// guessesWithin returns how many password guesses for one account the rate limits allow in the time
// d. They allow 10 guesses at once, then one after 1 s, 2 s, 4 s and so on, and finally one per
// hour. In a day that makes 44 guesses.
func guessesWithin(d time.Duration) int {
	n := 10
	for wait := time.Second; d >= wait; n++ {
		d -= wait
		wait = min(2*wait, time.Hour)
	}
	return n
}

// An attacker guesses the password of one account from 1,000 client addresses at three replicas.
// The attacker must get no more guesses than documented. Every login of the owner from a device
// with a device token must succeed, and so must the logins of another user.
func TestLoginLimits_BoundGuessesWithoutLockingOwnerOut_ASVS_V2_4_1_V6_3_1(t *testing.T) {
	if n := guessesWithin(24*time.Hour - time.Second); n != 44 {
		t.Fatalf("guessesWithin allows %d guesses in a day, but the documentation says 44", n)
	}
	s := startServe(t, 3, limitsByAddress...)
	victim, guesses, took := s.attack(t)
	// When Redis is slow, each of the three replicas also counts guesses in its own process, and an
	// attacker gets more guesses. In that case, repeat the attack on another account, because Redis
	// is not always slow.
	for try := 0; try < 2 && guesses > guessesWithin(took); try++ {
		t.Logf("%d guesses are more than %d, so Redis may have been slow", guesses, guessesWithin(took))
		victim, guesses, took = s.attack(t)
	}
	if most := guessesWithin(took); guesses < 10 || guesses > most {
		t.Errorf("the attacker was allowed %d guesses in %v, want 10 to %d", guesses, took, most)
	}

	// From an unknown device, even the correct password is refused now. The owner can still reset
	// the password by mail.
	for _, base := range s.replicas {
		wantLockedAt(t, base, victim)
	}
	link := s.resetToken(t, victim)
	s.call(t, "PUT", "/updatePasswordViaEmail", jsonBody(shape{
		"username": victim.username, "password": goodPassword, "resetPasswordToken": link,
	})).want(t, 200)
	s.call(t, "POST", "/loginUser", victim.guess(goodPassword), fromAddress(7001)).want(t, 200)
	if strings.Contains(s.logged(t), `"status":429`) {
		t.Error("429 responses are logged, so an attacker could flood the log")
	}
}

// attack guesses the password of a new user from 1,000 client addresses, while the user and another
// user sign in. It fails the test if one of their logins fails. It returns how many guesses the rate
// limits allowed, and how long the attack took.
func (s *service) attack(t *testing.T) (victim person, guesses int, took time.Duration) {
	t.Helper()
	victim, other := s.confirmed(t), s.register(t)
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
				case 503: // too many password hashes wait
				default:
					t.Errorf("guess %d: status %d, want 403, 429 or 503: %s", i, a.status, a.body)
				}
			}
		})
	}
	others.Go(func() {
		for i := range 10 {
			if a := callAt(t, s.replicas[i%3], "POST", "/loginUser", other.guess(password), fromAddress(5000+i)).patient(t); a.status != 200 {
				t.Errorf("login %d of another user: status %d, want 200: %s", i, a.status, a.body)
			}
		}
	})
	logins := 25
	if isLong() {
		logins = 100
	}
	others.Go(func() {
		for i := range logins {
			a := callAt(t, s.replicas[i%3], "POST", "/loginUser", victim.guess(password), fromAddress(i%addresses), header("X-Device-Token", token)).patient(t)
			if a.status != 200 {
				t.Errorf("login %d of the owner with a device token: status %d, want 200: %s", i, a.status, a.body)
			}
		}
	})
	others.Wait()
	done.Store(true)
	attackers.Wait()
	took = time.Since(begin)
	t.Logf("%d guesses were allowed in %v and %d refused; the owner signed in %d times", made.Load(), took.Round(time.Millisecond), refused.Load(), logins)
	return victim, int(made.Load()), took
}

// wantLockedAt fails the test unless the replica refuses a login with the correct password from an
// unknown device. It sends a wrong password until the replica refuses that login with 429. It then
// sends the correct password. If the Retry-After of the 429 has passed by then, the rate limits may
// allow one more login, and wantLockedAt starts again.
func wantLockedAt(t *testing.T, base string, p person) {
	t.Helper()
	await(t, "a login within the Retry-After of a refused guess", func() bool {
		start := time.Now()
		guess := callAt(t, base, "POST", "/loginUser", p.guess("wrong password"), fromAddress(7000)).patient(t)
		if guess.status != 429 {
			return false
		}
		a := callAt(t, base, "POST", "/v1/sessions", jsonBody(shape{"login": p.username, "password": password}), fromAddress(7000)).patient(t)
		seconds, _ := strconv.Atoi(guess.header.Get("Retry-After"))
		if time.Since(start) >= time.Duration(seconds-1)*time.Second {
			return false
		}
		a.wantLimited(t, "login-account")
		return true
	})
}

func TestLoginLimits_BoundGuessesWhileRedisIsDown(t *testing.T) {
	_, url := startRedis(t)
	proxy := startProxy(t, strings.TrimPrefix(url, "redis://"))
	s := startServe(t, 1, append(slices.Clone(limitsByAddress), "REDIS_URL=redis://"+proxy.addr)...)
	victim, other := s.register(t), s.register(t)
	proxy.cut()
	begin := time.Now()
	var last response
	made := 0
	for i := 0; last.status != 429; i++ {
		last = s.call(t, "POST", "/loginUser", victim.guess("wrong password"), fromAddress(i))
		if last.status == 403 {
			made++
		}
		if i > 100 {
			t.Fatal("none of 100 guesses was limited")
		}
	}
	last.wantLimited(t, "login-account")
	if took := time.Since(begin); made < 10 || made > guessesWithin(took) {
		t.Errorf("%d guesses were allowed in %v, want 10 to %d", made, took, guessesWithin(took))
	}
	for i := range 10 {
		s.call(t, "POST", "/loginUser", other.guess(password), fromAddress(200+i)).want(t, 200)
	}
	proxy.mend()
	s.call(t, "POST", "/loginUser", other.guess(password), fromAddress(300)).want(t, 200)
}

// The test sends requests to every route with a rate limit until the limit is used up.
func TestRateLimits_AllowDocumentedNumberOfRequests_ASVS_V2_4_1_V6_6_3(t *testing.T) {
	eachModeAlone(t, func(t *testing.T, s *service) {
		p := s.register(t)
		nobody := person{username: "nobody"}
		taken := registration(p.username, "new@example.com", goodPassword)
		token := jsonBody(shape{"token": "x"})
		for i, c := range []struct {
			rule   string
			limit  int
			routes []string
			as     func() option // returns an option of the requests; called anew for each attempt to reach the limit
		}{
			{"login-address-account", 8, []string{"POST /loginUser", "POST /v1/sessions"}, func() option { return nobody.guess("wrong password") }},
			{"register-address", 20, []string{"POST /registerUser", "POST /api/v1/registerUser", "POST /v1/users"}, func() option { return taken }},
			{"reset-email", 3, []string{"POST /forgotPassword", "POST /v1/password-resets"}, func() option { return jsonBody(shape{"email": issuer.NewID() + "@example.com"}) }},
			{
				"mailed-token-address", 30,
				[]string{
					"POST /v1/users/verify", "POST /v1/password-resets/check", "POST /v1/password-resets/complete",
					"GET /reset?resetPasswordToken=x", "PUT /updatePasswordViaEmail",
				},
				func() option { return token },
			},
			{
				"password-session", 10,
				[]string{"POST /v1/sessions/current/reauthenticate", "PUT /v1/users/me/password", "PUT /updatePassword"},
				func() option { return bearer(s.login(t, p)) },
			},
			{"refresh-address", 1000, []string{"POST /oauth/token"}, func() option { return refreshGrant("x") }},
		} {
			bodies := map[string]option{
				"POST /v1/sessions":                 jsonBody(shape{"login": "nobody", "password": "wrong password"}),
				"POST /v1/password-resets/complete": jsonBody(shape{"token": "x", "password": goodPassword}),
				"PUT /updatePasswordViaEmail": jsonBody(shape{
					"username": "nobody", "password": goodPassword, "resetPasswordToken": "x",
				}),
				"POST /v1/sessions/current/reauthenticate": jsonBody(shape{"password": "wrong password"}),
				"PUT /v1/users/me/password":                jsonBody(shape{"current_password": "wrong password", "new_password": goodPassword}),
				"PUT /updatePassword": jsonBody(shape{
					"username": p.username, "current_password": "wrong password", "password": goodPassword,
				}),
			}
			try, as := 0, c.as()
			send := func(route string) response {
				method, path, _ := strings.Cut(route, " ")
				opts := append([]option{as}, fromAddress(1000+i+100*try))
				if body := bodies[route]; body != nil {
					opts = append(opts, body)
				}
				return s.call(t, method, path, opts...)
			}
			count := func() (made int, exact bool, limited response) {
				begin := time.Now()
				a := send(c.routes[0])
				for ; a.status != 429; a = send(c.routes[made%len(c.routes)]) {
					made++
					if (c.rule == "reset-email") != (a.header.Get("RateLimit") == "" || !strings.Contains(a.header.Get("RateLimit"), c.rule)) {
						t.Errorf("%s: RateLimit of response %d is %q", c.rule, made, a.header.Get("RateLimit"))
					}
					if made > 5*c.limit {
						t.Fatalf("%s: %d requests were allowed and none limited", c.rule, made)
					}
				}
				// A limit may allow more requests while the test runs, at most one every 50 ms.
				more := int(time.Since(begin) / (50 * time.Millisecond))
				return made, made >= c.limit && made <= c.limit+more, a
			}
			made, exact, a := count()
			// When Redis is slow, the service counts in its own process for a moment, and allows up to
			// twice the limit. In that case, repeat the test case with another address, email or session.
			for ; try < 2 && !exact; made, exact, a = count() {
				try, as = try+1, c.as()
			}
			if !exact {
				t.Errorf("%s: %d requests were allowed, want %d", c.rule, made, c.limit)
			}
			if c.rule == "refresh-address" { // this limit allows one more request every 50 ms, so a further request may succeed
				a.wantLimited(t, c.rule)
				if got := a.text(t, "error"); got != "temporarily_unavailable" {
					t.Errorf("a limited refresh returned %s, want temporarily_unavailable", a.body)
				}
				continue
			}
			for _, route := range c.routes {
				a := send(route)
				// While Redis is slow, the service counts in its own process. That counter does not include
				// the earlier requests, so send more requests until it is used up too.
				for n := 0; n < c.limit && a.status != 429; n++ {
					a = send(route)
				}
				a.wantLimited(t, c.rule)
				if got := a.text(t, "code"); got != "rate_limited" || a.header.Get("Content-Type") != "application/problem+json; charset=utf-8" {
					t.Errorf("%s: got %s %s, want a problem rate_limited", route, a.header.Get("Content-Type"), a.body)
				}
			}
		}
		// The rule password-session counts each session of a user separately.
		s.call(t, "POST", "/v1/sessions/current/reauthenticate", bearer(s.login(t, p)), jsonBody(shape{"password": password})).want(t, 200)
	}, limitsByAddress...)
}

// While the database is down, requests get a 503 that tells the client to retry. The rate limits
// must not count these requests. Otherwise they would refuse the client when the database is back.
func TestRateLimits_AreRefundedWhileDatabaseIsDown(t *testing.T) {
	databaseURL, proxy := proxiedPostgres(t)
	s := startServe(t, 1, append(slices.Clone(limitsByAddress), "DATABASE_URL="+databaseURL)...)
	p := s.register(t)
	name := newName()
	email := jsonBody(shape{"email": p.email})
	newUser := registration(name, name+"@example.com", password)
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
	sent := 0
	await(t, "three reset mails after the outage", func() bool {
		a := s.call(t, "POST", "/v1/password-resets", email)
		switch a.status {
		case 202:
			sent++
		case 503:
		default:
			t.Fatalf("reset mail %d after the outage: status %d, want 202: %s", sent+1, a.status, a.body)
		}
		return sent == 3
	})
	s.call(t, "POST", "/v1/password-resets", email).wantLimited(t, "reset-email")
}

// With HIDE_ACCOUNTS, known and unknown usernames must get the same responses before a rate limit
// is reached, when it is reached, and afterwards.
func TestRateLimits_DoNotRevealAccounts(t *testing.T) {
	eachModeAlone(t, func(t *testing.T, s *service) {
		known := person{username: newName()}
		known.email = known.username + "@example.com"
		s.call(t, "POST", "/registerUser", registration(known.username, known.email, password)).want(t, 200)
		s.confirm(t, known)
		unknown := person{username: "nobody", email: "nobody@example.com"}

		times := regexp.MustCompile(`t=\d+`)
		same := func(what string, send func(p person, address int) response) (status int) {
			t.Helper()
			a, b := send(known, 2000), send(unknown, 3000)
			for _, h := range []http.Header{a.header, b.header} { // remove the times until a retry, which may differ
				for _, name := range []string{"Ratelimit", "Retry-After"} {
					if got := h.Get(name); got != "" {
						h.Set(name, times.ReplaceAllString(strings.TrimLeft(got, "0123456789"), "t"))
					}
				}
			}
			sameResponse(t, what, a, b)
			return a.status
		}
		for i := range 10 {
			status := same(fmt.Sprint("login ", i+1, " from one address for a known and an unknown name"), func(p person, address int) response {
				return s.call(t, "POST", "/loginUser", p.guess("wrong password"), fromAddress(address))
			})
			if want := map[bool]int{true: 401, false: 429}[i < 8]; status != want {
				t.Errorf("login %d from one address: status %d, want %d", i+1, status, want)
			}
		}
		same("a limited login from many addresses for a known and an unknown name", func(p person, address int) (a response) {
			for i := 1; i < 20 && a.status != 429; i++ {
				a = s.call(t, "POST", "/loginUser", p.guess("wrong password"), fromAddress(address+i))
			}
			return a.want(t, 429)
		})
		for i := range 4 {
			status := same(fmt.Sprint("mail ", i+1, " to a known and an unknown address"), func(p person, address int) response {
				return s.call(t, "POST", "/forgotPassword", jsonBody(shape{"email": p.email}), fromAddress(address))
			})
			if want := map[bool]int{true: 200, false: 429}[i < 3]; status != want {
				t.Errorf("mail %d: status %d, want %d", i+1, status, want)
			}
		}
	}, append(slices.Clone(limitsByAddress), "HIDE_ACCOUNTS=true")...)
}

// People correct a form several times. A registration with an invalid field costs nothing.
func TestRateLimits_DoNotCountRegistrationsWithInvalidFields(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		for _, path := range []string{"/registerUser", "/v1/users"} {
			name := newName()
			for range 25 {
				s.call(t, "POST", path, registration(name, name+"@example.com", "short")).want(t, 400)
			}
			if a := s.call(t, "POST", path, registration(name, name+"@example.com", password)); a.status != 200 && a.status != 202 {
				t.Errorf("POST %s after 25 registrations with a short password: status %d: %s", path, a.status, a.body)
			}
		}
	}, limitsByAddress...)
}

func TestRateLimits_HaveTheNumbersOfTheSettings(t *testing.T) {
	s := startDev(t, t.TempDir(), append(slices.Clone(limitsByAddress), "LIMIT_LOGIN_ADDRESS_ACCOUNT=2/1h", "LIMIT_REGISTER_ADDRESS=1/1h")...)
	for range 2 {
		s.call(t, "POST", "/loginUser", person{username: "nobody"}.guess("wrong password")).want(t, 401)
	}
	a := s.call(t, "POST", "/loginUser", person{username: "nobody"}.guess("wrong password"))
	a.wantLimited(t, "login-address-account")
	if got := a.header.Get("RateLimit-Policy"); got != `"login-address-account";q=2;w=7200` {
		t.Errorf("RateLimit-Policy is %s", got)
	}
	p := s.register(t)
	s.call(t, "POST", "/registerUser", registration("another", "another@example.com", password)).wantLimited(t, "register-address")
	s.login(t, p)
}

// The line in the log names the account by its hash, and the network. It must not name a login name, because
// that may be an email address or a password.
func TestRateLimits_RefusalsAreLoggedOnceAMinuteWithACount_ASVS_V16_3_3(t *testing.T) {
	s, stop := startStoppableDev(t, t.TempDir(), limitsByAddress...)
	defer stop()
	refused := map[string]int{}
	guess := func(rule, name string, address int) {
		if a := s.call(t, "POST", "/loginUser", person{username: name}.guess("wrong password"), fromAddress(address)); a.status == 429 {
			refused[rule]++
		}
	}
	for i := range 30 {
		guess("login-account", "nobody@example.com", 256*i)
		guess("login-address-account", "somebody", 1)
	}
	stop() // logs what the current minute counted
	log := s.logs.String()
	for rule, n := range refused {
		line := regexp.MustCompile(fmt.Sprintf(`level=WARN msg="requests refused" by=%s account=[\w-]{22} count=%d\n`, rule, n))
		if n < 15 || len(line.FindAllString(log, -1)) != 1 {
			t.Errorf("%d requests were refused by %s, and the log has no such line", n, rule)
		}
	}
	if len(refused) != 2 || strings.Count(log, "requests refused") != 2 || strings.Contains(log, "nobody@") {
		t.Errorf("want one line for each of two rules, got %s", log)
	}
}

// 24 connections guess unknown names, each request from another /64 of one /48. People elsewhere sign in.
func TestHashQueue_FloodFromOneNetworkDoesNotKeepOthersFromSigningIn_ASVS_V2_4_1_V15_2_2(t *testing.T) {
	s := startServe(t, 1, "TRUSTED_PROXIES=127.0.0.0/8") // without limits, which would stop the flood sooner
	p := s.register(t)
	var done atomic.Bool
	var flood sync.WaitGroup
	var made atomic.Int32
	for range 24 {
		flood.Go(func() {
			for !done.Load() {
				n := made.Add(1)
				callAt(t, s.base, "POST", "/loginUser", person{username: fmt.Sprint("nobody", n)}.guess("wrong password"),
					header("X-Forwarded-For", fmt.Sprintf("2001:db8:0:%x::1", n&0xffff)))
			}
		})
	}
	await(t, "a full queue", func() bool { return made.Load() > 100 })
	for i := range 10 {
		a := s.call(t, "POST", "/loginUser", p.guess(password), fromAddress(256*i))
		if a.status != 200 || a.took > 5*time.Second {
			t.Errorf("login %d from another network: status %d after %v, want 200 within 5s: %s", i+1, a.status, a.took, a.body)
		}
	}
	done.Store(true)
	flood.Wait()
	t.Logf("beside %d requests of the flood", made.Load())
}

func TestRateLimits_AreOnByDefaultAndLogWarningIfOff(t *testing.T) {
	const warning = "SESSIOND_LIMITS is off"
	on := startDev(t, t.TempDir(), "LIMITS=", "CORS_ORIGINS=https://app.example")
	a := on.call(t, "POST", "/loginUser", person{username: "nobody"}.guess("wrong password"), header("Origin", "https://app.example")).want(t, 401)
	if got, policy := a.header.Get("RateLimit"), a.header.Get("RateLimit-Policy"); got != `"login-address-account";r=7;t=1800` || policy != `"login-address-account";q=8;w=14400` {
		t.Errorf("RateLimit is %s, RateLimit-Policy is %s", got, policy)
	}
	if exposed := a.header.Get("Access-Control-Expose-Headers"); !strings.Contains(exposed, http.CanonicalHeaderKey("RateLimit")+", Ratelimit-Policy") {
		t.Errorf("Access-Control-Expose-Headers is %q, want RateLimit and RateLimit-Policy in it", exposed)
	}
	if strings.Contains(on.logged(t), warning) {
		t.Error("the log warns that the limits are off, but they are on")
	}
	off := startDev(t, t.TempDir())
	for range 12 {
		a := off.call(t, "POST", "/loginUser", person{username: "nobody"}.guess("wrong password")).want(t, 401)
		if a.header.Get("RateLimit") != "" || a.header.Get("RateLimit-Policy") != "" {
			t.Fatalf("with the limits off, got headers %v", a.header)
		}
	}
	if !strings.Contains(off.logged(t), warning) {
		t.Error("the log does not warn that the limits are off")
	}
}
