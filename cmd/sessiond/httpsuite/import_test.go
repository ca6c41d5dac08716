package httpsuite

import (
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/sessiond/sessiond/cmd/sessiond/app"
	"github.com/sessiond/sessiond/session/issuer"
)

// A user who was imported without a username knows only the address. Every route that takes a username also
// takes the user's own address. The generated username works, too.
func TestImport_UserWithoutUsernameCanUseEveryRoute(t *testing.T) {
	t.Parallel()
	env, server := serveEnvironment(t), startSMTP(t)
	env["SESSIOND_SMTP_URL"], env["SESSIOND_MAIL_FROM"] = "smtp+plain://"+server.addr, "id@example.com"
	run := func(args ...string) {
		if err := app.Run(t.Context(), args, env.lookup, io.Discard, io.Discard); err != nil {
			t.Fatalf("%s: %v", args[0], err)
		}
	}
	run("migrate")
	p := person{email: "i" + issuer.NewID() + "@example.com"}
	file := filepath.Join(t.TempDir(), "users.jsonl")
	// The hash is a vector of Argon2's reference implementation.
	line := `{"email":"` + p.email + `","password_hash":"$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc"}`
	if err := os.WriteFile(file, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	run("import", "--in", file)
	s := &service{logs: &lockedBuffer{}, mails: server.received}
	s.base = startReplica(t, program(t), env, s.logs)
	s.replicas = []string{s.base}
	other := s.register(t)

	s.call(t, "POST", "/loginUser", credentials(p.email, "password2")).problem(t, true, 403, "invalid_credentials")
	p.token = s.call(t, "POST", "/loginUser", credentials(p.email, "password")).want(t, 200).text(t, "token")
	p.username = s.call(t, "GET", "/v1/users/me", bearer(p.token)).want(t, 200).text(t, "username")
	if claims := claimsOf(t, p.token); claims["username"] != p.username || len(p.username) != len("user-")+22 {
		t.Errorf("the username is %q in the profile and %v in the token", p.username, claims["username"])
	}
	for _, name := range []string{p.email, p.username} {
		query := "?username=" + url.QueryEscape(name)
		s.call(t, "GET", "/findUser"+query, bearer(p.token)).want(t, 200)
		s.call(t, "GET", "/findUser"+query, bearer(other.token)).problem(t, true, 403, "other_user")
		s.call(t, "PUT", "/updateUser", bearer(p.token), jsonBody(shape{"username": name, "first_name": "Ada"})).want(t, 200)
		s.call(t, "PUT", "/updatePasswordViaEmail", jsonBody(shape{"username": name, "password": goodPassword, "resetPasswordToken": s.resetToken(t, p)})).want(t, 200)
		p.token = s.call(t, "POST", "/v1/sessions", jsonBody(shape{"login": name, "password": goodPassword})).want(t, 201).text(t, "access_token")
		s.call(t, "PUT", "/updatePassword", bearer(p.token), jsonBody(shape{"username": name, "password": password, "current_password": goodPassword})).want(t, 200)
		p.token = s.login(t, p)
	}
	for _, path := range []string{"/v1/sessions", "/v1/logins", "/v1/users/me/export"} {
		s.call(t, "GET", path, bearer(p.token)).want(t, 200)
	}
	s.call(t, "DELETE", "/deleteUser?username="+url.QueryEscape(other.email), bearer(p.token)).problem(t, true, 403, "other_user")
	s.call(t, http.MethodDelete, "/deleteUser?username="+url.QueryEscape(p.email), bearer(p.token), jsonBody(shape{"current_password": password})).want(t, 200)
	s.call(t, "POST", "/loginUser", credentials(p.email, password)).want(t, 401)
}
