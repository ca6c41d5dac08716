package identity_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/hashing"
)

// importUsers imports users from a text. It returns the problem of each skipped line as "LINE-NUMBER: DETAIL".
func (w *world) importUsers(format, text string) (report identity.ImportReport, problems []string, err error) {
	w.Helper()
	report, err = identity.Import(w.Context(), strings.NewReader(text), format, w.store, w.Hasher, w.clock.Now, w.NewID, nil)
	for _, p := range report.Problems {
		problems = append(problems, fmt.Sprintf("%d: %s", p.Line, p.Detail))
	}
	return report, problems, err
}

func plainHash(t *testing.T, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

func TestImport_ImportedUsersSignInWithTheirPasswords(t *testing.T) {
	hash := plainHash(t, password)
	ours, err := quickHasher(t).Hash(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	for format, text := range map[string]string{
		"csv": "\uFEFFemail,username,password_hash,first_name,last_name,email_verified,created_at\r\n" +
			"alice@example.com,Alice," + hash + `,"Ali, the ""first""",Ce,true,2020-02-29T12:00:00+01:00` + "\r\n" +
			"\r\n" +
			"bob@example.com,bob," + ours + ",,,,", // the last line has no line end
		"jsonl": `{"username":"Alice","email":"alice@example.com","password_hash":"` + hash + `",` +
			`"first_name":"Ali, the \"first\"","last_name":"Ce","email_verified":true,"created_at":"2020-02-29T12:00:00+01:00"}` + "\n\n" +
			`{"username":"bob","email":"bob@example.com","password_hash":"` + ours + `"}`,
	} {
		w := newWorld(t)
		report, problems, err := w.importUsers(format, text)
		if err != nil || report.Imported != 2 || report.Skipped != 0 || len(problems) != 0 {
			t.Fatalf("%s: %+v, %v", format, report, err)
		}
		alice, err := w.store.ByUsername(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		if alice.Username != "Alice" || alice.FirstName != `Ali, the "first"` || alice.LastName != "Ce" || alice.PasswordHash != hash ||
			alice.Status != identity.StatusActive || !alice.EmailVerifiedAt.Equal(w.clock.Now()) ||
			!alice.CreatedAt.Equal(time.Date(2020, 2, 29, 11, 0, 0, 0, time.UTC)) || len(alice.ID) != 22 {
			t.Errorf("%s: %+v", format, alice)
		}
		bob, err := w.store.ByEmail(t.Context(), "bob@example.com")
		if err != nil || !bob.EmailVerifiedAt.IsZero() || !bob.CreatedAt.Equal(w.clock.Now()) {
			t.Errorf("%s: %+v, %v", format, bob, err)
		}
		if !w.signsIn("alice", password) || !w.signsIn("bob", password) || w.signsIn("alice", otherPassword) {
			t.Errorf("%s: the imported passwords do not verify", format)
		}
		// A second import of the same text changes nothing.
		report, problems, err = w.importUsers(format, text)
		if err != nil || report.Imported != 0 || report.Skipped != 2 || !strings.Contains(problems[0], "username taken") {
			t.Errorf("%s, second run: %+v, %v", format, report, err)
		}
	}
}

// importedFrom are hashes of other systems, with their passwords. Most are from the vectors in package hashing.
var importedFrom = []struct{ hash, password string }{
	{"$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc", "password"},
	{"$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8", "password"},
	{"$scrypt$ln=10,r=8,p=16$TmFDbA$/bq+HJ00cgB4VucZDQHp/nxq18vII3gw53N2Y0s3MWIurzDZLiKjiG/xCSedmDDaxyevuUqD7m2DYMvfoswGQA", "password"},
	{"$pbkdf2$4096$c2FsdA$SwB5AbdlSJq+rUnZJvch0GWkKcE", "password"},
	{"pbkdf2_sha1$4096$salt$SwB5AbdlSJq+rUnZJvch0GWkKcE=", "password"},
	{"$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,k=firebase$42xEC+ixf3L2lw==$lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ==", "user1password"},
}

func TestImport_ReplacesHashesOfOtherSystemsAtFirstLogin(t *testing.T) {
	peppers, err := hashing.ParsePeppers([]byte("k1:" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("1", 32))) +
		"\nfirebase:jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA=="))
	if err != nil {
		t.Fatal(err)
	}
	csv, jsonl := "email,username,password_hash\n", ""
	for i, from := range importedFrom {
		csv += fmt.Sprintf("user%d@example.com,user%d,%q\n", i, i, from.hash)
		jsonl += fmt.Sprintf(`{"username":"user%d","email":"user%d@example.com","password_hash":%q}`+"\n", i, i, from.hash)
	}
	for format, text := range map[string]string{"csv": csv, "jsonl": jsonl} {
		w := newWorld(t)
		w.Hasher = quickHasher(t, peppers...)
		report, problems, err := w.importUsers(format, text)
		if err != nil || report.Imported != len(importedFrom) || report.PlainBcrypt != 0 {
			t.Fatalf("%s: %+v, %q, %v", format, report, problems, err)
		}
		for i, from := range importedFrom {
			name := fmt.Sprintf("user%d", i)
			stored := func() string {
				u, err := w.store.ByUsername(t.Context(), name)
				if err != nil {
					t.Fatal(err)
				}
				return u.PasswordHash
			}
			if w.signsIn(name, from.password+"x") || stored() != from.hash {
				t.Errorf("%s: a wrong password signs in, or replaces the hash %s", format, from.hash)
			}
			if !w.signsIn(name, from.password) || !strings.HasPrefix(stored(), "$sessiond$v=1$p=k1$") {
				t.Errorf("%s: the password does not sign in, or leaves the hash %s", format, stored())
			}
			if !w.signsIn(name, from.password) || w.signsIn(name, from.password+"x") {
				t.Errorf("%s: the new hash of %s is wrong", format, from.hash)
			}
		}
	}
}

// Other programs that use bcrypt compare only the first 72 bytes. After the first login the whole password counts.
func TestImport_LongPasswordOfBcryptHashSignsIn(t *testing.T) {
	w := newWorld(t)
	long := strings.Repeat("0123456789ab", 8)
	hash := strings.Replace(plainHash(t, long[:72]), "$2a$", "$2y$", 1)
	report, _, err := w.importUsers("jsonl", `{"username":"alice","email":"alice@example.com","password_hash":"`+hash+`"}`)
	if err != nil || report.Imported != 1 || report.PlainBcrypt != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	if w.signsIn("alice", "x"+long[1:]) || !w.signsIn("alice", long) {
		t.Error("another password signs in, or the right one does not")
	}
	if w.signsIn("alice", long[:72]) || w.signsIn("alice", long+"x") || !w.signsIn("alice", long) {
		t.Error("after the first login, not the whole password counts")
	}
}

func TestImport_GivesUsersWithoutUsernameAName(t *testing.T) {
	hash := plainHash(t, password)
	for format, text := range map[string]string{
		"csv": "email,password_hash,username\na@example.com," + hash + ",\nb@example.com," + hash + ", B@Example.com\n",
		"jsonl": `{"email":"a@example.com","password_hash":"` + hash + `"}` + "\n" +
			`{"email":"b@example.com","username":" B@Example.com","password_hash":"` + hash + `"}`,
	} {
		w := newWorld(t)
		if report, problems, err := w.importUsers(format, text); err != nil || report.Imported != 2 {
			t.Fatalf("%s: %+v, %q, %v", format, report, problems, err)
		}
		names := map[string]bool{}
		for _, email := range []string{"a@example.com", "b@example.com"} {
			u, err := w.store.ByEmail(t.Context(), email)
			if err != nil {
				t.Fatal(err)
			}
			if names[u.Username] = true; !regexp.MustCompile(`^user-[A-Za-z0-9_-]{22}$`).MatchString(u.Username) {
				t.Errorf("%s: the user has the name %q", format, u.Username)
			}
			if !w.signsIn(email, password) || !w.signsIn(u.Username, password) {
				t.Errorf("%s: %s does not sign in", format, email)
			}
		}
		if len(names) != 2 {
			t.Errorf("%s: the users have the names %v", format, names)
		}
		// A second import of the same text changes nothing.
		if report, problems, err := w.importUsers(format, text); err != nil || report.Skipped != 2 || !strings.Contains(problems[0], "email taken") {
			t.Errorf("%s, second run: %+v, %q, %v", format, report, problems, err)
		}
	}
}

// This test fails if somebody adds a field to identity.Profile and not to the import.
func TestImport_ImportsEveryProfileField(t *testing.T) {
	hash := plainHash(t, password)
	for _, field := range reflect.VisibleFields(reflect.TypeFor[identity.Profile]()) {
		name := strings.ToLower(regexp.MustCompile(`([a-z])([A-Z])`).ReplaceAllString(field.Name, "${1}_$2")) // for example first_name for the field FirstName
		user := map[string]string{"username": "alice", "email": "alice@example.com", "password_hash": hash}
		if user[name] == "" {
			user[name] = "some text"
		}
		names := slices.Sorted(maps.Keys(user))
		var values []string
		for _, n := range names {
			values = append(values, user[n])
		}
		jsonl, err := json.Marshal(user)
		if err != nil {
			t.Fatal(err)
		}
		csv := strings.Join(names, ",") + "\n" + strings.Join(values, ",")
		for format, text := range map[string]string{"csv": csv, "jsonl": string(jsonl)} {
			w := newWorld(t)
			if _, problems, err := w.importUsers(format, text); err != nil || len(problems) != 0 {
				t.Errorf("%s: the import lacks the profile field %s: %v, %q", format, field.Name, err, problems)
				continue
			}
			u, err := w.store.ByUsername(t.Context(), "alice")
			if err != nil {
				t.Fatal(err)
			}
			if got := reflect.ValueOf(u).FieldByName(field.Name).String(); got != user[name] {
				t.Errorf("%s: the import drops the profile field %s: got %q, want %q", format, field.Name, got, user[name])
			}
		}
	}
}

func TestImport_SkipsAndReportsInvalidLines(t *testing.T) {
	hash := plainHash(t, password)
	argon2 := "$argon2id$v=19$m=1048576,t=1,p=4$c2FsdHNhbHRzYWx0$ZGlnZXN0ZGlnZXN0ZGlnZXN0"
	costly := strings.Replace(hash, "$04$", "$15$", 1)
	lines := []struct{ csv, json, want string }{
		{"alice,alice@example.com," + hash + ",,", `{"username":"alice","email":"alice@example.com","password_hash":"` + hash + `"}`, ""},
		{"ALICE,b@example.com," + hash + ",,", `{"username":"ALICE","email":"b@example.com","password_hash":"` + hash + `"}`, "username taken"},
		{"bob,Alice@example.com," + hash + ",,", `{"username":"bob","email":"Alice@example.com","password_hash":"` + hash + `"}`, "email taken"},
		{"b@b,nowhere,,,", `{"username":"b@b","email":"nowhere"}`, "username: must not contain an @; email: must be an email address; password_hash: a hash is required"},
		{"bob,b@example.com," + costly + ",,", `{"username":"bob","email":"b@example.com","password_hash":"` + costly + `"}`, "cost 15 is above 14"},
		{"bob,b@example.com," + hash + "x,,", `{"username":"bob","email":"b@example.com","password_hash":"` + hash + `x"}`, "password_hash: bcrypt: want"},
		{"bob,b@example.com,md5" + hash + ",,", `{"username":"bob","email":"b@example.com","password_hash":"md5` + hash + `"}`, "password_hash: neither bcrypt nor"},
		{`bob,b@example.com,"` + argon2 + `",,`, `{"username":"bob","email":"b@example.com","password_hash":"` + argon2 + `"}`, "password_hash: argon2id: m is 1048576; want 32 to 131072"},
		{"b@b,b@example.com," + hash + ",,", `{"username":"b@b","email":"b@example.com","password_hash":"` + hash + `"}`, "username: must not contain an @"},
		{" b@b,b@example.com," + hash + ",,", `{"username":" b@b","email":"b@example.com","password_hash":"` + hash + `"}`, "username: must not contain an @"},
		{"bob,b@example.com,$sessiond$v=1$p=k7" + hash + ",,", `{"username":"bob","email":"b@example.com","password_hash":"$sessiond$v=1$p=k7` + hash + `"}`, `"k7" is not configured`},
		{"bob,b@example.com," + hash, `{"username":"bob","email":"b@example.com","password_hash":"` + hash + `","admin":true}`, "|3 columns: want 5|known names"},
		{`bob,"b@example.com,` + hash + ",,", `{"username":"bob","email":"b@example.com","password_hash":"` + hash, "|want CSV|known names"},
		{"bob,b@example.com," + hash + ",yes,", `{"username":"bob","email":"b@example.com","password_hash":"` + hash + `","email_verified":"yes"}`, "|email_verified|known names"},
		{"bob,b@example.com," + hash + ",,yesterday", `{"username":"bob","email":"b@example.com","password_hash":"` + hash + `","created_at":"yesterday"}`, "created_at"},
		{"bob,b@example.com," + hash + ",,2999-01-01T00:00:00Z", `{"username":"bob","email":"b@example.com","password_hash":"` + hash + `","created_at":"2999-01-01T00:00:00Z"}`, "created_at"},
		{"bo\xffb,b@example.com," + hash + ",,", `{"username":"bo` + "\xff" + `b","email":"b@example.com","password_hash":"` + hash + `"}`, "|UTF-8|known names"},
		{"bob,b@example.com," + hash + ",," + strings.Repeat("x", 70000), `{"username":"bob","email":"b@example.com","password_hash":"` + hash + `","first_name":"` + strings.Repeat("x", 70000) + `"}`, "at most 65536 bytes"},
		{"bob,b@example.com," + hash + ",,2020-01-01T00:00:00Z,", `{"username":"x","username":"bob","email":"b@example.com","password_hash":"` + hash + `"}`, "|6 columns|known names"},
		{" , , ,, ", `[]`, "|email|known names"},
		{"carol,carol@example.com," + hash + ",false,2020-01-01T00:00:00Z", `{"username":"carol","email":"carol@example.com","password_hash":"` + hash + `"}`, ""},
	}
	csv, jsonl := "username,email,password_hash,email_verified,created_at\n", ""
	for _, l := range lines {
		csv, jsonl = csv+l.csv+"\n", jsonl+l.json+"\n"
	}
	for _, c := range []struct {
		format, text string
		first, which int
	}{
		{"csv", csv, 2, 1},
		{"jsonl", jsonl, 1, 2},
	} {
		w := newWorld(t)
		report, problems, err := w.importUsers(c.format, c.text)
		if err != nil || report.Imported != 2 || report.Skipped != len(lines)-2 || len(problems) != report.Skipped {
			t.Fatalf("%s: %+v, %v", c.format, report, err)
		}
		for i, l := range lines {
			want := l.want
			if parts := strings.Split(want, "|"); len(parts) > 1 {
				want = parts[c.which]
			}
			number := i + c.first
			found := slices.IndexFunc(report.Problems, func(p identity.ImportProblem) bool { return p.Line == number })
			if want == "" {
				if found >= 0 {
					t.Errorf("%s line %d: %v", c.format, number, report.Problems[found])
				}
			} else if found < 0 || !strings.Contains(report.Problems[found].Detail, want) {
				t.Errorf("%s line %d: want %q, got %q", c.format, number, want, problems)
			}
		}
		for _, p := range problems {
			if strings.Contains(p, hash[7:]) || strings.Contains(p, hash[7:20]) {
				t.Errorf("%s: the report quotes a hash: %s", c.format, p)
			}
		}
	}
}

func TestImport_RefusesInvalidHeader(t *testing.T) {
	hash := plainHash(t, password)
	for _, c := range []struct{ header, want string }{
		{"", "header"},
		{"username,email", "want a column password_hash"},
		{"username,password_hash", "want a column email"},
		{"username,email,password_hash,shoe_size", "column 4"},
		{"username,email,email,password_hash", "column 3"},
		{"Username,email,password_hash", "column 1"},
		{"bob,b@example.com," + hash, "column 1"},
		{`"username,email`, "want CSV"},
	} {
		w := newWorld(t)
		_, _, err := w.importUsers("csv", c.header+"\nbob,b@example.com,"+hash+"\n")
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), hash[7:]) {
			t.Errorf("%q: %v", c.header, err)
		}
	}
	w := newWorld(t)
	if _, _, err := w.importUsers("csv", ""); !errors.Is(err, io.EOF) {
		t.Errorf("empty CSV file: %v", err)
	}
	if report, _, err := w.importUsers("jsonl", ""); err != nil || report.Imported != 0 {
		t.Errorf("empty JSON file: %v", err)
	}
	if _, _, err := w.importUsers("xml", ""); err == nil {
		t.Error("accepts the format xml")
	}
}

func TestImport_StopsWhenTheStoreFails(t *testing.T) {
	w := newWorld(t)
	hash := plainHash(t, password)
	ctx, cancel := context.WithCancel(t.Context())
	var done []int
	text := ""
	for i := range 10 {
		text += fmt.Sprintf(`{"username":"user%d","email":"user%d@example.com","password_hash":"%s"}`+"\n", i, i, hash)
	}
	report, err := identity.Import(ctx, strings.NewReader(text), "jsonl", w.store, w.Hasher, w.clock.Now, w.NewID, func(n int) {
		if done = append(done, n); n == 3 {
			cancel()
		}
	})
	if err == nil || !strings.Contains(err.Error(), "line 4") || report.Imported != 3 || !slices.Equal(done, []int{1, 2, 3}) {
		t.Errorf("%+v, %v, progress %v", report, err, done)
	}
}

// lines is a file in which the same line repeats. The test holds only one line of it in memory.
type lines struct {
	line string
	left int
	rest string
}

func (l *lines) Read(p []byte) (int, error) {
	if l.rest == "" {
		if l.left == 0 {
			return 0, io.EOF
		}
		l.left--
		l.rest = l.line
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

func TestImport_HugeInvalidFileNeedsLittleMemory(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		why     string
		file    *lines
		skipped int
	}{
		{"many bad lines", &lines{line: "{}\n", left: 200_000}, 200_000},
		{"one very long line", &lines{line: strings.Repeat("x", 1<<20), left: 256}, 1},
	} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		report, err := identity.Import(t.Context(), c.file, "jsonl", w.store, w.Hasher, w.clock.Now, w.NewID, nil)
		runtime.ReadMemStats(&after)
		if err != nil || report.Skipped != c.skipped || len(report.Problems) > 1000 {
			t.Errorf("%s: %d skipped, %d problems, %v", c.why, report.Skipped, len(report.Problems), err)
		}
		if after.HeapSys > before.HeapSys+32<<20 {
			t.Errorf("%s: the heap grew from %d to %d bytes", c.why, before.HeapSys, after.HeapSys)
		}
	}
}
