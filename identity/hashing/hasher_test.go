package hashing

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// The test vectors are in a directory beside the directory of the project.
const vectors = "../../../shared/vectors/"

func readVector(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(vectors + name)
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("SKIPPED: there are no test vectors in %s%s", vectors, name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func key(fill byte) []byte { return []byte(strings.Repeat(string(fill), minPepperKey)) }

func quickHasher(t *testing.T, peppers ...Pepper) *Hasher {
	t.Helper()
	h, err := NewInsecureHasher(bcrypt.MinCost, peppers)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func enter(t *testing.T, h *Hasher) *Turn {
	t.Helper()
	turn, err := h.Enter(t.Context(), Visitor{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(turn.Leave)
	return turn
}

func mustHash(t *testing.T, h *Hasher, password string) string {
	t.Helper()
	hash, err := h.Hash(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

func plainHash(t *testing.T, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

func verify(t *testing.T, h *Hasher, hash, password string) (ok, rehash bool) {
	t.Helper()
	ok, rehash, err := enter(t, h).Verify(t.Context(), hash, password)
	if err != nil {
		t.Fatal(err)
	}
	return ok, rehash
}

func TestVerify_AgreesWithBcryptTestVectors(t *testing.T) {
	var file map[string][]struct {
		Password string `json:"password_b64"`
		Hash     string `json:"hash"`
		Valid    bool   `json:"valid"`
		Expected string `json:"expected_2y"` // right hash of the password; the test cases for $2y$ have it instead of the field valid
	}
	if err := json.Unmarshal(readVector(t, "bcrypt/pyca_bcrypt_vectors.json"), &file); err != nil {
		t.Fatal(err)
	}
	h := quickHasher(t)
	tested := 0
	for table, cases := range file {
		for i, c := range cases {
			raw, err := base64.StdEncoding.DecodeString(c.Password)
			if err != nil {
				t.Fatal(err)
			}
			// Two of the passwords contain a NUL byte. Verify refuses them for a plain bcrypt hash, because
			// the NUL ends the password in other implementations of bcrypt.
			want := (c.Valid || c.Expected == c.Hash) && !strings.Contains(string(raw), "\x00")
			ok, rehash := verify(t, h, c.Hash, string(raw))
			if ok != want || rehash != want {
				t.Errorf("%s %d (%s): ok %v, rehash %v; want %v", table, i, c.Hash, ok, rehash, want)
			}
			if ok, _ := verify(t, h, c.Hash, string(raw)+"x"); ok != (want && len(raw) >= maxSecret) {
				t.Errorf("%s %d (%s): ok %v for a longer password", table, i, c.Hash, ok)
			}
			tested++
		}
	}
	if tested < 28 {
		t.Errorf("tested %d vectors, want at least 28", tested)
	}
}

// Like other programs that use bcrypt, Verify compares only the first 72 bytes of a longer password. The user of
// an imported hash could otherwise not sign in.
func TestVerify_PlainBcryptMatchesFirst72Bytes(t *testing.T) {
	long := strings.Repeat("a", 72)
	for _, c := range []struct {
		why, hashed, tried string
		want               bool
	}{
		{"the same password", "secret", "secret", true},
		{"the longest password that bcrypt reads", long, long, true},
		{"one byte more, which bcrypt ignores", long, long + "b", true},
		{"another byte before the 72nd", long, long[1:] + "b", false},
		{"a NUL after the first 72 bytes, where a C string ends", long, long + "\x00", false},
		{"the password twice with a NUL in between, as bcrypt repeats it", "secret", "secret\x00secret", false},
		{"the empty password", "", "", true},
		{"a NUL instead of the empty password", "", "\x00", false},
		{"72 bytes that are 24 characters of three bytes", strings.Repeat("€", 24), strings.Repeat("€", 24), true},
		{"one character of three bytes more", strings.Repeat("€", 24), strings.Repeat("€", 25), true},
		{"a cut in the middle of a character", strings.Repeat("a", 71) + "\xe2", strings.Repeat("a", 71) + "€", true},
	} {
		if ok, rehash := verify(t, quickHasher(t), plainHash(t, c.hashed), c.tried); ok != c.want || rehash != c.want {
			t.Errorf("%s: ok %v, rehash %v; want %v", c.why, ok, rehash, c.want)
		}
	}
}

func TestVerify_DistinguishesPasswordsThatBcryptTreatsAsEqual_ASVS_V6_2_8(t *testing.T) {
	h := quickHasher(t)
	passwords := []string{
		"", "\x00", "a", "a\x00", "a\x00a", "a\x00b",
		strings.Repeat("a", 72), strings.Repeat("a", 73), strings.Repeat("a", 1024),
		"pässword", "password", "\xff", "\xfe",
	}
	for _, p := range passwords {
		hash := mustHash(t, h, p)
		for _, q := range passwords {
			if ok, rehash := verify(t, h, hash, q); ok != (p == q) || rehash {
				t.Errorf("hash of %q, tried %q: ok %v, rehash %v", p, q, ok, rehash)
			}
		}
	}
}

func TestHash_StoredHashContainsFormatAndPepperID_ASVS_V11_4_2(t *testing.T) {
	for _, c := range []struct {
		peppers []Pepper
		want    string
	}{
		{nil, `^\$sessiond\$v=1\$p=0\$2a\$04\$[./A-Za-z0-9]{53}$`},
		{[]Pepper{{"k2", key('2')}, {"k1", key('1')}}, `^\$sessiond\$v=1\$p=k2\$2a\$04\$[./A-Za-z0-9]{53}$`},
	} {
		if got := mustHash(t, quickHasher(t, c.peppers...), "secret"); !regexp.MustCompile(c.want).MatchString(got) {
			t.Errorf("stored as %s, want %s", got, c.want)
		}
	}
}

// The first release of sessiond made this hash. Stored hashes of that form must keep verifying.
func TestVerify_AcceptsHashOfFirstRelease(t *testing.T) {
	const stored = "$sessiond$v=1$p=k1$2a$04$91h2Pe99mCfoHeIpvEMHleJvpE1wwhsh4gGiJnITGdgMoqWm.MWPu"
	if ok, rehash := verify(t, quickHasher(t, Pepper{"k1", key('1')}), stored, "correct horse"); !ok || rehash {
		t.Errorf("ok %v, rehash %v", ok, rehash)
	}
}

func TestVerify_ReportsRehashForOutdatedHashes(t *testing.T) {
	one, two := Pepper{"k1", key('1')}, Pepper{"k2", key('2')}
	current := quickHasher(t, two, one)
	cheaper := quickHasher(t, two)
	cheaper.cost = 5
	for _, c := range []struct {
		why, hash string
		want      bool
	}{
		{"the current cost and pepper", mustHash(t, current, "secret"), false},
		{"an earlier pepper", mustHash(t, quickHasher(t, one), "secret"), true},
		{"no pepper", mustHash(t, quickHasher(t), "secret"), true},
		{"another cost", mustHash(t, cheaper, "secret"), true},
		{"an imported plain bcrypt hash", plainHash(t, "secret"), true},
	} {
		if ok, rehash := verify(t, current, c.hash, "secret"); !ok || rehash != c.want {
			t.Errorf("%s: ok %v, rehash %v, want rehash %v", c.why, ok, rehash, c.want)
		}
		if ok, rehash := verify(t, current, c.hash, "wrong"); ok || rehash {
			t.Errorf("%s, wrong password: ok %v, rehash %v", c.why, ok, rehash)
		}
	}
}

func TestVerify_NeedsThePepperOfTheHash(t *testing.T) {
	hash := mustHash(t, quickHasher(t, Pepper{"k", key('1')}), "secret")
	if ok, _ := verify(t, quickHasher(t, Pepper{"k", key('2')}), hash, "secret"); ok {
		t.Error("the password matches although the pepper has another key")
	}
	_, _, err := enter(t, quickHasher(t)).Verify(t.Context(), hash, "secret")
	if err == nil || !strings.Contains(err.Error(), `"k"`) {
		t.Errorf("without the pepper: %v, want an error that names the pepper", err)
	}
}

func TestNewHasher_RefusesCostBelowMinCostOrAboveMaxCost_ASVS_V11_4_2(t *testing.T) {
	for _, cost := range []int{-1, 0, 4, 9, 15, 31} {
		if _, err := NewHasher(cost, nil); err == nil {
			t.Errorf("accepts cost %d", cost)
		}
	}
	for _, cost := range []int{10, 14} {
		if _, err := NewHasher(cost, nil); err != nil {
			t.Error(err)
		}
	}
	for _, cost := range []int{3, 15} {
		if _, err := NewInsecureHasher(cost, nil); err == nil {
			t.Errorf("NewInsecureHasher accepts cost %d", cost)
		}
	}
}

func TestNewHasher_RefusesInvalidPeppers_ASVS_V11_2_3(t *testing.T) {
	for _, peppers := range [][]Pepper{
		{{"", key('1')}},
		{{"0", key('1')}},
		{{"a$b", key('1')}},
		{{strings.Repeat("a", 33), key('1')}},
		{{"a", key('1')[1:]}},
		{{"a", key('1')}, {"a", key('2')}},
	} {
		if _, err := NewHasher(10, peppers); err == nil {
			t.Errorf("accepts pepper %q", peppers[0].ID)
		}
	}
}

func TestCheckHash_AcceptsOnlyHashesThatVerifyCanUse(t *testing.T) {
	const (
		salt = "KdcLHRSDmEh2dzKHQO2z3e"
		sum  = "1w8T4iJ6SXeJ1bK0gcKC2OL9t6zGZbm"
	)
	h := quickHasher(t, Pepper{"k1", key('1')})
	for _, c := range []struct {
		hash string
		good bool
	}{
		{"$2a$10$" + salt + sum, true},
		{"$2b$14$" + salt + sum, true},
		{"$2y$04$" + salt + sum, true},
		{"$sessiond$v=1$p=k1$2a$10$" + salt + sum, true},
		{"$sessiond$v=1$p=0$2a$10$" + salt + sum, true},
		{"", false},
		{"$", false},
		{"$2a$15$" + salt + sum, false}, // refused, because each login would take more than a second
		{"$2a$31$" + salt + sum, false},
		{"$2a$03$" + salt + sum, false},
		{"$2a$+9$" + salt + sum, false},
		{"$2a$1$" + salt + sum + "a", false},
		{"$2x$10$" + salt + sum, false}, // version x marks hashes by an implementation with a known bug
		{"$2$10$" + salt + sum, false},
		{"$2a$10$" + salt + sum + "m", false}, // one letter too long; x/crypto's bcrypt would ignore the last letter
		{"$2a$10$" + salt + sum[1:], false},
		{"$2a$10$" + salt + sum[:30] + "n", false}, // no base64 encoder writes an n as the last letter, so no password would match
		{"$2a$10$" + salt[:21] + "!" + sum, false},
		{"$2a$10$" + salt[:10] + "\n" + salt[11:] + sum, false},
		{"$2a$10$" + salt + sum[:10] + "\n" + sum[11:], false},
		{"$sessiond$v=1$p=k2$2a$10$" + salt + sum, false}, // refused, because the pepper k2 is not configured
		{"$sessiond$v=1$p=$2a$10$" + salt + sum, false},
		{"$sessiond$v=1$p=k1", false},
		{"$sessiond$v=2$p=k1$2a$10$" + salt + sum, false},
		{"$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2g", false},
		{"5f4dcc3b5aa765d61d8327deb882cf99", false},
		{strings.Repeat("$", 1000), false},
	} {
		err := h.CheckHash(c.hash)
		if (err == nil) != c.good {
			t.Errorf("%q: %v", c.hash, err)
		}
		if err != nil && len(c.hash) > 20 && strings.Contains(err.Error(), c.hash[10:]) {
			t.Errorf("the error quotes the hash: %v", err)
		}
		if c.good {
			continue // some of these hashes have a cost at which Verify would take a second
		}
		if _, _, err := enter(t, h).Verify(t.Context(), c.hash, "x"); err == nil {
			t.Errorf("Verify accepts %q", c.hash)
		}
	}
}

func TestTurn_DoesNotHashAfterContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	h := quickHasher(t)
	hash := plainHash(t, "secret")
	_, hashErr := h.Hash(ctx, "secret")
	_, _, verifyErr := enter(t, h).Verify(ctx, hash, "secret")
	nobodyErr := enter(t, h).VerifyNobody(ctx, "secret")
	for _, err := range []error{hashErr, verifyErr, nobodyErr} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want the context's error", err)
		}
	}
}

func TestVerifyNobody_TakesAsLongAsVerify(t *testing.T) {
	h, err := NewInsecureHasher(8, nil)
	if err != nil {
		t.Fatal(err)
	}
	hash := mustHash(t, h, "secret")
	took := leastCPU(t,
		func() { verify(t, h, hash, "wrong") },
		func() {
			if err := enter(t, h).VerifyNobody(t.Context(), "wrong"); err != nil {
				t.Error(err)
			}
		})
	if wrong, nobody := took[0], took[1]; nobody < wrong*2/3 || nobody > wrong*3/2 {
		t.Errorf("Verify takes %v for a wrong password, VerifyNobody %v", wrong, nobody)
	}
}

func FuzzParseHash_KeepsCostAndText(f *testing.F) {
	f.Add("$2a$04$KdcLHRSDmEh2dzKHQO2z3e1w8T4iJ6SXeJ1bK0gcKC2OL9t6zGZbm")
	f.Add("$sessiond$v=1$p=0$2a$04$KdcLHRSDmEh2dzKHQO2z3e1w8T4iJ6SXeJ1bK0gcKC2OL9t6zGZbm")
	f.Add("$sessiond$v=1$p=$$$$$")
	h, err := NewInsecureHasher(bcrypt.MinCost, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, hash string) {
		stored, err := parseHash(hash)
		if err != nil {
			return
		}
		if stored.kdf != nil {
			return // see FuzzParseKDF_VerifiesWhatCheckHashAccepts
		}
		if cost, err := bcrypt.Cost([]byte(stored.bcrypt)); err != nil || cost != stored.cost {
			t.Fatalf("%q: cost %d, but the library reads %d, %v", hash, stored.cost, cost, err)
		}
		if again := peppered(stored.pepper, stored.bcrypt); !stored.plain && again != hash {
			t.Fatalf("%q was parsed as %q", hash, again)
		}
		if h.CheckHash(hash) == nil && stored.cost <= 5 {
			if _, _, err := enter(t, h).Verify(t.Context(), hash, "x"); err != nil {
				t.Fatalf("%q passes CheckHash, but Verify returns %v", hash, err)
			}
		}
	})
}
